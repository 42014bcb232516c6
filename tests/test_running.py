"""Running a board: until idle or a goal, again and again, so many bodies at a time."""

import asyncio

import pytest

from stigmergy import (
    Context,
    Limits,
    after,
)
from stigmergy.blackboard.errors import (
    PayloadTooLarge,
    UseContext,
)
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, copying, numbers

pytestmark = pytest.mark.anyio


class Crowd:
    """Counts how many are inside at one time."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0

    async def visit(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        for _ in range(5):
            await asyncio.sleep(0)
        self.inside -= 1


# -- until idle --------------------------------------------------------------------------------------------------------


async def test_an_empty_board_is_idle(new_board: Boards) -> None:
    report = await new_board().run_until_idle()
    assert (report.reason, report.activations) == ("idle", 0)


async def test_publishing_runs_nothing_by_itself(new_board: Boards) -> None:
    board = new_board()
    ran: list[int] = []

    @board.agent
    async def take(a: A) -> None:
        ran.append(a.n)

    await board.publish(A(n=1))
    await asyncio.sleep(0.02)
    assert ran == []
    assert (await board.run_until_idle()).done == 1


@pytest.mark.req("S3.24")
async def test_a_board_can_be_run_again_and_again(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def copy(a: A) -> B:
        await asyncio.sleep(0)
        return B(n=a.n)

    for n in range(5):
        await board.publish(A(n=n))
        report = await board.run_until_idle()
        assert (report.reason, report.open) == ("idle", 0)
        assert numbers(board, B) == list(range(n + 1))


@pytest.mark.req("S3.25")
async def test_several_seeds_run_together(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def copy(a: A) -> B:
        return B(n=a.n)

    await board.publish(A(n=1))
    await board.publish_many([A(n=2), A(n=3)])
    report = await board.run_until_idle()
    assert sorted(numbers(board, B)) == [1, 2, 3]
    assert (report.seeds, report.artifacts, report.done) == (3, 6, 3)


async def test_agents_may_be_defined_between_two_runs(new_board: Boards) -> None:
    board = new_board()
    await board.publish(A(n=1))
    await board.run_until_idle()

    @board.agent
    async def late(a: A) -> B:
        return B(n=a.n)

    await board.publish(A(n=2))
    await board.run_until_idle()
    assert numbers(board, B) == [2]


async def test_what_is_published_while_the_board_runs_is_worked_on_in_that_run(new_board: Boards) -> None:
    board = new_board()
    started, go_on = asyncio.Event(), asyncio.Event()

    @board.agent
    async def slow(b: B) -> None:
        started.set()
        await go_on.wait()

    @board.agent
    async def quick(a: A) -> C:
        go_on.set()
        return C(n=a.n)

    await board.publish(B())
    run = asyncio.create_task(board.run_until_idle())
    await started.wait()
    await board.publish(A(n=7))
    await run
    assert numbers(board, C) == [7]


async def test_concurrent_first_publishes_open_the_board_once(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def copy(a: A) -> B:
        return B(n=a.n)

    await asyncio.gather(*(board.publish(A(n=n)) for n in range(20)))
    await board.run_until_idle()
    assert sorted(numbers(board, B)) == list(range(20))
    kinds = [type(e).__name__ for e in board.events()]
    assert kinds.count("Opened") == 1
    assert kinds.count("Enrolled") == 1


async def test_a_body_cannot_use_the_board_itself(new_board: Boards) -> None:
    board = new_board()
    raised: list[str] = []

    @board.agent
    async def publishes(a: A) -> None:
        try:
            await board.publish(B())
        except UseContext as error:
            raised.append(str(error))

    @board.agent
    async def runs(a: A) -> None:
        try:
            await board.run_until_idle()
        except UseContext as error:
            raised.append(str(error))

    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert len(raised) == 2
    assert all("ctx.publish" in text for text in raised)
    assert board.artifacts(B).total == 0


async def test_two_runs_at_one_time_are_refused(new_board: Boards) -> None:
    board = new_board()
    started, go_on = asyncio.Event(), asyncio.Event()

    @board.agent
    async def slow(a: A) -> None:
        started.set()
        await go_on.wait()

    await board.publish(A())
    run = asyncio.create_task(board.run_until_idle())
    await started.wait()
    with pytest.raises(UseContext, match="runs already"):
        await board.run_until_idle()
    go_on.set()
    assert (await run).reason == "idle"


# -- run_sync ----------------------------------------------------------------------------------------------------------


def test_run_sync_publishes_its_seeds_and_runs(new_board: Boards) -> None:
    board = copying(new_board())
    assert board.run_sync(A(n=1), A(n=2)).ok
    assert board.run_sync(A(n=3)).done == 3
    assert board.run_sync().reason == "idle"
    assert sorted(numbers(board, B)) == [1, 2, 3]


async def test_run_sync_works_while_a_loop_runs_as_in_a_notebook(new_board: Boards) -> None:
    board = copying(new_board())
    assert board.run_sync(A(n=1)).ok
    await board.publish(A(n=2))
    await board.run_until_idle()
    assert board.run_sync(A(n=3)).ok
    assert numbers(board, B) == [1, 2, 3]


def test_run_sync_raises_what_went_wrong(new_board: Boards) -> None:
    board = copying(new_board(limits=Limits(payload_bytes=10)))
    with pytest.raises(PayloadTooLarge):
        board.run_sync(A(key="x" * 100))


# -- until a goal ------------------------------------------------------------------------------------------------------


async def test_run_until_stops_at_the_goal_and_leaves_the_rest_open(new_board: Boards) -> None:
    board = new_board(concurrency=1)

    @board.agent
    async def copy(a: A) -> B:
        return B(n=a.n)

    await board.publish_many([A(n=n) for n in range(10)])
    report = await board.run_until(B, count=3)
    assert report.reason == "goal"
    assert numbers(board, B) == [0, 1, 2]
    assert report.open == 7
    assert (await board.run_until_idle()).open == 0
    assert sorted(numbers(board, B)) == list(range(10))


async def test_run_until_interrupts_bodies_that_run_and_their_work_stays_open(new_board: Boards) -> None:
    board = new_board()
    stopped: list[int] = []
    started = asyncio.Event()

    @board.agent
    async def quick(a: A) -> B:
        await started.wait()
        return B(n=a.n)

    @board.agent
    async def endless(a: A) -> C:
        started.set()
        if stopped:
            return C(n=a.n)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(a.n)
        return C()

    await board.publish(A(n=1))
    report = await asyncio.wait_for(board.run_until(B), 10)
    assert report.reason == "goal"
    assert stopped == [1]
    assert [left.agent for left in report.left.unfinished] == ["endless"]
    assert report.failed_attempts == 0
    await board.run_until_idle()
    assert numbers(board, C) == [1]


async def test_run_until_can_ask_for_content(new_board: Boards) -> None:
    board = new_board(concurrency=1)

    async def grow(a: A) -> A:
        return A(n=a.n + 1)

    board.agent("grow").self_trigger().consumes(A).publishes(A).body(grow)
    await board.publish(A(n=0))
    report = await board.run_until(A, where=lambda a: a.n >= 7)
    assert (report.reason, numbers(board, A)[-1]) == ("goal", 7)


async def test_run_until_counts_what_is_held_when_it_is_released(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    start = clock.now()

    async def copy(a: A) -> B:
        return B(n=a.n)

    board.agent("later").consumes(A).publishes(B, visibility=after(30)).body(copy)
    board.agent("reviewed").consumes(C).publishes(A, review_by="nobody").body(lambda c: A())
    await board.publish(A())
    assert (await board.run_until(B)).reason == "goal"
    assert (board.artifacts(B).total, clock.now() - start) == (1, 30.0)
    await board.publish(C())
    report = await board.run_until(A)
    assert (report.reason, len(report.left.held)) == ("idle", 1)


async def test_run_until_says_why_it_ended_without_the_goal(new_board: Boards) -> None:
    board = copying(new_board())
    await board.publish(A())
    assert (await board.run_until(C)).reason == "idle"
    assert (await board.run_until(B, count=1)).reason == "idle", "only what this call sees published counts"


async def test_run_until_stops_at_what_a_body_publishes_at_once(new_board: Boards) -> None:
    board = new_board()

    @board.agent("never_ends").consumes(A).publishes(B).body
    async def never_ends(a: A, ctx: Context) -> None:
        await ctx.publish(B(n=a.n))
        await asyncio.Event().wait()

    await board.publish(A(n=3))
    report = await asyncio.wait_for(board.run_until(B), 10)
    assert (report.reason, report.open) == ("goal", 1)
    assert numbers(board, B) == [3]


async def test_run_until_gives_up_at_its_timeout(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def endless(a: A) -> None:
        await asyncio.Event().wait()

    await board.publish(A())
    report = await board.run_until(B, timeout=0.05)
    assert (report.reason, report.ok, report.open) == ("timeout", False, 1)


async def test_a_timeout_stops_the_run_and_the_work_stays_open(new_board: Boards) -> None:
    board = new_board()
    attempts: list[int] = []

    @board.agent
    async def endless(a: A, ctx: Context) -> B:
        attempts.append(ctx.attempt)
        if len(attempts) == 1:
            await asyncio.Event().wait()
        return B(n=a.n)

    await board.publish(A(n=4))
    report = await board.run_until_idle(timeout=0.05)
    assert (report.reason, report.open, report.ok) == ("timeout", 1, False)
    assert (await board.run_until(B, timeout=5)).reason == "goal"
    assert attempts == [1, 1], "an interrupted attempt is not counted"
    assert numbers(board, B) == [4]


async def test_a_cancelled_run_stops_its_bodies_and_can_be_resumed(new_board: Boards) -> None:
    board = new_board()
    started = asyncio.Event()
    calls: list[int] = []

    @board.agent
    async def work(a: A) -> B:
        calls.append(a.n)
        started.set()
        if len(calls) == 1:
            await asyncio.Event().wait()
        return B(n=a.n)

    await board.publish(A(n=1))
    run = asyncio.create_task(board.run_until_idle())
    await started.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (await board.run_until_idle()).ok
    assert numbers(board, B) == [1]


# -- how many at a time ------------------------------------------------------------------------------------------------


@pytest.mark.req("S3.65")
async def test_the_board_never_runs_more_than_its_concurrency(new_board: Boards) -> None:
    board = new_board(concurrency=3)
    crowd = Crowd()

    @board.agent
    async def one(a: A) -> None:
        await crowd.visit()

    @board.agent
    async def two(a: A) -> None:
        await crowd.visit()

    await board.publish_many([A(n=n) for n in range(10)])
    report = await board.run_until_idle()
    assert (crowd.most, report.done) == (3, 20)


async def test_an_agent_never_runs_more_often_at_a_time_than_it_may_and_all_its_work_is_done(
    new_board: Boards,
) -> None:
    board = new_board(concurrency=8)
    limited, free = Crowd(), Crowd()

    @board.agent(concurrency=2)
    async def scarce(a: A) -> None:
        await limited.visit()

    @board.agent
    async def plenty(a: A) -> None:
        await free.visit()

    await board.publish_many([A(n=n) for n in range(10)])
    report = await board.run_until_idle()
    assert limited.most == 2
    assert free.most > 2
    assert report.done == 20


async def test_thousands_of_artifacts_at_once_are_all_worked_on_once(new_board: Boards) -> None:
    board = copying(new_board())
    await board.publish_many([A(n=n) for n in range(2_500)])
    report = await board.run_until_idle()
    assert sorted(numbers(board, B)) == list(range(2_500))
    assert (report.done, report.open) == (2_500, 0)


async def test_publishers_beside_a_busy_board_all_get_their_artifacts(new_board: Boards) -> None:
    board = copying(new_board())
    busy = asyncio.Event()

    @board.agent
    async def wait_for_the_end(c: C) -> None:
        busy.set()
        await ended.wait()

    ended = asyncio.Event()
    await board.publish(C())
    run = asyncio.create_task(board.run_until_idle())
    await busy.wait()
    made = await asyncio.gather(*(board.publish(A(n=n)) for n in range(1_500)))
    ended.set()
    await run
    assert [m.payload.n for m in made] == list(range(1_500))
    assert len({m.id for m in made}) == 1_500
    assert sorted(numbers(board, B)) == list(range(1_500))


@pytest.mark.req("S3.23")
async def test_agents_run_beside_each_other(new_board: Boards) -> None:
    board = new_board()
    all_here = asyncio.Barrier(3)

    async def meet(a: A) -> None:
        await all_here.wait()

    for name in ("one", "two", "three"):
        board.agent(name).consumes(A).body(meet)
    await board.publish(A())
    assert (await asyncio.wait_for(board.run_until_idle(), 10)).done == 3
