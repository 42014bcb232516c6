"""kill -9 at random moments, then go on: nothing acknowledged is lost, nothing is done twice."""

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from stigmergy import read
from stigmergy.blackboard.events import Activated, Called, Calling, Completed, Ended, Event, Opened, Published
from tests.kill_target import ORDERS, Order, Shipped
from tests.readme import ROOT

KILLS = 20


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.kill_target", str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def killed_at_random(folder: Path, moments: random.Random) -> bool:
    """Run until a random moment after the board was defined; whether it was killed before it ended."""
    with start(folder) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        time.sleep(moments.uniform(0.0, 0.12))  # the moment of the kill is what is tested
        process.kill()
        rest = process.stdout.read()
    return "done" not in rest


def run_to_the_end(folder: Path) -> None:
    with start(folder) as process:
        out, err = process.communicate(timeout=60)
    assert (out, err) == ("running\ndone\n", "")


@pytest.mark.req("S3.57", "S3.58", "S2.8")
def test_twenty_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    moments = random.Random(20)
    kills, boards = 0, 0
    while kills < KILLS:
        folder = tmp_path / str(boards)
        folder.mkdir()
        while kills < KILLS and killed_at_random(folder, moments):
            kills += 1
        run_to_the_end(folder)
        check_board(folder)
        boards += 1


def check_board(folder: Path) -> None:
    with read(folder / "run.db", types=[Order, Shipped]) as view:
        events = list(view.events())
        assert sorted(a.payload.number for a in view.artifacts(Shipped)) == list(range(ORDERS))
        assert sorted(a.payload.number for a in view.artifacts(Order)) == list(range(ORDERS))
    check_the_log_is_whole(events)
    check_nothing_acknowledged_is_lost(events, folder / "acknowledged")
    check_nothing_is_done_twice(events)
    check_effects(events, folder / "effects")


def check_the_log_is_whole(events: list[Event]) -> None:
    before = 0
    for event in events:
        expected = before + 1 + (event.gap if isinstance(event, Opened) else 0)
        assert event.seq == expected
        assert event.tx == event.seq or event.tx <= before, "a decision starts with its first event"
        before = event.seq
    starts = Counter(event.tx for event in events if event.seq == event.tx)
    assert set(starts) == {event.tx for event in events}, "no decision lacks its beginning"


def check_nothing_acknowledged_is_lost(events: list[Event], acknowledged: Path) -> None:
    published = {event.seq for event in events if isinstance(event, Published)}
    assert {int(line) for line in acknowledged.read_text(encoding="utf-8").split()} <= published


def check_nothing_is_done_twice(events: list[Event]) -> None:
    completed = Counter(event.cause for event in events if isinstance(event, Completed))
    assert set(completed.values()) == {1}
    given_up = {event.cause for event in events if isinstance(event, Ended)}
    activated = {event.seq for event in events if isinstance(event, Activated)}
    assert set(completed) | given_up == activated, "every activation ended"
    assert not set(completed) & given_up, "every activation ended once"
    first = [event for event in events if isinstance(event, Activated) and not event.redriven]
    taken = Counter((event.subscription, artifact) for event in first for artifact in event.inputs)
    assert set(taken.values()) == {1}, "no artifact was given to an agent twice"


def check_effects(events: list[Event], executed: Path) -> None:
    """A recorded effect is never executed again; every executed one has its cause in the log.

    A dead letter that is tried again is the same effect still: it is counted for the activation it repeats.
    """
    repeats = {event.seq: event.redriven for event in events if isinstance(event, Activated)}

    def first(activation: int) -> int:
        while repeats[activation]:
            activation = repeats[activation]
        return activation

    callings = {event.seq: event for event in events if isinstance(event, Calling)}
    done = [e for e in events if isinstance(e, Called) and e.outcome == "done"]
    recorded = Counter(first(callings[e.cause].cause) for e in done)
    assert set(recorded.values()) == {1}
    announced = Counter(first(event.cause) for event in callings.values())
    times = Counter(int(line.split("-")[-2]) for line in executed.read_text(encoding="utf-8").split())
    assert set(recorded) == set(times)
    for activation, count in times.items():
        assert count <= announced[activation], "an effect was executed whose announcement is in no log"
