"""Thousands of interleavings of people, bodies, the disk and the clock, each from a seed, and what must hold in all."""

from collections import Counter

import pytest

from tests.mutants import INTERLEAVINGS, Mutant
from tests.schedules import ScheduleFailed, history

SEEDS = 120
TOGETHER = 20


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_whatever_comes_when_nothing_is_lost_or_doubled_or_early_and_everything_ends(first: int) -> None:
    for seed in range(first, first + TOGETHER):
        history(seed)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(1_000, 21_000, 1_000))
def test_whatever_comes_when_at_length(first: int) -> None:
    for seed in range(first, first + 1_000):
        history(seed)


def test_one_seed_is_one_schedule() -> None:
    once, again = ([row[:5] for row in history(3).disk.reader().events()] for _ in range(2))
    assert once == again


def test_the_schedules_reach_what_they_are_for() -> None:
    done: Counter[str] = Counter()
    for seed in range(SEEDS):
        done += history(seed).done
    rare = ("cancelled bodies", "effects", "idle", "waiting", "timeout", "cancelled", "broken", "answer", "cancel",
            "pause", "retry", "close", "publish (closed)", "publish (broken)", "run (broken)")  # fmt: skip
    assert not [what for what in rare if not done[what]]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mutant", INTERLEAVINGS, ids=lambda m: m.name)
def test_they_notice_that(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.apply(monkeypatch)
    with pytest.raises(ScheduleFailed):
        for seed in range(mutant.first, mutant.first + 400):
            history(seed)
