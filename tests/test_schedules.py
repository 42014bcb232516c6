"""Thousands of interleavings of people, bodies, the disk and the clock, each from a seed, and what must hold in all."""

import asyncio
from collections import Counter
from contextlib import suppress

import pytest

from stigmergy import Blackboard
from stigmergy.blackboard.errors import BoardBroken, StoreError
from tests.boards import A
from tests.mutants import INTERLEAVINGS, Mutant
from tests.schedule_people import People
from tests.schedule_world import HERE, Dice, Disk, LoopClock, World
from tests.schedules import BEGINNINGS, TEAMS, ScheduleFailed, begun, brief, history, tiny
from tests.seeded_loop import SeededLoop, run_seeded

SEEDS = 120
TOGETHER = 20
BRIEF = 1_000
TINY = 1_000
"""Each is one to twelve rounds, five or six on average, of some 35 choices."""
NOTICED = 600
"""Tiny histories in which every mutant is noticed; most in the first hundred."""


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_whatever_comes_when_nothing_is_lost_or_doubled_or_early_and_everything_ends(first: int) -> None:
    for seed in range(first, first + TOGETHER):
        history(seed)


@pytest.mark.parametrize("first", range(0, BRIEF, 500))
def test_whatever_one_or_two_people_do_on_either_store_the_same_holds(first: int) -> None:
    for seed in range(first, first + 500):
        brief(seed)


@pytest.mark.parametrize("first", range(0, TINY, 500))
def test_whatever_two_people_do_at_once_the_same_holds(first: int) -> None:
    for seed in range(first, first + 500):
        tiny(seed)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(100_000, 120_000, 2_000))
def test_whatever_two_people_do_at_once_at_length(first: int) -> None:
    for seed in range(first, first + 2_000):
        tiny(seed)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(100_000, 200_000, 10_000))
def test_whatever_one_or_two_people_do_at_length(first: int) -> None:
    for seed in range(first, first + 10_000):
        brief(seed)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(1_000, 21_000, 1_000))
def test_whatever_comes_when_at_length(first: int) -> None:
    for seed in range(first, first + 1_000):
        history(seed)


def test_a_run_whose_time_is_up_when_its_disk_fails_leaves_no_task() -> None:
    async def life(people: People) -> None:
        with suppress(StoreError, BoardBroken):
            await people.board.publish(A(n=1))
            await people.board.run_until_idle(timeout=0.3)
        await people.close()

    for seed in range(300):
        dice = Dice(seed)
        disk = Disk(dice)
        disk.fails_at = 2 + seed % 2
        loop = SeededLoop(dice, wild=1.0)
        world = HERE.world = World(dice, disk)
        people = People(world, Blackboard(disk, roster=TEAMS[1], clock=LoopClock(loop)))
        run_seeded(life(people), loop)


def test_who_closes_a_board_whose_disk_failed_waits_for_the_bodies_that_are_stopped() -> None:
    for seed in range(20):
        dice = Dice(seed)
        disk = Disk(dice)
        loop = SeededLoop(dice, wild=0.3)
        board = Blackboard(disk, clock=LoopClock(loop))
        seen: list[str] = []

        @board.agent
        async def slow(a: A, seen: list[str] = seen) -> None:
            seen.append("begun")
            try:
                await asyncio.sleep(1_000)
            finally:
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.1)  # it cleans up
                seen.append("ended")

        async def life(board: Blackboard = board, disk: Disk = disk, seen: list[str] = seen) -> None:
            await board.publish(A(n=1))
            run = asyncio.create_task(board.run_until_idle())
            while not seen:
                await asyncio.sleep(0.1)
            disk.fails_at = disk.appends + 1
            with suppress(StoreError, BoardBroken):
                await board.publish(A(n=2))
            await board.close()
            assert seen == ["begun", "ended"]
            assert (await run).reason == "broken"

        run_seeded(life(), loop)


def test_a_deadline_on_a_board_whose_disk_failed_keeps_nobody_busy() -> None:
    """It can no longer be decided what is due, so that it would be due again at once until the last body has ended."""
    dice = Dice(0)
    disk = Disk(dice)
    loop = SeededLoop(dice, wild=0.3)
    board = Blackboard(disk, clock=LoopClock(loop))
    begun: list[int] = []

    @board.agent(timeout=2.0)
    async def slow(a: A) -> None:
        begun.append(a.n)
        try:
            await asyncio.sleep(1_000)
        finally:
            await asyncio.sleep(4)  # it cleans up, for longer than it has

    async def life() -> None:
        await board.publish(A(n=1))
        run = asyncio.create_task(board.run_until_idle())
        while not begun:
            await asyncio.sleep(0.1)
        disk.fails_at = disk.appends + 1
        with suppress(StoreError, BoardBroken):
            await board.publish(A(n=2))
        assert (await run).reason == "broken"
        await board.close()

    run_seeded(life(), loop)
    assert loop.callbacks < 500


def test_one_seed_is_one_schedule() -> None:
    once, again = ([row[:5] for row in history(3).disk.reader().events()] for _ in range(2))
    assert once == again
    for short in (brief, tiny):
        once, again = ([row[:5] for row in short(29).disk.reader().events()] for _ in range(2))
        assert once == again


def test_the_schedules_reach_what_they_are_for() -> None:
    rare = {"cancelled bodies", "effects", "idle", "waiting", "timeout", "cancel", "run (broken)", "close"}
    rarer = rare | {"cancelled", "broken", "answer", "pause", "retry", "publish (closed)", "publish (broken)"}
    for size, seeds, reached in ((history, 60, rarer), (brief, 200, rare), (tiny, 300, rarer)):
        done: Counter[str] = Counter()
        for seed in range(seeds):
            done += size(seed).done
        assert done.keys() >= reached, size.__name__


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mutant", INTERLEAVINGS, ids=lambda m: m.name)
def test_they_notice_that(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    for beginning in BEGINNINGS:
        begun(beginning)  # nothing is wrong before the first round
    mutant.apply(monkeypatch)
    with pytest.raises(ScheduleFailed):
        for seed in range(NOTICED):
            tiny(seed)
