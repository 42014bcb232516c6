"""Reading what is left off the folded state and the ledger, so that a living board and a file give the same answer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import nsmallest
from typing import Literal

from stigmergy.blackboard.core.ledger import Ledger
from stigmergy.blackboard.core.records import Activation
from stigmergy.blackboard.core.state import State
from stigmergy.blackboard.definitions import Subscription
from stigmergy.blackboard.reading.leftovers import (
    Blocked,
    DeadLetter,
    Due,
    FailedComponent,
    HeldBack,
    Leftovers,
    NoConsumer,
    PutAside,
    Unanswered,
    Unfinished,
    WaitingInputs,
)

LISTED = 1_000
"""How many things of one kind a report lists; all are counted."""
_EXPIRED = {
    "window": "inputs whose rest did not come in time",
    "waiting_limit": "the oldest inputs, as too many waited",
    "changed": "inputs of a subscription that was changed",
    "cancelled": "inputs whose work was cancelled",
}


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
) -> list[WaitingInputs]:
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
        what: Literal["join", "batch", ""] = "" if subscription is None else "batch" if subscription.batch else "join"
        has = names(ids[:LISTED])
        found.append(WaitingInputs(feed, _agent(feed), label, has, tuple(lacks), ids[-1], until, what))
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


def _agent(subscription: str) -> str:
    return subscription.rpartition("/")[0] or subscription
