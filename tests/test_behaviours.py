"""Three promises in one place each: partial batches over a shutdown (24), timers (44), a kill in mid-run (50)."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from pydantic import BaseModel

from stigmergy import Blackboard, Context, Limits, after
from stigmergy.blackboard.events import Completed, Failed
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, in_the_middle, numbers, stopped
from tests.readme import ROOT

pytestmark = pytest.mark.anyio

# -- 24: a partial batch over an orderly shutdown ----------------------------------------------------------------------


def gathering(board: Blackboard, seen: list[list[int]], within: float | None = None) -> Blackboard:
    @board.agent(batch=3, within=within)
    async def gather(many: list[A]) -> B:
        seen.append([a.n for a in many])
        return B(n=sum(a.n for a in many))

    return board


@pytest.mark.parametrize("how", ["at rest", "before any run", "in mid-run", "by cancelling the run", "twice"])
async def test_behaviour_24_an_orderly_shutdown_keeps_a_partial_batch(new_board: Boards, how: str) -> None:
    seen: list[list[int]] = []
    board = gathering(new_board(), seen)
    running = asyncio.Event()

    async def endless(c: C) -> None:
        running.set()
        await asyncio.Event().wait()

    await board.publish_many([A(n=1), A(n=2), A(n=3), A(n=4), A(n=5)])
    if how in ("in mid-run", "by cancelling the run"):
        board.agent(endless)
        await board.publish(C())
        run = await in_the_middle(board, running)
        if how == "in mid-run":
            await board.close()
            await run
        else:
            await stopped(run)
    elif how != "before any run":
        await board.run_until_idle()
    if how == "twice":
        board = gathering(await new_board.reopened(board), seen)
        assert len((await board.run_until_idle()).left.waiting) == 1
    board = gathering(await new_board.reopened(board), seen)
    await board.publish(A(n=6))
    await board.run_until_idle()
    assert seen == [[1, 2, 3], [4, 5, 6]]
    assert numbers(board, B) == [6, 15]


async def test_behaviour_24_the_deadline_of_a_partial_batch_is_kept_with_it(new_board: Boards) -> None:
    seen: list[list[int]] = []
    clock = VirtualClock()
    board = gathering(new_board(clock=clock), seen, within=600)
    await board.publish_many([A(n=1), A(n=2)])
    assert (await board.run_until_idle()).reason == "waiting"
    due = clock.now() + 600
    board = gathering(await new_board.reopened(board, clock=clock), seen, within=600)
    assert (await board.run_until_idle(horizon=None)).ok
    assert (seen, clock.now()) == ([[1, 2]], due)


# -- 44: a timer: every so many seconds, so many times -----------------------------------------------------------------


class Tick(BaseModel):
    iteration: int = 0


def ticking(board: Blackboard, seconds: float, times: int | None, ran: list[tuple[int, float]]) -> Blackboard:
    """The board with a timer, and an agent that works at each tick and fails at the second."""

    async def timer(tick: Tick) -> Tick | None:
        last = times is not None and tick.iteration + 1 >= times
        return None if last else Tick(iteration=tick.iteration + 1)

    async def work(tick: Tick, ctx: Context) -> None:
        ran.append((tick.iteration, ctx.now()))
        if tick.iteration == 1:
            raise ValueError("not this time")

    board.agent("timer").self_trigger().consumes(Tick).publishes(Tick, visibility=after(seconds)).body(timer)
    board.agent("work").consumes(Tick).body(work)
    return board


@pytest.mark.parametrize("seconds", [5.0, 60.0])
async def test_behaviour_44_a_timer_ticks_as_often_as_it_is_to_and_goes_on_after_an_error(
    new_board: Boards, seconds: float
) -> None:
    ran: list[tuple[int, float]] = []
    clock = VirtualClock()
    board = ticking(new_board(clock=clock), seconds, 3, ran)
    began = clock.now()
    await board.publish(Tick())
    report = await board.run_until_idle()  # a tick within the horizon is waited for
    assert ran == [(n, began + n * seconds) for n in range(3)]
    assert (report.reason, report.dead, report.open) == ("idle", 1, 0)


async def test_behaviour_44_a_tick_beyond_the_horizon_comes_when_it_is_due_also_after_a_restart(
    new_board: Boards,
) -> None:
    ran: list[tuple[int, float]] = []
    clock = VirtualClock()
    board = ticking(new_board(clock=clock), 3_600, 3, ran)
    began = clock.now()
    await board.publish(Tick())
    assert (await board.run_until_idle()).reason == "waiting"
    clock.jump(began + 1_000)
    board = ticking(await new_board.reopened(board, clock=clock), 3_600, 3, ran)
    assert (await board.run_until_idle()).reason == "waiting"
    assert len(ran) == 1
    await board.run_until_idle(horizon=3_600)
    board = ticking(await new_board.reopened(board, clock=clock), 3_600, 3, ran)
    assert (await board.run_until_idle(horizon=None)).reason == "idle"
    assert ran == [(n, began + n * 3_600) for n in range(3)]


async def test_behaviour_44_an_endless_timer_ends_where_its_limit_of_depth_is(new_board: Boards) -> None:
    ran: list[tuple[int, float]] = []
    board = ticking(new_board(clock=VirtualClock(), limits=Limits(depth=50)), 1, None, ran)
    await board.publish(Tick())
    report = await board.run_until_idle()
    assert (report.reason, report.detail, len(ran)) == ("budget", "depth 51 of 50", 51)


# -- 50: kill -9 in mid-run --------------------------------------------------------------------------------------------


class Left(BaseModel):
    key: str


class Right(BaseModel):
    key: str


def busy(path: Path, *, hangs: bool) -> Blackboard:
    """A board on which some work is done, some runs and some waits; every body notes that it began."""
    board = Blackboard(path)

    def began(what: str) -> None:
        with path.with_suffix(".began").open("a", encoding="utf-8") as file:
            file.write(what + "\n")

    @board.agent
    async def quick(a: A) -> None:
        began(f"quick {a.n}")

    @board.agent
    async def slow(c: C) -> None:
        began(f"slow {c.n}")
        if hangs and c.n == 2:
            print("in mid-run", flush=True)  # noqa: T201
            await asyncio.Event().wait()
        elif hangs:
            await asyncio.Event().wait()

    @board.agent(by="key")
    async def pair(left: Left, right: Right) -> B:
        began(f"pair {left.key}")
        return B(key=left.key)

    @board.agent(batch=3)
    async def gather(many: list[A]) -> B:
        began(f"gather {[a.n for a in many]}")
        return B(n=sum(a.n for a in many))

    return board


def dies(path: str) -> None:
    """What the other process does until it is killed."""
    board = busy(Path(path), hangs=True)
    board.run_sync(*(A(n=n) for n in range(5)), Left(key="x"), Left(key="y"), Right(key="y"), Right(key="z"))
    board.run_sync(C(n=1), C(n=2))


def test_behaviour_50_after_a_kill_unfinished_work_runs_finished_does_not_and_what_waits_is_whole(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.db"
    command = [sys.executable, "-c", f"from tests.test_behaviours import dies; dies({str(path)!r})"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in mid-run\n"
        os.kill(process.pid, signal.SIGKILL)
    before = path.with_suffix(".began").read_text(encoding="utf-8").split("\n")[:-1]
    finished = [f"quick {n}" for n in range(5)] + ["gather [0, 1, 2]", "pair y"]
    assert sorted(before) == sorted([*finished, "slow 1", "slow 2"])

    board = busy(path, hangs=False)
    board.run_sync(Right(key="x"), Left(key="z"), A(n=5))
    now = Counter(path.with_suffix(".began").read_text(encoding="utf-8").split("\n")[len(before) : -1])
    assert now == Counter(["slow 1", "slow 2", "pair x", "pair z", "gather [3, 4, 5]", "quick 5"])
    report = board.report()
    assert (report.open, report.dead, report.left.waiting) == (0, 0, ())
    assert sum(isinstance(e, Completed) for e in board.events()) == 13
    assert {e.kind for e in board.events() if isinstance(e, Failed)} == {"crashed"}
    asyncio.run(board.close())
