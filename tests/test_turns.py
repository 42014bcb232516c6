"""Bodies run in turns, and nobody can tell: each has its context, its task once it waits, and the loop stays free."""

import asyncio
import threading
from contextvars import ContextVar
from pathlib import Path

import pytest

from stigmergy import Blackboard
from stigmergy.blackboard.shell.attempts import NARROW, TURN
from tests.boards import A, B, Boards, C, copying, numbers
from tests.slow_disk import PER_ACTIVATION, SlowStore, turns

pytestmark = pytest.mark.anyio

mark: ContextVar[str] = ContextVar("mark", default="nobody")


@pytest.mark.parametrize("waits", [False, True])
async def test_every_body_sees_the_context_of_the_run_and_not_that_of_another_body(
    new_board: Boards, waits: bool
) -> None:
    board = new_board()
    seen: list[str] = []

    @board.agent
    async def first(a: A) -> B:
        seen.append(mark.get())
        mark.set(f"first {a.n}")
        if waits:
            await asyncio.sleep(0)
            seen.append(mark.get())
        return B(n=a.n)

    @board.agent
    async def second(b: B) -> None:
        seen.append(mark.get())

    await board.publish_many([A(n=1), A(n=2)])
    mark.set("runner")
    await board.run_until_idle()
    assert mark.get() == "runner"
    assert sorted(seen) == sorted(["runner"] * 4 + (["first 1", "first 2"] if waits else []))


async def test_bodies_that_wait_have_a_task_each(new_board: Boards) -> None:
    board = new_board(concurrency=10)
    tasks: set[object] = set()

    @board.agent
    async def wait(a: A) -> None:
        async with asyncio.timeout(60):
            tasks.add(asyncio.current_task())
            while len(tasks) < 10:
                await asyncio.sleep(0)

    await board.publish_many(A(n=n) for n in range(10))
    report = await asyncio.wait_for(board.run_until_idle(), 60)
    assert (report.done, len(tasks)) == (10, 10)


async def test_a_body_that_cancels_its_own_task_takes_no_other_with_it(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def rash(a: A) -> B:
        task = asyncio.current_task()
        assert task is not None
        if a.n == 0:
            task.cancel()
        else:
            await asyncio.sleep(0)
        return B(n=a.n)

    await board.publish_many(A(n=n) for n in range(3))
    report = await board.run_until_idle()
    assert (report.dead, numbers(board, B)) == (0, [0, 1, 2])


async def test_bodies_that_never_wait_leave_the_loop_to_others(new_board: Boards) -> None:
    board = new_board()
    links, others = 20 * TURN, 0

    @board.agent
    async def go(a: A) -> B | None:
        return B(n=a.n + 1) if a.n < links else None

    @board.agent
    async def back(b: B) -> A:
        return A(n=b.n + 1)

    async def count() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    await board.publish(A())
    counting = asyncio.create_task(count())
    report = await board.run_until_idle()
    counting.cancel()
    assert report.done >= links
    assert others >= report.done // TURN


async def test_a_thread_that_was_given_up_keeps_its_place_on_the_board(new_board: Boards) -> None:
    board = new_board(concurrency=1)
    started, let_go = threading.Event(), threading.Event()
    ran: list[int] = []

    @board.agent(timeout=0.05)
    def endless(c: C) -> None:
        started.set()
        let_go.wait()

    copying(board, ran)
    await board.publish(C())
    run = asyncio.create_task(board.run_until_idle(horizon=0.0))
    assert await asyncio.to_thread(started.wait, 10)
    await board.publish(A(n=1))
    report = await asyncio.wait_for(run, 10)
    assert (report.dead, ran) == (1, [])
    let_go.set()
    assert (await asyncio.wait_for(board.run_until_idle(), 10)).done == 1


async def test_while_a_stranger_waits_little_runs_ahead_of_the_disk(tmp_path: Path) -> None:
    store, go, begun, ran = SlowStore(tmp_path / "board.db"), asyncio.Event(), asyncio.Event(), 0
    async with Blackboard(store, concurrency=1) as board:

        @board.agent(pure=True)
        async def copy(a: A) -> B:
            nonlocal ran
            begun.set()
            await go.wait()
            ran += 1
            return B(n=a.n)

        await board.publish_many(A(n=n) for n in range(NARROW))
        running = asyncio.create_task(board.run_until_idle())
        await begun.wait()
        store.gate.clear()
        stranger = asyncio.create_task(board.publish(C()))
        await turns(50)
        go.set()
        await turns(50 * NARROW)
        ahead, waits = ran, not stranger.done()
        store.gate.set()
        report = await running
        await stranger
    assert waits
    assert 0 < ahead * PER_ACTIVATION <= NARROW + 2 * PER_ACTIVATION
    assert report.done == NARROW
