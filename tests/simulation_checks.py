"""What must hold between a decider, its state and the books, after every step of a simulation."""

from collections import Counter
from collections.abc import Sequence

from stigmergy.blackboard import component as cp
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.core.agenda import WEIGHT
from stigmergy.blackboard.core.decider import Decider
from stigmergy.blackboard.core.decision import request_of
from stigmergy.blackboard.core.records import Activation
from stigmergy.blackboard.core.running import over_limit
from stigmergy.blackboard.core.state import State
from stigmergy.blackboard.events import Event
from tests.simulation_books import Books


def check_conservation(decider: Decider, books: Books) -> None:
    """What was activated is open, completed or ended, and what is open waits in exactly one place."""
    state = decider.state
    assert state.activations.keys() == books.open.keys(), "activations are lost or left over"
    assert state.seq == books.last
    running = {id for id, run in books.open.items() if run.fence}
    assert state.running == running == {a.id for a in state.activations.values() if a.status == "running"}
    on_agenda = agenda_ids(decider)
    assert decider.agenda.count == len(on_agenda), "the agenda has miscounted"
    assert len(on_agenda) == len(set(on_agenda)), "an activation is on the agenda twice"
    deadlines = {(t.kind, t.subject, t.due) for t in decider.timers._heap if decider.timers._live(t)}
    for a in state.activations.values():
        places = [
            a.id in on_agenda,
            a.id in state.running,
            any(a.id in held for held in decider._held.values()),
            a.status == "retrying" and ("retry", a.id, a.due) in deadlines,
            a.status == "blocked" and all(a.id in state.blocked_on[w] for w in a.waits) and bool(a.blockers),
            a.id in decider.suspects,
            a.id in decider.parked,
            a.id in decider.unserved,
        ]
        assert sum(places) == 1, f"{a} is in {sum(places)} places: {places}"
        run = books.open[a.id]
        assert (a.attempts, a.crashes, a.fence if run.fence else 0) == (run.attempts, run.crashes, run.fence)
        assert a.status != "held" or a.due is None or ("hold", a.id, a.due) in deadlines


def agenda_ids(decider: Decider) -> list[int]:
    """The activations on the agenda."""
    agenda = decider.agenda
    unlimited = [entry for entry in agenda._best if not entry[2]]
    return [id for heap in (unlimited, *agenda._ready.values()) for _, id, _ in heap if id not in agenda._gone]


def check_places(state: State, books: Books) -> None:
    """What waits is what the books say, in the same order."""
    waiting = {id: list(places) for id, places in state.waiting.items() if places}
    assert waiting == {id: list(places) for id, places in books.waiting.items() if places}, "other artifacts wait"
    in_groups = [id for slots in state.groups.values() for ids in slots for id in ids]
    assert len(in_groups) == sum(map(len, waiting.values())), "groups and places differ"
    assert all(any(slots) for slots in state.groups.values()), "an empty group is kept"
    assert state.held.keys() == books.held.keys(), "other artifacts are held"


def check_alive(state: State) -> None:
    """Nothing that is needed is forgotten, and nothing that is finished is kept."""
    needed = Counter(i for a in state.activations.values() for i in a.inputs)
    needed.update(id for places in state.waiting.values() for id in places)
    needed.update(state.held.keys())
    kept = {a.id: a.refs for a in state.alive.values() if a.refs}
    assert kept == dict(needed), f"refs are {kept}, not {dict(needed)}"
    left_over = state.alive.keys() - needed.keys() - set(state._fresh)
    assert not left_over, f"{left_over} are kept for nobody"
    assert state.calls.keys() == {c for calls in state.calls_of.values() for c in calls}
    assert all(call.activation in state.activations for call in state.calls.values())


def check_works(state: State, books: Books) -> None:
    """A work item is kept until it is done."""
    assert state.works.keys() == books.works.keys() - books.done, "works differ"
    waiting = {w for a in state.activations.values() for w in a.waits}
    assert state.blocked_on.keys() == waiting, "somebody waits for what is done, or is forgotten"


def check_asked_again(decider: Decider) -> None:
    """Nobody is held whom the component would let pass now."""
    for name, held in decider._held.items():
        ids = sorted(held, key=lambda i: (decider.state.activations[i].at, i))
        if not ids or name in decider.observers.faulted:
            continue
        component, state = decider.observers.components[name], decider.observers.states[name]
        try:
            answer = component.admit(state, request_of(decider.state.activations[ids[0]]))
        except RuntimeError:
            continue
        assert isinstance(answer, cp.Hold), f"{ids[0]} is held though {name} says {answer}"


def check_concurrency(decider: Decider, busy: Counter[str]) -> None:
    """No agent runs more bodies than it may, those that were given up included."""
    for name, n in busy.items():
        agent = decider.index.agents.get(name)
        assert agent is None or agent.concurrency is None or n <= agent.concurrency, f"{n} of {name} run"


def check_nothing_claimable(decider: Decider, busy: Counter[str]) -> None:
    """When nothing is given out, nothing could be."""
    state = decider.state
    alone = any(state.activations[id].alone for id in state.running)
    assert not decider.suspects or state.running, "a suspect could run"
    if decider.suspects or alone:
        return
    for id in agenda_ids(decider):
        agent = decider.index.agents[state.activations[id].agent]
        full = agent.concurrency is not None and busy[agent.name] >= agent.concurrency
        assert full, f"activation {id} of {agent.name} could run"


def check_parked(decider: Decider) -> None:
    """What is parked may not start."""
    for id, why in decider.parked.items():
        a = decider.state.activations[id]
        run = decider.state.run(a.run)
        assert run.closed or over_limit(a, run, decider.limits), f"{id} is parked for no reason ({why})"


def check_order(decider: Decider, claimed: Activation, events: Sequence[Event], busy: Counter[str]) -> None:
    """What was given out comes before all that could have been: by priority and age."""
    if claimed.alone:
        return
    started = next(e for e in events if isinstance(e, ev.Claimed))
    released = {e.cause for e in events if isinstance(e, ev.Released)}
    for id in agenda_ids(decider):
        other = decider.state.activations[id]
        agent = decider.index.agents[other.agent]
        free = agent.concurrency is None or busy[agent.name] < agent.concurrency
        if free and id < started.seq and id not in released and other.fence == 0:
            assert rank(claimed) <= rank(other), f"{claimed.id} was given out before {id}"


def rank(a: Activation) -> tuple[float, int]:
    """The order in which activations are given out."""
    return a.at - WEIGHT[a.priority], a.id


def check_nothing_due(decider: Decider) -> None:
    """After a wake-up nothing is due that was due before it."""
    state = decider.state
    for a in state.activations.values():
        assert a.status != "retrying" or a.due is None or a.due > state.at, f"the retry of {a.id} is overdue"
        spec = decider.index.agents.get(a.agent)
        if a.status == "running" and spec is not None and spec.timeout is not None:
            assert a.claimed_at + spec.timeout > state.at, f"{a.id} runs beyond its timeout"
    for held in state.held.values():
        assert held.until is None or held.until > state.at, f"{held.id} is overdue"
    for id, places in state.waiting.items():
        subscription = decider.index.subscriptions.get(id)
        within = subscription.within if subscription is not None else None
        for place in places.values():
            assert not isinstance(within, float) or place.at + within > state.at, f"{place.id} waits too long"
