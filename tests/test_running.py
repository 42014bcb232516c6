"""Running bodies: until idle or a goal, concurrency, retries, timeouts, threads, processes, limits."""

import asyncio
import os
import threading
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import pytest
from pydantic import BaseModel

from stigmergy import Blackboard, Context, Limits, Retry, Roster
from stigmergy.blackboard.errors import BoardClosed, PayloadTooLarge, UseContext
from stigmergy.blackboard.events import Activated, Claimed, Failed
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, numbers

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


# -- until idle -------------------------------------------------------------------------------------------------------


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


# -- run_sync ---------------------------------------------------------------------------------------------------------


def team() -> Roster:
    roster = Roster()

    @roster.agent
    async def copy(a: A) -> B:
        await asyncio.sleep(0)
        return B(n=a.n)

    return roster


def test_run_sync_publishes_its_seeds_and_runs(new_board: Boards) -> None:
    board = new_board(team())
    assert board.run_sync(A(n=1), A(n=2)).ok
    assert board.run_sync(A(n=3)).done == 3
    assert board.run_sync().reason == "idle"
    assert sorted(numbers(board, B)) == [1, 2, 3]


async def test_run_sync_works_while_a_loop_runs_as_in_a_notebook(new_board: Boards) -> None:
    board = new_board(team())
    assert board.run_sync(A(n=1)).ok
    await board.publish(A(n=2))
    await board.run_until_idle()
    assert board.run_sync(A(n=3)).ok
    assert numbers(board, B) == [1, 2, 3]


def test_run_sync_raises_what_went_wrong(new_board: Boards) -> None:
    board = new_board(team(), limits=Limits(payload_bytes=10))
    with pytest.raises(PayloadTooLarge):
        board.run_sync(A(key="x" * 100))


# -- until a goal -----------------------------------------------------------------------------------------------------


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


async def test_run_until_says_why_it_ended_without_the_goal(new_board: Boards) -> None:
    board = new_board(team())
    await board.publish(A())
    assert (await board.run_until(C)).reason == "idle"
    assert (await board.run_until(B, count=1)).reason == "idle", "only what this call sees published counts"


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


# -- how many at a time -----------------------------------------------------------------------------------------------


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


# -- failures and retries ---------------------------------------------------------------------------------------------


async def test_a_failure_is_a_dead_letter_and_the_other_branch_completes(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def breaks(a: A) -> B:
        raise ValueError("broken beyond repair")

    @board.agent
    async def works(a: A) -> C:
        return C(n=a.n)

    seed = await board.publish(A(n=5), run="r7")
    report = await board.run_until_idle()
    assert numbers(board, C) == [5]
    [dead] = report.left.dead_letters
    assert (dead.agent, dead.inputs) == ("breaks", (seed.ref,))
    assert dead.error is not None
    assert (dead.error.type, dead.error.message) == ("ValueError", "broken beyond repair")
    assert "test_running.py" in dead.error.traceback
    assert (report.ok, report.reason) == (False, "idle")
    activated = next(e for e in board.events() if isinstance(e, Activated) and e.seq == dead.activation)
    assert activated.run == "r7"


@pytest.mark.req("S2.44")
async def test_retries_wait_twice_as_long_each_time_up_to_the_cap(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    start = clock.now()
    times: list[float] = []

    @board.agent(retry=Retry(attempts=6, backoff=1, cap=5))
    async def stubborn(a: A, ctx: Context) -> None:
        times.append(ctx.now() - start)
        assert ctx.attempt == len(times)
        raise OSError(f"attempt {ctx.attempt}")

    await board.publish(A())
    report = await board.run_until_idle()
    assert times == [0, 1, 3, 7, 12, 17]
    [dead] = report.left.dead_letters
    assert dead.attempts == 6
    assert dead.error is not None
    assert dead.error.message == "attempt 6"
    assert (report.failed_attempts, report.retries) == (6, 5)


@pytest.mark.req("S2.46")
async def test_a_retry_that_succeeds_publishes_once_and_leaves_no_failure(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())

    @board.agent(retry=Retry(attempts=3))
    async def flaky(a: A, ctx: Context) -> B:
        if ctx.attempt < 3:
            raise OSError("again")
        return B(n=ctx.attempt)

    await board.publish(A())
    report = await board.run_until_idle()
    assert report.ok
    assert numbers(board, B) == [3]
    assert report.retries == 2


async def test_a_retry_without_backoff_comes_at_once_in_real_time(new_board: Boards) -> None:
    board = new_board()

    @board.agent(retry=Retry(attempts=3, backoff=0))
    async def flaky(a: A, ctx: Context) -> B:
        if ctx.attempt < 3:
            raise OSError("again")
        return B(n=ctx.attempt)

    await board.publish(A())
    assert (await board.run_until_idle(horizon=0)).ok
    assert numbers(board, B) == [3]


async def test_a_retry_that_is_due_later_than_the_horizon_is_left_waiting(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)

    @board.agent(retry=Retry(attempts=2, backoff=600, cap=600))
    async def flaky(a: A, ctx: Context) -> B:
        if ctx.attempt == 1:
            raise OSError("come back in ten minutes")
        return B()

    await board.publish(A())
    report = await board.run_until_idle()
    assert (report.reason, report.ok) == ("waiting", True)
    assert [left.timer for left in report.left.due] == ["retry"]
    clock.advance(600)
    assert (await board.run_until_idle()).reason == "idle"
    assert board.artifacts(B).total == 1


async def test_an_agent_gives_up_its_place_while_it_waits_for_a_retry(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock(), concurrency=1)
    order: list[str] = []

    @board.agent(concurrency=1, retry=Retry(attempts=2, backoff=30))
    async def flaky(a: A, ctx: Context) -> None:
        order.append(f"{a.n}.{ctx.attempt}")
        if a.n == 1 and ctx.attempt == 1:
            raise OSError("later")

    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()
    assert order == ["1.1", "2.1", "1.2"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
async def test_even_what_is_no_exception_ends_only_the_activation(
    new_board: Boards, error: type[BaseException]
) -> None:
    board = new_board()

    @board.agent
    async def rude(a: A) -> None:
        raise error("from the body")

    @board.agent
    async def polite(a: A) -> B:
        return B()

    await board.publish(A())
    report = await board.run_until_idle()
    assert [d.error.type for d in report.left.dead_letters if d.error] == [error.__name__]
    assert board.artifacts(B).total == 1


# -- timeouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.req("S3.73")
async def test_a_body_that_takes_too_long_is_cancelled_and_reported(new_board: Boards) -> None:
    board = new_board()
    cancelled = asyncio.Event()

    @board.agent(timeout=0.02)
    async def endless(a: A) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await board.publish(A())
    report = await board.run_until_idle()
    assert cancelled.is_set()
    [dead] = report.left.dead_letters
    assert dead.error is not None
    assert (dead.error.type, dead.error.message) == ("TimeoutError", "no result after 0.02 s")


async def test_a_timed_out_attempt_is_retried(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())
    attempts: list[int] = []

    @board.agent(timeout=10, retry=Retry(attempts=3))
    async def slow(a: A, ctx: Context) -> B:
        attempts.append(ctx.attempt)
        await ctx.sleep(f"nap {ctx.attempt}", 60 if ctx.attempt < 3 else 5)
        return B()

    await board.publish(A())
    report = await board.run_until_idle()
    assert attempts == [1, 2, 3]
    assert [e.kind for e in board.events() if isinstance(e, Failed)] == ["timeout", "timeout"]
    assert report.ok


async def test_a_body_that_ignores_its_cancellation_cannot_complete_late(new_board: Boards) -> None:
    board = new_board()

    @board.agent(timeout=0.02)
    async def stubborn(a: A) -> B:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
        return B()

    await board.publish(A())
    report = await board.run_until_idle()
    assert board.artifacts(B).total == 0
    assert report.dead == 1


async def test_a_timed_out_thread_keeps_its_place_until_it_has_ended(new_board: Boards) -> None:
    board = new_board()
    let_go = threading.Event()
    running: list[int] = []
    most: list[int] = []

    @board.agent(timeout=0.02, concurrency=1)
    def blocking(a: A) -> None:
        running.append(a.n)
        most.append(len(running))
        if a.n == 1:
            let_go.wait(10)
        running.remove(a.n)

    await board.publish_many([A(n=1), A(n=2)])
    run = asyncio.create_task(board.run_until_idle())
    async with aclosing(board.watch()) as events:
        async for event in events:
            if isinstance(event, Failed):
                break
    assert most == [1]
    let_go.set()
    report = await run
    assert most == [1, 1]
    assert (report.dead, report.done, report.open) == (1, 1, 0)


# -- threads ----------------------------------------------------------------------------------------------------------


async def test_a_plain_function_runs_in_a_thread_and_does_not_stop_the_board(new_board: Boards) -> None:
    board = new_board()
    let_go = threading.Event()
    threads: list[str] = []

    @board.agent
    def blocking(a: A) -> B:
        threads.append(threading.current_thread().name)
        assert let_go.wait(10)
        return B(n=a.n)

    @board.agent
    async def quick(a: A) -> C:
        let_go.set()
        return C()

    await board.publish(A(n=1))
    assert (await board.run_until_idle()).ok
    assert threads != [threading.current_thread().name]
    assert numbers(board, B) == [1]


async def test_plain_functions_run_beside_each_other(new_board: Boards) -> None:
    board = new_board(concurrency=4)
    barrier = threading.Barrier(4)

    @board.agent
    def meet(a: A) -> B:
        barrier.wait(10)
        return B(n=a.n)

    await board.publish_many([A(n=n) for n in range(4)])
    assert (await board.run_until_idle()).ok
    assert sorted(numbers(board, B)) == [0, 1, 2, 3]


async def test_an_exception_of_a_plain_function_is_a_dead_letter(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    def breaks(a: A) -> None:
        raise StopIteration("of all things")

    await board.publish(A())
    report = await board.run_until_idle()
    assert report.dead == 1


# -- processes --------------------------------------------------------------------------------------------------------

here = Roster()


@here.agent(isolate="process")
def in_another_process(a: A) -> B:
    if a.n == 13:
        os._exit(1)
    return B(n=os.getpid(), key=a.key)


async def test_a_body_in_a_process_of_its_own_may_die_without_taking_the_board_along(new_board: Boards) -> None:
    board = new_board(here, concurrency=1)
    await board.publish_many([A(n=13), A(n=1, key="alive")])
    report = await board.run_until_idle()
    b = board.one(B)
    assert b.key == "alive"
    assert b.n != os.getpid()
    [dead] = report.left.dead_letters
    assert dead.error is not None
    assert "process" in dead.error.type.lower()


async def test_a_body_that_no_other_process_can_import_says_so(new_board: Boards) -> None:
    board = new_board()

    @board.agent(isolate="process")
    def local(a: A) -> None: ...

    await board.publish(A())
    report = await board.run_until_idle()
    [dead] = report.left.dead_letters
    assert dead.error is not None
    assert dead.error.type == "BadSignature"
    assert "top level of a module" in dead.error.message


# -- middleware -------------------------------------------------------------------------------------------------------


async def test_middleware_runs_around_a_body_in_order_and_may_change_its_outputs(new_board: Boards) -> None:
    board = new_board()
    order: list[str] = []

    async def outer(call_next: Any, ctx: Context) -> Sequence[BaseModel]:
        order.append("outer before")
        try:
            return [*await call_next(), B(n=99)]
        finally:
            order.append("outer after")

    async def inner(call_next: Any, ctx: Context) -> Sequence[BaseModel]:
        order.append(f"inner before {ctx.agent_name}")
        outputs: Sequence[BaseModel] = await call_next()
        order.append(f"inner after {len(outputs)}")
        return outputs

    async def body(a: A) -> B:
        order.append("body")
        return B(n=a.n)

    board.agent("worker").around(outer, inner).consumes(A).publishes(B).body(body)
    await board.publish(A(n=1))
    await board.run_until_idle()
    assert order == ["outer before", "inner before worker", "body", "inner after 1", "outer after"]
    assert numbers(board, B) == [1, 99]


async def test_middleware_sees_the_exception_of_a_body_and_may_answer_for_it(new_board: Boards) -> None:
    board = new_board()
    seen: list[str] = []

    async def rescue(call_next: Any, ctx: Context) -> Sequence[BaseModel]:
        try:
            outputs: Sequence[BaseModel] = await call_next()
            return outputs
        except ValueError as error:
            seen.append(str(error))
            return [B(n=-1)]

    async def body(a: A) -> B:
        raise ValueError("oh no")

    board.agent("worker").around(rescue).consumes(A).publishes(B).body(body)
    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert seen == ["oh no"]
    assert numbers(board, B) == [-1]


# -- limits -----------------------------------------------------------------------------------------------------------


def chain() -> Roster:
    roster = Roster()

    async def grow(a: A) -> A | None:
        return A(n=a.n + 1) if a.n < 20 else None

    roster.agent("grow").self_trigger().consumes(A).publishes(A).body(grow)
    return roster


@pytest.mark.req("S3.74", "S3.75")
async def test_agents_that_feed_each_other_stop_at_the_limit_and_say_so(new_board: Boards) -> None:
    roster = Roster(limits=Limits(activations=10))

    @roster.agent
    async def ping(a: A) -> B:
        return B(n=a.n + 1)

    @roster.agent
    async def pong(b: B) -> A:
        return A(n=b.n + 1)

    board = new_board(roster)
    await board.publish(A(n=0))
    report = await board.run_until_idle()
    assert (report.reason, report.ok) == ("budget", False)
    assert report.detail == "activations 10 of 10"
    assert report.done == 10
    assert report.open == 1
    assert sum(isinstance(e, Claimed) for e in board.events()) == 10


@pytest.mark.parametrize(
    ("limits", "done"), [(Limits(activations=5), 5), (Limits(depth=5), 6)], ids=["activations", "depth"]
)
async def test_a_raised_limit_lets_the_run_go_on_with_nothing_lost(
    new_board: Boards, limits: Limits, done: int
) -> None:
    board = new_board(chain(), limits=limits)
    await board.publish(A(n=0))
    report = await board.run_until_idle()
    assert (report.reason, report.done) == ("budget", done)
    assert (await board.run_until_idle()).done == done, "running again changes nothing"

    board = await new_board.reopened(board, chain(), limits=Limits(activations=1_000, depth=1_000))
    report = await board.run_until_idle()
    assert (report.reason, report.open) == ("idle", 0)
    assert numbers(board, A) == list(range(21))


async def test_a_limit_counts_each_run_for_itself(new_board: Boards) -> None:
    board = new_board(chain(), limits=Limits(activations=5))
    await board.publish(A(n=0), run="endless")
    await board.publish(A(n=18), run="short")
    report = await board.run_until_idle()
    assert report.reason == "budget"
    assert [a.payload.n for a in board.artifacts(A, run="endless")] == [0, 1, 2, 3, 4, 5]
    assert [a.payload.n for a in board.artifacts(A, run="short")] == [18, 19, 20]


async def test_a_payload_over_the_limit_is_refused_before_anything_is_published(new_board: Boards) -> None:
    board = new_board(limits=Limits(payload_bytes=1_000))

    @board.agent
    async def blow_up(a: A) -> list[B]:
        return [B(n=1), B(key="x" * 2_000)]

    with pytest.raises(PayloadTooLarge, match="the limit is 1,000"):
        await board.publish_many([A(n=1), A(key="x" * 2_000)])
    assert board.artifacts().total == 0

    await board.publish(A(n=1))
    report = await board.run_until_idle()
    assert [d.error.type for d in report.left.dead_letters if d.error] == ["PayloadTooLarge"]
    assert board.artifacts(B).total == 0


async def test_more_outputs_than_the_limit_are_refused_as_a_whole(new_board: Boards) -> None:
    board = new_board(limits=Limits(fan_out=10))

    @board.agent
    async def flood(a: A) -> list[B]:
        return [B(n=n) for n in range(a.n)]

    await board.publish_many([A(n=10), A(n=11)])
    report = await board.run_until_idle()
    assert board.artifacts(B).total == 10
    [dead] = report.left.dead_letters
    assert dead.error is not None
    assert dead.error.message == "'flood' returned 11 outputs; the limit is 10 per activation."


# -- stopping ---------------------------------------------------------------------------------------------------------


async def test_closing_stops_what_runs_and_starts_nothing_afterwards(new_board: Boards) -> None:
    board = new_board(concurrency=1)
    started, ended = asyncio.Event(), asyncio.Event()
    ran: list[int] = []

    @board.agent
    async def endless(a: A) -> None:
        ran.append(a.n)
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await board.publish_many([A(n=1), A(n=2)])
    run = asyncio.create_task(board.run_until_idle())
    await started.wait()
    await asyncio.wait_for(board.close(), 10)
    assert ended.is_set()
    await asyncio.wait({run}, timeout=10)
    assert run.done()
    run.exception()
    assert ran == [1]
    with pytest.raises(BoardClosed):
        await board.publish(A())
    with pytest.raises(BoardClosed):
        await board.run_until_idle()


async def test_a_closed_board_can_still_be_read(new_board: Boards) -> None:
    board = new_board(team())
    await board.publish(A(n=3))
    await board.run_until_idle()
    await board.close()
    await board.close()
    assert numbers(board, B) == [3]


async def test_cancelled_activations_end_cancelled_and_their_bodies_stop(new_board: Boards) -> None:
    board = new_board()
    started, ended = asyncio.Event(), asyncio.Event()

    @board.agent
    async def endless(a: A) -> B:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return B()

    await board.publish(A())
    run = asyncio.create_task(board.run_until_idle())
    await started.wait()
    activation = next(e.seq for e in board.events() if isinstance(e, Activated))
    await board.cancel(activation, reason="not needed")
    report = await asyncio.wait_for(run, 10)
    assert ended.is_set()
    assert (report.cancelled, report.dead, report.open) == (1, 0, 0)
    assert [aside.reason for aside in report.put_aside] == ["not needed"]


def watched(board: Blackboard) -> list[str]:
    """The kinds of all events, for failures' messages."""
    return [type(e).__name__ for e in board.events()]
