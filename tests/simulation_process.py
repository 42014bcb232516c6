"""The process of a simulation: it opens a board, takes decisions, checks them, and dies."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.decider import Decider
from stigmergy.blackboard.core.enrolment import Enrolment, enrolments_of
from stigmergy.blackboard.core.fold import Folded, fold
from stigmergy.blackboard.core.ledger import Ledger
from stigmergy.blackboard.core.matching import Index
from stigmergy.blackboard.core.observers import Observers, overrides
from stigmergy.blackboard.core.state import State
from stigmergy.blackboard.definitions import AgentSpec, Limits
from stigmergy.blackboard.errors import CallRefused, NotFound, PayloadErased, PublishError
from stigmergy.blackboard.events import Event, Published
from stigmergy.blackboard.payloads.envelope import opened
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.reading.erasable import erasable
from stigmergy.blackboard.shell.past import RecentPast
from stigmergy.blackboard.stores.base import Row
from stigmergy.blackboard.stores.memory import MemoryStore
from stigmergy.blackboard.stores.rows import decode, encode
from tests import simulation_checks as checks
from tests.simulation_books import Books
from tests.simulation_rules import Auditor
from tests.simulation_world import MODELS, mended, random_agent, random_world, reshaped

WINDOW = 40
Decision = Callable[[Decider], list[Event]]
REFUSALS = (PublishError, CallRefused, NotFound, PayloadErased)


def same(one: bytes, other: bytes) -> bool:
    """Whether two dumps are the same data; the order of names does not matter."""
    return one == other or json.loads(one) == json.loads(other)


@dataclass(slots=True)
class Body:
    """A worker that believes it runs an activation."""

    id: int
    fence: int
    agent: str
    given_up: bool = False


@dataclass(slots=True)
class Twin:
    """A decider derived from what the first one dumped; it must decide the same for a while."""

    decider: Decider
    left: int


class Process:
    """A board in a process that can die, its workers, its clock and its disk."""

    def __init__(self, seed: int, *, talk: bool = False) -> None:
        self.rng = Random(seed)
        self.talk = talk
        self.step = 0
        self.doing = "opening"
        self.now = 1_000.0
        self.world = random_world(self.rng)
        self.limits = Limits(
            activations=self.rng.choice((None, 40, 100)), depth=6, fan_out=3, payload_bytes=300,
            cost=self.rng.choice((None, "0.5")),
        )  # fmt: skip
        self.types = TypeTable()
        for model in MODELS:
            self.types.add(model)
        self.books = Books(self.types)
        self.rows: list[list[Row]] = []
        """The decisions that are durable."""
        self.buffer: list[list[Row]] = []
        """The decisions that are not."""
        self.dealt = 0
        self.bodies: list[Body] = []
        self.late: list[Body] = []
        """Workers whose activation is no longer theirs."""
        self.works = 0
        self.twin: Twin | None = None
        self.crashed = False
        self.open()

    # -- the life of a process ------------------------------------------------------------------------------------

    def open(self) -> None:
        """A new process takes the board: fold what is durable, open, enroll."""
        self.store = MemoryStore()
        for rows in self.rows:
            self.store.append_now(rows)
        if self.rng.random() < 0.5 and not self.crashed and self.step:
            self.store.reader().keep(self.folded.snapshot())
        self.past = RecentPast(self.store.reader(), self.types, self.envelope)
        self.folded: Folded = fold(self.store.reader(), Observers(self.world.components), self.envelope)
        self.state = self.folded.state
        self.shadow = self.copy()
        self.twin = None
        self.bodies, self.late = [], []
        self.derive()
        clean = self.state.quiet
        unclean = self.state.unclean
        self.do("open", lambda d: d.open("1", "full", WINDOW, self.now, self.enrolments(self.world.roster)))
        self.flush()  # nothing runs before it is durable that somebody is there
        assert self.state.unclean == (0 if clean else unclean + 1)
        assert self.crashed or clean, "an orderly stop was taken for a crash"
        if self.rng.random() < 0.8:
            self.do("resume", lambda d: d.resume_runs(self.now))

    def derive(self) -> None:
        """A decider on the state that is there."""
        roster = self.world.roster
        self.decider = Decider(self.folded.state, Index(roster), self.folded.observers, self.past, self.limits)
        self.books.agents = {agent.name: agent for agent in roster}
        self.books.guards = frozenset(c.name for c in self.world.components if overrides(c, "admit"))

    def envelope(self, event: Published) -> Artifact[Any]:
        return opened(self.types, event)

    def enrolments(self, roster: Sequence[AgentSpec]) -> list[Enrolment]:
        components = self.world.components if self.doing != "hire" else ()
        return enrolments_of(roster, components, {}, None, opening=True)

    def crash(self) -> None:
        """The process dies: of what was not durable, some whole decisions may have reached the disk."""
        self.doing = "crash"
        kept = self.rng.randint(0, len(self.buffer))
        self.rows += self.buffer[:kept]
        self.buffer = []
        self.crashed = True
        old = self.books
        self.books = Books(self.types, generation=old.generation, payloads=old.payloads)
        for rows in self.rows:
            for row in rows:
                self.books.absorb(decode(row))
        last = self.books.last
        self.books.offers = {offer: seq for offer, seq in old.offers.items() if seq <= last}
        running = {id: r.alone for id, r in self.books.open.items() if r.fence}
        self.change_roster()
        self.open()
        for id in running:
            assert id not in self.books.open or self.books.open[id].suspect, "what ran at the crash is no suspect"

    def restart(self) -> None:
        """An orderly stop, and another process."""
        self.do("leave", lambda d: d.leave(self.now))
        self.flush()
        self.crashed = False
        before = self.state.dump()
        ledger = self.folded.ledger.dump()
        self.open_checks(before, ledger)
        self.change_roster()
        self.change_components()
        self.mend_components()
        self.open()

    def open_checks(self, state: bytes, ledger: bytes) -> None:
        """From the rows alone comes what was there."""
        store = MemoryStore()
        for rows in self.rows:
            store.append_now(rows)
        folded = fold(store.reader(), Observers(self.world.components), self.envelope)
        assert same(folded.state.dump(), state), "the log folds into another state"
        assert folded.observers.dump() == self.folded.observers.dump(), "the log folds into other components"
        assert same(folded.ledger.dump(), ledger), "the log folds into another ledger"

    def change_roster(self) -> None:
        """Agents go away, come back, or want something else."""
        rng, world = self.rng, self.world
        if rng.random() < 0.3 and len(world.roster) > 1:
            world.away.append(world.roster.pop(rng.randrange(len(world.roster))))
        if world.away and rng.random() < 0.5:
            world.roster.append(world.away.pop())
        if rng.random() < 0.3:
            i = rng.randrange(len(world.roster))
            world.roster[i] = reshaped(rng, world.roster[i])
            name = world.roster[i].name
            self.books.generation[name] = self.books.generation.get(name, 0) + 1

    def change_components(self) -> None:
        """A component is taken out, or comes back; one that comes back folds the log from its beginning."""
        world, rng = self.world, self.rng
        if world.components and rng.random() < 0.2:
            world.stored.append(world.components.pop(rng.randrange(len(world.components))))
        elif world.stored and rng.random() < 0.5:
            world.components.append(world.stored.pop())

    def mend_components(self) -> None:
        """Some of the components that broke are replaced by another version."""
        for i, c in enumerate(self.world.components):
            if c.name in self.books.faulted and self.rng.random() < 0.5:
                self.world.components[i] = mended(c)

    def erase(self) -> None:
        """What nothing needs is emptied; or only said to be, if the process dies right then."""
        end = self.rng.randint(1, self.store.reader().last() + 1)
        keep = erasable(self.store.reader(), self.past, self.state, end).keep
        self.do("erase", lambda d: d.erase(end, keep, self.now))
        self.flush()
        if self.rng.random() < 0.2:
            return
        self.store.reader().erase(end, frozenset(keep))
        goes = {row.seq for row in self.store.reader().events() if not row.payload}
        self.rows = [[row._replace(payload="") if row.seq in goes else row for row in rows] for rows in self.rows]

    def hire(self) -> None:
        """Another agent joins a living board."""
        if any(body.given_up for body in self.bodies):
            return
        agent = random_agent(self.rng, f"hired{self.step}")
        self.world.roster.append(agent)
        self.twin = None
        self.derive()
        self.do("enroll", lambda d: d.enroll(self.enrolments([agent]), self.now))

    # -- one decision ---------------------------------------------------------------------------------------------

    def do(self, doing: str, decide: Decision, *, partly: bool = False) -> list[Event]:
        """Take one decision, check it, and keep it for the disk. What is refused has changed nothing."""
        self.doing = doing
        before = self.state.seq
        refusal: type[Exception] | None = None
        try:
            events = list(decide(self.decider))
        except REFUSALS as error:
            events, refusal = [], type(error)
            assert self.state.seq == before, f"{refusal.__name__} was raised after the state had advanced"
        rows = [encode(event) for event in events]
        self._check_twin(decide, rows, refusal)
        if self.talk:
            print(f"{self.step:4} {doing}{'' if refusal is None else ' ' + refusal.__name__}")  # noqa: T201
            for event in events:
                print(f"       {event}")  # noqa: T201
        if events:
            self._record(events, rows, partly)
        for fence, agent in self.decider.stopped:
            body = next((b for b in self.bodies if b.fence == fence), None)
            if body is None:
                self.decider.freed(agent)
                if self.twin is not None:
                    self.twin.decider.freed(agent)
            else:
                body.given_up = True
        self.decider.stopped = []
        if refusal is not None:
            raise refusal
        self.check()
        return events

    def attempt(self, doing: str, decide: Decision) -> list[Event] | None:
        """The same; None if it was refused."""
        try:
            return self.do(doing, decide)
        except REFUSALS:
            self.check()
            return None

    def _record(self, events: list[Event], rows: list[Row], partly: bool) -> None:
        rang = any(isinstance(e, ev.Rang) and e.timer == "group" for e in events)
        first = events[0]
        if isinstance(first, ev.Opened) and not first.clean:
            assert first.seq > self.dealt, f"id {first.seq} is dealt a second time"
        Auditor(self.books).decision(events, partly or rang)
        self.dealt = max(self.dealt, events[-1].seq)
        self.folded.book(events)
        self.past.remember(events)
        for event, row in zip(events, rows, strict=True):
            if isinstance(event, Published):
                self.past.add(event, 0)
            copy = decode(row)
            assert copy == event, f"{event} comes back as {copy}"
            opens = (lambda e=copy: self.envelope(e)) if isinstance(copy, Published) else None
            self.shadow.apply(copy, opens)
        self.buffer.append(rows)
        if sum(map(len, self.buffer)) > WINDOW:
            self.flush()

    def flush(self) -> None:
        """The disk catches up."""
        for rows in self.buffer:
            self.store.append_now(rows)
        self.rows += self.buffer
        self.buffer = []
        self.past.trim(self.store.reader().last())

    def _check_twin(self, decide: Decision, rows: list[Row], refusal: type[Exception] | None) -> None:
        if self.twin is None:
            return
        raised: type[Exception] | None = None
        try:
            same = [encode(event) for event in decide(self.twin.decider)]
        except REFUSALS as error:
            same, raised = [], type(error)
        assert raised == refusal
        assert same == rows, f"a decider derived from the dump decides {same}, not {rows}"
        self.twin.decider.stopped = []
        self.twin.left -= 1
        if self.twin.left == 0:
            self.twin = None

    def make_twin(self) -> None:
        """From now on a decider made of dumps decides beside the first one."""
        if any(body.given_up for body in self.bodies):
            return
        copy = self.copy()
        assert same(copy.state.dump(), self.state.dump()), "a dump is loaded into another state"
        assert same(copy.ledger.dump(), self.folded.ledger.dump()), "a dump is loaded into another ledger"
        decider = Decider(copy.state, Index(self.world.roster), copy.observers, self.past, self.limits)
        self.twin = Twin(decider, 12)

    def copy(self) -> Folded:
        """Everything that is folded, dumped and loaded."""
        observers, state = Observers(self.world.components), State.load(self.folded.state.dump())
        assert observers.load(self.folded.observers.dump(), self.folded.observers.faulted)
        return Folded(state, observers, Ledger.load(self.folded.ledger.dump()))

    # -- what must hold -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Everything that holds after every step."""
        decider, state, books = self.decider, self.state, self.books
        checks.check_conservation(decider, books)
        checks.check_places(state, books)
        checks.check_alive(state)
        checks.check_works(state, books)
        checks.check_asked_again(decider)
        checks.check_parked(decider)
        checks.check_concurrency(decider, self.busy)
        assert same(state.dump(), self.shadow.state.dump()), "the log folds into another state"
        assert self.folded.observers.states == self.shadow.observers.states, "the log folds into other components"
        broken = books.faulted.keys() & self.folded.observers.components
        assert self.folded.observers.faulted == self.shadow.observers.faulted == broken == set(state.faulted)
        ledger = self.folded.ledger
        assert ledger.open == len(books.open)
        ended = ledger.done + ledger.dead + ledger.cancelled + ledger.skipped + ledger.blocker_failed
        assert ledger.activations == ended + ledger.open, "the ledger does not add up"

    @property
    def busy(self) -> Counter[str]:
        """How many bodies of each agent there really are."""
        return Counter(body.agent for body in self.bodies)
