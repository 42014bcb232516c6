"""A board under random schedules: people, bodies, a disk and the clock, interleaved as a seed says.

Each history has lives. In one, several people use a board in every way at once, on a disk that takes its time and may
fail; it ends closed, dead, or broken. The last life is quiet: nothing disturbs it, and everything has to come to its
end there.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any, cast
from unittest.mock import patch

from stigmergy import Blackboard, Context, Retry, Roster
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.errors import (
    BoardBroken,
    BoardClosed,
    KeyReused,
    NotFound,
    QueryError,
    StoreError,
    UseContext,
)
from stigmergy.blackboard.question import HumanQuestion
from stigmergy.blackboard.shell import writer
from stigmergy.blackboard.stores.base import Row
from stigmergy.blackboard.stores.memory import MemoryStore
from stigmergy.blackboard.stores.rows import decode
from stigmergy.components import Questions
from tests.boards import A, B, C
from tests.seeded_loop import SeededLoop, run_seeded

CONCURRENCY = 3
PATIENCE = 1_000.0
"""Seconds, of the loop's own time, that anybody ever waits."""


class Disk(MemoryStore):
    """A store whose appends take a while, and of which one may fail: with or without the rows on it."""

    immediate = False
    name = "disk"

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
        self.kept = self.appends = self.fails_at = 0

    async def open(self) -> None:
        self.kept = self.reader().last()

    async def append(self, rows: Sequence[Row]) -> None:
        self.appends += 1
        failing = self.appends == self.fails_at
        await pause(self.random)
        if failing and self.random.random() < 0.5:
            raise StoreError("the disk is gone")
        await super().append(rows)
        await pause(self.random)
        if failing:
            raise StoreError("the disk is gone, with the rows on it")
        self.kept = rows[-1].seq

    def copy(self) -> "Disk":
        """A disk that holds what this one holds."""
        other = Disk(self.random)
        other.append_now(list(self.reader().events()))
        return other


class Instant(MemoryStore):
    """The store in memory, which has what was decided at once."""

    appends = fails_at = 0

    @property
    def kept(self) -> int:
        """Everything is."""
        return self.reader().last()

    def copy(self) -> "Instant":
        """Another one that holds what this one holds."""
        other = Instant()
        other.append_now(list(self.reader().events()))
        return other


class LoopClock:
    """Log time is the time of the loop."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return 1_767_225_600.0 + asyncio.get_running_loop().time()

    def jump(self, to: float) -> bool:
        """One has to wait."""
        return False


async def pause(random: Random) -> None:
    """Some turns of the loop, or some time."""
    if random.random() < 0.1:
        await asyncio.sleep(random.choice((0.01, 0.3, 3.0)))
    for _ in range(random.choice((0, 0, 1, 2, 5, 20))):
        await asyncio.sleep(0)


@dataclass
class World:
    """What everybody did, seen from outside the board.

    Attributes:
        calm: the last life; nothing fails any more.
        wrong: what must not be; bodies note it here, because what they raise is a dead letter and no more.
    """

    random: Random
    disk: Disk | Instant
    calm: bool = False
    running: int = 0
    numbers: int = 0
    acknowledged: dict[int, A] = field(default_factory=dict)
    keyed: dict[str, int] = field(default_factory=dict)
    payers: dict[int, list[int]] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def after_death(self) -> "World":
        """The world as it is at this moment, but nothing runs in it."""
        return replace(
            self, disk=self.disk.copy(), running=0, acknowledged={**self.acknowledged}, keyed={**self.keyed},
            payers={n: [*ids] for n, ids in self.payers.items()}, wrong=[*self.wrong],
        )  # fmt: skip

    def must(self, holds: object, text: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.wrong.append(text)
            raise AssertionError(text)

    def durable(self, id: int, kind: type[ev.Event]) -> list[ev.Event]:
        """The durable events of that kind that an activation caused."""
        rows = (row for row in self.disk.reader().following(id) if row.seq <= self.disk.kept)
        return [e for e in map(decode, rows) if isinstance(e, kind)]

    def chance(self, share: float) -> bool:
        """Whether it happens; in the last life nothing does."""
        return not self.calm and self.random.random() < share

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
            await pause(self.random)
            if self.chance(0.15):
                raise OSError("not today")
            if self.chance(0.03):
                await asyncio.sleep(PATIENCE / 10)
        except asyncio.CancelledError:
            self.done["cancelled bodies"] += 1
            if self.chance(0.3):
                await pause(self.random)  # it cleans up
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
        await pause(self.random)
        if self.chance(0.1):
            raise OSError("the other side is gone")
        return n


class Here:
    """A world that is another one in each history, so that agents are defined once."""

    world: World

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world, name)


def agents(world: World) -> Roster:
    """One agent for each thing that a body can do."""
    retry, soon = Retry(attempts=3, backoff=1.0), Retry(attempts=3, backoff=0.02)
    roster = Roster(components=[Questions()], concurrency=CONCURRENCY)

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

    async def pair(a: A, b: B) -> None:
        await world.body()

    roster.agent("pair").limits(retry=retry).consumes(A, B, by="n").body(pair)
    return roster


# -- people ------------------------------------------------------------------------------------------------------------


class People:
    """Several who use one board at once, each with a will of its own.

    Args:
        people, verbs: how many there may be, and how much each may do.
    """

    def __init__(
        self, world: World, board: Blackboard, people: Sequence[int] = (1, 2, 4), verbs: Sequence[int] = (1, 3, 8)
    ) -> None:
        self.world, self.random = world, world.random
        self.board = board
        self.people, self.verbs = people, verbs

    async def live(self) -> None:
        """One life of the board."""
        people = [asyncio.create_task(self.person()) for _ in range(self.random.choice(self.people))]
        people.append(asyncio.create_task(self.watch()))
        await asyncio.gather(*people[:-1])
        await self.close()
        await people[-1]

    async def person(self) -> None:
        """Do this and that; what is under way may be cancelled at any moment."""
        verbs = (self.publish, self.publish, self.publish_many, self.run, self.run, self.run_until, self.cancel,
                 self.pause, self.resume, self.retry, self.answer)  # fmt: skip
        for _ in range(self.random.choice(self.verbs)):
            await pause(self.random)
            verb = self.random.choice(verbs) if self.random.random() > 0.02 else self.close
            doing = asyncio.create_task(self.attempt(verb))
            if self.random.random() < 0.2:
                await pause(self.random)
                doing.cancel()
                if self.random.random() < 0.3:
                    await pause(self.random)
                    doing.cancel()
            await asyncio.wait([doing], timeout=PATIENCE)
            assert doing.done(), f"{verb.__name__} does not end"
            if not doing.cancelled():
                doing.result()

    async def attempt(self, verb: Callable[[], Awaitable[object]]) -> None:
        """Use a verb, which may be refused only for a reason."""
        was_closed = self.board._closed
        name = verb.__name__
        try:
            await verb()
        except BoardClosed:
            assert self.board._closed, f"{name} says that an open board is closed"
            name += " (closed)"
        except BoardBroken:
            assert self.world.disk.fails_at, f"{name} says that a board is broken that is not"
            name += " (broken)"
        except StoreError:
            assert self.world.disk.fails_at, f"{name} says that a store fails that does not"
        except (UseContext, QueryError, KeyReused):
            name += " (refused)"
        else:
            assert not was_closed or name == "close", f"{name} was done on a closed board"
        finally:
            self.world.done[name] += 1

    async def publish(self) -> None:
        """Publish something new, or something old again with its key."""
        world = self.world
        again = bool(world.keyed) and self.random.random() < 0.3
        if again:
            key = self.random.choice(sorted(world.keyed))
            n = world.keyed[key]
        else:
            world.numbers += 1
            n, key = world.numbers, f"key {world.numbers}"
        world.keyed[key] = n
        artifact = await self.board.publish(A(n=n, key=key), key=key)
        self.acknowledge(artifact.id, artifact.payload)

    async def publish_many(self) -> None:
        """Publish several at once."""
        first = self.world.numbers + 1
        self.world.numbers += 3
        for artifact in await self.board.publish_many([A(n=n) for n in range(first, first + 3)]):
            self.acknowledge(artifact.id, artifact.payload)

    def acknowledge(self, id: int, payload: A) -> None:
        """What is acknowledged is durable."""
        world = self.world
        assert id <= world.disk.kept, "acknowledged, and not durable"
        assert world.acknowledged.setdefault(id, payload) == payload, "an id was dealt twice"

    async def run(self) -> None:
        """Run until idle."""
        timeout, horizon = self.random.choice((None, 0.5, 30.0)), self.random.choice((0.0, 3.0, None))
        report = await self.board.run_until_idle(timeout=timeout, horizon=horizon)
        if report.reason == "idle":
            assert report.open == 0, f"idle, with open work: {report.open}"
        self.world.done[report.reason] += 1
        owner = self.board._owner
        if owner is not None and not self.board._busy and not owner.bodies.lingering and not self.board._closed:
            assert not any(owner.decider.agenda._busy.values()), "nothing runs, and a place is taken"

    async def run_until(self) -> None:
        """Run until there is one of these."""
        goal: type[Any] = self.random.choice((B, C))
        await self.board.run_until(goal, count=self.random.choice((1, 4)), timeout=30.0)

    def some(self, kind: type[ev.Event]) -> int:
        """The position of some durable event of that kind."""
        found = [row.seq for row in self.world.disk.reader().events(kinds=(kind.__name__,))]
        if not found:
            raise NotFound("there is none.")
        return self.random.choice(found)

    async def cancel(self) -> None:
        """Cancel an activation, or a tree."""
        await self.board.cancel(self.some(self.random.choice((ev.Activated, ev.Activated, ev.Published))))

    async def pause(self) -> None:
        """Pause everything."""
        await self.board.pause()

    async def resume(self) -> None:
        """Go on."""
        await self.board.resume()

    async def retry(self) -> None:
        """Try all dead letters again, or give up one."""
        dead = [d.activation for d in self.board.report().left.dead_letters]
        if dead and self.random.random() < 0.2:
            await self.board.discard(dead[0], reason="no use")
        else:
            await self.board.retry(*dead)

    async def answer(self) -> None:
        """Answer a question."""
        questions = list(self.board.artifacts(HumanQuestion))
        await self.board.answer(self.random.choice(questions).id if questions else 0, True)

    async def watch(self) -> None:
        """See every event once, in the order of the log, when it is durable."""
        seen = 0
        try:
            async with aclosing(self.board.watch()) as events:
                async for event in events:
                    assert event.seq > seen, "seen twice"
                    assert event.seq <= self.world.disk.kept, "seen before it was durable"
                    seen = event.seq
                    if self.random.random() < 0.1:
                        await pause(self.random)
        except BoardClosed:
            return
        except BoardBroken:
            assert self.world.disk.fails_at
            return
        assert self.board._closed, "a watch ended, and the board is open"
        assert seen == self.world.disk.reader().last(), "not everything was seen"

    async def close(self) -> None:
        """Close the board; nothing runs and nothing is written after that."""
        try:
            await self.board.close()
        except (StoreError, BoardBroken):
            assert self.world.disk.fails_at
        finally:
            self.world.must(not self.world.running, "a body outlives its board")
            last = self.world.disk.reader().last()
            await pause(self.random)
            self.world.must(self.world.disk.reader().last() == last, "something is written after the board was closed")


# -- histories ---------------------------------------------------------------------------------------------------------


TAKERS = {"A": ("copy", "pay"), "B": ("nap", "spread"), "C": ("inquire",)}
"""Who takes every artifact of a type."""


async def calm(world: World, roster: Roster) -> None:
    """Let everything come to its end, and see that it does."""
    async with Blackboard(world.disk, roster=roster, clock=LoopClock()) as board:
        for _ in range(100):
            await board.resume()
            report = await board.run_until_idle(horizon=None)
            if report.reason != "waiting":
                break
            for question in board.artifacts(HumanQuestion):
                with suppress(QueryError, KeyReused):
                    await board.answer(question.id, True)
        assert (report.reason, report.open) == ("idle", 0), f"it does not come to its end: {report}"
    check(world, [decode(row) for row in world.disk.reader().events()])


def check(world: World, log: list[ev.Event]) -> None:
    """Nothing is lost and nothing doubled in the whole log."""
    at = {e.seq: e for e in log}
    for id, payload in world.acknowledged.items():
        event = at.get(id)
        assert isinstance(event, ev.Published), f"acknowledged, and lost: {payload}"
        assert A.model_validate_json(event.payload) == payload, "another payload than was acknowledged"
    keys = Counter(e.key for e in log if isinstance(e, ev.Published) and e.key is not None)
    assert set(keys.values()) <= {1}, "a key was published twice"
    ends = Counter(e.cause for e in log if isinstance(e, ev.Completed | ev.Ended))
    activated = [e for e in log if isinstance(e, ev.Activated)]
    assert ends == Counter(e.seq for e in activated), "not every activation ended exactly once"
    takers = Counter((e.agent, i) for e in activated if not e.redriven for i in e.inputs)
    there = {e.name for e in log if isinstance(e, ev.Enrolled)}
    outputs = Counter((e.tx, e.cause) for e in log if isinstance(e, ev.Published))
    left, running = 0, set[int]()
    for e in log:
        left += isinstance(e, ev.Activated) - isinstance(e, ev.Completed | ev.Ended)
        if isinstance(e, ev.Claimed):
            running.add(e.cause)
        elif isinstance(e, ev.Completed | ev.Failed | ev.Ended):
            running.discard(e.cause)
        elif isinstance(e, ev.Idled) and e.reason != "timeout":
            assert not running, f"rest was announced ({e.reason}) while bodies ran"
            assert not left or e.reason != "idle", "rest was announced while work was open"
        if isinstance(e, ev.Published):
            for agent in there.intersection(TAKERS.get(e.type, ())):
                assert takers[agent, e.seq] == 1, f"{agent} was offered {e.type}@{e.seq} {takers[agent, e.seq]} times"
        if isinstance(e, ev.Completed):
            assert outputs[e.tx, e.cause] == e.outputs, "outputs are not with their completion"


class ScheduleFailed(AssertionError):
    """What does not hold, and the line that shows it again."""


def history(seed: int) -> World:
    """The history of a seed.

    Raises:
        ScheduleFailed: something does not hold.
    """
    return _told("history", _history, seed)


def brief(seed: int) -> World:
    """The history of one or two people who do one or two things each, with few agents, on either store; then calm.

    Raises:
        ScheduleFailed: something does not hold.
    """
    return _told("brief", _brief, seed)


def _told(name: str, tell: Callable[[Random], World], seed: int) -> World:
    try:
        with patch.object(writer, "STARVING", PATIENCE):  # there is no other thread to make way for
            return tell(Random(seed))
    except Exception as error:
        again = f'python -c "from tests.schedules import {name}; {name}({seed})"'
        raise ScheduleFailed(f"{type(error).__name__}: {error}\n{again}") from error


def _die(world: World, dying: list[World]) -> None:
    dying.append(world.after_death())


def _history(random: Random) -> World:
    world, passed, wild = World(random, Disk(random)), 0.0, random.choice((0.05, 0.3, 1.0))
    for _ in range(random.choice((1, 1, 2, 3))):
        world.disk.fails_at = world.disk.appends + random.randrange(1, 40) if random.random() < 0.3 else 0
        loop = SeededLoop(random, wild, passed)
        board = Blackboard(world.disk, roster=agents(world), clock=LoopClock())
        dying: list[World] = []
        stops_at = random.randrange(1, 1_000) if random.random() < 0.4 else 0
        run_seeded(People(world, board).live(), loop, stops_at, partial(_die, world, dying))
        world, passed = dying[0] if dying else world, loop.passed
        assert not world.wrong, world.wrong
        world.disk.fails_at = 0
    world.calm = True
    run_seeded(calm(world, agents(world)), SeededLoop(random, wild, passed))
    assert not world.wrong, world.wrong
    return world


def some(*names: str) -> Roster:
    """A roster of these agents."""
    team = Roster(concurrency=CONCURRENCY)
    for agent in ALL.agents:
        if agent.name in names:
            team._register(agent)
    return team


HERE = Here()
ALL = agents(cast("World", HERE))
TEAMS = [some(*names) for names in (("copy",), ("pay",), ("copy", "pay"), ("copy", "spread"), ("pay", "copy", "pair"))]


def _brief(random: Random) -> World:
    disk = Disk(random) if random.random() < 0.7 else Instant()
    team, wild = random.choice(TEAMS), random.choice((0.05, 0.3, 1.0))
    world = HERE.world = World(random, disk)
    if isinstance(disk, Disk) and random.random() < 0.2:
        disk.fails_at = random.randrange(1, 8)
    loop = SeededLoop(random, wild)
    people = People(world, Blackboard(disk, roster=team, clock=LoopClock()), (1, 2, 2), (1, 2))
    dying: list[World] = []
    stops_at = random.randrange(1, 100) if random.random() < 0.2 else 0
    run_seeded(people.live(), loop, stops_at, partial(_die, world, dying))
    world = HERE.world = dying[0] if dying else world
    assert not world.wrong, world.wrong
    world.disk.fails_at, world.calm = 0, True
    run_seeded(calm(world, team), SeededLoop(random, wild, loop.passed))
    assert not world.wrong, world.wrong
    return world
