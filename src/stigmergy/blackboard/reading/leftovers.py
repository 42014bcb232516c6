"""What is left on a board, each kind with its facts and the next thing to do about it.

All of it is read off the folded state and the ledger, so a living board and a file give the same answer.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import ClassVar, Literal

from pydantic import JsonValue

from stigmergy.blackboard.core.ledger import Ledger
from stigmergy.blackboard.core.records import Activation
from stigmergy.blackboard.core.state import State
from stigmergy.blackboard.definitions import Subscription
from stigmergy.blackboard.events import ErrorInfo
from stigmergy.blackboard.text import number, short, when

LISTED = 1_000
"""How many things of one kind a report lists; all are counted."""


def next_command(store: str, verb: str, *arguments: object) -> str:
    """What to type next: a command for a file, a call for a board in memory."""
    if store == "memory":
        call = f"board.{verb}({', '.join('...' if a is ... else repr(a) for a in arguments)})"
        return f"await {call}" if verb in ("retry", "answer") else call
    return " ".join(["stigmergy", verb, shlex.quote(store), *(shlex.quote(str(a)) for a in arguments)])


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An activation that failed for good; `inputs` as `Type@id`."""

    kind: ClassVar[str] = "dead letter"
    activation: int
    agent: str
    inputs: tuple[str, ...]
    error: ErrorInfo | None
    reason: str
    attempts: int

    def line(self) -> str:
        """What happened."""
        what = f"{self.error.type}: {self.error.message}" if self.error and self.error.message else self.reason
        if self.error and not self.error.message:
            what = self.error.type
        tries = f", {number(self.attempts, 'attempt')}" if self.attempts > 1 else ""
        return f"{self.agent}@{self.activation} on {_some(self.inputs)}: {short(what, 72)}{tries}"

    def command(self, store: str) -> str:
        """What to do next."""
        return next_command(store, "retry", self.activation)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A question to a person; `until` is log time, and what is asked for is one of the choices, if there are any."""

    kind: ClassVar[str] = "question"
    id: int
    by: str
    about: int
    what: str
    choices: tuple[JsonValue, ...]
    until: float | None

    def line(self) -> str:
        """Who asks what."""
        choices = f" ({', '.join(_written(c) for c in self.choices)})" if self.choices else ""
        until = f" until {when(self.until)}" if self.until is not None else ""
        return f"HumanQuestion@{self.id} by {self.by}: {short(self.what, 72)}{choices}{until}"

    def command(self, store: str) -> str:
        """What to do next."""
        if store == "memory":
            return next_command(store, "answer", self.id, self.choices[0] if self.choices else ...)
        return next_command(store, "answer", self.id, _written(self.choices[0]) if self.choices else "field=value")


def _written(choice: JsonValue) -> str:
    return str(choice).lower() if isinstance(choice, bool) else str(choice)


@dataclass(frozen=True, slots=True)
class NoConsumer:
    """An artifact that nobody took; `self_skipped` would have, but published it."""

    kind: ClassVar[str] = "no consumer"
    id: int
    type: str
    phase: str | None
    self_skipped: tuple[str, ...]

    def line(self) -> str:
        """Which."""
        return f"{self.type}@{self.id}" + (f' (phase "{self.phase}")' if self.phase else "")

    def command(self, store: str) -> str:
        """Why."""
        if self.self_skipped:
            return f"only {', '.join(self.self_skipped)} takes it, who published it (self_trigger=)"
        return "no agent consumes this phase" if self.phase else "no agent that is enrolled takes it"


@dataclass(frozen=True, slots=True)
class WaitingJoin:
    """Artifacts in places of a subscription that waits for more; `lacks` is empty if its definition is not at hand,
    `until` is the log time of its deadline, if it has one."""

    kind: ClassVar[str] = "join waiting"
    subscription: str
    agent: str
    key: str
    has: tuple[str, ...]
    lacks: tuple[str, ...]
    latest: int
    until: float | None = None

    def line(self) -> str:
        """What is there and what is lacking."""
        key = f", {self.key}" if self.key else ""
        lacks = f"lacks {', '.join(self.lacks)}" if self.lacks else "waits for more"
        until = f" (until {when(self.until)})" if self.until is not None else ""
        return f"{self.agent}{key}: has {_some(self.has)}, {lacks}{until}"

    def command(self, store: str) -> str:
        """What to do next."""
        return next_command(store, "why-not" if store != "memory" else "why_not", self.agent, self.latest)


@dataclass(frozen=True, slots=True)
class Blocked:
    """An activation that waits for work that is not done."""

    kind: ClassVar[str] = "blocked"
    activation: int
    agent: str
    inputs: tuple[str, ...]
    works: tuple[str, ...]

    def line(self) -> str:
        """Who waits for what."""
        works = ", ".join(f'"{w}"' for w in self.works[:3]) + (", …" if len(self.works) > 3 else "")
        return f"{self.agent}@{self.activation} on {_some(self.inputs)} waits for work {works}"

    def command(self, store: str) -> str:
        """What to do next."""
        return next_command(store, "why", self.activation)


@dataclass(frozen=True, slots=True)
class HeldBack:
    """An artifact or activation that somebody holds; `until` is log time."""

    kind: ClassVar[str] = "held"
    id: int
    subject: str
    by: str
    reason: str
    until: float | None

    def line(self) -> str:
        """What, by whom, why."""
        reason = f": {short(self.reason, 60)}" if self.reason else ""
        until = f" until {when(self.until)}" if self.until is not None else ""
        return f"{self.subject} by {self.by}{until}{reason}"

    def command(self, store: str) -> str:
        """What to do next."""
        return next_command(store, "why", self.id)


@dataclass(frozen=True, slots=True)
class Due:
    """A deadline that work waits for; `at` is log time."""

    kind: ClassVar[str] = "due"
    timer: Literal["retry", "sleep"]
    subject: str
    id: int
    at: float

    def line(self) -> str:
        """What comes when."""
        return f"{self.timer} of {self.subject} at {when(self.at)}"

    def command(self, store: str) -> str:
        """What to do next."""
        return next_command(store, "why", self.id)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Activations of one agent that have not ended: ready ones, and those running when the log ends; `gone` if the
    agent did not take part when the board was last run."""

    kind: ClassVar[str] = "not finished"
    agent: str
    ready: int
    running: int
    oldest: int
    gone: bool = False

    def line(self) -> str:
        """How many."""
        parts = [f"{n:,} {word}" for n, word in ((self.ready, "ready"), (self.running, "running")) if n]
        return f"{self.agent}: {', '.join(parts)}" + (", and no such agent takes part" if self.gone else "")

    def command(self, store: str) -> str:
        """What to do next."""
        if self.gone:
            return f"define agent {self.agent!r} again, or await board.cancel({self.oldest})"
        return (
            "await board.run_until_idle()"
            if store == "memory"
            else f"stigmergy resume FILE --store {shlex.quote(store)}"
        )


@dataclass(frozen=True, slots=True)
class FailedComponent:
    """A component that raised."""

    kind: ClassVar[str] = "component failed"
    component: str
    error: ErrorInfo | None

    def line(self) -> str:
        """What it raised."""
        return f"{self.component}: {self.error.type}: {short(self.error.message, 72)}" if self.error else self.component

    def command(self, store: str) -> str:
        """What it means."""
        return "out of service; what it guards is denied. Mend it, raise its version= and open the board again"


@dataclass(frozen=True, slots=True)
class PutAside:
    """What ended on purpose without being done, by reason: skipped, cancelled, expired, withdrawn, blocker failed."""

    outcome: str
    subject: str
    reason: str
    count: int
    first: int

    def line(self) -> str:
        """How many, and why."""
        times = f" ({self.count:,} times)" if self.count > 1 else ""
        return f"{self.subject}{': ' + short(self.reason, 72) if self.reason else ''}{times}"


Leftover = Unanswered | DeadLetter | NoConsumer | WaitingJoin | Blocked | HeldBack | Due | Unfinished | FailedComponent


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Everything that is left; of each kind at most a thousand (the first and last thousand of dead letters and of
    what nobody took) are listed, and `count` is of all."""

    questions: tuple[Unanswered, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    failed_components: tuple[FailedComponent, ...] = ()
    no_consumer: tuple[NoConsumer, ...] = ()
    waiting: tuple[WaitingJoin, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    held: tuple[HeldBack, ...] = ()
    due: tuple[Due, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()
    count: int = 0

    def by_kind(self) -> list[tuple[Leftover, ...]]:
        """The kinds of which there are any, the gravest first."""
        kinds: list[tuple[Leftover, ...]] = [
            self.questions, self.dead_letters, self.failed_components, self.no_consumer, self.waiting, self.blocked,
            self.held, self.due, self.unfinished,
        ]  # fmt: skip
        return [kind for kind in kinds if kind]


def left_on(
    state: State, ledger: Ledger, ref: Callable[[int], str], subscriptions: Mapping[str, Subscription] | None = None
) -> Leftovers:
    """What is left.

    Args:
        ref: the name of an artifact that is no longer in the state: `Type@12`.
        subscriptions: definitions by id, to say what a join lacks.
    """

    def name(artifact: int) -> str:
        alive = state.alive.get(artifact)
        return f"{alive.type}@{artifact}" if alive is not None else ref(artifact)

    def names(ids: Iterable[int]) -> tuple[str, ...]:
        return tuple(name(i) for i in ids)

    if not (
        state.activations
        or state.waiting
        or state.held
        or state.faulted
        or ledger.dead
        or ledger.orphans.count
        or ledger.questions
    ):
        return Leftovers()
    dead = tuple(
        DeadLetter(e.activation, e.agent, names(e.inputs), e.error, e.reason, e.attempts) for e in ledger.dead_letters
    )
    orphans = tuple(NoConsumer(o.id, o.type, o.phase, tuple(o.self_skipped)) for o in ledger.orphans)
    blocked = [a for a in state.activations.values() if a.status == "blocked"]
    asking = {q.about for q in ledger.questions.values()}
    held = [a for a in state.activations.values() if a.status == "held" and a.id not in asking]
    waiting = _waiting(state, subscriptions or {}, names)
    due = _due(state)
    unfinished = _unfinished(state)
    questions = list(ledger.questions.values())
    return Leftovers(
        questions=tuple(
            Unanswered(q.id, q.by, q.about, q.what, tuple(q.choices), q.until) for q in questions[:LISTED]
        ),
        dead_letters=dead,
        failed_components=tuple(FailedComponent(c, ledger.faulted.get(c)) for c in state.faulted),
        no_consumer=orphans,
        waiting=tuple(waiting),
        blocked=tuple(Blocked(a.id, a.agent, names(a.inputs), _works(a)) for a in blocked[:LISTED]),
        held=(
            *(HeldBack(h.id, name(h.id), h.by, "", h.until) for h in list(state.held.values())[:LISTED]),
            *(HeldBack(a.id, f"{a.agent}@{a.id}", a.held_by, a.reason, a.due) for a in held[:LISTED]),
        ),
        due=tuple(nsmallest(LISTED, due, key=lambda d: d.at)),
        unfinished=tuple(unfinished),
        count=len(questions) + ledger.dead + ledger.orphans.count + len(state.faulted) + len(state.groups)
        + len(blocked) + len(held) + len(state.held) + len(due) + len(unfinished),
    )  # fmt: skip


def _works(a: Activation) -> tuple[str, ...]:
    """What it waits for by name, with the run where that is another than its own."""
    return tuple(work if run == a.run else f"{work} of run {run}" for run, work in a.waits)


def _waiting(
    state: State, subscriptions: Mapping[str, Subscription], names: Callable[[Iterable[int]], tuple[str, ...]]
) -> list[WaitingJoin]:
    found = []
    # By age and not as they come, which depends on whether the state was folded or loaded from a snapshot.
    groups = nsmallest(
        LISTED, state.groups.items(), key=lambda group: (min(i for ids in group[1] for i in ids), group[0])
    )
    for (feed, _, key), places in groups:
        ids = sorted(i for place in places for i in place)
        subscription = subscriptions.get(feed)
        lacks = lacking(subscription, places) if subscription else []
        by = subscription.by if subscription and isinstance(subscription.by, str) else "key"
        label = f"{by}={key}" if key else ""
        within = subscription.within if subscription else None
        until = state.waiting[feed][ids[0]].at + within if isinstance(within, float | int) else None
        found.append(WaitingJoin(feed, _agent(feed), label, names(ids[:LISTED]), tuple(lacks), ids[-1], until))
    return found


def lacking(subscription: Subscription, places: Sequence[Sequence[int]]) -> list[str]:
    """What a group still waits for: `Stock`, `2 Order`."""
    lacks: list[str] = []
    for i, slot in enumerate(subscription.slots):
        missing = slot.count - (len(places[i]) if i < len(places) else 0)
        if missing > 0:
            lacks.append(slot.type_name if slot.count == 1 else f"{missing:,} {slot.type_name}")
    return lacks or [f"other groups ({subscription.groups} at a time)"]


def _due(state: State) -> list[Due]:
    found = [
        Due("retry", f"{a.agent}@{a.id}", a.id, a.due)
        for a in state.activations.values()
        if a.status == "retrying" and a.due is not None
    ]
    for call in state.calls.values():
        a = state.activations.get(call.activation)
        if call.until is not None and a is not None:
            found.append(Due("sleep", f"{a.agent}@{a.id}", a.id, call.until))
    return found


def _unfinished(state: State) -> list[Unfinished]:
    roster = state.roster
    by_agent: dict[str, list[Activation]] = {}
    for a in state.activations.values():
        if a.status in ("ready", "running"):
            by_agent.setdefault(a.agent, []).append(a)
    return [
        Unfinished(
            agent, sum(a.status == "ready" for a in some), sum(a.status == "running" for a in some), some[0].id,
            agent not in roster,
        )
        for agent, some in by_agent.items()
    ]  # fmt: skip


def put_aside(ledger: Ledger) -> tuple[PutAside, ...]:
    """What ended on purpose without being done, by who and why, the most frequent first."""
    things: dict[tuple[str, str, str], tuple[int, int]] = {}

    def add(outcome: str, subject: str, reason: str, id: int) -> None:
        count, first = things.get((outcome, subject, reason), (0, id))
        things[outcome, subject, reason] = (count + 1, first)

    for e in ledger.put_aside:
        add(e.outcome.replace("_", " "), e.agent, e.reason, e.activation)
    for d in ledger.expired:
        for artifact in d.artifacts:
            add("expired", _agent(d.subscription), _EXPIRED.get(d.reason, d.reason), artifact)
    for w in ledger.withdrawn:
        add("withdrawn", w.by, w.reason, w.id)
    found = [PutAside(*what, *count) for what, count in things.items()]
    return tuple(nsmallest(LISTED, found, key=lambda p: -p.count))


_EXPIRED = {
    "window": "inputs whose rest did not come in time",
    "waiting_limit": "the oldest inputs, as too many waited",
    "changed": "inputs of a subscription that was changed",
    "cancelled": "inputs whose work was cancelled",
}


def _agent(subscription: str) -> str:
    return subscription.rpartition("/")[0] or subscription


def _some(refs: tuple[str, ...]) -> str:
    return ", ".join(refs[:3]) + (f" and {len(refs) - 3:,} more" if len(refs) > 3 else "")
