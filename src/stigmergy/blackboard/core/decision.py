"""How a decision is made: check, then emit, then let the components react until nothing more follows.

Everything that may raise happens before the first event. From the first event on the state has advanced, so nothing
may raise any more: what users' code does wrong from there on becomes an event itself.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel

from stigmergy.blackboard import component as cp
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.agenda import Agenda
from stigmergy.blackboard.core.answers import checked
from stigmergy.blackboard.core.matching import Index
from stigmergy.blackboard.core.observers import AnyComponent, Observers
from stigmergy.blackboard.core.records import Activation
from stigmergy.blackboard.core.state import State
from stigmergy.blackboard.core.timers import Timer, Timers
from stigmergy.blackboard.definitions import Limits
from stigmergy.blackboard.errors import BrokenOff
from stigmergy.blackboard.events import ErrorInfo, Event, Faulted, Priority, Published, Visibility

MAX_REACTIONS = 1_000
"""Reactions that one decision may set off before the components in the chain are taken out of service."""


@dataclass(slots=True)
class Draft:
    """An artifact that is about to be published: its payload checked and encoded."""

    payload: BaseModel
    data: bytes
    type: str
    version: int = 1
    schema: str = ""
    run: str = ""
    key: str | None = None
    tags: list[str] = field(default_factory=list)
    priority: Priority | None = None
    visibility: Visibility | None = None
    review_by: str = ""
    work: str | None = None
    parent_work: str | None = None
    blocking: list[str] = field(default_factory=list)
    phase: str | None = None
    digest: str = ""


class Past(Protocol):
    """What a decision may look up of what is no longer in the state; given from outside."""

    def key(self, run: str, key: str) -> tuple[int, str] | None:
        """Id and digest of the artifact that was published with this key."""
        ...

    def work(self, run: str, work: str) -> int | None:
        """Id of the artifact with this work id."""
        ...

    def artifact(self, id: int) -> Artifact[Any]:
        """An artifact, with its typed payload."""
        ...

    def event(self, id: int) -> Event | None:
        """The event at that position."""
        ...

    def following(self, cause: int) -> list[Event]:
        """The events with that cause, in log order."""
        ...

    def since(self, types: set[str], after: int, erased: Callable[[int], bool]) -> list[tuple[int, Artifact[Any]]]:
        """The artifacts of these types that were offered after that position, with where they were, in that order; what
        is erased is not among them."""
        ...

    def draft(self, payload: BaseModel) -> Draft:
        """A component's payload, checked and encoded."""
        ...


@dataclass(slots=True)
class Origin:
    """Where an artifact comes from: what it inherits."""

    producer: str
    cause: int = 0
    run: str = ""
    root: int = 0
    depth: int = 0
    ancestors: dict[str, int] = field(default_factory=dict)
    system: bool = False


OUTSIDE = Origin("outside")
PERSON = Origin("person", system=True)
"""Of answers: they come from outside, but are no seeds."""


def request_of(a: Activation) -> cp.ActivationRequest:
    """What components are told of an activation."""
    return cp.ActivationRequest(
        a.id, a.agent, a.run, a.priority, a.depth, tuple(a.inputs), a.attempts + 1, a.phase, a.at, a.root
    )


class Decision(ABC):
    """The state, what is derived from it, and the way events come about."""

    def __init__(self, state: State, index: Index, observers: Observers, past: Past, limits: Limits) -> None:
        self.state = state
        self.index = index
        self.observers = observers
        self.past = past
        self.limits = limits
        self.timers = Timers(self._is_live)
        self.agenda = Agenda({a.name: a.concurrency for a in index.agents.values() if a.concurrency is not None})
        self.suspects: list[int] = []
        self.stopped: list[tuple[int, str]] = []
        """Fences (and agents) of activations that were ended or failed from outside their running body; the shell stops
        the bodies and calls `freed` when they have really ended."""
        self.unserved: set[int] = set()
        """Ready activations whose agent is not here."""
        self.parked: dict[int, str] = {}
        """Ready activations that may not start because their run is closed or a limit is reached, and why."""
        self._short: dict[int, str] = {}
        """Those whose next effect costs more than is left, and what it said; to be parked when their turn comes."""
        self._too_much: dict[int, str] = {}
        """Those whose outputs exceed a limit, and which; to be parked each time, since here no limit is ever raised."""
        self._events: list[Event] = []
        """Of the decision that is being made; of one that broke off, too."""
        self._keys_now: dict[tuple[str, str], tuple[int, str]] = {}
        self._held_now: dict[int, Artifact[Any]] = {}
        """Of this decision: what the past cannot know yet."""
        self._reactions: deque[tuple[AnyComponent, cp.Seen, Origin]] = deque()
        self._alarms: dict[str, float] = {}
        self._rung: dict[str, float] = {}
        """component -> the alarm that rang last."""
        self._complete: dict[tuple[str, str], list[tuple[int, str]]] = {}
        """(subscription, scope) -> its complete groups that have not fired, oldest first: when, and their key."""
        self._held: dict[str, dict[int, None]] = {}
        """component -> the activations it holds, oldest first."""
        self._tx = 0
        self._at = 0.0
        self._derive()

    def _derive(self) -> None:
        """Rebuild what is not stored."""
        for a in self.state.activations.values():
            if a.status == "running" and a.agent in self.index.agents:
                self.agenda.occupy(a.agent)
                timeout = self.index.agents[a.agent].timeout
                if timeout is not None:
                    self.timers.push(a.claimed_at + timeout, "timeout", a.id, str(a.fence))
            elif a.due is not None:
                self.timers.push(a.due, "retry" if a.status == "retrying" else "hold", a.id)
            if a.status == "held":
                self._held.setdefault(a.held_by, {})[a.id] = None
        for held in self.state.held.values():
            if held.until is not None:
                self.timers.push(held.until, "visible", held.id)
        for call in self.state.calls.values():
            if call.until is not None and not call.rung:
                self.timers.push(call.until, "sleep", call.id)
        self.state.ready = [a.id for a in self.state.activations.values() if a.status == "ready"]
        self._queue_ready()
        for c in self.observers.alarming:
            self._set_alarm(c.name)

    def _is_live(self, timer: Timer) -> bool:
        state = self.state
        if timer.kind == "visible":
            return timer.subject in state.held
        if timer.kind == "group":
            place = state.waiting.get(timer.detail, {}).get(timer.subject)
            within = self.index.subscriptions[timer.detail].within
            return place is not None and isinstance(within, float | int) and timer.due == place.at + within
        if timer.kind == "sleep":
            return timer.subject in state.calls
        if timer.kind == "alarm":
            return self._alarms.get(timer.detail) == timer.due
        a = state.activations.get(timer.subject)
        if a is None:
            return False
        if timer.kind == "timeout":
            return a.status == "running" and str(a.fence) == timer.detail
        return a.due == timer.due and a.status in ("retrying", "held")

    # -- making events --------------------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        if self._events:
            raise BrokenOff("a decision broke off half made, so the board does nothing more. Open it again.")
        if self._keys_now:
            self._keys_now.clear()
        if self._held_now:
            self._held_now.clear()
        state = self.state
        self._tx = state.seq + 1
        self._at = now if now > state.at else state.at

    def _emit(
        self, event: Event, cause: int = 0, artifact: Callable[[], Artifact[Any]] | None = None, gap: int = 0
    ) -> int:
        state = self.state
        seq = event.seq = state.seq + 1 + gap
        event.tx, event.at, event.cause = self._tx, self._at, cause
        observed = self.observers.any
        prior = state.concerned(event) if observed else None
        state.apply(event)
        self._events.append(event)
        if state.ready:
            self._queue_ready()
        if observed:
            self._observe(event, artifact, prior)
        return seq

    def _queue_ready(self) -> None:
        state, ready = self.state, self.state.ready
        state.ready = []
        for activation in ready:
            a = state.activations.get(activation)
            if a is None or a.status != "ready":
                continue
            if a.agent not in self.index.agents:
                self.unserved.add(a.id)
            elif a.suspect:
                self.suspects.append(a.id)
            else:
                self.agenda.add(a)

    def _observe(self, event: Event, artifact: Callable[[], Artifact[Any]] | None, prior: Activation | None) -> None:
        a = prior or self.state.activations.get(event.seq)
        seen, may_react, faults = self.observers.step(event, artifact, request_of(a) if a else None)
        for name, error in faults:
            self._record_fault(name, error, event.seq)
        if seen is not None:
            for c in may_react:
                self._reactions.append((c, seen, self._origin(c.name, event, a)))

    def _origin(self, producer: str, event: Event, a: Activation | None) -> Origin:
        if isinstance(event, Published):
            return Origin(producer, event.seq, event.run, event.root or event.seq, event.depth, event.ancestors, True)
        if a is not None:
            return Origin(producer, event.seq, a.run, a.root, a.depth, {}, True)
        return Origin(producer, event.seq, system=True)

    def _finish(self) -> list[Event]:
        """Let components react to a fixed point, then hand over the events."""
        if self.observers.any:
            self._react()
            while self.observers.changed:
                self._after_changes()
                self._react()
        events, self._events = self._events, []
        return events

    def _react(self) -> None:
        count = 0
        while self._reactions:
            component, seen, origin = self._reactions.popleft()
            name = component.name
            if name in self.observers.faulted:
                continue
            try:
                reactions = list(component.react(self.observers.states[name], seen))
            except Exception as error:  # noqa: BLE001  user code: the component is taken out of service, on record
                self._fault(name, error, seen.event.seq)
                continue
            for reaction in reactions:
                count += 1
                if count > MAX_REACTIONS:
                    self._fault(name, RecursionError(f"more than {MAX_REACTIONS} reactions in one decision"), 0)
                    break
                try:
                    self._carry_out(checked("react", reaction, cp.Reaction), origin)
                except Exception as error:  # noqa: BLE001  a reaction that cannot be carried out is the component's fault
                    self._fault(name, error, seen.event.seq)
                    break

    def _fault(self, name: str, error: Exception, cause: int) -> None:
        self.observers.fault(name)
        self._record_fault(name, ErrorInfo.of(error), cause)

    def _record_fault(self, name: str, error: ErrorInfo | None, cause: int) -> None:
        self._emit(Faulted(component=name, error=error, fingerprint=self.observers.versions.get(name, "")), cause)

    def _after_changes(self) -> None:
        """A component whose state changed may set its alarm anew, and is asked again about what it holds."""
        changed, self.observers.changed = sorted(self.observers.changed), set()
        for name in changed:
            self._set_alarm(name)
            self._ask_again(name)

    def _set_alarm(self, name: str) -> None:
        component = self.observers.components[name]
        if component not in self.observers.alarming or name in self.observers.faulted:
            return
        try:
            due = component.alarm(self.observers.states[name])
            if due is not None and float(due) == self._rung.get(name):
                raise RuntimeError(f"alarm() asks for {due} again, which has rung; step() is to take note of Rang")
        except Exception as error:  # noqa: BLE001  user code: the component is taken out of service, on record
            if self._tx:
                self._fault(name, error, self.state.seq)
            else:  # there is no decision yet that could record it: asked again in the first
                self.observers.changed.add(name)
            return
        if due is None:
            self._alarms.pop(name, None)
        elif self._alarms.get(name) != due:
            self._alarms[name] = due
            self.timers.push(due, "alarm", 0, name)

    def _let_go(self, a: Activation) -> None:
        """A component holds an activation no more; it is asked again about those behind it."""
        self._held[a.held_by].pop(a.id)
        self.observers.changed.add(a.held_by)

    @abstractmethod
    def _ask_again(self, name: str) -> None:
        """Ask a component again about the activations it holds."""

    @abstractmethod
    def _carry_out(self, reaction: cp.Reaction, origin: Origin) -> None:
        """Make a component's reaction events."""
