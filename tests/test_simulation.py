"""Hundreds of random histories of a board, each from a seed, with every invariant checked after every step."""

from collections import Counter

import pytest

from stigmergy.blackboard import events as ev
from tests.simulation import Simulation, simulate

SEEDS = 80
TOGETHER = 8


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_whatever_happens_to_a_board_its_invariants_hold(first: int) -> None:
    for seed in range(first, first + TOGETHER):
        simulate(seed)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(1_000, 2_500, 100))
def test_whatever_happens_to_a_board_its_invariants_hold_at_length(first: int) -> None:
    for seed in range(first, first + 100):
        simulate(seed, 300)


def test_one_seed_is_one_history() -> None:
    assert simulate(7, 60).rows == simulate(7, 60).rows


def seen_in(simulation: Simulation) -> Counter[str]:
    """What occurred in a history that survived to its end."""
    seen: Counter[str] = Counter()
    for event in simulation.books.events.values():
        seen[type(event).__name__] += 1
        match event:
            case ev.Ended():
                seen[f"Ended {event.outcome}"] += 1
                seen["Ended kills_process"] += event.reason == "kills_process"
                seen["Ended filter raised"] += event.reason == "filter raised"
            case ev.Expired():
                seen[f"Expired {event.reason}"] += 1
            case ev.Failed():
                seen[f"Failed {event.kind}"] += 1
                seen["Failed guilty"] += event.guilty
            case ev.Rang():
                seen[f"Rang {event.timer}"] += 1
            case ev.Closed():
                seen[f"Closed {event.stop}"] += 1
            case ev.Activated():
                seen["Activated blocked"] += bool(event.blockers)
                seen["Activated again"] += bool(event.redriven)
                seen["Activated from places"] += bool(event.slots)
                seen["Activated without an optional"] += 0 in event.slots
            case ev.Opened():
                seen["Opened unclean"] += not event.clean
    return seen


def test_the_simulation_visits_everything_that_can_happen() -> None:
    missing = {
        *ev.KINDS,
        "Ended dead_letter", "Ended cancelled", "Ended skipped", "Ended blocker_failed", "Ended kills_process",
        "Ended filter raised", "Expired window", "Expired waiting_limit", "Expired changed", "Failed error",
        "Failed timeout", "Failed interrupted", "Failed crashed", "Failed rejected", "Failed guilty", "Rang visible",
        "Rang group", "Rang retry", "Rang hold", "Rang sleep", "Rang alarm", "Closed park", "Closed cancel",
        "Activated blocked", "Activated again", "Activated from places", "Activated without an optional",
        "Opened unclean",
    }  # fmt: skip
    for seed in range(40):
        missing -= {what for what, times in seen_in(simulate(seed)).items() if times}
        if not missing:
            return
    assert not missing
