"""A million artifacts through a durable chain: memory on the way, and how long it takes to open the board again.

    python benchmarks/million.py [DELIVERIES]

Needs a gigabyte of disk and some minutes.
"""

import asyncio
import sqlite3
import sys
import time
from pathlib import Path

from candidate import NO_LIMITS
from harness import Done, Ping, Pong, expect, first, folder, link, memory_mb

from stigmergy import Blackboard

SAMPLES = 100
WARM = 0.1
"""The share of the run after which memory must not grow any more."""


def chain(path: Path, length: int, memory: list[float]) -> Blackboard:
    """A board with two agents that hand an artifact to and fro and look at the process's memory now and then."""
    board = Blackboard(path, limits=NO_LIMITS)
    every = max(1, length // SAMPLES)

    @board.agent(pure=True)
    async def ping(item: Ping) -> Pong | Done:
        if item.seq % every < 2:
            memory.append(memory_mb("VmRSS"))
        return link(item, length)  # type: ignore[return-value]

    @board.agent(pure=True)
    async def pong(item: Pong) -> Ping | Done:
        return link(item, length)  # type: ignore[return-value]

    return board


def slope(values: list[float]) -> float:
    """By how much they grow from the first to the last, along the line that fits best."""
    n = len(values)
    mean, middle = sum(values) / n, (n - 1) / 2
    rise = sum((i - middle) * (v - mean) for i, v in enumerate(values)) / sum((i - middle) ** 2 for i in range(n))
    return rise * (n - 1)


async def run(path: Path, length: int) -> None:
    """The chain, then the numbers."""
    memory: list[float] = []
    async with chain(path, length, memory) as board:
        started = time.perf_counter()
        await board.publish(first(Ping))
        report = await board.run_until_idle()
        seconds = time.perf_counter() - started
        expect("deliveries", report.done, length)
        expect("ends", board.artifacts(Done).total, 1)
    warm = memory[int(WARM * len(memory)) :]
    size = path.stat().st_size
    print(f"{length:,} deliveries in {seconds:.1f} s, {seconds / length * 1e6:.1f} µs, {size / length:.0f} bytes each")
    print(
        f"memory after warm-up {warm[0]:.1f} MB, at the end {memory[-1]:.1f} MB, slope {slope(warm):+.1f} MB; "
        "the target is under 5"
    )


async def open_again(path: Path, length: int) -> float:
    """Seconds until the board is open and has nothing to do."""
    started = time.perf_counter()
    async with chain(path, length, []) as board:
        await board.run_until_idle()
        seconds = time.perf_counter() - started
        expect("artifacts", board.artifacts().total, length + 1)
    return seconds


def main() -> None:
    """Run, open by snapshot, throw the snapshots away and open by folding the log."""
    length = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with folder() as place:
        path = place / "board.db"
        asyncio.run(run(path, length))
        by_snapshot = asyncio.run(open_again(path, length))
        with sqlite3.connect(path) as db:
            db.execute("DELETE FROM snapshot")
        db.close()
        by_folding = asyncio.run(open_again(path, length))
    print(
        f"opened again by snapshot in {by_snapshot:.3f} s, by folding the log in {by_folding:.1f} s: "
        f"{by_snapshot / by_folding:.4f}; the target is 0.1"
    )


if __name__ == "__main__":
    main()
