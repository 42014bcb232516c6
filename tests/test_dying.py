"""Dying in the middle of something: nothing is lost, nothing is done twice, and nobody innocent is blamed."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from stigmergy import (
    Blackboard,
    Context,
)
from stigmergy.blackboard.errors import (
    BoardBroken,
    OutcomeUnknown,
    StoreFull,
)
from stigmergy.blackboard.events import (
    Calling,
    Claimed,
    Opened,
)
from stigmergy.blackboard.stores.base import Row
from stigmergy.blackboard.stores.sqlite import SQLiteStore
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, copying, in_the_middle, numbers, stopped
from tests.slow_disk import turns

pytestmark = pytest.mark.anyio


# -- in the middle of something ----------------------------------------------------------------------------------------


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
    await stopped(run)
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
    await stopped(run)
    assert done == ["pay"]
    assert after_.one(B).key == "PAY"


async def test_a_sleep_goes_on_where_it_was(file_board: Boards, ending: str) -> None:
    clock = VirtualClock()
    start = clock.now()
    woke: list[float] = []
    asleep = asyncio.Event()

    def define(board: Blackboard, *, for_the_first_time: bool) -> Blackboard:
        async def nap(a: A, ctx: Context) -> None:
            await ctx.sleep("nap", 100)
            woke.append(clock.now() - start)

        async def stay_awake(b: B, ctx: Context) -> None:
            if for_the_first_time:
                await asyncio.Event().wait()

        board.agent("nap").consumes(A).body(nap)
        board.agent("stay_awake").consumes(B).body(stay_awake)
        return board

    board = define(file_board(clock=clock), for_the_first_time=True)
    await board.publish(A())
    await board.publish(B())

    async def until_it_sleeps() -> None:
        async with aclosing(board.watch()) as events:
            async for event in events:
                if isinstance(event, Calling):
                    asleep.set()

    watcher: asyncio.Task[object] = asyncio.create_task(until_it_sleeps())
    run = await in_the_middle(board, asleep)
    clock.advance(30)
    after_ = define(await file_board.after(ending, board, clock=clock), for_the_first_time=False)
    await after_.run_until_idle(horizon=None)
    await stopped(run, watcher)
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
    await stopped(*runs)
    [dead] = report.left.dead_letters
    assert dead.reason == "kills_process"
    assert sorted(numbers(board, B)) == [1, 2]


# -- a store that fails ------------------------------------------------------------------------------------------------


class FailingStore(SQLiteStore):
    """A store whose disk fails when told so: before anything is written, or after it was."""

    fails = ""

    async def append(self, rows: Sequence[Row]) -> None:
        if self.fails == "before":
            raise StoreFull("no space left")
        await super().append(rows)
        if self.fails == "after":
            raise OSError("the answer was lost")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_publish_whose_append_fails_is_unknown_and_safe_to_repeat_with_its_key(
    tmp_path: Path, when: str
) -> None:
    ran: list[int] = []
    store = FailingStore(tmp_path / "board.db")
    board = copying(Blackboard(store), ran)
    await board.publish(A(n=1), key="one")
    store.fails = when
    with pytest.raises(OutcomeUnknown, match="publish once more with the same key"):
        await board.publish(A(n=2), key="two")
    with pytest.raises(BoardBroken):
        await board.publish(A(n=3), key="three")
    with pytest.raises(BoardBroken):
        await board.run_until_idle()
    await board.close()

    again = copying(Blackboard(tmp_path / "board.db"), ran)
    await again.publish(A(n=2), key="two")
    await again.run_until_idle()
    assert ran == [1, 2]
    await again.close()


async def test_bodies_are_stopped_when_the_store_fails_and_their_work_is_done_later(tmp_path: Path) -> None:
    store = FailingStore(tmp_path / "board.db")
    board = Blackboard(store)
    started, ended = asyncio.Event(), asyncio.Event()

    @board.agent
    async def work(a: A) -> B:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return B()

    await board.publish(A(n=1))
    run = asyncio.create_task(board.run_until_idle())
    await started.wait()
    store.fails = "before"
    with pytest.raises(OutcomeUnknown):
        await board.publish(C())
    report = await asyncio.wait_for(run, 10)
    assert (report.reason, report.ok) == ("broken", False)
    assert "no space left" in report.detail
    assert ended.is_set()
    await board.close()

    again = Blackboard(tmp_path / "board.db")

    @again.agent(name="work")
    async def work_again(a: A) -> B:
        return B(n=a.n)

    await again.run_until_idle()
    assert numbers(again, B) == [1]
    assert again.artifacts(C).total == 0
    await again.close()


async def test_a_disk_that_fails_at_once_after_a_death_ends_the_run(file_board: Boards, tmp_path: Path) -> None:
    """What was skipped after the death is not durable either; nobody waits for it."""
    board = copying(file_board())
    await board.publish(A(n=1))
    file_board.crashed(board)
    store = FailingStore(tmp_path / "board1.db")
    store.fails = "before"
    again = copying(Blackboard(store))
    report = await asyncio.wait_for(again.run_until_idle(), 10)
    assert report.reason == "broken"
    await again.close()

    last = copying(Blackboard(store.path))
    await last.run_until_idle()
    assert numbers(last, B) == [1]
    await last.close()


class StuckStore(SQLiteStore):
    """A board file whose appends wait for a gate, if there is one, and fail when it opens."""

    gate: asyncio.Event | None = None

    async def append(self, rows: Sequence[Row]) -> None:
        if self.gate is not None:
            await self.gate.wait()
            raise StoreFull("no space left")
        await super().append(rows)


async def test_no_body_outlives_a_run_whose_goal_is_reached_when_the_disk_fails(tmp_path: Path) -> None:
    store = StuckStore(tmp_path / "board.db")
    board = Blackboard(store)
    running, go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @board.agent
    async def slow(a: A) -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            await turns(20)  # it cleans up
            ended.set()

    @board.agent
    async def goal(a: A) -> B:
        await go.wait()
        assert store.gate is not None
        store.gate.set()
        return B()

    await board.publish(A())
    run = asyncio.create_task(board.run_until(B))
    await running.wait()
    await turns(50)
    store.gate = asyncio.Event()
    publishing = asyncio.create_task(board.publish(C()))
    await turns(20)
    go.set()
    report = await asyncio.wait_for(run, 10)
    assert report.reason == "broken"
    assert ended.is_set()
    with pytest.raises(OutcomeUnknown):
        await publishing
    await board.close()
