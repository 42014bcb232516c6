"""How long a stranger's publish() into a busy durable chain takes: the time until it is safe on the disk.

python benchmarks/latency.py [PUBLISHES]
"""

import asyncio
import sys
import time
from contextlib import suppress

from candidate import NO_LIMITS, add_chain
from harness import Case, Ping, Result, expect, first, folder

from stigmergy import Blackboard

ENDLESS = 10**9
PAUSE = 0.002
"""Seconds between two publishes."""


async def measured(publishes: int, variant: str) -> list[float]:
    """Seconds that each publish took, in order of size."""
    seconds: list[float] = []
    with folder() as path:
        async with Blackboard(path / "board.db", limits=NO_LIMITS) as board:
            add_chain(board, Case(ENDLESS, variant), ENDLESS)
            await board.publish(first(Ping))
            running = asyncio.create_task(board.run_until_idle())
            await asyncio.sleep(0.5)
            before = board.artifacts(Ping).total
            for number in range(publishes):
                started = time.perf_counter()
                await board.publish(first(Result, number))
                seconds.append(time.perf_counter() - started)
                await asyncio.sleep(PAUSE)
            went_on = board.artifacts(Ping).total - before
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            expect("stranger's artifacts", board.artifacts(Result).total, publishes)
            print(f"{variant}: the chain went on for {2 * went_on:,} deliveries meanwhile")
    return sorted(seconds)


def main() -> None:
    """Both kinds of chains."""
    publishes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for variant in ("pipelined", "strict"):
        seconds = asyncio.run(measured(publishes, variant))
        shown = ", ".join(f"p{share:g} {seconds[int(share / 100 * publishes)] * 1000:.1f}" for share in (50, 90, 99))
        print(f"{variant}: milliseconds {shown}, longest {seconds[-1] * 1000:.1f}; the target is p99 under 20")


if __name__ == "__main__":
    main()
