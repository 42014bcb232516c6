"""The same work with nothing but asyncio, and with nothing but SQLite: what no engine can do without.

variant queue  W1-W4, W7, W8: one queue, one loop that takes from it, a handler per type; W6: a semaphore
        raw    W5, W5M, W5F: two rows and one commit per delivery (the artifact, and that its input is consumed)
        group  the same through a thread of its own, where all that wait share a commit
        fsync  W5: four kilobytes and an fdatasync per delivery; tells the disk from SQLite
"""

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from harness import (
    Case,
    Done,
    Item,
    Joined,
    Ping,
    Pong,
    Result,
    Side,
    Task,
    derive,
    expect,
    first,
    folder,
    link,
    main,
    pairs,
)
from pydantic import BaseModel

Handler = Callable[[BaseModel], Awaitable[Sequence[BaseModel]]]
ArtifactRow = tuple[int, str, str, str]
ConsumedRow = tuple[int]


class Loop:
    """A queue of artifacts, and a task that gives each to the handler of its type."""

    def __init__(self, handlers: dict[type[BaseModel], Handler]) -> None:
        self.handlers = handlers
        self.board: list[BaseModel] = []
        self.count = 0
        self.queue: asyncio.Queue[BaseModel] = asyncio.Queue()

    def publish(self, item: BaseModel) -> None:
        """Put it on the list, and in the queue if somebody handles it."""
        self.board.append(item)
        if type(item) in self.handlers:
            self.queue.put_nowait(item)

    async def take(self) -> None:
        """Handle one after the other."""
        while True:
            item = await self.queue.get()
            for output in await self.handlers[type(item)](item):
                self.publish(output)
            self.count += 1
            self.queue.task_done()

    async def run(self, seeds: Iterable[BaseModel]) -> None:
        """Until the queue is empty."""
        taking = asyncio.create_task(self.take())
        for seed in seeds:
            self.publish(seed)
        await self.queue.join()
        taking.cancel()

    def found(self, model: type[BaseModel]) -> int:
        """How many of that type were published."""
        return sum(type(item) is model for item in self.board)


def chain_of(length: int) -> Loop:
    """A loop in which one artifact goes to and fro."""

    async def step(item: BaseModel) -> Sequence[BaseModel]:
        return (link(item, length),)  # type: ignore[arg-type]

    return Loop({Ping: step, Pong: step})


async def derived(item: BaseModel) -> Sequence[BaseModel]:
    """The handler of a task."""
    assert isinstance(item, Item)
    return (derive(item, Result),)


async def chain(case: Case) -> int:
    """W1, W4."""
    loop = chain_of(case.n)
    loop.board += [first(Result, i) for i in range(case.hist)]
    with case.clock:
        await loop.run([first(Ping)])
    expect("deliveries", loop.count, case.n)
    expect("artifacts", len(loop.board), case.hist + case.n + 1)
    return case.n


async def fan_out(case: Case) -> int:
    """W2."""
    loop = Loop({Task: derived})
    with case.clock:
        await loop.run(first(Task, i) for i in range(case.n))
    expect("results", loop.found(Result), case.n)
    return case.n


async def routing(case: Case) -> int:
    """W3, W3T: a dictionary finds the handler of each lane."""
    hits = [0] * case.m

    def body(lane: int) -> Handler:
        async def work(item: BaseModel) -> Sequence[BaseModel]:
            hits[lane] += 1
            return await derived(item)

        return work

    lanes = [body(lane) for lane in range(case.m)]

    async def route(item: BaseModel) -> Sequence[BaseModel]:
        assert isinstance(item, Item)
        return await lanes[item.lane](item)

    items = [first(Task, i, i % case.m) for i in range(case.n)]
    loop = Loop({Task: route})
    with case.clock:
        await loop.run(items)
    expect("artifacts in their lane", sum(hits), case.n)
    return case.n


async def sleepers(case: Case) -> int:
    """W6."""
    places = asyncio.Semaphore(case.limit)
    board: list[Result] = []

    async def work(item: Task) -> None:
        async with places:
            await asyncio.sleep(0.05)
            board.append(derive(item, Result))

    items = [first(Task, i) for i in range(case.n)]
    with case.clock:
        async with asyncio.TaskGroup() as group:
            for item in items:
                group.create_task(work(item))
    expect("results", len(board), case.n)
    return case.n


async def join(case: Case) -> int:
    """W7."""
    waiting: dict[str, Side] = {}

    async def half(item: BaseModel) -> Sequence[BaseModel]:
        assert isinstance(item, Side)
        other = waiting.pop(item.key, None)
        if other is None:
            waiting[item.key] = item
            return ()
        return (Joined(seq=item.seq, key=item.key, text=item.text),)

    items = pairs(case.n)
    loop = Loop({type(item): half for item in items})
    with case.clock:
        await loop.run(items)
    expect("pairs", loop.found(Joined), case.n)
    return case.n


async def round_trips(case: Case) -> int:
    """W8."""
    loop = Loop({Task: derived})
    items = [first(Task, i) for i in range(case.n)]
    taking = asyncio.create_task(loop.take())
    with case.clock:
        for item in items:
            loop.publish(item)
            await loop.queue.join()
    taking.cancel()
    expect("results", loop.found(Result), case.n)
    return case.n


# -- SQLite -----------------------------------------------------------------------------------------------------------


class Keeping(Protocol):
    """Makes an artifact durable, and that its input is consumed."""

    async def keep(self, artifact: ArtifactRow, consumed: ConsumedRow) -> None:
        """Return when both are."""
        ...

    def close(self) -> None:
        """The end."""
        ...


def connected(path: Path, sync: str) -> sqlite3.Connection:
    """A database with the two tables."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(f"PRAGMA synchronous={sync or 'FULL'}")
    db.execute("CREATE TABLE artifact (id INTEGER PRIMARY KEY, type TEXT, key TEXT, payload TEXT)")
    db.execute("CREATE TABLE consumed (id INTEGER PRIMARY KEY)")
    return db


def write(db: sqlite3.Connection, rows: Sequence[tuple[ArtifactRow, ConsumedRow]]) -> None:
    """One transaction."""
    db.execute("BEGIN IMMEDIATE")
    db.executemany("INSERT INTO artifact VALUES (?, ?, ?, ?)", [artifact for artifact, _ in rows])
    db.executemany("INSERT INTO consumed VALUES (?)", [consumed for _, consumed in rows])
    db.execute("COMMIT")


class Raw:
    """Writes where it is called, with a commit each."""

    def __init__(self, path: Path, sync: str) -> None:
        self.db = connected(path, sync)

    async def keep(self, artifact: ArtifactRow, consumed: ConsumedRow) -> None:
        """Write, and block the loop meanwhile."""
        write(self.db, [(artifact, consumed)])

    def close(self) -> None:
        """Close the file."""
        self.db.close()


class Group:
    """A thread that writes whatever waits, in one commit."""

    def __init__(self, path: Path, sync: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.db = connected(path, sync)
        self.waiting: queue.SimpleQueue[tuple[ArtifactRow, ConsumedRow, asyncio.Future[None]] | None]
        self.waiting = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    async def keep(self, artifact: ArtifactRow, consumed: ConsumedRow) -> None:
        """Hand it over, and wait."""
        future = self.loop.create_future()
        self.waiting.put((artifact, consumed, future))
        await future

    def _run(self) -> None:
        while (waiting := self.waiting.get()) is not None:
            batch = [waiting]
            while not self.waiting.empty() and len(batch) < 4096:
                more = self.waiting.get()
                if more is None:
                    self.waiting.put(None)
                    break
                batch.append(more)
            write(self.db, [(artifact, consumed) for artifact, consumed, _ in batch])
            self.loop.call_soon_threadsafe(_resolve, [future for _, _, future in batch])

    def close(self) -> None:
        """Stop the thread, close the file."""
        self.waiting.put(None)
        self.thread.join()
        self.db.close()


def _resolve(futures: Sequence["asyncio.Future[None]"]) -> None:
    for future in futures:
        future.set_result(None)


class Sync:
    """No database: a block and an fdatasync."""

    def __init__(self, path: Path, sync: str) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT)

    async def keep(self, artifact: ArtifactRow, consumed: ConsumedRow) -> None:
        """Write the text, filled up to a block."""
        os.write(self.file, artifact[3].encode().ljust(4096))
        os.fdatasync(self.file)

    def close(self) -> None:
        """Close the file."""
        os.close(self.file)


KEEPING: dict[str, Callable[[Path, str], Keeping]] = {"raw": Raw, "group": Group, "fsync": Sync}


def row(item: Item, id: int) -> ArtifactRow:
    """An artifact as a row."""
    return id, type(item).__name__, item.key, item.model_dump_json()


async def durable(case: Case, chains: int) -> int:
    """W5, W5M, W5F: so many chains at once, N deliveries in all."""
    length = case.n // chains
    with folder() as path:
        keeping = KEEPING[case.variant](path / "floor.db", case.sync)

        async def one(number: int) -> None:
            item: Ping | Pong | Done = first(Ping)
            for i in range(length):
                item = link(item, length)  # type: ignore[arg-type]
                id = number * length + i + 1
                await keeping.keep(row(item, id), (id - 1,))

        with case.clock:
            async with asyncio.TaskGroup() as group:
                for number in range(chains):
                    group.create_task(one(number))
        if case.variant != "fsync":
            check_rows(keeping, path / "floor.db", chains * length)
        keeping.close()
    return chains * length


def check_rows(keeping: Keeping, path: Path, wanted: int) -> None:
    """Count what is in the file."""
    with sqlite3.connect(path) as db:
        for table in ("artifact", "consumed"):
            [(found,)] = db.execute(f"SELECT count(*) FROM {table}")
            expect(f"rows in {table}", found, wanted)


async def one_chain(case: Case) -> int:
    """W5."""
    return await durable(case, 1)


async def many_chains(case: Case) -> int:
    """W5M."""
    return await durable(case, min(100, case.n))


async def all_at_once(case: Case) -> int:
    """W5F."""
    return await durable(case, case.n)


if __name__ == "__main__":
    main(
        "floor",
        {
            "W1": chain, "W2": fan_out, "W3": routing, "W3T": routing, "W4": chain, "W5": one_chain,
            "W5F": all_at_once, "W5M": many_chains, "W6": sleepers, "W7": join, "W8": round_trips,
        },
        ("queue", "raw", "group", "fsync"),
    )  # fmt: skip
