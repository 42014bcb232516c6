"""Bodies that raise or take too long: dead letters, retries, timeouts."""

import asyncio
import threading
from contextlib import aclosing

import pytest

from stigmergy import (
    Context,
    Retry,
)
from stigmergy.blackboard.events import (
    Activated,
    Failed,
)
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, numbers

pytestmark = pytest.mark.anyio


class Wordless(Exception):
    """An exception that cannot even say its message."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


# -- failures and retries ----------------------------------------------------------------------------------------------


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
    assert "test_failing_bodies.py" in dead.error.traceback
    assert (report.ok, report.reason) == (False, "idle")
    activated = next(e for e in board.events() if isinstance(e, Activated) and e.seq == dead.activation)
    assert activated.run == "r7"


async def test_the_report_shows_a_long_message_to_its_end_and_stays_narrow(new_board: Boards) -> None:
    board = new_board()
    where = "data/" + "orders/" * 10 + "new.csv"
    message = f"{where} has no column 'total', so nothing can be summed. Rename one of its columns."

    @board.agent
    async def sums(a: A) -> B:
        raise ValueError(message)

    await board.publish(A())
    report = await board.run_until_idle()
    [dead] = report.left.dead_letters
    text = str(report)
    left = text[text.index("1 thing left") :].replace(dead.command(report.store), "")
    assert f"ValueError: {message}" in " ".join(left.split())
    assert max(map(len, left.splitlines())) < 130


@pytest.mark.req("S2.44", "S2.47")
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


@pytest.mark.parametrize("error", [Wordless(), ValueError("\ud800\0"), ExceptionGroup("two", [OSError(), OSError()])])
async def test_an_exception_is_recorded_however_strange_it_is(new_board: Boards, error: Exception) -> None:
    board = new_board()

    @board.agent
    async def breaks(a: A) -> None:
        raise error

    @board.agent
    async def works(a: A) -> B:
        return B()

    await board.publish(A())
    report = await asyncio.wait_for(board.run_until_idle(), 10)
    assert [d.error.type for d in report.left.dead_letters if d.error] == [type(error).__name__]
    assert board.artifacts(B).total == 1
    assert (await (await new_board.reopened(board)).run_until_idle()).dead == 1


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


# -- timeouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.req("S3.73", "S4.23")
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

    @board.agent(timeout=1, concurrency=1)
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
