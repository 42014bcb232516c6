"""The books of a board: what ran, how long, at what price, and what was left; a fold of the log.

Rules. `apply` is O(1) and sees every event of a living board, so its parts do the least they can. Memory is bounded by
what is open: of what goes wrong or is left aside, the first and the last thousand are kept, and all are counted.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from math import frexp
from typing import Any, Generic, TypeVar

from pydantic import JsonValue, TypeAdapter

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.core.chain import Chain
from stigmergy.blackboard.core.tree import Growth
from stigmergy.blackboard.events import ErrorInfo, Event, Outcome, Reason
from stigmergy.blackboard.payloads.types import type_of
from stigmergy.blackboard.question import HumanAnswer, HumanQuestion, answer_key

KEPT = 1_000
"""How many of the first, and how many of the last, a sample keeps."""
_STEPS = 32
"""Buckets per doubling of a duration, so that a quantile is at most 3 % off."""

T = TypeVar("T")


@dataclass(slots=True)
class Sample(Generic[T]):
    """Things by id: all are counted, the first and the last thousand are kept."""

    count: int = 0
    first: dict[int, T] = field(default_factory=dict)
    latest: dict[int, T] = field(default_factory=dict)

    def add(self, id: int, thing: T) -> None:
        """Count it, and keep it."""
        self.count += 1
        if len(self.first) < KEPT and not self.latest:
            self.first[id] = thing
            return
        self.latest[id] = thing
        if len(self.latest) > KEPT:
            del self.latest[next(iter(self.latest))]

    def remove(self, id: int) -> T | None:
        """Count it no more; what it was, if it was kept."""
        self.count -= 1
        return self.first.pop(id, None) or self.latest.pop(id, None)

    def discard(self, id: int) -> None:
        """Count it no more, if it is one that was kept."""
        if id in self.first or id in self.latest:
            self.remove(id)

    def __iter__(self) -> Iterator[T]:
        yield from self.first.values()
        yield from self.latest.values()


@dataclass(slots=True)
class Ending:
    """An activation that ended without completing. `attempts` are those that failed."""

    activation: int
    agent: str
    inputs: list[int]
    outcome: Outcome
    reason: str
    error: ErrorInfo | None
    attempts: int


@dataclass(slots=True)
class Orphan:
    """An artifact that nobody took; `self_skipped`: agents that would have, but published it themselves."""

    id: int
    type: str
    producer: str
    phase: str | None
    self_skipped: list[str]


@dataclass(slots=True)
class Dropped:
    """Artifacts that left their places unused."""

    subscription: str
    artifacts: list[int]
    key: str
    reason: str


@dataclass(slots=True)
class Refused:
    """A held artifact that will never be offered."""

    id: int
    by: str
    reason: str


@dataclass(slots=True)
class Question:
    """A question to a person that has no answer; `until` is log time."""

    id: int
    what: str
    choices: list[JsonValue]
    about: int
    by: str
    until: float | None


@dataclass(slots=True)
class Column:
    """The books of one agent; `spent` counts the seconds of `timed` attempts, in buckets by size."""

    name: str
    phase: str | None = None
    done: int = 0
    dead: int = 0
    skipped: int = 0
    cancelled: int = 0
    blocker_failed: int = 0
    retries: int = 0
    timed: int = 0
    spent: float = 0.0
    buckets: dict[int, int] = field(default_factory=dict)
    cost: Decimal = Decimal(0)
    tokens: int = 0

    def quantile(self, share: float) -> float:
        """Seconds that this share (0 to 1) of the attempts did not exceed, at most 3 % off."""
        rank = share * self.timed
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank <= 0:
                exponent, step = divmod(bucket, _STEPS)
                return float((step + _STEPS + 0.5) / (2 * _STEPS) * 2.0**exponent) if bucket > _ZERO else 0.0
        return 0.0


_ZERO = -2000 * _STEPS
"""The bucket of attempts that took no measurable time."""


@dataclass(slots=True)
class _Open:
    agent: str
    inputs: list[int]
    attempts: int = 0


@dataclass(slots=True)
class Ledger:
    """Counts, times and costs of everything on a board, and samples of what deserves a look.

    `estimated` is the part of `cost` that was booked for `unanswered` effects: asked for, and the outcome never came.
    What the `unpriced` effects cost is in no sum, since nobody knows it.
    `closed` and `idled` hold the last reason and detail of each kind; `busy` are the seconds in which something ran.
    A dead letter that is redriven leaves the counts; if it was not among those kept, its agent's column is unchanged.
    """

    first_at: float | None = None
    last_at: float = 0.0
    busy: float = 0.0
    busy_since: float | None = None
    activations: int = 0
    done: int = 0
    dead: int = 0
    cancelled: int = 0
    skipped: int = 0
    blocker_failed: int = 0
    retries: int = 0
    failed_attempts: int = 0
    cost: Decimal = Decimal(0)
    tokens: int = 0
    estimated: Decimal = Decimal(0)
    unanswered: int = 0
    unpriced: int = 0
    agents: dict[str, Column] = field(default_factory=dict)
    dead_letters: Sample[Ending] = field(default_factory=Sample)
    put_aside: Sample[Ending] = field(default_factory=Sample)
    orphans: Sample[Orphan] = field(default_factory=Sample)
    self_skipped: Sample[Orphan] = field(default_factory=Sample)
    expired: Sample[Dropped] = field(default_factory=Sample)
    withdrawn: Sample[Refused] = field(default_factory=Sample)
    faulted: dict[str, ErrorInfo | None] = field(default_factory=dict)
    reason: Reason | None = None
    detail: str = ""
    running: dict[int, _Open] = field(default_factory=dict)
    held: dict[int, Orphan] = field(default_factory=dict)
    ended: dict[int, str] = field(default_factory=dict)
    questions: dict[int, Question] = field(default_factory=dict)
    growth: Growth = field(default_factory=Growth)
    chain: Chain = field(default_factory=Chain)

    def apply(self, event: Event) -> None:
        """Fold one event."""
        self.apply_all((event,))

    def apply_all(self, events: Iterable[Event]) -> None:
        """Fold some events."""
        find = _FOLDS.get
        for event in events:
            fold = find(event.__class__)
            if fold is not None:
                fold(self, event)
            self.last_at = event.at

    @property
    def seeds(self) -> int:
        """Artifacts from outside."""
        return self.growth.seeds

    @property
    def artifacts(self) -> int:
        """All artifacts."""
        return self.growth.artifacts

    @property
    def open(self) -> int:
        """Activations that have not ended."""
        return len(self.running)

    @property
    def seconds(self) -> float:
        """Seconds in which something ran, up to the last event."""
        return self.busy if self.busy_since is None else self.busy + self.last_at - self.busy_since

    def dump(self) -> bytes:
        """The whole ledger as JSON."""
        return _LEDGER.dump_json(self)

    @classmethod
    def load(cls, data: bytes) -> "Ledger":
        """The ledger that `dump` wrote."""
        return _LEDGER.validate_json(data)

    # -- artifacts ------------------------------------------------------------------------------------------------

    def _published(self, e: ev.Published) -> None:
        self.growth.published(e)
        if e.system:
            self.chain.published(e)
        if e.type in _ABOUT_QUESTIONS:
            self._asked_or_answered(e)
        if e.held_by:
            self.held[e.seq] = Orphan(e.seq, e.type, e.producer, e.phase, e.self_skipped)
        elif e.unserved or e.self_skipped:
            self._left(Orphan(e.seq, e.type, e.producer, e.phase, e.self_skipped), unserved=e.unserved)

    def _asked_or_answered(self, e: ev.Published) -> None:
        if e.type == _QUESTION:
            q = HumanQuestion.model_validate_json(e.payload)
            until = None if q.within is None else e.at + q.within
            what = f"{q.what} (the answer before was none: {q.refused})" if q.refused else q.what
            self.questions[e.seq] = Question(e.seq, what, list(q.choices), q.about, e.producer, until)
        else:
            id = HumanAnswer.model_validate_json(e.payload).question
            if e.key == answer_key(id):
                self.questions.pop(id, None)

    def _nobody_asks(self, about: int) -> None:
        for id in [q.id for q in self.questions.values() if q.about == about]:
            del self.questions[id]

    def _released(self, e: ev.Released) -> None:
        orphan = self.held.pop(e.cause, None)
        if orphan is not None and (e.unserved or e.self_skipped):
            orphan.self_skipped = e.self_skipped
            self._left(orphan, unserved=e.unserved)

    def _left(self, orphan: Orphan, *, unserved: bool) -> None:
        (self.orphans if unserved else self.self_skipped).add(orphan.id, orphan)

    def _held_back(self, e: ev.Held) -> None:
        if not any(q.about == e.cause for q in self.questions.values()):
            self.chain.held(e)

    def _withdrawn(self, e: ev.Withdrawn) -> None:
        self.held.pop(e.cause, None)
        self.withdrawn.add(e.cause, Refused(e.cause, e.by, e.reason))

    def _expired(self, e: ev.Expired) -> None:
        self.expired.add(e.seq, Dropped(e.subscription, e.artifacts, e.key, e.reason))

    def _erased(self, e: ev.Erased) -> None:
        self.growth.erased(e)

    # -- activations ----------------------------------------------------------------------------------------------

    def _activated(self, e: ev.Activated) -> None:
        self.activations += 1
        self.running[e.seq] = _Open(e.agent, e.inputs)
        self.growth.activated(e)
        if e.redriven:
            self.chain.activated(e, self.ended.get(e.redriven))

    def _claimed(self, e: ev.Claimed) -> None:
        if self.busy_since is None:
            self.busy_since = e.at

    def _completed(self, e: ev.Completed) -> None:
        a = self.running.pop(e.cause, None)
        if a is None:
            return
        if self.questions:
            self._nobody_asks(e.cause)
        self.done += 1
        column = self.agents.get(a.agent) or self._column(a.agent)
        column.done += 1
        _time(column, e.seconds)

    def _failed(self, e: ev.Failed) -> None:
        a = self.running.get(e.cause)
        if a is None or e.kind == "interrupted":
            return
        column = self._column(a.agent)
        self.failed_attempts += 1
        a.attempts += 1
        if e.retry_at is not None:
            self.retries += 1
            column.retries += 1
        _time(column, e.seconds)

    def _ended(self, e: ev.Ended) -> None:
        a = self.running.pop(e.cause, None)
        if a is None:
            return
        self.growth.ended(e)
        self.chain.finished(e)
        if self.questions:
            self._nobody_asks(e.cause)
        self._count(e.outcome, self._column(a.agent), 1)
        ending = Ending(e.cause, a.agent, a.inputs, e.outcome, e.reason, e.error, a.attempts)
        (self.dead_letters if e.outcome == "dead_letter" else self.put_aside).add(e.cause, ending)
        self.ended[e.cause] = a.agent
        if len(self.ended) > KEPT:
            del self.ended[next(iter(self.ended))]

    def _redriven(self, e: ev.Redriven) -> None:
        """What had failed is open again, as a new activation that is not counted as another."""
        self.activations -= 1
        self._nobody_asks(e.cause)
        ending = (self.dead_letters if e.outcome == "dead_letter" else self.put_aside).remove(e.cause)
        agent = ending.agent if ending is not None else self.ended.get(e.cause)
        self.chain.redriven(e)
        self._count(e.outcome, self._column(agent) if agent is not None else Column(""), -1)

    def _recalled(self, e: ev.Recalled) -> None:
        """An agent that was away takes it now."""
        for kept in e.inputs:
            self.orphans.discard(kept.id)

    def _count(self, outcome: Outcome, column: Column, by: int) -> None:
        name = "dead" if outcome == "dead_letter" else outcome
        setattr(self, name, getattr(self, name) + by)
        setattr(column, name, getattr(column, name) + by)

    def _column(self, agent: str) -> Column:
        column = self.agents.get(agent)
        if column is None:
            column = self.agents[agent] = Column(agent)
        return column

    # -- effects and the board ------------------------------------------------------------------------------------

    def _called(self, e: ev.Called) -> None:
        if e.cost == "0" and not e.tokens and not e.unpriced:
            return
        a = self.running.get(e.activation)
        agent = a.agent if a is not None else self.ended.get(e.activation)
        cost = Decimal(e.cost)
        self.cost += cost
        self.tokens += e.tokens
        self.unpriced += e.unpriced
        if e.outcome in ("unknown", "cancelled"):
            self.unanswered += 1
            self.estimated += cost
        if agent is not None:
            column = self._column(agent)
            column.cost += cost
            column.tokens += e.tokens

    def _opened(self, e: ev.Opened) -> None:
        if self.first_at is None:
            self.first_at = e.at
        self._rest(self.last_at)

    def _enrolled(self, e: ev.Enrolled) -> None:
        if e.role == "agent":
            self._column(e.name).phase = e.phase

    def _faulted(self, e: ev.Faulted) -> None:
        self.faulted[e.component] = e.error

    def _idled(self, e: ev.Idled) -> None:
        self.reason, self.detail = e.reason, e.detail
        self._rest(e.at)

    def _closed(self, e: ev.Closed) -> None:
        if e.run:
            self.reason, self.detail = e.reason, e.detail
        else:
            self._rest(e.at)

    def _rest(self, at: float) -> None:
        if self.busy_since is not None:
            self.busy += at - self.busy_since
            self.busy_since = None


def _time(column: Column, seconds: float) -> None:
    column.timed += 1
    column.spent += seconds
    mantissa, exponent = frexp(seconds)
    bucket = exponent * _STEPS + int(mantissa * 2 * _STEPS) - _STEPS if seconds > 0 else _ZERO
    buckets = column.buckets
    buckets[bucket] = buckets.get(bucket, 0) + 1


_FOLDS: dict[type[Event], Callable[[Ledger, Any], None]] = {
    ev.Published: Ledger._published, ev.Activated: Ledger._activated, ev.Claimed: Ledger._claimed,
    ev.Completed: Ledger._completed, ev.Failed: Ledger._failed, ev.Ended: Ledger._ended, ev.Called: Ledger._called,
    ev.Released: Ledger._released, ev.Withdrawn: Ledger._withdrawn, ev.Expired: Ledger._expired,
    ev.Redriven: Ledger._redriven, ev.Recalled: Ledger._recalled, ev.Opened: Ledger._opened,
    ev.Enrolled: Ledger._enrolled, ev.Faulted: Ledger._faulted, ev.Idled: Ledger._idled, ev.Closed: Ledger._closed,
    ev.Held: Ledger._held_back, ev.Erased: Ledger._erased,
}  # fmt: skip
_QUESTION = type_of(HumanQuestion).name
_ABOUT_QUESTIONS = frozenset((_QUESTION, type_of(HumanAnswer).name))
_LEDGER = TypeAdapter(Ledger)
