"""Closing or dying and opening again: what is open survives, what was missed is offered."""

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from stigmergy import (
    Artifact,
    Blackboard,
    Component,
    Context,
    Redrive,
    Retry,
    Seen,
    after,
    read,
)
from stigmergy.blackboard.component import Reaction
from stigmergy.blackboard.errors import (
    BoardBusy,
    BoardClosed,
    WrongLoop,
)
from stigmergy.blackboard.events import (
    Activated,
    Closed,
    Completed,
    Ended,
    Opened,
)
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, copying, in_the_middle, numbers, stopped

pytestmark = pytest.mark.anyio


class Pair(BaseModel):
    a: int
    b: int


def pairing(board: Blackboard) -> Blackboard:
    async def pair(a: A, b: B) -> Pair:
        return Pair(a=a.n, b=b.n)

    board.agent("pair").consumes(A, B, by="key").publishes(Pair).body(pair)
    return board


# -- what is open survives ---------------------------------------------------------------------------------------------


@pytest.mark.req("S3.57")
async def test_artifacts_and_their_envelopes_survive(file_board: Boards, ending: str) -> None:
    board = copying(file_board(), [])
    made = await board.publish(A(n=3, key="x"), key="k", tags=["t"], priority="high", run="r")
    await board.run_until_idle()
    before = list(board.artifacts())
    after_ = await file_board.after(ending, board)
    copying(after_, [])
    assert list(after_.artifacts(run="r")) == before
    assert after_.get(made.id) == made


async def test_a_fast_board_survives_the_end_of_its_process_and_says_that_it_is_fast(
    file_board: Boards, ending: str
) -> None:
    ran: list[int] = []
    board = copying(file_board(durability="fast"), ran)
    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()
    await board.publish(A(n=3))
    after_ = copying(await file_board.after(ending, board), ran)
    assert numbers(after_, A) == [1, 2, 3]
    assert (await after_.run_until_idle()).ok
    assert ran == [1, 2, 3]
    assert [e.durability for e in after_.events() if isinstance(e, Opened)] == ["fast", "full"]


@pytest.mark.req("S3.58")
async def test_work_that_was_published_and_not_begun_is_done_afterwards(file_board: Boards, ending: str) -> None:
    ran: list[int] = []
    board = copying(file_board(), ran)
    await board.publish_many([A(n=1), A(n=2)])
    after_ = copying(await file_board.after(ending, board), ran)
    await after_.run_until_idle()
    assert ran == [1, 2]
    assert numbers(after_, B) == [1, 2]


@pytest.mark.req("S3.58", "S2.8")
async def test_finished_work_is_not_done_again(file_board: Boards, ending: str) -> None:
    ran: list[int] = []
    board = copying(file_board(), ran)
    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()
    after_ = copying(await file_board.after(ending, board), ran)
    report = await after_.run_until_idle()
    assert ran == [1, 2]
    assert (report.done, report.open) == (2, 0)


async def test_a_pending_join_survives(file_board: Boards, ending: str) -> None:
    board = pairing(file_board())
    await board.publish_many([A(n=1, key="x"), A(n=2, key="y")])
    await board.run_until_idle()
    after_ = pairing(await file_board.after(ending, board))
    await after_.publish_many([B(n=2, key="y"), B(n=1, key="x")])
    await after_.run_until_idle()
    assert after_.artifacts(Pair).payloads == [Pair(a=2, b=2), Pair(a=1, b=1)]


async def test_complete_groups_that_wait_for_more_groups_survive(file_board: Boards, ending: str) -> None:
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
    after_ = define(await file_board.after(ending, board))
    await after_.publish(A(n=2, key="y"))
    await after_.publish(B(n=2, key="y"))
    await after_.run_until_idle()
    assert seen == [[1, 2]]


async def test_a_half_filled_batch_and_its_deadline_survive(file_board: Boards, ending: str) -> None:
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
    after_ = define(await file_board.after(ending, board, clock=clock))
    await after_.publish(A(n=2))
    assert (await after_.run_until_idle()).reason == "waiting"
    await after_.run_until_idle(horizon=None)
    assert seen == [(100.0, [1, 2])]


async def test_a_retry_and_its_count_survive(file_board: Boards, ending: str) -> None:
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
    after_ = define(await file_board.after(ending, board, clock=clock))
    report = await after_.run_until_idle(horizon=None)
    assert attempts == [1, 2, 3]
    assert [d.attempts for d in report.left.dead_letters] == [3]


async def test_a_delayed_artifact_is_delivered_once_after_reopening(file_board: Boards, ending: str) -> None:
    clock = VirtualClock()
    ran: list[int] = []
    board = copying(file_board(clock=clock), ran)
    await board.publish(A(n=5), visibility=after(3600))
    await board.run_until_idle()
    after_ = copying(await file_board.after(ending, board, clock=clock), ran)
    assert (await after_.run_until_idle()).reason == "waiting"
    clock.advance(3600)
    await after_.run_until_idle()
    last = copying(await file_board.after(ending, after_, clock=clock), ran)
    await last.run_until_idle()
    assert ran == [5]


async def test_an_artifact_held_for_review_stays_held(file_board: Boards, ending: str) -> None:
    ran: list[int] = []
    board = copying(file_board(), ran)
    made = await board.publish(A(n=5), review_by="somebody")
    await board.run_until_idle()
    after_ = copying(await file_board.after(ending, board), ran)
    report = await after_.run_until_idle()
    assert ran == []
    assert [(left.id, left.by) for left in report.left.held] == [(made.id, "somebody")]


async def test_dead_letters_survive_with_their_errors_and_can_be_tried_again(file_board: Boards, ending: str) -> None:
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
    after_ = define(await file_board.after(ending, board, components=[Retrying()]), works=True)
    report = await after_.run_until_idle()
    [dead] = report.left.dead_letters
    assert dead.error is not None
    assert dead.error.message == "not today"
    await after_.publish(C(n=dead.activation))
    report = await after_.run_until_idle()
    assert numbers(after_, B) == [7]
    assert report.left.dead_letters == ()


class Step(BaseModel):
    work_id: str
    blocking_work_ids: list[str] = []


@pytest.mark.req("S3.58")
async def test_a_board_goes_on_in_the_same_way_with_its_snapshot_and_without(tmp_path: Path) -> None:
    clock = VirtualClock()

    def define(board: Blackboard) -> Blackboard:
        async def pair(a: A, b: B) -> C:
            return C(n=a.n + b.n)

        async def gather(many: list[C]) -> None: ...

        async def flaky(step: Step) -> None:
            raise OSError("no")

        board.agent("pair").consumes(A, B, by="key", window=50).publishes(C).body(pair)
        board.agent("gather").consumes(C, batch=3, within=500).body(gather)
        board.agent("flaky").limits(retry=Retry(attempts=2, backoff=200, cap=200)).consumes(Step).body(flaky)
        return board

    with_it, without = tmp_path / "with.db", tmp_path / "without.db"
    async with define(Blackboard(with_it, clock=clock)) as board:
        await board.publish_many([A(n=1, key="x"), A(n=2, key="y"), B(n=1, key="x"), B(n=5, key="z")])
        await board.publish_many([Step(work_id="late", blocking_work_ids=["first"]), Step(work_id="first")])
        await board.publish(A(n=9), visibility=after(400))
        await board.publish(C(n=7), review_by="nobody")
        await board.publish(A(n=1), key="k")
        report = await board.run_until_idle()
        assert [bool(kind) for kind in (report.left.waiting, report.left.blocked, report.left.due)] == [True] * 3
    shutil.copy(with_it, without)
    connection = sqlite3.connect(without)
    assert connection.execute("SELECT count(*) FROM snapshot").fetchone() == (1,)
    connection.execute("DELETE FROM snapshot")
    connection.commit()
    connection.close()

    logs = []
    for path in (with_it, without):
        async with define(Blackboard(path, clock=VirtualClock(clock.now()))) as board:
            await board.publish(A(n=1), key="k")
            await board.publish_many([B(n=2, key="y"), A(n=5, key="z")])
            report = await board.run_until_idle(horizon=None)
            assert (report.reason, report.dead, report.blocker_failed) == ("idle", 1, 1)
            assert numbers(board, C) == [2, 4, 10]
            logs.append([(type(e).__name__, e.seq, e.tx, e.cause, e.at) for e in board.events()])
    assert logs[0] == logs[1]


# -- who is there ------------------------------------------------------------------------------------------------------


async def test_what_was_published_without_the_agents_is_offered_when_they_come_back(
    file_board: Boards, ending: str
) -> None:
    ran: list[int] = []
    board = copying(file_board(), ran)
    await board.publish(A(n=1))
    await board.run_until_idle()
    without = await file_board.after(ending, board)
    await without.publish(A(n=2))
    await without.run_until_idle()
    assert ran == [1]
    back = copying(await file_board.after(ending, without), ran)
    await back.run_until_idle()
    await back.publish(A(n=3))
    await back.run_until_idle()
    assert ran == [1, 2, 3]


async def test_open_work_of_an_agent_that_is_not_here_waits_for_it(file_board: Boards, ending: str) -> None:
    ran: list[int] = []
    board = copying(file_board(), ran)
    await board.publish(A(n=1))
    without = await file_board.after(ending, board)
    report = await without.run_until_idle()
    assert report.open == 1
    assert [left.agent for left in report.left.unfinished] == ["copy"]
    back = copying(await file_board.after(ending, without), ran)
    await back.run_until_idle()
    assert ran == [1]


async def test_a_join_gets_what_was_published_while_its_agent_was_away(file_board: Boards, ending: str) -> None:
    board = pairing(file_board())
    await board.publish(A(n=1, key="x"))
    await board.run_until_idle()
    without = await file_board.after(ending, board)
    await without.publish(B(n=1, key="x"))
    back = pairing(await file_board.after(ending, without))
    await back.run_until_idle()
    assert back.one(Pair) == Pair(a=1, b=1)


async def test_a_new_agent_is_not_offered_the_past_unless_it_asks_for_it(file_board: Boards, ending: str) -> None:
    board = copying(file_board(), [])
    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()

    seen: dict[str, list[int]] = {"late": [], "curious": []}

    async def late(a: A) -> None:
        seen["late"].append(a.n)

    async def curious(a: A) -> None:
        seen["curious"].append(a.n)

    after_ = copying(await file_board.after(ending, board), [])
    after_.agent("late").consumes(A).body(late)
    after_.agent("curious").consumes(A, since="start").body(curious)
    await after_.publish(A(n=3))
    await after_.run_until_idle()
    assert seen == {"late": [3], "curious": [1, 2, 3]}


async def test_a_past_that_was_offered_once_is_not_offered_again(file_board: Boards, ending: str) -> None:
    seen: list[int] = []

    def define(board: Blackboard) -> Blackboard:
        async def curious(a: A) -> None:
            seen.append(a.n)

        board.agent("curious").consumes(A, since="start").body(curious)
        return board

    board = file_board()
    await board.publish(A(n=1))
    for _ in range(3):
        board = define(await file_board.after(ending, board))
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
    file_board: Boards, ending: str, shape: Callable[..., object]
) -> None:
    board = pairing(file_board())
    await board.publish(A(n=7, key="abc"))
    await board.publish(B(n=7, key="xyz"))
    await board.run_until_idle()
    assert board.artifacts(Pair).total == 0

    async def pair(ctx: Context) -> Pair:
        values = {x.type_name: x.payload.n for x in ctx.artifacts}
        return Pair(a=values["A"], b=values["B"])

    after_ = await file_board.after(ending, board)
    builder = after_.agent("pair")
    shape(builder)
    builder.publishes(Pair).body(pair)
    report = await after_.run_until_idle()
    assert after_.one(Pair) == Pair(a=7, b=7)
    assert report.left.waiting == ()


@pytest.mark.parametrize("kind", ["payload", "envelope", "thread", "other place", "fewer", "gone"])
async def test_a_body_is_never_given_what_it_does_not_consume_any_more(new_board: Boards, kind: str) -> None:
    """Activations outlive the definitions that they were made for."""
    got: list[object] = []

    async def old(a: A, b: B) -> None: ...

    async def of_a(a: A) -> None: ...

    async def payload(b: B) -> None:
        got.append(b)

    async def envelope(b: Artifact[B]) -> None:
        got.append(b)

    def thread(b: B) -> None:
        got.append(b)

    async def other_place(b: B, a: A) -> None:
        got.append(b)

    async def fewer(a: A, b: B, c: C) -> None:
        got.append(b)

    async def gone(c: C) -> None:
        got.append(c)

    board = new_board()
    board.agent(name="doer")(of_a if kind in ("payload", "envelope", "thread") else old)
    a = await board.publish(A())
    await board.publish(B())
    bodies: dict[str, Callable[..., Any]] = {
        "payload": payload, "envelope": envelope, "thread": thread, "other place": other_place, "fewer": fewer,
        "gone": gone,
    }  # fmt: skip
    again = await new_board.reopened(board)
    again.agent(name="doer")(bodies[kind])
    report = await again.run_until_idle()
    [dead] = report.left.dead_letters
    assert dead.error is not None
    assert dead.error.type == "BadSignature"
    assert dead.error.message.startswith(f"agent 'doer' does not consume {a.ref}")
    assert got == []

    last = await new_board.reopened(again)
    last.agent(name="doer")(of_a if kind in ("payload", "envelope", "thread") else old)
    await last.retry(dead.activation)
    assert (await last.run_until_idle()).ok


async def test_an_edited_predicate_does_not_change_the_past(file_board: Boards, ending: str) -> None:
    seen: list[int] = []

    def define(board: Blackboard, least: int) -> Blackboard:
        async def note(a: A) -> None:
            seen.append(a.n)

        board.agent("note").consumes(A, where=lambda a: a.n >= least).body(note)
        return board

    board = define(file_board(), 5)
    await board.publish_many([A(n=1), A(n=9)])
    after_ = define(await file_board.after(ending, board), 0)
    await after_.run_until_idle()
    assert seen == [9]
    await after_.publish(A(n=2))
    await after_.run_until_idle()
    assert seen == [9, 2]


# -- one owner ---------------------------------------------------------------------------------------------------------


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
    await stopped(run)


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


async def test_a_board_that_is_in_use_belongs_to_its_event_loop(new_board: Boards) -> None:
    board = new_board()
    started, go_on = asyncio.Event(), asyncio.Event()
    raised: list[BaseException] = []

    @board.agent
    async def slow(a: A) -> None:
        started.set()
        await go_on.wait()

    def elsewhere() -> None:
        try:
            asyncio.run(board.publish(A()))
        except WrongLoop as error:
            raised.append(error)

    await board.publish(A())
    run = asyncio.create_task(board.run_until_idle())
    await started.wait()
    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    go_on.set()
    assert (await run).done == 1
    assert len(raised) == 1
