"""Closing and opening again, and dying and opening again: nothing is lost, nothing is done twice."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from stigmergy import Blackboard, Component, Context, Redrive, Retry, Seen, after, read
from stigmergy.blackboard.component import Reaction
from stigmergy.blackboard.errors import BoardBusy, BoardClosed
from stigmergy.blackboard.events import Activated, Claimed, Closed, Completed, Ended, Opened
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, numbers

pytestmark = pytest.mark.anyio


class Pair(BaseModel):
    a: int
    b: int


@pytest.fixture(params=["closed", "died"])
def again(request: pytest.FixtureRequest) -> str:
    """How the first board ends: in good order, or in the middle of whatever it does."""
    return str(request.param)


async def next_board(boards: Boards, board: Blackboard, again: str, **options: Any) -> Blackboard:
    """The board that comes after this one."""
    if again == "died":
        return boards.crashed(board, **options)
    return await boards.reopened(board, **options)


def pairing(board: Blackboard) -> Blackboard:
    async def pair(a: A, b: B) -> Pair:
        return Pair(a=a.n, b=b.n)

    board.agent("pair").consumes(A, B, by="key").publishes(Pair).body(pair)
    return board


def copying(board: Blackboard, ran: list[int]) -> Blackboard:
    async def copy(a: A) -> B:
        ran.append(a.n)
        return B(n=a.n)

    board.agent("copy").consumes(A).publishes(B).body(copy)
    return board


# -- what is open survives --------------------------------------------------------------------------------------------


@pytest.mark.req("S3.57")
async def test_artifacts_and_their_envelopes_survive(file_board: Boards, again: str) -> None:
    board = copying(file_board(), [])
    made = await board.publish(A(n=3, key="x"), key="k", tags=["t"], priority="high", run="r")
    await board.run_until_idle()
    before = list(board.artifacts())
    after_ = await next_board(file_board, board, again)
    copying(after_, [])
    assert list(after_.artifacts(run="r")) == before
    assert after_.get(made.id) == made


@pytest.mark.req("S3.58")
async def test_work_that_was_published_and_not_begun_is_done_afterwards(file_board: Boards, again: str) -> None:
    ran: list[int] = []
    board = copying(file_board(), ran)
    await board.publish_many([A(n=1), A(n=2)])
    after_ = copying(await next_board(file_board, board, again), ran)
    await after_.run_until_idle()
    assert ran == [1, 2]
    assert numbers(after_, B) == [1, 2]


@pytest.mark.req("S3.58")
async def test_finished_work_is_not_done_again(file_board: Boards, again: str) -> None:
    ran: list[int] = []
    board = copying(file_board(), ran)
    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()
    after_ = copying(await next_board(file_board, board, again), ran)
    report = await after_.run_until_idle()
    assert ran == [1, 2]
    assert (report.done, report.open) == (2, 0)


async def test_a_pending_join_survives(file_board: Boards, again: str) -> None:
    board = pairing(file_board())
    await board.publish_many([A(n=1, key="x"), A(n=2, key="y")])
    await board.run_until_idle()
    after_ = pairing(await next_board(file_board, board, again))
    await after_.publish_many([B(n=2, key="y"), B(n=1, key="x")])
    await after_.run_until_idle()
    assert after_.artifacts(Pair).payloads == [Pair(a=2, b=2), Pair(a=1, b=1)]


async def test_complete_groups_that_wait_for_more_groups_survive(file_board: Boards, again: str) -> None:
    seen: list[list[int]] = []

    def define(board: Blackboard) -> Blackboard:
        async def two(pairs: list[tuple[A, B]]) -> None:
            seen.append([a.n for a, _ in pairs])

        board.agent("two").consumes(A, B, by="key", groups=2).body(two)
        return board

    board = define(file_board())
    await board.publish(A(n=1, key="x"))
    await board.publish(B(n=1, key="x"))
    await board.run_until_idle()
    after_ = define(await next_board(file_board, board, again))
    await after_.publish(A(n=2, key="y"))
    await after_.publish(B(n=2, key="y"))
    await after_.run_until_idle()
    assert seen == [[1, 2]]


async def test_a_half_filled_batch_and_its_deadline_survive(file_board: Boards, again: str) -> None:
    clock = VirtualClock()
    seen: list[tuple[float, list[int]]] = []
    start = clock.now()

    def define(board: Blackboard) -> Blackboard:
        async def gather(many: list[A]) -> None:
            seen.append((clock.now() - start, [a.n for a in many]))

        board.agent("gather").consumes(A, batch=3, within=100).body(gather)
        return board

    board = define(file_board(clock=clock))
    await board.publish(A(n=1))
    await board.run_until_idle()
    clock.advance(30)
    after_ = define(await next_board(file_board, board, again, clock=clock))
    await after_.publish(A(n=2))
    assert (await after_.run_until_idle()).reason == "waiting"
    await after_.run_until_idle(horizon=None)
    assert seen == [(100.0, [1, 2])]


async def test_a_retry_and_its_count_survive(file_board: Boards, again: str) -> None:
    clock = VirtualClock()
    attempts: list[int] = []

    def define(board: Blackboard) -> Blackboard:
        async def flaky(a: A, ctx: Context) -> None:
            attempts.append(ctx.attempt)
            raise OSError("no")

        board.agent("flaky").limits(retry=Retry(attempts=3, backoff=100, cap=100)).consumes(A).body(flaky)
        return board

    board = define(file_board(clock=clock))
    await board.publish(A())
    assert (await board.run_until_idle()).reason == "waiting"
    after_ = define(await next_board(file_board, board, again, clock=clock))
    report = await after_.run_until_idle(horizon=None)
    assert attempts == [1, 2, 3]
    assert [d.attempts for d in report.left.dead_letters] == [3]


async def test_a_delayed_artifact_is_delivered_once_after_reopening(file_board: Boards, again: str) -> None:
    clock = VirtualClock()
    ran: list[int] = []
    board = copying(file_board(clock=clock), ran)
    await board.publish(A(n=5), visibility=after(3600))
    await board.run_until_idle()
    after_ = copying(await next_board(file_board, board, again, clock=clock), ran)
    assert (await after_.run_until_idle()).reason == "waiting"
    clock.advance(3600)
    await after_.run_until_idle()
    last = copying(await next_board(file_board, after_, again, clock=clock), ran)
    await last.run_until_idle()
    assert ran == [5]


async def test_an_artifact_held_for_review_stays_held(file_board: Boards, again: str) -> None:
    ran: list[int] = []
    board = copying(file_board(), ran)
    made = await board.publish(A(n=5), review_by="somebody")
    await board.run_until_idle()
    after_ = copying(await next_board(file_board, board, again), ran)
    report = await after_.run_until_idle()
    assert ran == []
    assert [(left.id, left.by) for left in report.left.held] == [(made.id, "somebody")]


async def test_dead_letters_survive_with_their_errors_and_can_be_tried_again(file_board: Boards, again: str) -> None:
    class Retrying(Component[None]):
        observes = (C,)

        def react(self, state: None, seen: Seen, /) -> list[Reaction]:
            assert seen.artifact is not None
            return [Redrive(seen.artifact.payload.n)]

    def define(board: Blackboard, *, works: bool) -> Blackboard:
        async def fragile(a: A) -> B:
            if not works:
                raise ValueError("not today")
            return B(n=a.n)

        board.agent("fragile").consumes(A).publishes(B).body(fragile)
        return board

    board = define(file_board(), works=False)
    await board.publish(A(n=7))
    await board.run_until_idle()
    after_ = define(await next_board(file_board, board, again, components=[Retrying()]), works=True)
    report = await after_.run_until_idle()
    [dead] = report.left.dead_letters
    assert dead.error is not None
    assert dead.error.message == "not today"
    await after_.publish(C(n=dead.activation))
    report = await after_.run_until_idle()
    assert numbers(after_, B) == [7]
    assert report.left.dead_letters == ()


# -- in the middle of something ---------------------------------------------------------------------------------------


async def in_the_middle(board: Blackboard, reached: asyncio.Event) -> asyncio.Task[object]:
    """Run a board until a body says that it is where it should be; it goes on running."""
    run: asyncio.Task[object] = asyncio.create_task(board.run_until_idle())
    await reached.wait()
    return run


async def test_what_ran_when_the_process_died_runs_again_and_its_death_is_no_attempt(file_board: Boards) -> None:
    attempts: list[int] = []
    reached = asyncio.Event()

    def define(board: Blackboard) -> Blackboard:
        async def work(a: A, ctx: Context) -> B:
            attempts.append(ctx.attempt)
            if len(attempts) == 1:
                reached.set()
                await asyncio.Event().wait()
            return B(n=a.n)

        board.agent("work").consumes(A).publishes(B).body(work)
        return board

    board = define(file_board())
    await board.publish(A(n=4))
    run = await in_the_middle(board, reached)
    after_ = define(file_board.crashed(board))
    report = await after_.run_until_idle()
    run.cancel()
    assert numbers(after_, B) == [4]
    assert attempts == [1, 1]
    assert report.ok
    opened = [e for e in after_.events() if isinstance(e, Opened)]
    assert [e.clean for e in opened] == [True, False]
    assert [e.alone for e in after_.events() if isinstance(e, Claimed)] == [False, True]


async def test_after_a_death_no_id_is_dealt_twice(file_board: Boards) -> None:
    board = copying(file_board(), [])
    made = await board.publish(A(n=1))
    after_ = copying(file_board.crashed(board), [])
    again = await after_.publish(A(n=2))
    assert again.id > made.id + 1_000


async def test_an_effect_that_was_recorded_before_the_death_is_not_executed_again(file_board: Boards) -> None:
    done: list[str] = []
    reached = asyncio.Event()

    def act(what: str) -> str:
        done.append(what)
        return what.upper()

    def define(board: Blackboard) -> Blackboard:
        async def work(a: A, ctx: Context) -> B:
            text = await ctx.call("act", act, "pay")
            if not reached.is_set():
                reached.set()
                await asyncio.Event().wait()
            return B(key=text)

        board.agent("work").consumes(A).publishes(B).body(work)
        return board

    board = define(file_board())
    await board.publish(A())
    run = await in_the_middle(board, reached)
    after_ = define(file_board.crashed(board))
    await after_.run_until_idle()
    run.cancel()
    assert done == ["pay"]
    assert after_.one(B).key == "PAY"


async def test_a_sleep_goes_on_where_it_was(file_board: Boards, again: str) -> None:
    clock = VirtualClock()
    start = clock.now()
    woke: list[float] = []
    started = asyncio.Event()

    def define(board: Blackboard) -> Blackboard:
        async def nap(a: A, ctx: Context) -> None:
            if started.is_set():
                await ctx.sleep("nap", 100)
                woke.append(clock.now() - start)
                return
            started.set()
            await asyncio.gather(ctx.sleep("nap", 100), asyncio.Event().wait())

        async def busy(b: B) -> None:
            if not woke and not finished:
                await asyncio.Event().wait()

        board.agent("nap").consumes(A).body(nap)
        board.agent("busy").consumes(B).body(busy)
        return board

    finished: list[bool] = []
    board = define(file_board(clock=clock))
    await board.publish(A())
    await board.publish(B())
    report = await board.run_until_idle(timeout=0.05)
    assert report.reason == "timeout"
    clock.advance(30)
    finished.append(True)
    after_ = define(await next_board(file_board, board, again, clock=clock))
    await after_.run_until_idle(horizon=None)
    assert woke == [100.0]


async def test_what_kills_its_process_again_and_again_is_a_dead_letter_and_its_neighbours_are_not(
    file_board: Boards,
) -> None:
    done: list[int] = []
    deadly = asyncio.Event()
    neighbours = asyncio.Event()

    def define(board: Blackboard) -> Blackboard:
        async def work(a: A) -> B:
            if a.n == 13:
                deadly.set()
                await asyncio.Event().wait()
            if len(done) < 2:
                neighbours.set()
            if not deadly.is_set() or a.n in (1, 2):
                done.append(a.n)
            return B(n=a.n)

        board.agent("work").consumes(A).publishes(B).body(work)
        return board

    board = define(file_board())
    await board.publish_many([A(n=13), A(n=1), A(n=2)])
    runs = []
    for _ in range(4):
        deadly.clear()
        runs.append(await in_the_middle(board, deadly))
        board = define(file_board.crashed(board))
    report = await asyncio.wait_for(board.run_until_idle(), 10)
    for run in runs:
        run.cancel()
    [dead] = report.left.dead_letters
    assert dead.reason == "kills_process"
    assert sorted(numbers(board, B)) == [1, 2]


# -- who is there -----------------------------------------------------------------------------------------------------


async def test_what_was_published_without_the_agents_is_offered_when_they_come_back(
    file_board: Boards, again: str
) -> None:
    ran: list[int] = []
    board = copying(file_board(), ran)
    await board.publish(A(n=1))
    await board.run_until_idle()
    without = await next_board(file_board, board, again)
    await without.publish(A(n=2))
    await without.run_until_idle()
    assert ran == [1]
    back = copying(await next_board(file_board, without, again), ran)
    await back.run_until_idle()
    await back.publish(A(n=3))
    await back.run_until_idle()
    assert ran == [1, 2, 3]


async def test_open_work_of_an_agent_that_is_not_here_waits_for_it(file_board: Boards, again: str) -> None:
    ran: list[int] = []
    board = copying(file_board(), ran)
    await board.publish(A(n=1))
    without = await next_board(file_board, board, again)
    report = await without.run_until_idle()
    assert report.open == 1
    assert [left.agent for left in report.left.unfinished] == ["copy"]
    back = copying(await next_board(file_board, without, again), ran)
    await back.run_until_idle()
    assert ran == [1]


async def test_a_join_gets_what_was_published_while_its_agent_was_away(file_board: Boards, again: str) -> None:
    board = pairing(file_board())
    await board.publish(A(n=1, key="x"))
    await board.run_until_idle()
    without = await next_board(file_board, board, again)
    await without.publish(B(n=1, key="x"))
    back = pairing(await next_board(file_board, without, again))
    await back.run_until_idle()
    assert back.one(Pair) == Pair(a=1, b=1)


async def test_a_new_agent_is_not_offered_the_past_unless_it_asks_for_it(file_board: Boards, again: str) -> None:
    board = copying(file_board(), [])
    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()

    seen: dict[str, list[int]] = {"late": [], "curious": []}

    async def late(a: A) -> None:
        seen["late"].append(a.n)

    async def curious(a: A) -> None:
        seen["curious"].append(a.n)

    after_ = copying(await next_board(file_board, board, again), [])
    after_.agent("late").consumes(A).body(late)
    after_.agent("curious").consumes(A, since="start").body(curious)
    await after_.publish(A(n=3))
    await after_.run_until_idle()
    assert seen == {"late": [3], "curious": [1, 2, 3]}


async def test_a_past_that_was_offered_once_is_not_offered_again(file_board: Boards, again: str) -> None:
    seen: list[int] = []

    def define(board: Blackboard) -> Blackboard:
        async def curious(a: A) -> None:
            seen.append(a.n)

        board.agent("curious").consumes(A, since="start").body(curious)
        return board

    board = file_board()
    await board.publish(A(n=1))
    for _ in range(3):
        board = define(await next_board(file_board, board, again))
        await board.run_until_idle()
    assert seen == [1]


@pytest.mark.parametrize(
    "shape",
    [
        lambda builder: builder.consumes(A, B, by=lambda x: len(x.key)),
        lambda builder: builder.consumes(B, A, by="n"),
        lambda builder: builder.consumes(A, B),
    ],
    ids=["function", "other field", "no key"],
)
async def test_what_waits_in_a_subscription_whose_shape_changed_is_offered_to_the_new_shape(
    file_board: Boards, again: str, shape: Callable[..., object]
) -> None:
    board = pairing(file_board())
    await board.publish(A(n=7, key="abc"))
    await board.publish(B(n=7, key="xyz"))
    await board.run_until_idle()
    assert board.artifacts(Pair).total == 0

    async def pair(ctx: Context) -> Pair:
        values = {x.type_name: x.payload.n for x in ctx.artifacts}
        return Pair(a=values["A"], b=values["B"])

    after_ = await next_board(file_board, board, again)
    builder = after_.agent("pair")
    shape(builder)
    builder.publishes(Pair).body(pair)
    report = await after_.run_until_idle()
    assert after_.one(Pair) == Pair(a=7, b=7)
    assert report.left.waiting == ()


async def test_an_edited_predicate_does_not_change_the_past(file_board: Boards, again: str) -> None:
    seen: list[int] = []

    def define(board: Blackboard, least: int) -> Blackboard:
        async def note(a: A) -> None:
            seen.append(a.n)

        board.agent("note").consumes(A, where=lambda a: a.n >= least).body(note)
        return board

    board = define(file_board(), 5)
    await board.publish_many([A(n=1), A(n=9)])
    after_ = define(await next_board(file_board, board, again), 0)
    await after_.run_until_idle()
    assert seen == [9]
    await after_.publish(A(n=2))
    await after_.run_until_idle()
    assert seen == [9, 2]


# -- one owner --------------------------------------------------------------------------------------------------------


async def test_an_idle_board_of_this_process_gives_up_its_file_to_a_new_one(file_board: Boards) -> None:
    board = copying(file_board(), [])
    await board.publish(A(n=1))
    ran: list[int] = []
    second = copying(Blackboard(board._store.name), ran)
    try:
        await second.run_until_idle()
        assert ran == [1]
        with pytest.raises(BoardClosed):
            await board.publish(A())
    finally:
        await second.close()


async def test_a_board_that_runs_is_not_taken_over(file_board: Boards) -> None:
    reached = asyncio.Event()
    board = file_board()

    @board.agent
    async def endless(a: A) -> None:
        reached.set()
        await asyncio.Event().wait()

    await board.publish(A())
    run = await in_the_middle(board, reached)
    second = Blackboard(board._store.name)
    with pytest.raises(BoardBusy):
        await second.publish(A())
    await second.close()
    run.cancel()


async def test_a_file_can_be_read_while_its_board_is_open_and_after_it(file_board: Boards) -> None:
    board = copying(file_board(), [])
    await board.publish(A(n=1))
    with read(board._store.name, types=[A, B]) as view:
        assert numbers(view, A) == [1]
        await board.run_until_idle()
        assert numbers(view, B) == [1]
        await board.close()
        assert numbers(view, B) == [1]
        assert view.report().done == 1


async def test_a_clean_close_is_on_the_log_and_the_next_opening_is_clean(file_board: Boards) -> None:
    board = copying(file_board(), [])
    await board.publish(A(n=1))
    after_ = copying(await file_board.reopened(board), [])
    await after_.run_until_idle()
    kinds = [e for e in after_.events() if isinstance(e, Opened | Closed)]
    assert [type(e).__name__ for e in kinds] == ["Opened", "Closed", "Opened"]
    assert [e.clean for e in kinds if isinstance(e, Opened)] == [True, True]
    assert sum(isinstance(e, Completed | Ended) for e in after_.events()) == 1
    assert sum(isinstance(e, Activated) for e in after_.events()) == 1
