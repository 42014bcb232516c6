"""Stigmergy under the workloads of the peer benchmark; see README.md for what each is.

variant pool       in memory
        pipelined  SQLite, fsync per commit, agents declared pure: a body may start before its claim is durable
        strict     SQLite, fsync per commit, agents as anybody writes them: a body starts when its claim is durable
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from harness import (
    TEXT,
    Case,
    Done,
    Joined,
    Left,
    Ping,
    Pong,
    Result,
    Right,
    Task,
    derive,
    expect,
    first,
    folder,
    link,
    main,
    pairs,
)

from stigmergy import Blackboard, Limits, Report
from stigmergy.blackboard.stores.base import Row
from stigmergy.blackboard.stores.sqlite import SQLiteStore

NO_LIMITS = Limits(activations=None, depth=None, fan_out=None)
Where = Mapping[str, object] | Callable[[Task], bool]
AT_ONCE = 100
"""Artifacts in one outside publish, where many are published."""


class CountingStore(SQLiteStore):
    """A board file that counts its commits."""

    commits = 0

    async def append(self, rows: Sequence[Row]) -> None:
        """See `SQLiteStore.append`; each is one commit."""
        self.commits += 1
        await super().append(rows)


@asynccontextmanager
async def opened(case: Case, *, concurrency: int = 100) -> AsyncIterator[Blackboard]:
    """A board as the variant asks for."""
    if case.variant == "pool":
        yield Blackboard(concurrency=concurrency, limits=NO_LIMITS)
        return
    with folder() as path:
        file = path / "board.db"
        store = CountingStore(file, "fast" if case.sync == "NORMAL" else "full")
        async with Blackboard(store, concurrency=concurrency, limits=NO_LIMITS) as board:
            yield board
        case.notes["commits"] = store.commits
        case.notes["db_bytes_per_delivery"] = round(file.stat().st_size / case.n)


def pure(case: Case) -> bool:
    """Whether the agents of this variant say that they have no effects."""
    return case.variant != "strict"


def add_chain(board: Blackboard, case: Case, length: int) -> None:
    """Two agents that hand an artifact to and fro."""

    @board.agent(pure=pure(case))
    async def ping(item: Ping) -> Pong | Done:
        return link(item, length)  # type: ignore[return-value]  # never a Ping after a Ping

    @board.agent(pure=pure(case))
    async def pong(item: Pong) -> Ping | Done:
        return link(item, length)  # type: ignore[return-value]


def check(report: Report, deliveries: int) -> None:
    """Refuse a run that did not do everything, or that left something."""
    expect("deliveries", report.done, deliveries)
    expect("dead letters", report.dead, 0)
    expect("open activations", report.open, 0)


async def chain(case: Case) -> int:
    """W1, W5: one artifact goes to and fro, N times."""
    async with opened(case) as board:
        add_chain(board, case, case.n)
        await board.run_until_idle()
        with case.clock:
            await board.publish(first(Ping))
            report = await board.run_until_idle()
        check(report, case.n)
        expect("ends", board.artifacts(Done).total, 1)
        expect("links", board.artifacts(Ping).total + board.artifacts(Pong).total, case.n)
    return case.n


async def many_chains(case: Case) -> int:
    """W5M: a hundred chains at once, N deliveries in all."""
    chains = min(100, case.n)
    length = case.n // chains
    async with opened(case) as board:
        add_chain(board, case, length)
        await board.run_until_idle()
        with case.clock:
            await board.publish_many(first(Ping) for _ in range(chains))
            report = await board.run_until_idle()
        check(report, chains * length)
        expect("ends", board.artifacts(Done).total, chains)
    return chains * length


def add_worker(
    board: Blackboard, case: Case, work: Callable[[Task], Awaitable[Result]], name: str = "worker",
    where: Where | None = None,
) -> None:  # fmt: skip
    """One agent that turns tasks into results."""
    worker = board.agent(name).consumes(Task, where=where).publishes(Result)
    if pure(case):
        worker = worker.pure()
    worker.body(work)


async def derived(item: Task) -> Result:
    """The body of most workers here."""
    return derive(item, Result)


async def fan_out(case: Case) -> int:
    """W2, W5F: N artifacts from outside, each handled on its own."""
    async with opened(case) as board:
        add_worker(board, case, derived)
        await board.run_until_idle()
        with case.clock:
            for start in range(0, case.n, AT_ONCE):
                await board.publish_many(first(Task, i) for i in range(start, min(case.n, start + AT_ONCE)))
            report = await board.run_until_idle()
        check(report, case.n)
        expect("results", board.artifacts(Result).total, case.n)
    return case.n


async def routing(case: Case, *, by_key: bool) -> int:
    """W3, W3T: M agents on one type, of which each wants one M-th of the artifacts."""
    async with opened(case) as board:
        hits = [0] * case.m

        def body(lane: int) -> Callable[[Task], Awaitable[Result]]:
            async def work(item: Task) -> Result:
                hits[lane] += 1
                return derive(item, Result)

            return work

        for lane in range(case.m):
            add_worker(board, case, body(lane), f"w{lane}", {"lane": lane} if by_key else predicate(lane))
        items = [first(Task, i, i % case.m) for i in range(case.n)]
        await board.run_until_idle()
        with case.clock:
            for start in range(0, case.n, AT_ONCE):
                await board.publish_many(items[start : start + AT_ONCE])
            report = await board.run_until_idle()
        check(report, case.n)
        expect("artifacts in their lane", sum(hits), case.n)
        expect("lanes served", sum(map(bool, hits)), min(case.m, case.n))
    return case.n


def predicate(lane: int) -> Callable[[Task], bool]:
    """A test that no index can look into."""
    return lambda item: item.lane == lane


async def by_predicate(case: Case) -> int:
    """W3: every agent has a predicate of its own."""
    return await routing(case, by_key=False)


async def by_equality(case: Case) -> int:
    """W3T: every agent asks for a value of a field."""
    return await routing(case, by_key=True)


async def history(case: Case) -> int:
    """W4: a chain on a board with a past."""
    async with opened(case) as board:
        add_chain(board, case, case.n)
        for start in range(0, case.hist, 1000):
            await board.publish_many(first(Result, i) for i in range(start, min(case.hist, start + 1000)))
        with case.clock:
            await board.publish(first(Ping))
            report = await board.run_until_idle()
        check(report, case.n)
        expect("artifacts", board.artifacts().total, case.hist + case.n + 1)
    return case.n


async def sleepers(case: Case) -> int:
    """W6: N bodies that sleep 50 ms, so many at a time."""
    async with opened(case, concurrency=case.limit) as board:

        async def work(item: Task) -> Result:
            await asyncio.sleep(0.05)
            return derive(item, Result)

        add_worker(board, case, work)
        items = [first(Task, i) for i in range(case.n)]
        await board.run_until_idle()
        with case.clock:
            await board.publish_many(items)
            report = await board.run_until_idle()
        check(report, case.n)
        expect("results", board.artifacts(Result).total, case.n)
    return case.n


async def join(case: Case) -> int:
    """W7: N pairs find each other by a key."""
    async with opened(case) as board:

        @board.agent(by="key", pure=pure(case))
        async def pair(left: Left, right: Right) -> Joined:
            if left.key != right.key:
                raise ValueError(f"{left.key} was joined with {right.key}")
            return Joined(seq=left.seq, key=left.key, text=TEXT)

        items = pairs(case.n)
        await board.run_until_idle()
        with case.clock:
            for start in range(0, len(items), AT_ONCE):
                await board.publish_many(items[start : start + AT_ONCE])
            report = await board.run_until_idle()
        check(report, case.n)
        expect("pairs", len({a.payload.key for a in board.artifacts(Joined)}), case.n)
    return case.n


async def round_trips(case: Case) -> int:
    """W8: publish one artifact, run until idle; N times in a row."""
    async with opened(case) as board:
        add_worker(board, case, derived)
        items = [first(Task, i) for i in range(case.n)]
        await board.run_until_idle()
        with case.clock:
            for item in items:
                await board.publish(item)
                report = await board.run_until_idle()
        check(report, case.n)
        expect("results", board.artifacts(Result).total, case.n)
    return case.n


if __name__ == "__main__":
    main(
        "stigmergy",
        {
            "W1": chain, "W2": fan_out, "W3": by_predicate, "W3T": by_equality, "W4": history, "W5": chain,
            "W5F": fan_out, "W5M": many_chains, "W6": sleepers, "W7": join, "W8": round_trips,
        },
        ("pool", "pipelined", "strict"),
    )  # fmt: skip
