"""What a simulation is made of: artifact types, random rosters, and components that misbehave on purpose.

Everything follows from the seed: a component that is to act by chance takes the chance from the position of the event
that it sees, so that it does the same in every fold.
"""

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any
from zlib import crc32

from pydantic import BaseModel

from stigmergy.blackboard import component as cp
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.core.observers import AnyComponent
from stigmergy.blackboard.definitions import AgentSpec, Ancestor, Key, Retry, Slot, Subscription, Where

UNLUCKY = 13
"""The number that makes predicates and keys raise."""


class A(BaseModel):
    key: str = "x"
    n: int = 0


class B(BaseModel):
    key: str = "x"
    n: int = 0


class C(BaseModel):
    key: str = "x"
    n: int = 0


class Job(BaseModel):
    key: str = "x"
    n: int = 0
    work_id: str | None = None
    parent_work_id: str | None = None
    blocking_work_ids: list[str] = []


class Note(BaseModel):
    """Published by components: which event it answers."""

    about: int
    key: str = "x"
    n: int = 0


MODELS: tuple[type[BaseModel], ...] = (A, B, C, Job, Note)
LABELS = ("red", "blue")


def small(payload: Any) -> bool:
    """A predicate; raises for the unlucky number."""
    if payload.n == UNLUCKY:
        raise ValueError("unlucky")
    return bool(payload.n < 8)


def parity(payload: Any) -> int:
    """A join key; raises for the unlucky number."""
    if payload.n == UNLUCKY:
        raise ValueError("unlucky")
    return int(payload.n % 2)


# -- rosters ----------------------------------------------------------------------------------------------------------


def random_roster(rng: Random) -> list[AgentSpec]:
    """Three to six agents."""
    return [random_agent(rng, f"agent{i}") for i in range(rng.randint(3, 7))]


def random_agent(rng: Random, name: str) -> AgentSpec:
    """An agent that consumes one or two things, with random limits."""
    return AgentSpec(
        name=name,
        subscriptions=tuple(random_subscription(rng, f"{name}/{i}") for i in range(rng.choice((1, 1, 2)))),
        concurrency=rng.choice((None, 1, 1, 2)),
        timeout=rng.choice((None, 4.0)),
        retry=Retry(attempts=rng.choice((1, 2, 3)), backoff=rng.choice((0.0, 1.0)), cap=3.0),
        self_trigger=rng.random() < 0.3,
        labels=frozenset(rng.sample(LABELS, rng.randint(0, 2))),
        tenant=rng.choice((None, "acme")),
        max_crashes=rng.choice((1, 2)),
    )


def reshaped(rng: Random, agent: AgentSpec) -> AgentSpec:
    """The same agent with another subscription in the place of one of its own."""
    subscriptions = list(agent.subscriptions)
    i = rng.randrange(len(subscriptions))
    subscriptions[i] = random_subscription(rng, subscriptions[i].id)
    return replace(agent, subscriptions=tuple(subscriptions))


def random_subscription(rng: Random, id: str) -> Subscription:
    """Single, several, a count, a join, a batch or groups."""
    shape = rng.choice(
        (
            "single",
            "single",
            "single",
            "several",
            "several",
            "count",
            "join",
            "join",
            "optional",
            "batch",
            "groups",
            "fork",
        )
    )
    types = rng.sample(MODELS[:4], 3)
    since: Any = rng.choice(("now", "now", "start"))
    if shape in ("single", "several"):
        n = 1 if shape == "single" else 2
        slots = tuple(random_slot(rng, t) for t in types[:n])
        return Subscription(id, slots, since=since, max_waiting=rng.choice((3, 10_000)), scope=random_scope(rng))
    within: Any = rng.choice((None, None, 3.0, 6.0, "idle"))
    if shape == "batch":
        slot = replace(random_slot(rng, types[0]), count=rng.choice((1, 2, 3)))
        by = rng.choice((None, "key"))
        return Subscription(id, (slot,), by=by, within=within, batch=True, since=since)
    if shape == "count":
        slots = (replace(random_slot(rng, types[0]), count=rng.choice((2, 3))), random_slot(rng, types[1]))
        return Subscription(id, slots[: rng.choice((1, 2))], within=within, since=since, window=rng.choice((None, 4)))
    join_on: Key = Ancestor("Job", Job) if shape == "fork" else rng.choice(("key", parity))
    slots = tuple(random_slot(rng, t) for t in types[: rng.choice((2, 2, 3))])
    if shape == "optional":
        slots = (slots[0], replace(slots[1], optional=True, count=rng.choice((1, 2))))
        within = rng.choice((2.0, 5.0, "idle"))
    return Subscription(
        id, slots, by=join_on, within=within, since=since, scope=random_scope(rng),
        groups=2 if shape == "groups" else 1, window=rng.choice((None, None, 5)),
        max_waiting=rng.choice((4, 10_000, 10_000)),
    )  # fmt: skip


def random_scope(rng: Random) -> Any:
    """Runs are kept apart, or mixed."""
    return rng.choice(("run", "run", "board"))


def random_slot(rng: Random, model: type[BaseModel]) -> Slot:
    """A place for artifacts of a type, often with a filter."""
    where = rng.choice(
        (
            Where(),
            Where(),
            Where(),
            Where(predicates=(small,)),
            Where(equals=(("key", ("x", "y")),)),
            Where((("n", (1, 2, 3, 4)),), (small,)),
        )
    )
    return Slot(
        model.__name__, model, where=where,
        producers=frozenset(rng.choice(((), (), (), (), ("outside",), ("agent0", "agent1")))),
        tags=frozenset(rng.choice(((), (), (), (), ("hot",)))),
    )  # fmt: skip


# -- components -------------------------------------------------------------------------------------------------------


def random_components(rng: Random) -> list[AnyComponent]:
    """A witness, and some of those that meddle; most misbehave only in some seeds."""
    fuse = rng.choice((0, 0, 60, 300))
    seed = rng.randrange(1 << 30)
    others: list[AnyComponent] = [Meddler(seed, fuse), Gate(seed, fuse // 4), Editor(seed, fuse // 4),
                                  Bell(seed, fuse // 4), Glass(seed, fuse)]  # fmt: skip
    chosen = [c for c in others if rng.random() < 0.5]
    return [Witness(), *chosen] if rng.random() < 0.8 else []


@dataclass(frozen=True, slots=True)
class Trail:
    """A digest of all that was seen."""

    count: int = 0
    digest: int = 0


class Witness(cp.Component[Trail]):
    """Sees everything, so that a difference between what is seen live and in a fold shows."""

    def start(self) -> Trail:
        return Trail()

    def step(self, state: Trail, seen: cp.Seen, /) -> Trail:
        event = seen.event
        text = repr((type(event).__name__, event.seq, event.at, event.cause, seen.artifact, seen.activation))
        return Trail(state.count + 1, crc32(text.encode(), state.digest))


class Chancy(cp.Component[cp.S]):
    """A component with a seed, and a fuse: how rarely it raises (0 = never)."""

    def __init__(self, seed: int, fuse: int) -> None:
        self.seed = seed
        self.fuse = fuse

    def roll(self, seq: int, sides: int) -> int:
        """The same number for the same position."""
        return crc32(f"{self.seed} {self.name} {seq}".encode()) % sides

    def burn(self, seq: int) -> None:
        """Raise, if this is the position for it."""
        if self.fuse and crc32(f"{self.seed} fuse {self.name} {seq}".encode()) % self.fuse == 0:
            raise RuntimeError(f"{self.name} broke at {seq}")


def mended(component: AnyComponent) -> AnyComponent:
    """Another version of a component that broke; it may break as well, at other positions."""
    new = copy(component)
    new.version += 1  # type: ignore[misc]  # of this object
    if isinstance(new, Chancy):
        new.seed += 1
    return new


@dataclass(frozen=True, slots=True)
class Remembered:
    """The latest of what can be meddled with."""

    held: tuple[int, ...] = ()
    open: tuple[int, ...] = ()
    dead: tuple[int, ...] = ()


class Meddler(Chancy[Remembered]):
    """Reacts to anything with anything."""

    publishes = (Note, A)

    def start(self) -> Remembered:
        return Remembered()

    def step(self, state: Remembered, seen: cp.Seen, /) -> Remembered:
        event = seen.event
        if isinstance(event, ev.Published) and event.held_by:
            return replace(state, held=(*state.held, event.seq)[-4:])
        if isinstance(event, ev.Activated):
            return replace(state, open=(*state.open, event.seq)[-6:])
        if isinstance(event, ev.Ended) and event.outcome == "dead_letter":
            return replace(state, dead=(*state.dead, event.cause)[-4:])
        return state

    def react(self, state: Remembered, seen: cp.Seen, /) -> Iterable[cp.Reaction]:
        seq = seen.event.seq
        self.burn(seq)
        match self.roll(seq, 50):
            case 0 | 1:
                yield cp.Publish(Note(about=seq, n=seq % 16))
            case 2:
                yield cp.Publish(A(n=seq % 16), key=f"meddled {seq % 40}", tags=("hot",), priority="high")
            case 3 if state.held:
                yield cp.Release(state.held[0])
            case 4 if state.held:
                yield cp.Withdraw(state.held[-1], "out")
            case 5 if state.open:
                yield cp.Cancel(state.open[0], "not wanted")
            case 6 if isinstance(seen.event, ev.Claimed):
                yield cp.Cancel(seen.event.cause, "not wanted after all")
            case 7 if self.roll(seq, 4) == 0:
                yield cp.Close(stop="park" if self.roll(seq, 8) < 4 else "cancel")
            case 8 if state.dead:
                yield cp.Redrive(state.dead[-1])
            case 9:
                yield cp.Release(seq)


@dataclass(frozen=True, slots=True)
class Door:
    """Whether the gate is open, and how late it is."""

    at: float = 0.0
    count: int = 0


class Gate(Chancy[Door]):
    """Holds, denies and admits; what it says depends on its state and the request alone."""

    observes = (ev.Completed, ev.Failed, ev.Rang)

    def start(self) -> Door:
        return Door()

    def step(self, state: Door, seen: cp.Seen, /) -> Door:
        return Door(seen.event.at, state.count + 1)

    def admit(self, state: Door, request: cp.ActivationRequest | cp.CallRequest, /) -> cp.Admission:
        if isinstance(request, cp.CallRequest):
            id = request.activation.id + len(request.key)
            self.burn(id)
            return cp.Deny("no calls") if self.roll(id, 4) == 0 else cp.ADMIT
        self.burn(request.id)
        match self.roll(request.id, 10):
            case 0:
                return cp.Deny("not you")
            case 1 if state.at < request.at + 4.0:
                return cp.Hold("later", until=request.at + 4.0)
            case 2 | 3 if state.count // 3 % 2 == 0:
                return cp.Hold("closed")
            case 4 if state.count % 2 == 0:
                return cp.Hold("denied when asked again")
            case 4 if state.count % 4 == 1:
                return cp.Deny("as announced")
        return cp.ADMIT


class Editor(Chancy[None]):
    """Refuses some outputs, with or without another attempt."""

    def review(self, state: None, request: cp.ActivationRequest, outputs: tuple[BaseModel, ...], /) -> cp.Verdict:
        self.burn(request.id)
        roll = self.roll(request.id * 10 + request.attempt, 12)
        return cp.Reject("rewrite it", retry=roll == 0) if roll < 2 else cp.ACCEPT


@dataclass(frozen=True, slots=True)
class Ringing:
    """When it rings next."""

    due: float | None = None
    rung: int = 0


class Bell(Chancy[Ringing]):
    """Sets an alarm now and then, and notes that it rang."""

    publishes = (Note,)
    observes = (Job, ev.Rang)

    def start(self) -> Ringing:
        return Ringing()

    def step(self, state: Ringing, seen: cp.Seen, /) -> Ringing:
        if isinstance(seen.event, ev.Rang):
            return Ringing(None, state.rung + 1) if seen.event.component == self.name else state
        return Ringing(seen.event.at + 3.0, state.rung) if state.due is None else state

    def alarm(self, state: Ringing, /) -> float | None:
        self.burn(int(state.due or 0))
        return state.due

    def react(self, state: Ringing, seen: cp.Seen, /) -> Iterable[cp.Reaction]:
        if isinstance(seen.event, ev.Rang) and seen.event.component == self.name:
            yield cp.Publish(Note(about=seen.event.seq))


class Glass(Chancy[Trail]):
    """Breaks in `step`."""

    def start(self) -> Trail:
        return Trail()

    def step(self, state: Trail, seen: cp.Seen, /) -> Trail:
        self.burn(seen.event.seq)
        return Trail(state.count + 1, seen.event.seq)


@dataclass(slots=True)
class World:
    """Everything that a seed decides before the first step."""

    roster: list[AgentSpec]
    components: list[AnyComponent]
    concurrency: int
    away: list[AgentSpec] = field(default_factory=list)
    stored: list[AnyComponent] = field(default_factory=list)


def random_world(rng: Random) -> World:
    """The world of a seed."""
    return World(random_roster(rng), random_components(rng), rng.choice((1, 3, 8)))
