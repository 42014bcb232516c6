"""Boards on a disk that is slow: what must not happen before something is durable."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from stigmergy import Blackboard, Context, Retry
from stigmergy.blackboard.events import Calling, Claimed
from stigmergy.blackboard.shell.attempts import WINDOW
from stigmergy.blackboard.stores.base import Row
from stigmergy.blackboard.stores.rows import decode
from stigmergy.blackboard.stores.sqlite import SQLiteStore
from stigmergy.testing import VirtualClock

PER_ACTIVATION = 3
"""Events that one activation of `Seed -> Leaf` decides from its claim on."""


class Seed(BaseModel):
    n: int = 0


class Leaf(BaseModel):
    n: int = 0


class SlowStore(SQLiteStore):
    """A store that takes many turns of the loop for an append, and none at all while its gate is shut."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = asyncio.Event()
        self.gate.set()
        self.kept = 0

    async def append(self, rows: Sequence[Row]) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        await self.gate.wait()
        await super().append(rows)
        self.kept = rows[-1].seq


async def turns(n: int) -> None:
    """Let everything else that is ready run."""
    for _ in range(n):
        await asyncio.sleep(0)


async def bodies_and_effects_wait_for_the_disk(folder: Path) -> None:
    """No body of an agent that is not pure, and no effect, starts before its claim or announcement is durable."""
    store = SlowStore(folder / "board.db")
    bodies: list[tuple[int, int]] = []
    effects: list[tuple[int, int]] = []
    async with Blackboard(store, concurrency=4) as board:

        @board.agent
        async def grow(seed: Seed, ctx: Context) -> Leaf:
            bodies.append((ctx.activation, store.kept))

            async def effect() -> int:
                effects.append((ctx.activation, store.kept))
                return seed.n

            return Leaf(n=await ctx.call("effect", effect))

        await board.publish_many([Seed(n=i) for i in range(12)])
        await board.run_until_idle()
        rows = [decode(row) for row in store.reader().events()]
    claims = {e.cause: e.seq for e in rows if isinstance(e, Claimed)}
    announced = {e.cause: e.seq for e in rows if isinstance(e, Calling)}
    assert len(bodies) == len(effects) == 12
    assert all(kept >= claims[id] for id, kept in bodies), "a body started before its claim was durable"
    assert all(kept >= announced[id] for id, kept in effects), "an effect started before it was durable"


async def speculation_is_bounded(folder: Path) -> None:
    """While the disk stands still, at most `WINDOW` events are decided, and then nothing more starts."""
    store = SlowStore(folder / "board.db")
    started = 0
    async with Blackboard(store, concurrency=4) as board:

        @board.agent(pure=True)
        async def grow(seed: Seed) -> Leaf:
            nonlocal started
            started += 1
            return Leaf(n=seed.n)

        await board.publish_many([Seed(n=i) for i in range(WINDOW)])
        store.gate.clear()
        running = asyncio.create_task(board.run_until_idle())
        before = -1
        while before != started:
            before = started
            await turns(50)
        ahead = started
        store.gate.set()
        report = await running
    assert 0 < ahead * PER_ACTIVATION <= WINDOW + 4 * PER_ACTIVATION, f"{ahead} bodies ran ahead of the disk"
    assert report.done == started == WINDOW


async def nothing_runs_unseen(folder: Path) -> None:
    """After a rest, even a pure body starts only when the log shows that somebody is at work again: if it killed the
    process, nobody would know."""
    store, clock = SlowStore(folder / "board.db"), VirtualClock()
    attempts = 0
    async with Blackboard(store, clock=clock) as board:

        @board.agent(pure=True, retry=Retry(attempts=2, backoff=50.0))
        async def grow(seed: Seed) -> Leaf:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                raise ValueError("not yet")
            return Leaf(n=seed.n)

        await board.publish(Seed())
        assert (await board.run_until_idle(horizon=10)).reason == "waiting"
        store.gate.clear()
        running = asyncio.create_task(board.run_until_idle(horizon=100))
        await turns(200)
        ahead = attempts - 1
        store.gate.set()
        await running
    assert not ahead, "a body started while the log still looked like rest"
    assert attempts == 2
