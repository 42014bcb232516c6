"""Replay of a million-event log against folding the same log alone: rates, and memory.

    python benchmarks/replaying.py [DELIVERIES] [--rounds 3]

Each measurement is a process of its own; folding and replaying take turns, and the ratio is that of one turn.
Memory is the peak of a process over a tenth of the log and over all of it. Needs half a gigabyte of disk.
"""

import argparse
import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TypedDict

from candidate import NO_LIMITS
from harness import Done, Ping, Pong, WrongResult, expect, first, folder, link, memory_mb

from stigmergy import Blackboard, Roster, read, replay
from stigmergy.blackboard.core.fold import fold
from stigmergy.blackboard.core.observers import Observers

EVENTS_EACH = 4
"""Events of one delivery: published, activated, claimed, completed."""


class Measured(TypedDict):
    """What one process says."""

    events: int
    seconds: float
    peak_mb: float


def chain(length: int) -> Roster:
    """Two agents that hand an artifact to and fro."""
    roster = Roster(limits=NO_LIMITS)

    @roster.agent(pure=True)
    async def ping(item: Ping) -> Pong | Done:
        return link(item, length)  # type: ignore[return-value]

    @roster.agent(pure=True)
    async def pong(item: Pong) -> Ping | Done:
        return link(item, length)  # type: ignore[return-value]

    return roster


async def write(path: Path, length: int) -> None:
    """The log; without snapshots, so that it has to be folded from its beginning."""
    async with Blackboard(path, roster=chain(length), durability="fast") as board:
        await board.publish(first(Ping))
        report = await board.run_until_idle()
        expect("deliveries", report.done, length)
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM snapshot")
    db.close()


def measure(what: str, path: Path, until: int) -> Measured:
    """Fold or replay the log up to that position, in this process."""
    with read(path) as view:
        reader = view._source().reader
        started = time.process_time()
        if what == "fold":
            events = fold(reader, Observers(()), lambda _: None, until).state.seq  # type: ignore[arg-type,return-value]
        else:
            found = replay(view, chain(0), until=until)
            events = found.events
            if not found.ok:
                raise WrongResult(str(found))
        seconds = time.process_time() - started
    return {"events": events, "seconds": seconds, "peak_mb": memory_mb("VmHWM")}


def apart(what: str, path: Path, until: int) -> Measured:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--measure", what, str(path), str(until)]
    found: Measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    """Write the log, measure in turns, print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("deliveries", type=int, nargs="?", default=250_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        what, path, until = args.measure
        print(json.dumps(measure(what, Path(path), int(until))))
        return
    with folder() as place:
        path = place / "board.db"
        asyncio.run(write(path, args.deliveries))
        with read(path) as view:
            last = view.last
        expect("events", last // EVENTS_EACH, args.deliveries + 1)
        rounds = [
            {what: apart(what, path, last) for what in random.sample(["fold", "replay"], 2)} for _ in range(args.rounds)
        ]
        tenth = {what: apart(what, path, last // 10) for what in ("fold", "replay")}
    ratios = sorted(turn["fold"]["seconds"] / turn["replay"]["seconds"] for turn in rounds)
    print(f"{last:,} events")
    for what in ("fold", "replay"):
        each = median(turn[what]["seconds"] / turn[what]["events"] for turn in rounds) * 1e6
        peak = median(turn[what]["peak_mb"] for turn in rounds)
        print(
            f"{what:7} {each:5.1f} µs each; peak {peak:.1f} MB, over a tenth of the log {tenth[what]['peak_mb']:.1f} MB"
        )
    print(
        f"replay runs at {median(ratios):.2f} of the rate of the fold ({ratios[0]:.2f} to {ratios[-1]:.2f}); target 0.5"
    )


if __name__ == "__main__":
    main()
