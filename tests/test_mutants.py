"""The suites are worth something: they notice every known way to get the core wrong."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.mutants import CORE, SHELL, Mutant
from tests.simulation import SimulationFailed, simulate
from tests.slow_disk import (
    bodies_and_effects_wait_for_the_disk,
    nothing_runs_unseen,
    speculation_is_bounded,
)

SEEDS = range(60)
"""All of these pass without a mutant: they are among the seeds of test_simulation.py."""
SLOW_DISK: tuple[Callable[[Path], Awaitable[None]], ...] = (
    bodies_and_effects_wait_for_the_disk, speculation_is_bounded, nothing_runs_unseen,
)  # fmt: skip


@pytest.mark.parametrize("mutant", CORE, ids=lambda m: m.name)
def test_the_simulation_notices_that(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.apply(monkeypatch)
    with pytest.raises(SimulationFailed):
        for seed in SEEDS:
            simulate(seed)


@pytest.mark.parametrize("check", SLOW_DISK, ids=lambda c: c.__name__)
def test_on_a_slow_disk(check: Callable[[Path], Awaitable[None]], tmp_path: Path) -> None:
    asyncio.run(within(check, tmp_path))


@pytest.mark.parametrize("mutant", SHELL, ids=lambda m: m.name)
def test_a_slow_disk_shows_that(mutant: Mutant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mutant.apply(monkeypatch)
    with pytest.raises(AssertionError):
        for i, check in enumerate(SLOW_DISK):
            (folder := tmp_path / str(i)).mkdir()
            asyncio.run(within(check, folder))


async def within(check: Callable[[Path], Awaitable[None]], folder: Path) -> None:
    """Run a check, but not for ever."""
    async with asyncio.timeout(30):
        await check(folder)
