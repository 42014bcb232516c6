"""A seeded simulation of everything that can happen to a board, on the pure core, with its invariants checked after
every step. No event loop, no clock: one seed is one history.

One history again, with what happens in it: `python -m tests.simulation 1234`
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.artifacts import envelope
from stigmergy.blackboard.decider import Decider, Enrolment
from stigmergy.blackboard.decision import Draft
from stigmergy.blackboard.definitions import AgentSpec, Limits
from stigmergy.blackboard.drafting import draft_of
from stigmergy.blackboard.errors import CallRefused, NotFound, PublishError
from stigmergy.blackboard.events import ErrorInfo, Event, Published, Visibility
from stigmergy.blackboard.fingerprints import fingerprint, shape
from stigmergy.blackboard.fold import Folded, fold
from stigmergy.blackboard.ledger import Ledger
from stigmergy.blackboard.matching import Index
from stigmergy.blackboard.observers import Observers, overrides
from stigmergy.blackboard.past import RecentPast
from stigmergy.blackboard.rows import decode, encode
from stigmergy.blackboard.state import Activation, State
from stigmergy.blackboard.stores.base import Row
from stigmergy.blackboard.stores.memory import MemoryStore
from stigmergy.blackboard.types import TypeTable
from tests import simulation_checks as checks
from tests.simulation_books import Books
from tests.simulation_world import LABELS, MODELS, UNLUCKY, Job, random_agent, random_world, reshaped

WINDOW = 40
STEPS = 150
Decision = Callable[[Decider], list[Event]]


class SimulationFailed(AssertionError):
    """An invariant did not hold; the message says how to see it again."""


def simulate(seed: int, steps: int = STEPS, *, talk: bool = False) -> "Simulation":
    """Run one history.

    Raises:
        SimulationFailed: something that must always hold did not.
    """
    simulation = Simulation(seed, talk=talk)
    try:
        simulation.run(steps)
    except Exception as error:
        where = f"seed {seed}, step {simulation.step} ({simulation.doing})"
        raise SimulationFailed(
            f"{where}: {type(error).__name__}: {error}\nAgain: python -m tests.simulation {seed}"
        ) from error
    return simulation


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


class Simulation:
    """One board, its workers, its clock and its disk."""

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
        self.folded = fold(self.store.reader(), Observers(self.world.components), self.envelope)
        self.shadow = fold(self.store.reader(), Observers(self.world.components), self.envelope)
        self.twin = None
        self.bodies, self.late = [], []
        self.derive()
        clean = self.state.quiet
        unclean = self.state.unclean
        self.do("open", lambda d: d.open("1", "full", WINDOW, self.now, self.enrolments(self.world.roster)))
        self.flush()  # nothing runs before it is durable that somebody is there
        assert self.state.unclean == (0 if clean else unclean + 1)
        assert self.crashed or clean, "an orderly stop was taken for a crash"

    def derive(self) -> None:
        """A decider on the state that is there."""
        roster = self.world.roster
        self.decider = Decider(self.folded.state, Index(roster), self.folded.observers, self.past, self.limits)
        self.state = self.folded.state
        self.books.agents = {agent.name: agent for agent in roster}
        self.books.guards = frozenset(c.name for c in self.world.components if overrides(c, "admit"))

    def envelope(self, event: Published) -> Artifact[Any]:
        return envelope(event, self.types.decode(event.type, event.version, event.payload))

    @staticmethod
    def enrolments(roster: Sequence[AgentSpec]) -> list[Enrolment]:
        return [Enrolment(a.name, "agent", fingerprint(a), {s.id: shape(s) for s in a.subscriptions}) for a in roster]

    def crash(self) -> None:
        """The process dies: of what was not durable, some whole decisions may have reached the disk."""
        self.doing = "crash"
        kept = self.rng.randint(0, len(self.buffer))
        self.rows += self.buffer[:kept]
        self.buffer = []
        self.crashed = True
        old = self.books
        self.books = Books(self.types, generation=old.generation)
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
        except (PublishError, CallRefused, NotFound) as error:
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
        for id, agent in self.decider.stopped:
            body = next((b for b in self.bodies if b.id == id and not b.given_up), None)
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
        except (PublishError, CallRefused, NotFound):
            self.check()
            return None

    def _record(self, events: list[Event], rows: list[Row], partly: bool) -> None:
        rang = any(isinstance(e, ev.Rang) and e.timer == "group" for e in events)
        first = events[0]
        if isinstance(first, ev.Opened) and not first.clean:
            assert first.seq > self.dealt, f"id {first.seq} is dealt a second time"
        self.books.decision(events, partly or rang)
        self.dealt = max(self.dealt, events[-1].seq)
        self.past.remember(events)
        for event, row in zip(events, rows, strict=True):
            self.folded.ledger.apply(event)
            if isinstance(event, Published):
                self.past.add(event)
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
        except (PublishError, CallRefused, NotFound) as error:
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
        observers = Observers(self.world.components)
        state = State.load(self.state.dump())
        assert observers.load(self.folded.observers.dump(), state.faulted)
        assert same(state.dump(), self.state.dump()), "a dump is loaded into another state"
        ledger = self.folded.ledger.dump()
        assert same(Ledger.load(ledger).dump(), ledger)
        self.twin = Twin(Decider(state, Index(self.world.roster), observers, self.past, self.limits), 12)

    # -- what may happen ------------------------------------------------------------------------------------------

    def run(self, steps: int) -> None:
        """That many random steps, then no more faults: everything must come to rest."""
        rng = self.rng
        steps_with_weight: list[tuple[Callable[[], object], int]] = [
            (self.publish, 16), (self.claim, 26), (self.complete, 22), (self.fail, 5), (self.late_worker, 3),
            (self.publish_inside, 3), (self.call, 4), (self.called, 4), (self.cancel, 2), (self.redrive, 2),
            (self.release, 1), (self.wake, 7), (self.rest, 4), (self.close_run, 1), (self.resume, 2),
            (self.body_ends, 3), (self.flush, 5), (self.make_twin, 3), (self.crash, 2), (self.restart, 2),
            (self.hire, 1),
        ]  # fmt: skip
        kinds, weights = zip(*steps_with_weight, strict=True)
        for self.step in range(1, steps + 1):
            [act] = rng.choices(kinds, weights)
            self.doing = act.__name__
            self.now += rng.choice((0.0, 0.0, 0.1, 1.0, 1.0, -5.0)) if rng.random() < 0.5 else 0.0
            act()
            if self.talk:
                print(f"{self.step:4} {self.doing} done")  # noqa: T201
        self.settle()
        self.restart()

    def payload(self) -> Any:
        rng = self.rng
        model = rng.choice(MODELS[:4])
        n = UNLUCKY if rng.random() < 0.03 else rng.choice((0, 1, 2, 3, 4, 9))
        key = rng.choice(("x", "y", "z")) if rng.random() < 0.98 else "long" * 100
        if model is not Job or rng.random() < 0.4:
            return model(key=key, n=n)
        self.works += 1
        known = [f"w{rng.randint(1, self.works + 1)}" for _ in range(rng.choice((0, 0, 1, 2)))]
        own = f"w{self.works if rng.random() < 0.9 else rng.randint(1, self.works)}"
        parent = f"w{rng.randint(1, self.works)}" if rng.random() < 0.1 else None
        return Job(key=key, n=n, work_id=own, blocking_work_ids=known, parent_work_id=parent)

    def draft(self) -> Callable[[], Draft]:
        """A random draft, made anew whenever asked, since deciders keep what they are given."""
        rng, payload = self.rng, self.payload()
        visibility = rng.choice(
            (None, None, None, None, Visibility(agents=["agent0", "agent2"]), Visibility(labels=[rng.choice(LABELS)]),
             Visibility(tenant="acme"), Visibility(after=3.0), Visibility(after=1.0, labels=["red"]))
        )  # fmt: skip
        review_by = rng.choice(("agent1", "nobody")) if rng.random() < 0.08 else ""
        options: dict[str, Any] = {
            "key": f"key{rng.randint(1, 12)}" if rng.random() < 0.15 else None,
            "tags": rng.choice(((), (), ("hot",), ("hot", "cold"))),
            "priority": rng.choice((None, None, "low", "high", "critical")),
            "visibility": visibility, "review_by": review_by, "run": rng.choice(("main", "main", "side")),
        }  # fmt: skip
        return lambda: draft_of(self.types, payload, **options)

    def drafts(self, most: int, run: str | None = None) -> Callable[[], list[Draft]]:
        made = [self.draft() for _ in range(self.rng.randint(0 if run is not None else 1, most))]
        return lambda: [replace(make(), run=run) if run is not None else make() for make in made]

    def publish(self) -> None:
        drafts = self.drafts(3)
        self.attempt("publish", lambda d: d.publish(drafts(), self.now))

    def claim(self) -> None:
        """As many as the board lets run; None means that nothing may run."""
        while len(self.bodies) < self.world.concurrency:
            claimed: list[Activation | None] = []

            def decide(d: Decider, claimed: list[Activation | None] = claimed) -> list[Event]:
                events, a = d.claim(self.now)
                claimed.append(a)
                return events

            events = self.do("claim", decide)
            a = claimed[0]
            if a is None and not events:
                checks.check_nothing_claimable(self.decider, self.busy)
            if a is None:
                return
            self.bodies.append(Body(a.id, a.fence, a.agent))
            checks.check_order(self.decider, a, events, self.busy)
            assert len(claimed) == 1 or claimed[1] == a
            if self.rng.random() < 0.5:
                return

    def body(self) -> Body | None:
        running = [body for body in self.bodies if not body.given_up]
        return self.rng.choice(running) if running else None

    def complete(self, body: Body | None = None) -> None:
        body = body or self.body()
        if body is None:
            return
        drafts = self.drafts(4 if self.rng.random() < 0.05 else 2, "")
        retry = self.decider.index.agents[body.agent].retry
        id, fence = body.id, body.fence
        done = self.attempt("complete", lambda d: d.complete(id, fence, drafts(), 0.5, self.now, retry))
        if done is None:
            self.fail(body)
        else:
            self.gone(body)

    def fail(self, body: Body | None = None) -> None:
        body = body or self.body()
        if body is None:
            return
        retry = self.decider.index.agents[body.agent].retry
        kind = self.rng.choice(("error", "error", "interrupted"))
        error = ErrorInfo("ValueError", "it failed")
        id, fence = body.id, body.fence
        assert self.do("fail", lambda d: d.fail(id, fence, error, 0.1, self.now, retry, kind))
        self.gone(body)

    def gone(self, body: Body) -> None:
        if body in self.bodies:
            self.bodies.remove(body)
        self.late.append(body)

    def body_ends(self) -> None:
        """A body that had been given up has really ended."""
        body = next((b for b in self.bodies if b.given_up), None)
        if body is None:
            return
        self.gone(body)
        self.decider.freed(body.agent)
        if self.twin is not None:
            self.twin.decider.freed(body.agent)

    def late_worker(self) -> None:
        """A worker comes back for what another one holds, or for what is over."""
        late = [*self.late[-5:], *(b for b in self.bodies if b.given_up)]
        if not late:
            return
        body = self.rng.choice(late)
        error = ErrorInfo("ValueError", "late")
        drafts = self.drafts(1)
        assert not self.do("complete late", lambda d: d.complete(body.id, body.fence, drafts(), 1.0, self.now))
        assert not self.do("fail late", lambda d: d.fail(body.id, body.fence, error, 1.0, self.now))
        event = lambda: ev.Calling(key="late")  # noqa: E731
        refused = self.attempt("call late", lambda d: d.calling(body.id, body.fence, event(), self.now)[0])
        assert refused is None, "a late worker may start an effect"

    def publish_inside(self) -> None:
        body = self.body()
        if body is None:
            return
        drafts, id = self.drafts(1, ""), body.id
        self.attempt("publish inside", lambda d: d.publish(drafts(), self.now, d.origin_of(id)))

    def call(self) -> None:
        body = self.body()
        if body is None:
            return
        until = self.now + 2.0 if self.rng.random() < 0.3 else None
        id, fence, key = body.id, body.fence, f"call {self.step}"
        make = lambda: ev.Calling(key=key, cost="0.01", tokens=3, until=until)  # noqa: E731
        self.attempt("call", lambda d: d.calling(id, fence, make(), self.now)[0])

    def called(self) -> None:
        if not self.state.calls:
            return
        call = self.rng.choice(list(self.state.calls.values()))
        make = lambda: ev.Called(activation=call.activation, key=call.key, cost="0.02", payload=b"1")  # noqa: E731
        assert self.do("called", lambda d: d.called(call.id, make(), self.now))
        assert not self.do("called twice", lambda d: d.called(call.id, make(), self.now))

    def cancel(self) -> None:
        ids = self.rng.sample(sorted(self.state.activations), min(2, len(self.state.activations)))
        ids.append(self.rng.randint(1, self.state.seq))
        self.do("cancel", lambda d: d.cancel(ids, "cancelled by hand", self.now))

    def redrive(self) -> None:
        ended = [id for id, run in self.books.runs.items() if run.outcome and run.outcome != "completed"]
        id = self.rng.choice(ended[-6:]) if ended and self.rng.random() < 0.8 else self.rng.randint(1, self.state.seq)
        self.attempt("redrive", lambda d: d.redrive(id, self.now))

    def release(self) -> None:
        held = [*self.state.held, *self.books.published]
        if held:
            id = self.rng.choice(held[:4])
            self.attempt("release", lambda d: d.release(id, "a person", self.now))

    def wake(self) -> None:
        if self.rng.random() < 0.3:
            self.now += self.rng.choice((2.0, 10.0, -3.0))
        self.do("wake", lambda d: d.wake(self.now))
        checks.check_nothing_due(self.decider)

    def rest(self) -> None:
        """If nothing can run, what waits for that fires, and it is announced."""
        self.claim()
        if self.bodies or self.decider.agenda.count or self.decider.suspects:
            return
        if not self.do("fire at idle", lambda d: d.fire_at_idle(self.now), partly=True):
            reason, detail = self.decider.why_idle()
            self.do("idle", lambda d: d.idle(reason, detail, self.now))

    def close_run(self) -> None:
        run, stop = self.rng.choice(("main", "side")), self.rng.choice(("park", "cancel"))
        self.do("close", lambda d: d.close_run(run, "goal", "enough", "a person", stop, self.now))

    def resume(self) -> None:
        self.do("resume", lambda d: d.resume_runs(self.now))
        assert not any(run.closed for run in self.state.runs.values())

    def settle(self) -> None:
        """Without faults everything comes to rest: bodies end, deadlines pass, and what is left open is explained."""
        for _ in range(3_000):
            self.doing = "settle"
            while any(body.given_up for body in self.bodies):
                self.body_ends()
            while body := self.body():
                id, fence = body.id, body.fence
                self.do("complete", lambda d, id=id, fence=fence: d.complete(id, fence, [], 0.1, self.now))
                self.gone(body)
            self.claim()
            if self.bodies:
                continue
            if self.do("fire at idle", lambda d: d.fire_at_idle(self.now), partly=True):
                continue
            due = self.decider.next_work_due()
            if due is None:
                break
            self.now = max(self.now, due)
            self.do("wake", lambda d: d.wake(self.now))
        else:
            raise AssertionError("it does not come to rest")
        for a in self.state.activations.values():
            explained = a.id in self.decider.unserved or a.id in self.decider.parked
            assert explained or a.status in ("blocked", "held"), f"{a} is left for no reason"

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
        assert self.folded.observers.faulted == self.shadow.observers.faulted == broken
        ledger = self.folded.ledger
        assert ledger.open == len(books.open)
        ended = ledger.done + ledger.dead + ledger.cancelled + ledger.skipped + ledger.blocker_failed
        assert ledger.activations == ended + ledger.open, "the ledger does not add up"

    @property
    def busy(self) -> Counter[str]:
        """How many bodies of each agent there really are."""
        return Counter(body.agent for body in self.bodies)


if __name__ == "__main__":
    simulate(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else STEPS, talk=True)
