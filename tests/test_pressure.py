"""Poison, cycles, storms, queues and long runs: what is bounded, and by what."""

import asyncio
import gc
import os
import threading
from pathlib import Path

import pytest
from pydantic import BaseModel

from stigmergy import Blackboard, Context, Limits, Retry
from stigmergy.blackboard.core.agenda import WEIGHT
from stigmergy.blackboard.events import Priority
from stigmergy.blackboard.stores.sqlite import SQLiteStore
from stigmergy.components import Quota
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, numbers

pytestmark = pytest.mark.anyio
LONG = pytest.mark.long, pytest.mark.timeout(600)

# -- poison ------------------------------------------------------------------------------------------------------------


async def test_a_poison_artifact_holds_up_none_of_a_thousand_good_ones(new_board: Boards) -> None:
    board = new_board(concurrency=1, clock=VirtualClock())
    ran: list[int] = []

    @board.agent(retry=Retry(attempts=3, backoff=5.0))
    async def work(a: A) -> B:
        ran.append(a.n)
        if a.n == 0:
            raise OSError("poison")
        return B(n=a.n)

    await board.publish_many(A(n=n) for n in range(1_001))
    report = await board.run_until_idle()
    assert (report.done, report.dead, report.failed_attempts) == (1_000, 1, 3)
    assert numbers(board, B) == list(range(1, 1_001))
    assert ran == [*range(1_001), 0, 0]  # the good ones run while it waits to be tried again


async def waits_of(board: Blackboard, poison: int) -> list[int]:
    """How many attempts began before that of each of a thousand good artifacts, beside so many poison ones."""
    began, waited = 0, []

    @board.agent(retry=Retry(attempts=4, backoff=0.0))
    async def work(a: A) -> None:
        nonlocal began
        began += 1
        if a.n < 0:
            raise OSError("poison")
        waited.append(began)

    await board.publish_many([A(n=-1) for _ in range(poison)])
    await board.publish_many(A(n=n) for n in range(1_000))
    report = await board.run_until_idle()
    assert (report.done, report.dead) == (1_000, poison)
    return sorted(waited)


async def test_beside_poison_the_last_of_the_good_ones_wait_for_its_attempts_and_no_more(new_board: Boards) -> None:
    clean = await waits_of(new_board(concurrency=4, clock=VirtualClock()), 0)
    beside = await waits_of(new_board(concurrency=4, clock=VirtualClock()), 10)
    late = 989  # of a thousand, the 99th percentile
    assert clean[late] == 990
    assert beside[late] <= clean[late] + 10 * 4, "who waits longer waits for more than the poison"


# -- cycles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "detail", "outputs"),
    [(Limits(depth=50), "depth 51 of 50", 1), (Limits(activations=50), "activations 50 of 50", 10)],
    ids=["depth", "activations"],
)
async def test_a_loop_that_feeds_itself_ends_with_the_reason_and_loses_nothing(
    new_board: Boards, limits: Limits, detail: str, outputs: int
) -> None:
    board = new_board(limits=limits)

    @board.agent
    async def ping(a: A) -> list[B]:
        return [B(n=a.n + 1)] * outputs

    @board.agent
    async def pong(b: B) -> A:
        return A(n=b.n + 1)

    await board.publish(A())
    report = await asyncio.wait_for(board.run_until_idle(), 60)
    assert (report.reason, report.detail, report.dead) == ("budget", detail, 0)
    assert report.done <= 51
    assert report.open >= 1
    assert report.activations == report.done + report.open


async def test_one_agent_of_a_cycle_reaches_its_quota_and_others_go_on(new_board: Boards) -> None:
    board = new_board(components=[Quota(activations=20, per="agent")])

    @board.agent(self_trigger=True)
    async def again(a: A) -> A:
        return A(n=a.n + 1)

    @board.agent
    async def other(c: C) -> B:
        return B(n=c.n)

    await board.publish(A())
    await board.publish_many(C(n=n) for n in range(10))
    report = await board.run_until_idle()
    assert (report.reason, report.done, report.open) == ("budget", 30, 1)
    assert numbers(board, B) == list(range(10))


# -- storms ------------------------------------------------------------------------------------------------------------


async def test_a_storm_from_inside_a_body_ends_at_the_limit_of_its_fan_out(new_board: Boards) -> None:
    board = new_board(concurrency=4, limits=Limits(fan_out=50), clock=VirtualClock())
    ran = 0

    @board.agent("storm").limits(retry=Retry(attempts=2)).consumes(A).publishes(B).body
    async def storm(a: A, ctx: Context) -> None:
        for n in range(1_000):
            await ctx.publish(B(n=n))

    @board.agent("at_once").consumes(C).publishes(B).body
    async def at_once(c: C, ctx: Context) -> None:
        await asyncio.gather(*(ctx.publish(B(n=n)) for n in range(1_000)))

    @board.agent
    async def count(b: B) -> None:
        nonlocal ran
        ran += 1

    await board.publish(A())
    await board.publish(C())
    report = await board.run_until_idle()
    assert (report.reason, report.open, report.dead) == ("budget", 2, 0)
    assert sorted(report.detail.split("; ")) == [f"fan_out 51 of 50 for agent {name}" for name in ("at_once", "storm")]
    assert ran == board.artifacts(B).total == 100


# -- starvation --------------------------------------------------------------------------------------------------------


class Errand(BaseModel):
    n: int
    priority: Priority


@pytest.mark.parametrize("workers", [1, 10])
@pytest.mark.parametrize(("low", "high"), [("low", "high"), ("medium", "critical"), ("low", "critical")])
async def test_a_low_priority_among_a_stream_of_higher_ones_starts_when_it_has_waited_for_the_difference(
    new_board: Boards, low: Priority, high: Priority, workers: int
) -> None:
    clock = VirtualClock()
    board = new_board(concurrency=workers, clock=clock, limits=Limits(depth=None))
    start, waited = clock.now(), -1.0
    bound = WEIGHT[high] - WEIGHT[low]

    @board.agent(self_trigger=True)
    async def busy(errand: Errand) -> Errand | None:
        clock.advance(10.0)
        return Errand(n=errand.n + 1, priority=high) if clock.now() < start + 2 * bound else None

    @board.agent
    async def patient(b: B) -> None:
        nonlocal waited
        waited = clock.now() - start

    await board.publish(B(), priority=low)
    await board.publish_many([Errand(n=0, priority=high)] * (2 * workers))
    report = await board.run_until_idle()
    assert report.ok
    assert report.done > 2 * bound / 10
    assert bound <= waited <= bound + 20.0 * workers


@pytest.mark.parametrize(
    ("high", "each"),
    [("high", 1_000), pytest.param("high", 10_000, marks=LONG), pytest.param("medium", 10_000, marks=LONG)],
)
async def test_of_masses_of_two_priorities_the_oldest_low_one_waits_for_the_difference_and_no_longer(
    new_board: Boards, each: int, high: Priority
) -> None:
    """Ten workers are busy with the higher ones for a thousand seconds: by then the last of the low ones would start
    if waiting did not count."""
    clock = VirtualClock()
    board = new_board(concurrency=10, clock=clock, limits=Limits(depth=None))
    takes = 10_000 / each
    started: dict[Priority, list[tuple[float, int]]] = {"low": [], high: []}

    @board.agent(self_trigger=True)
    async def run(errand: Errand, ctx: Context) -> Errand | None:
        started[errand.priority].append((ctx.now() - start, errand.n))
        await ctx.sleep("work", takes)
        more = errand.n + 20  # twice as many as there are workers, so that one is always ready
        return Errand(n=more, priority=high) if errand.priority == high and more < each else None

    await board.publish_many(Errand(n=n, priority="low") for n in range(each))
    await board.publish_many(Errand(n=n, priority=high) for n in range(20))
    start = clock.now()
    report = await board.run_until_idle()
    assert (report.ok, report.done) == (True, 2 * each)
    low = started["low"]
    difference = WEIGHT[high] - WEIGHT["low"]
    assert [n for _, n in low] == list(range(each)), "the oldest first"
    assert difference <= low[0][0] <= difference + 2 * takes < 1_000
    assert low[-1][0] <= difference + 1_000 + 2 * takes, "who waits longer waits for those of its kind before it"
    before = [n for at, n in started[high] if at < difference]
    assert len(before) >= difference / takes * 10 - 20, "until then the higher ones had every place"


async def test_a_slow_agent_does_not_hold_up_a_fast_one(new_board: Boards) -> None:
    board = new_board(concurrency=2)
    fast_is_done, ran = asyncio.Event(), 0

    @board.agent(concurrency=1)
    async def slow(a: A) -> None:
        await fast_is_done.wait()

    @board.agent
    async def fast(b: B) -> None:
        nonlocal ran
        ran += 1
        if ran == 500:
            fast_is_done.set()

    await board.publish_many(A(n=n) for n in range(100))
    await board.publish_many(B(n=n) for n in range(500))
    report = await asyncio.wait_for(board.run_until_idle(), 60)
    assert (report.ok, report.done) == (True, 600)


# -- bombs -------------------------------------------------------------------------------------------------------------


async def test_artifacts_without_end_under_one_key_of_a_join_are_let_go_at_its_limit(new_board: Boards) -> None:
    board = new_board()

    async def both(a: A, b: B) -> None: ...

    board.agent("both").consumes(A, B, by="key", max_waiting=100).body(both)
    for _ in range(5):
        await board.publish_many(A(key="same") for _ in range(1_000))
    assert board._owner is not None
    assert len(board._owner.decider.state.alive) <= 1_000 + 100  # one publish, and what waits
    assert (await board.run_until_idle()).reason == "idle"


# -- soak --------------------------------------------------------------------------------------------------------------


def memory() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def soak(path: Path, deliveries: int) -> None:
    """Run so many deliveries on a file; memory, threads and open files are the same at a quarter and at the end."""
    taken: list[tuple[int, int, int]] = []
    async with Blackboard(SQLiteStore(path), limits=Limits(activations=None, depth=None)) as board:

        def look() -> None:
            taken.append((memory(), threading.active_count(), len(os.listdir("/proc/self/fd"))))

        @board.agent(pure=True)
        async def there(a: A) -> B | None:
            if a.n in (deliveries // 4, deliveries // 4 * 3):
                look()
            return B(n=a.n + 50) if a.n < deliveries else None

        @board.agent(pure=True)
        async def back(b: B) -> A:
            return A(n=b.n + 50)

        await board.publish_many(A(n=n) for n in range(0, 100, 2))
        report = await board.run_until_idle()
        assert report.ok
        assert report.done >= deliveries
    (early, threads, files), (late, threads_late, files_late) = taken[0], taken[-1]
    assert (threads, files) == (threads_late, files_late)
    assert late - early < 12_000_000, f"{(late - early) / 1e6:.1f} MB more"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
async def test_memory_threads_and_files_stay_what_they_are_over_twenty_thousand_deliveries(tmp_path: Path) -> None:
    await soak(tmp_path / "board.db", 20_000)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
async def test_memory_threads_and_files_stay_what_they_are_over_a_million_deliveries(tmp_path: Path) -> None:
    await soak(tmp_path / "board.db", 1_000_000)
