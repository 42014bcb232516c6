"""The work that is measured, the clock, and the one line that a program prints: the same for floors and candidate.

python <program> WORKLOAD N [--variant V] [--m M] [--hist H] [--limit L] [--sync FULL|NORMAL] [--cold]
"""

import argparse
import asyncio
import gc
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

TEXT = "x" * 200
WARM_UP = 20
"""Deliveries before the measurement: imports on first use, caches, prepared statements."""


class Item(BaseModel):
    """What all artifacts here look like."""

    seq: int
    key: str
    lane: int
    text: str
    score: float


class Ping(Item):
    """Every other link of a chain."""


class Pong(Item):
    """The links between."""


class Done(Item):
    """The end of a chain."""


class Task(Item):
    """One of many that are independent."""


class Result(Item):
    """What a task becomes."""


class Side(BaseModel):
    """One half of a pair."""

    seq: int
    key: str
    text: str


class Left(Side):
    """The first half."""


class Right(Side):
    """The second half."""


class Joined(Side):
    """A pair."""


I = TypeVar("I", bound=Item)  # noqa: E741


def first(model: type[I], seq: int = 0, lane: int = 0) -> I:
    """An artifact from outside."""
    return model(seq=seq, key=f"k{seq}", lane=lane, text=TEXT, score=1.0)


def derive(item: Item, model: type[I]) -> I:
    """The work of every handler: one new validated model, made of its input."""
    return model(seq=item.seq + 1, key=item.key, lane=item.lane, text=item.text, score=item.score * 0.5)


def link(item: Ping | Pong, length: int) -> Ping | Pong | Done:
    """The next link of a chain of that many deliveries."""
    if item.seq + 1 >= length:
        return derive(item, Done)
    if isinstance(item, Ping):
        return derive(item, Pong)
    return derive(item, Ping)


def pairs(count: int) -> list[Left | Right]:
    """All left halves, then all right halves in reverse order, so that most pairs wait long."""
    lefts = [Left(seq=i, key=f"k{i}", text=TEXT) for i in range(count)]
    rights = [Right(seq=i, key=f"k{i}", text=TEXT) for i in range(count)]
    return [*lefts, *reversed(rights)]


class WrongResult(Exception):
    """The program measured did not do the work."""


def expect(what: str, found: int, wanted: int) -> None:
    """Refuse to report a wrong run."""
    if found != wanted:
        raise WrongResult(f"{found} {what}, expected {wanted}")


@dataclass(slots=True)
class Stopwatch:
    """Seconds and memory between handing over the first artifact and idleness."""

    seconds: float = 0.0
    cpu: float = 0.0
    grown: float = 0.0

    def __enter__(self) -> None:
        self.grown = -memory_mb("VmRSS")
        self.cpu = -time.process_time()
        self.seconds = -time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter()
        self.cpu += time.process_time()
        self.grown += memory_mb("VmRSS")


@dataclass(slots=True)
class Case:
    """One run of a workload.

    Attributes:
        n: how many deliveries (pairs in W7, round trips in W8).
        m: W3: how many subscriptions.
        hist: W4: artifacts that are on the board before.
        limit: W6: how many run at one time.
        sync: FULL = every commit survives power loss; NORMAL = the death of the process.
        notes: what else the program wants to report.
    """

    n: int
    variant: str
    m: int = 10
    hist: int = 0
    limit: int = 100
    sync: str = ""
    clock: Stopwatch = field(default_factory=Stopwatch)
    notes: dict[str, float] = field(default_factory=dict)


Workload = Callable[[Case], Awaitable[int]]
"""Does the work under `case.clock`, checks what came of it, and returns the number of deliveries."""


def memory_mb(what: str) -> float:
    """A line of the process's memory account: VmRSS = now, VmHWM = at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


@contextmanager
def folder() -> Iterator[Path]:
    """A scratch folder on the disk to be measured (BENCH_TMP, else where temporary files go)."""
    path = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_TMP") or None))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def main(peer: str, workloads: Mapping[str, Workload], variants: Sequence[str]) -> None:
    """Run the workload that the command line names, warm, and print one JSON line."""
    parser = argparse.ArgumentParser(prog=peer)
    parser.add_argument("workload", choices=sorted(workloads))
    parser.add_argument("n", type=int)
    parser.add_argument("--variant", default=variants[0], choices=variants)
    parser.add_argument("--m", type=int, default=10)
    parser.add_argument("--hist", type=int, default=0)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--sync", default="")
    parser.add_argument("--cold", action="store_true")
    args = parser.parse_args()
    run = workloads[args.workload]

    async def once(n: int, m: int, hist: int) -> tuple[int, Case]:
        case = Case(n, args.variant, m, hist, args.limit, args.sync)
        return await run(case), case

    if not args.cold:
        asyncio.run(once(min(WARM_UP, args.n), min(args.m, WARM_UP), min(args.hist, 10)))
        gc.collect()
    deliveries, case = asyncio.run(once(args.n, args.m, args.hist))
    seconds, cpu = case.clock.seconds, case.clock.cpu
    line: dict[str, object] = {
        "peer": peer,
        "variant": args.variant,
        "workload": args.workload,
        "n": args.n,
        "deliveries": deliveries,
        "seconds": round(seconds, 6),
        "per_second": round(deliveries / seconds, 1),
        "us_per_delivery": round(seconds / deliveries * 1e6, 2),
        "cpu_seconds": round(cpu, 6),
        "cpu_us_per_delivery": round(cpu / deliveries * 1e6, 2),
        "peak_rss_mb": memory_mb("VmHWM"),
        "rss_growth_mb": round(case.clock.grown, 1),
        "load1": round(os.getloadavg()[0], 2),
        "python": ".".join(map(str, sys.version_info[:3])),
        **case.notes,
    }
    if args.sync:
        line["sync"] = args.sync
    print(json.dumps(line))
