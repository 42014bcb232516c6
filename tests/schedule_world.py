"""A board's world under random schedules: a disk that takes its time, agents, and what was done, seen from outside."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar, cast

from stigmergy import Context, Retry, Roster
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.errors import StoreError
from stigmergy.blackboard.stores.base import Row
from stigmergy.blackboard.stores.memory import MemoryStore
from stigmergy.blackboard.stores.rows import decode
from stigmergy.components import Questions
from tests.boards import A, B, C
from tests.seeded_loop import SeededLoop

if TYPE_CHECKING:
    from _typeshed import SupportsLenAndGetItem

T = TypeVar("T")

CONCURRENCY = 3
PATIENCE = 1_000.0
"""Seconds of the loop's own time: longer than anybody waits."""


class Dice(Random):
    """What a seed decides.

    Attributes:
        turns: of the loop, that whoever pauses lets pass.
    """

    turns: Sequence[int] = (0, 0, 1, 2, 5, 20)

    def choice(self, seq: "SupportsLenAndGetItem[T]") -> T:
        """One of these, in a third of the time that it takes to be exactly fair."""
        return seq[int(self.random() * len(seq))]

    async def pause(self) -> None:
        """Some turns of the loop, or some time."""
        if self.random() < 0.1:
            await asyncio.sleep(self.choice((0.01, 0.3, 3.0)))
        for _ in range(self.choice(self.turns)):
            await asyncio.sleep(0)


class Disk(MemoryStore):
    """A store whose appends take a while, and of which one may fail: with or without the rows on it."""

    immediate = False
    name = "disk"

    def __init__(self, dice: Dice) -> None:
        super().__init__()
        self.dice = dice
        self.kept = self.appends = self.fails_at = 0

    async def open(self) -> None:
        self.kept = self.reader().last()

    async def append(self, rows: Sequence[Row]) -> None:
        self.appends += 1
        failing = self.appends == self.fails_at
        await self.dice.pause()
        if failing and self.dice.random() < 0.5:
            raise StoreError("the disk is gone")
        await super().append(rows)
        await self.dice.pause()
        if failing:
            raise StoreError("the disk is gone, with the rows on it")
        self.kept = rows[-1].seq

    def has_failed(self) -> bool:
        """Whether an append has failed, or is about to."""
        return 0 < self.fails_at <= self.appends

    def another(self) -> "Disk":
        """An empty one."""
        return Disk(self.dice)


class Instant(MemoryStore):
    """The store in memory, which has what was decided at once."""

    appends = fails_at = 0

    @property
    def kept(self) -> int:
        """Everything is."""
        return self.reader().last()

    def has_failed(self) -> bool:
        """It never does."""
        return False

    def another(self) -> "Instant":
        """An empty one."""
        return Instant()


class LoopClock:
    """Log time is the time of a loop."""

    def __init__(self, loop: SeededLoop) -> None:
        self.loop = loop

    def now(self) -> float:
        """Seconds since the epoch."""
        return 1_767_225_600.0 + self.loop.passed

    def jump(self, to: float) -> bool:
        """One has to wait."""
        return False


@dataclass
class World:
    """What everybody did, seen from outside the board.

    Attributes:
        calm: the last life; nothing fails any more.
        rounds: how often people came together.
        at_end: nothing was left to do when they parted.
        unlucky: whatever may fail fails.
        passed: seconds of the loop's own time.
        wrong: what must not be; bodies note it here, because what they raise is a dead letter and no more.
    """

    dice: Dice
    disk: Disk | Instant
    calm: bool = False
    rounds: int = 0
    at_end: bool = False
    unlucky: bool = False
    passed: float = 0.0
    running: int = 0
    numbers: int = 0
    acknowledged: dict[int, A] = field(default_factory=dict)
    keyed: dict[str, int] = field(default_factory=dict)
    payers: dict[int, list[int]] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def after_death(self, dice: Dice | None = None, disk: Disk | Instant | None = None) -> "World":
        """The world as it is at this moment, but nothing runs in it.

        Args:
            dice, disk: others than it has; what this disk holds is then on that one, too.
        """
        disk, before = disk or self.disk.another(), self.disk.reader()
        disk.append_now(list(before.events()))
        if not disk.immediate and (snapshot := before.snapshot()) is not None:
            disk.reader().keep(snapshot)
        return replace(
            self, dice=dice or self.dice, disk=disk, running=0, acknowledged={**self.acknowledged},
            keyed={**self.keyed}, payers={n: [*ids] for n, ids in self.payers.items()}, wrong=[*self.wrong],
        )  # fmt: skip

    def must(self, holds: object, text: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.wrong.append(text)
            raise AssertionError(text)

    def durable(self, id: int, kind: type[ev.Event]) -> list[ev.Event]:
        """The durable events of that kind that an activation caused."""
        rows = self.disk.reader().following(id)
        return [decode(row) for row in rows if row.kind == kind.__name__ and row.seq <= self.disk.kept]

    def chance(self, share: float) -> bool:
        """Whether it happens; in the last life nothing does."""
        return not self.calm and (self.unlucky or self.dice.random() < share)

    async def body(self, ctx: Context | None = None) -> None:
        """What any body may do: take time, fail, be deaf."""
        self.done["bodies"] += 1
        if ctx is not None:
            claims = self.durable(ctx.activation, ev.Claimed)
            self.must(claims, "a body started before its claim was durable")
            self.must(not self.durable(ctx.activation, ev.Completed), "it runs again, though it completed")
        self.running += 1
        self.must(self.running <= CONCURRENCY, "more run than may")
        try:
            await self.dice.pause()
            if self.chance(0.15):
                raise OSError("not today")
            if self.chance(0.03):
                await asyncio.sleep(PATIENCE / 10)
        except asyncio.CancelledError:
            self.done["cancelled bodies"] += 1
            if self.chance(0.3):
                await self.dice.pause()  # it cleans up
            if self.chance(0.1):
                raise ValueError("while it was stopped") from None
            raise
        finally:
            self.running -= 1

    async def effect(self, n: int) -> int:
        """Something outside, for one artifact, that is never done again once its record is durable."""
        callings = [c for id in self.payers[n] for c in self.durable(id, ev.Calling)]
        called = [e for c in callings for e in self.durable(c.seq, ev.Called) if isinstance(e, ev.Called)]
        self.must("done" not in {e.outcome for e in called}, "an effect whose record is durable is executed again")
        self.must(self.durable(self.payers[n][-1], ev.Calling), "an effect started before it was announced on disk")
        self.done["effects"] += 1
        await self.dice.pause()
        if self.chance(0.1):
            raise OSError("the other side is gone")
        return n


class Here:
    """A world that is another one in each history, so that agents are defined once."""

    world: World

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world, name)


QUESTIONS = Questions()


def agents(world: World) -> Roster:
    """One agent for each thing that a body can do."""
    retry, soon = Retry(attempts=3, backoff=1.0), Retry(attempts=3, backoff=0.02)
    roster = Roster(components=[QUESTIONS], concurrency=CONCURRENCY)

    @roster.agent(pure=True, retry=soon)
    async def copy(a: A) -> B:
        await world.body()
        return B(n=a.n, key=a.key)

    @roster.agent(retry=retry, timeout=2.0, concurrency=2)
    async def pay(a: A, ctx: Context) -> None:
        world.payers.setdefault(a.n, []).append(ctx.activation)
        await world.body(ctx)
        assert await ctx.call("pay", world.effect, a.n) == a.n
        if world.chance(0.2):
            raise OSError("after it was paid")

    @roster.agent(retry=retry, concurrency=1)
    async def nap(b: B, ctx: Context) -> None:
        await ctx.sleep("nap", 0.5 if b.n % 2 else 5.0)
        await world.body(ctx)

    @roster.agent(retry=soon)
    async def spread(b: B, ctx: Context) -> C | None:
        first = await ctx.publish(C(n=b.n, key="at once"))
        world.must(first <= world.disk.kept, "published inside a body, and not durable")
        await world.body(ctx)
        return C(n=b.n)

    @roster.agent(retry=retry)
    async def inquire(c: C, ctx: Context) -> None:
        if c.n % 3 == 0:
            await ctx.ask("may I?", "may I?", within=20.0 if c.n % 2 else None)
        await world.body(ctx)

    @roster.agent(retry=retry)
    async def wonder(a: A, ctx: Context) -> None:
        await ctx.ask("may I?", "may I?", within=20.0 if a.n % 2 else None)
        await world.body(ctx)

    async def pair(a: A, b: B) -> None:
        await world.body()

    roster.agent("pair").limits(retry=retry).consumes(A, B, by="n").body(pair)
    return roster


HERE = Here()
_ALL = agents(cast("World", HERE))


def some(*names: str) -> Roster:
    """A roster of these agents."""
    team = Roster(components=[QUESTIONS] if {"inquire", "wonder"}.intersection(names) else (), concurrency=CONCURRENCY)
    for agent in _ALL.agents:
        if agent.name in names:
            team._register(agent)
    return team
