"""Where bodies run, and what runs around them: threads, processes, middleware."""

import asyncio
import ctypes
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from stigmergy import (
    Context,
    Roster,
)
from stigmergy.blackboard.events import (
    Activated,
)
from tests.boards import A, B, Boards, C, in_the_middle, numbers, stopped

pytestmark = pytest.mark.anyio


# -- threads -----------------------------------------------------------------------------------------------------------


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


# -- processes ---------------------------------------------------------------------------------------------------------


here = Roster()


@here.agent(isolate="process")
def in_another_process(a: A) -> B:
    if a.n == 13:
        os._exit(1)
    if a.n == 11:
        ctypes.string_at(0)  # reads where nothing is
    if a.n == 60:
        with Path(a.key).open("w") as told:
            told.write(str(os.getpid()))
        time.sleep(60)
    return B(n=os.getpid(), key=a.key)


@pytest.mark.parametrize("death", [13, 11], ids=["exit", "segmentation fault"])
async def test_a_body_in_a_process_of_its_own_may_die_without_taking_the_board_along(
    new_board: Boards, death: int
) -> None:
    board = new_board(here, concurrency=1)
    await board.publish_many([A(n=death), A(n=1, key="alive")])
    report = await board.run_until_idle()
    b = board.one(B)
    assert b.key == "alive"
    assert b.n != os.getpid()
    [dead] = report.left.dead_letters
    assert dead.error is not None
    assert "process" in dead.error.type.lower()


async def test_the_process_of_a_cancelled_body_is_killed(new_board: Boards, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    os.mkfifo(told)
    board = new_board(here)
    await board.publish(A(n=60, key=str(told)))
    run = asyncio.create_task(board.run_until_idle())
    process = int(await asyncio.to_thread(told.read_text))
    await board.cancel(*(e.seq for e in board.events() if isinstance(e, Activated)))
    report = await asyncio.wait_for(run, 10)
    assert report.cancelled == 1
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


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


# -- middleware --------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("end", ["returns", "raises", "is out of time", "is cancelled", "its run is stopped"])
async def test_the_end_of_a_middleware_is_reached_however_the_body_ends(new_board: Boards, end: str) -> None:
    board = new_board()
    order: list[str] = []
    running = asyncio.Event()

    async def cleaning(call_next: Any, ctx: Context) -> Sequence[BaseModel]:
        try:
            running.set()
            outputs: Sequence[BaseModel] = await call_next()
            return outputs
        except BaseException as error:
            order.append(type(error).__name__)
            raise
        finally:
            order.append("end")

    async def body(a: A) -> B:
        if end == "raises":
            raise ValueError("oh no")
        if end != "returns":
            await asyncio.Event().wait()
        return B()

    worker = board.agent("worker").around(cleaning).limits(timeout=0.02 if end == "is out of time" else None)
    worker.consumes(A).publishes(B).body(body)
    await board.publish(A())
    run = await in_the_middle(board, running)
    if end == "is cancelled":
        await board.cancel(*[e.seq for e in board.events() if isinstance(e, Activated)])
    if end == "its run is stopped":
        await stopped(run)
    else:
        await run
    assert order == {"returns": ["end"], "raises": ["ValueError", "end"]}.get(end, ["CancelledError", "end"])


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


async def test_a_body_that_was_claimed_in_the_turn_of_another_is_given_up_at_its_timeout(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def work(a: A) -> B:
        if a.n == 2:
            raise ValueError("two")
        return B(n=a.n)

    @board.agent(timeout=0.05)
    async def late(b: B) -> None:
        asyncio.get_running_loop().call_soon(lambda: None)  # the loop has other things to do first
        await asyncio.Event().wait()

    await board.publish_many([A(n=1), A(n=2)])
    report = await asyncio.wait_for(board.run_until_idle(), 30)
    assert {d.error.type for d in report.left.dead_letters if d.error is not None} == {"ValueError", "TimeoutError"}
