"""Why an agent did not run on an artifact, or what came of it if it did."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from pydantic import TypeAdapter

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.component import Deny, Hold
from stigmergy.blackboard.core.decider import PAUSED
from stigmergy.blackboard.core.decision import request_of
from stigmergy.blackboard.core.fingerprints import key_name
from stigmergy.blackboard.core.observers import Observers
from stigmergy.blackboard.core.records import Activation
from stigmergy.blackboard.core.running import over_limit
from stigmergy.blackboard.core.state import State
from stigmergy.blackboard.core.where import did_you_mean
from stigmergy.blackboard.definitions import AgentSpec, Limits, Subscription
from stigmergy.blackboard.errors import BudgetSpent, NotFound, PayloadTooLarge, StigmergyError, WrongFanOut
from stigmergy.blackboard.events import Event, Published
from stigmergy.blackboard.payloads.envelope import opened
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.reading.inventory import lacking
from stigmergy.blackboard.reading.refusal import candidate, refusal, takers
from stigmergy.blackboard.stores.base import Reader
from stigmergy.blackboard.stores.rows import decode
from stigmergy.blackboard.text import number, seconds, short, when

_TOO_MUCH = frozenset((PayloadTooLarge.__name__, WrongFanOut.__name__))
"""What an attempt is stopped with whose outputs exceed a limit."""

Kind = Literal[
    "completed", "failed", "ended", "running", "ready", "full", "retry", "held", "blocked", "closed", "budget",
    "suspect", "absent", "late", "waiting", "expired", "withdrawn", "self_trigger", "type", "reviewer", "producer",
    "tags", "visibility", "equality", "predicate", "raises", "key", "redefined", "unknown", "reserve", "edited",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hindrance:
    """One thing that held an agent back, or what came of it.

    Attributes:
        kind: which of all possible things, for programs.
        text: in words.
        subscription: the subscription that it concerns; "" if none in particular.
    """

    kind: Kind
    text: str
    subscription: str = ""


@dataclass(frozen=True, slots=True)
class WhyNot:
    """The answer to "why did this agent not run on that artifact?".

    Attributes:
        artifact: `Type@12`.
        took: it did take it, whatever came of that.
        reasons: one, or one for each of its subscriptions to that type.
    """

    agent: str
    artifact: str
    took: bool
    reasons: tuple[Hindrance, ...]

    def __str__(self) -> str:
        head = f"{self.agent} {'took' if self.took else 'did not take'} {self.artifact}"
        if len(self.reasons) == 1:
            return f"{head}: {self.reasons[0].text}"
        return "\n".join([f"{head}:", *(f"  {r.subscription}: {r.text}" for r in self.reasons)])

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def to_json(self) -> str:
        """The answer as a JSON object."""
        return _WHY_NOT.dump_json(self, indent=2).decode()


_WHY_NOT = TypeAdapter(WhyNot)


@dataclass(frozen=True, slots=True)
class Question:
    """Who, what, and what is at hand to answer.

    Attributes:
        until: the last position that counts.
        specs: the definitions, if they are at hand.
        state: the fold of the log up to `until`.
        observers: the components that say what may start, if they are at hand, with their states at that position.
        reserve: the agents that get only what components hand over to them.
    """

    agent: str
    artifact: Published
    reader: Reader
    until: int
    state: State
    specs: Mapping[str, AgentSpec]
    types: TypeTable
    limits: Limits
    name: str
    observers: Observers
    reserve: frozenset[str]

    def following(self, cause: int) -> list[Event]:
        """The events with that cause, in log order."""
        return [decode(row) for row in self.reader.following(cause) if row.seq <= self.until]

    def of_kind(self, kind: str, after: int) -> Iterator[Event]:
        """The events of a kind after a position."""
        return (decode(row) for row in self.reader.events(after, self.until, kinds=(kind,)))

    def about(self, subscription: str) -> bool:
        """Whether a subscription is one of the agent's."""
        return subscription.rpartition("/")[0] == self.agent


def why_not(question: Question) -> WhyNot:
    """Find out.

    Raises:
        NotFound: there is no such agent, here or on the log.
    """
    q = question
    enrolled = [e for e in q.of_kind("Enrolled", 0) if isinstance(e, ev.Enrolled) and e.role == "agent"]
    if q.agent not in q.specs and not any(e.name == q.agent for e in enrolled):
        known = dict.fromkeys([*q.specs, *(e.name for e in enrolled)])
        raise NotFound(f"There is no agent {q.agent!r}.{did_you_mean(q.agent, known)}")
    ref = f"{q.artifact.type}@{q.artifact.seq}"
    follows = q.following(q.artifact.seq)
    activation = _activation(q, follows)
    if activation is not None:
        return WhyNot(q.agent, ref, True, (_course(q, activation),))
    reasons = _placed(q, follows) or _withheld(q, follows)
    if not reasons:
        first = next((e for e in enrolled if e.name == q.agent), None)
        reasons = _away(q, first) or _refused(q)
    return WhyNot(q.agent, ref, False, tuple(reasons))


# -- it did -----------------------------------------------------------------------------------------------------------


def _activation(q: Question, follows: list[Event]) -> ev.Activated | None:
    """The last activation of the agent with this artifact."""
    id = q.artifact.seq
    found = next((e for e in follows if isinstance(e, ev.Activated) and e.agent == q.agent), None)
    placed = next((e for e in follows if isinstance(e, ev.Matched) and q.about(e.subscription)), None)
    if found is None and placed is not None and id not in q.state.waiting.get(placed.subscription, {}):
        later = (e for e in q.of_kind("Activated", placed.seq) if isinstance(e, ev.Activated))
        found = next((e for e in later if e.agent == q.agent and id in e.inputs), None)
    while found is not None:
        redriven = next((e for e in q.following(found.seq) if isinstance(e, ev.Redriven)), None)
        if redriven is None:
            break
        later = (e for e in q.of_kind("Activated", redriven.seq) if isinstance(e, ev.Activated))
        found = next(e for e in later if e.redriven == redriven.cause)
    return found


def _course(q: Question, activation: ev.Activated) -> Hindrance:
    """What came of an activation, or what it waits for."""
    name = f"{activation.agent}@{activation.seq}"
    a = q.state.activations.get(activation.seq)
    if a is not None:
        return _open(q, a, name, activation.subscription)
    for e in reversed(q.following(activation.seq)):
        if isinstance(e, ev.Completed):
            text = f"{name} completed in {seconds(e.seconds)} with {number(e.outputs, 'output')}"
            return Hindrance("completed", text, activation.subscription)
        if isinstance(e, ev.Ended):
            kind: Kind = "failed" if e.outcome == "dead_letter" else "ended"
            outcome = "is a dead letter" if kind == "failed" else f"ended {e.outcome.replace('_', ' ')}"
            error = f"{e.error.type}: {e.error.message}" if e.error is not None else ""
            why = ", ".join(part for part in (error, e.reason) if part)
            return Hindrance(kind, f"{name} {outcome}{': ' + short(why, 200) if why else ''}", activation.subscription)
    return Hindrance("ended", f"{name} has ended", activation.subscription)


def _open(q: Question, a: Activation, name: str, subscription: str) -> Hindrance:
    def found(kind: Kind, text: str) -> Hindrance:
        return Hindrance(kind, f"{name} {text}", subscription)

    if a.status == "running":
        return found("running", f"is running since {when(a.claimed_at)}, attempt {a.attempts + 1}")
    if a.status == "blocked":
        return found("blocked", f"waits for work {', '.join(map(repr, a.blockers))}, which is not done")
    if a.status == "held":
        until = f" until {when(a.due)}" if a.due is not None else ""
        return found("held", f"is held by {a.held_by}{until}: {a.reason}")
    if a.status == "retrying":
        return found("retry", f"failed {number(a.attempts, 'time')} and runs again at {when(a.due or a.at)}")
    run = q.state.run(a.run)
    if run.closed == PAUSED:
        return found("closed", f"is parked, paused: {run.detail}")
    if run.closed:
        reason = f"{run.closed}: {run.detail}" if run.detail else run.closed
        return found("closed", f"is parked: run {a.run!r} is closed ({reason})")
    if over := over_limit(a, run, q.limits):
        return found("budget", f"may not start: {over}")
    if withheld := _withheld_start(q, a):
        return found(*withheld)
    if a.suspect:
        return found("suspect", "ran when a process died; it runs next, alone")
    spec = q.specs.get(a.agent)
    if spec is None and q.specs:
        return found("absent", f"is ready, and {a.agent} is not here")
    running = sorted(q.state.running)
    busy = [i for i in running if q.state.activations[i].agent == a.agent]
    if spec is not None and spec.concurrency is not None and len(busy) >= spec.concurrency:
        taken = ", ".join(f"{a.agent}@{i}" for i in busy[:3])
        return found("full", f"is ready; {number(spec.concurrency, 'place')} for {a.agent}, taken by {taken}")
    alone = next((i for i in running if q.state.activations[i].alone), None)
    if alone is not None:
        return found(
            "suspect", f"is ready; {q.state.activations[alone].agent}@{alone} ran when a process died, and runs alone"
        )
    if running:
        names = ", ".join(f"{q.state.activations[i].agent}@{i}" for i in running[:3])
        more = f" and {len(running) - 3:,} more" if len(running) > 3 else ""
        return found("ready", f"is ready and starts when the board has a free place; {names}{more} run now")
    return found("ready", "is ready and starts when the board runs and has a free place")


def _withheld_start(q: Question, a: Activation) -> tuple[Kind, str] | None:
    """The component that does not let it start now, or the budget that its last attempt ran into."""
    for c in q.observers.admitting:
        if c.name in q.observers.faulted:
            return "held", f"may not start: {c.name} failed, so that it admits nothing"
        try:
            answer = c.admit(q.observers.states[c.name], request_of(a))
        except Exception as error:  # noqa: BLE001  user code: that it raises is the answer
            return "held", f"may not start: {c.name} raises {type(error).__name__}: {error}"
        if isinstance(answer, Hold):
            return "held", f"may not start: {c.name} holds it: {answer.reason}"
        if isinstance(answer, Deny):
            return "budget" if answer.park else "held", f"may not start: {c.name}: {answer.reason}"
    last = next((e for e in reversed(q.following(a.id)) if isinstance(e, ev.Failed)), None)
    if last is None or last.error is None or last.kind != "interrupted":
        return None
    if last.error.type == BudgetSpent.__name__:
        return "budget", f"was stopped and asks again in the next run: {last.error.message}"
    if last.error.type in _TOO_MUCH:
        return "budget", f"was stopped and runs again when the board is opened anew: {last.error.message}"
    return None


# -- it waits, or was taken away --------------------------------------------------------------------------------------


def _placed(q: Question, follows: list[Event]) -> list[Hindrance]:
    """Places that the artifact has, or has lost."""
    reasons: list[Hindrance] = []
    id = q.artifact.seq
    for e in follows:
        if isinstance(e, ev.Matched) and q.about(e.subscription) and id in q.state.waiting.get(e.subscription, {}):
            reasons.append(Hindrance("waiting", _waiting(q, e), e.subscription))
    if not reasons:
        expired = [e for e in follows if isinstance(e, ev.Expired) and q.about(e.subscription)]
        texts = {
            "window": "its place was given up at its deadline, before the rest came",
            "waiting_limit": "its place was given up, as too many waited",
            "changed": "its place was given up, as the subscription was redefined",
            "cancelled": "its place was given up, as its work was cancelled",
        }
        reasons = [Hindrance("expired", f"{texts[e.reason]} ({when(e.at)})", e.subscription) for e in expired[-1:]]
    return reasons


def _waiting(q: Question, e: ev.Matched) -> str:
    places = q.state.groups[e.subscription, e.scope, e.key]
    has = ", ".join(f"{q.state.alive[i].type}@{i}" for i in sorted(i for ids in places for i in ids)[:5])
    spec = q.specs.get(q.agent)
    subscription = next((s for s in spec.subscriptions if s.id == e.subscription), None) if spec else None
    if subscription is None:
        return f"it waits{f' under key {e.key}' if e.key else ''} with {has} for more"
    key = f" by {key_name(subscription.by)}={e.key}" if subscription.by is not None else ""
    return f"it waits{key}: has {has}; lacks {', '.join(lacking(subscription, places))}{_deadline(q, subscription)}"


def _deadline(q: Question, subscription: Subscription) -> str:
    if subscription.within == "idle":
        return "; when nothing else can run it goes on without"
    if subscription.within is None:
        return ""
    place = q.state.waiting[subscription.id][q.artifact.seq]
    return f"; until {when(place.at + subscription.within)}"


def _withheld(q: Question, follows: list[Event]) -> list[Hindrance]:
    """What kept the artifact from everybody, or from who published it."""
    held = q.state.held.get(q.artifact.seq)
    if held is not None:
        until = f" until {when(held.until)}" if held.until is not None else ""
        if held.by == "visibility":
            return [Hindrance("visibility", f"nobody may see it{until}")]
        return [Hindrance("reviewer", f"it is held for review by {held.by}{until}, and not released")]
    withdrawn = next((e for e in follows if isinstance(e, ev.Withdrawn)), None)
    if withdrawn is not None:
        return [Hindrance("withdrawn", f"it was withdrawn by {withdrawn.by}: {withdrawn.reason}")]
    if q.artifact.replaces:
        return [
            Hindrance(
                "edited", f"it stands in for {q.artifact.replaces} in what was tried again, and is for that alone"
            )
        ]
    skipped = [*q.artifact.self_skipped, *(n for e in follows if isinstance(e, ev.Released) for n in e.self_skipped)]
    if q.agent in skipped:
        return [Hindrance("self_trigger", "it published the artifact itself, and self_trigger is off")]
    return []


def _away(q: Question, first: ev.Enrolled | None) -> list[Hindrance]:
    if first is None:
        return [Hindrance("absent", f"it took no part up to {q.until}; resume the board with it")]
    if first.seq > q.artifact.seq and first.since >= q.artifact.seq:
        way_out = "what was there before is offered only with since='start'"
        why = way_out if q.artifact.payload else "what is erased is not offered"
        return [Hindrance("late", f"it takes part from {first.seq} on; {why}")]
    return []


def _refused(q: Question) -> list[Hindrance]:
    """The tests of its definition that the artifact does not pass."""
    spec = q.specs.get(q.agent)
    if spec is None:
        again = f"stigmergy why-not {shlex.quote(q.name)} {q.agent} {q.artifact.seq} FILE"
        text = "what it tests is not on the log, and its definition is not at hand"
        return [Hindrance("unknown", text if q.specs else f"{text}. Ask with the file that defines it: {again}")]
    if q.agent in q.reserve:
        return [Hindrance("reserve", "it is in reserve, and gets only what a component hands over to it")]
    asked = takers(spec)
    of_type = [t for t in asked if t.slot.type_name == q.artifact.type]
    if not of_type:
        consumed = ", ".join(dict.fromkeys(t.slot.type_name for t in asked)) or "nothing"
        return [Hindrance("type", f"it consumes {consumed}, not {q.artifact.type}")]
    try:
        payload: Any = opened(q.types, q.artifact).payload
    except StigmergyError as error:
        return [Hindrance("type", f"the artifact cannot be read: {error}")]
    reasons: list[Hindrance] = []
    for taker in of_type:
        found = refusal(taker, candidate(q.artifact, payload), q.state.at, q.artifact.at)
        if found is None:
            text = "as it is defined now it takes it; then it was defined otherwise, or not there"
            reasons.append(Hindrance("redefined", text, taker.subscription.id))
        else:
            reasons.append(Hindrance(found.test, found.text, taker.subscription.id))
    return reasons
