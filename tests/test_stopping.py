"""Closing and cancelling while bodies run; watching what happens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from stigmergy import (
    Blackboard,
    Retry,
    read,
)
from stigmergy.agents.models.model import ToolCall
from stigmergy.agents.prompting.tools import ListTools, Tool, tool_of
from stigmergy.blackboard.errors import (
    BoardClosed,
)
from stigmergy.blackboard.events import (
    Activated,
    Closed,
    Completed,
)
from stigmergy.blackboard.stores.sqlite import SQLiteReader
from stigmergy.models import Scripted
from tests.boards import A, B, Boards, C, copying, in_the_middle, numbers
from tests.slow_disk import SlowStore, turns

pytestmark = pytest.mark.anyio


# -- stopping ----------------------------------------------------------------------------------------------------------


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
    report = await asyncio.wait_for(run, 10)
    assert (report.reason, report.open, report.ok) == ("cancelled", 2, False)
    assert ran == [1]
    with pytest.raises(BoardClosed):
        await board.publish(A())
    with pytest.raises(BoardClosed):
        await board.run_until_idle()


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_tools_are_closed_after_who_uses_them_was_stopped_and_nothing_starts_afterwards(
    new_board: Boards, how: str
) -> None:
    noted: list[str] = []
    started = asyncio.Event()

    async def press() -> str:
        """A button."""
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            noted.append("the tool was stopped")
        return ""

    @dataclass  # two that are equal are two servers all the same, and it need not be hashable
    class Buttons:
        @asynccontextmanager
        async def open_tools(self) -> AsyncIterator[ListTools]:
            noted.append("opened")
            try:
                yield self.tools
            finally:
                noted.append("closed")

        async def tools(self) -> list[Tool]:
            return [tool_of(press)]

    press_it = ToolCall(id="c", name="press", arguments="{}")
    board = copying(new_board(model=Scripted(lambda _: press_it), concurrency=1), name="later")
    board.agent("user").tools(Buttons()).consumes(C).publishes(B)
    await board.publish(C())
    await board.publish(A(n=1))
    run = await in_the_middle(board, started)
    if how == "cancelled":
        run.cancel()
        await asyncio.wait([run])
    await board.close()
    await asyncio.wait([run])
    assert noted == ["opened", "the tool was stopped", "closed"]
    last = list(board.events())[-1]
    assert isinstance(last, Closed)
    await asyncio.sleep(0)
    assert (list(board.events())[-1].seq, numbers(board, B)) == (last.seq, [])


async def test_a_closed_board_can_still_be_read(new_board: Boards) -> None:
    board = copying(new_board())
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


async def test_closing_ends_a_run_that_only_waits_for_a_deadline(new_board: Boards) -> None:
    board = new_board()
    failed = asyncio.Event()

    @board.agent(retry=Retry(attempts=2, backoff=30))
    async def flaky(a: A) -> None:
        failed.set()
        raise OSError("later")

    await board.publish(A())
    run = asyncio.create_task(board.run_until_idle())
    await failed.wait()
    await asyncio.wait_for(board.close(), 10)
    assert (await asyncio.wait_for(run, 10)).reason == "cancelled"


async def test_a_body_that_will_not_stop_does_not_keep_a_board_from_closing(
    new_board: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stigmergy.blackboard.shell.bodies.GRACE", 0.02)
    board = new_board()
    started, let_go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @board.agent
    async def stubborn(a: A) -> B:
        started.set()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        ended.set()
        return B()

    await board.publish(A())
    run = asyncio.create_task(board.run_until_idle())
    await started.wait()
    await asyncio.wait_for(board.close(), 10)
    await asyncio.wait_for(run, 10)
    let_go.set()
    await ended.wait()
    again = await new_board.reopened(board)
    report = await again.run_until_idle()
    assert (report.open, again.artifacts(B).total) == (1, 0)


# -- watching ----------------------------------------------------------------------------------------------------------


async def test_watchers_see_every_event_once_in_the_order_of_the_log(new_board: Boards) -> None:
    board = copying(new_board())
    await board.publish(A(n=0))
    seen: list[int] = []

    async def watch() -> None:
        async with aclosing(board.watch()) as events:
            async for event in events:
                seen.append(event.seq)
                if isinstance(event, Closed):
                    break

    watcher = asyncio.create_task(watch())
    await board.publish_many([A(n=n) for n in range(1, 50)])
    await board.run_until_idle()
    last = [e.seq for e in board.events()]
    watcher.cancel()
    with suppress(asyncio.CancelledError):
        await watcher
    assert seen == last[: len(seen)]
    assert len(seen) > 50


async def test_a_watcher_sees_only_what_is_durable(file_board: Boards) -> None:
    board = copying(file_board())
    await board.publish(A(n=0))
    run = asyncio.create_task(board.run_until_idle())
    async with aclosing(board.watch()) as events:
        async for event in events:
            with read(board._store.name) as view:
                assert event.seq in {e.seq for e in view.events()}
            if isinstance(event, Completed):
                break
    await run


async def test_a_run_whose_time_is_up_while_its_board_closes_writes_nothing_after_the_end(tmp_path: Path) -> None:
    store = SlowStore(tmp_path / "board.db")
    board = copying(Blackboard(store))
    await board.publish(A())
    store.gate.clear()
    run = asyncio.create_task(board.run_until_idle(timeout=1e-9))
    await turns(50)  # its time is up, and it waits for the disk
    closing = asyncio.create_task(board.close())
    await turns(20)
    store.gate.set()
    report, _ = await asyncio.gather(run, closing)
    assert report.reason == "timeout"
    assert [row.kind for row in SQLiteReader(store.path).events()][-1] == "Closed"
