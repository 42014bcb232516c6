"""Work that is listed inside a result becomes work on the board, exactly once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from pydantic import BaseModel

from stigmergy.blackboard.component import (
    ACCEPT,
    ActivationRequest,
    Component,
    Publish,
    Reaction,
    Reject,
    Seen,
    Verdict,
)
from stigmergy.blackboard.core.visibility import inherited
from stigmergy.blackboard.events import Completed, Ended, Event, Published, Released, Visibility, Withdrawn
from stigmergy.phases.work import WorkDiscovery, nested_work, same_work, work_in


@dataclass(frozen=True, slots=True)
class Listed:
    """Work found inside an artifact, and who may see that artifact."""

    artifact: int
    work: WorkDiscovery
    visibility: Visibility | None = None


@dataclass(frozen=True, slots=True)
class Outputs:
    """What an activation has published so far: the work inside its results, the work it published itself, and how
    many outputs of its completion are still to come (None while it runs)."""

    listed: tuple[Listed, ...] = ()
    returned: tuple[WorkDiscovery, ...] = ()
    left: int | None = None

    def missing(self) -> list[Listed]:
        """The listed work that was not also returned, each once."""
        known = list(self.returned)
        found = []
        for listed in self.listed:
            if not any(same_work(listed.work, work) for work in known):
                known.append(listed.work)
                found.append(listed)
        return found


@dataclass(frozen=True, slots=True)
class NestedState:
    """What is listed and not published yet.

    Attributes:
        open: activation -> what it has published, for those that have published work or results.
        held: artifact -> the work inside it, for results that are not released yet.
        due: event of the decision `tx` -> the work that follows from it.
        works: run -> work id -> what it waits for, of all work that has a name.
    """

    open: dict[int, Outputs] = field(default_factory=dict)
    held: dict[int, tuple[Listed, ...]] = field(default_factory=dict)
    due: dict[int, tuple[Listed, ...]] = field(default_factory=dict)
    tx: int = 0
    works: dict[str, dict[str, list[str]]] = field(default_factory=dict)


class NestedWork(Component[NestedState]):
    """Publishes the work listed in results (`next_phase_work`, `discovered_issues`, …) as work of its own.

    Work that the agent also returned is not published a second time, in whatever order they come. A plan that is not
    approved publishes nothing, a held result only when it is released, and who may not see a result does not see its
    work. An agent whose list names work that cannot be (a used id, an unknown parent, work that waits for itself) is
    told so and tries again, if it may.
    """

    publishes = (WorkDiscovery,)
    observes: ClassVar[tuple[type[Event], ...]] = (Published, Completed, Ended, Released, Withdrawn)

    def start(self) -> NestedState:
        return NestedState()

    def step(self, state: NestedState, seen: Seen, /) -> NestedState:
        event = seen.event
        if state.due and state.tx != event.tx:
            state = replace(state, due={})
        if isinstance(event, Published):
            return _published(state, event, seen)
        if isinstance(event, Completed):
            outputs = replace(state.open.get(event.cause, Outputs()), left=event.outputs)
            return _with(state, event, outputs)
        if event.cause in state.held:
            held = {id_: listed for id_, listed in state.held.items() if id_ != event.cause}
            due = {**state.due, event.seq: state.held[event.cause]} if isinstance(event, Released) else state.due
            return replace(state, held=held, due=due, tx=event.tx)
        if isinstance(event, Ended) and event.cause in state.open:
            return _with(state, event, replace(state.open[event.cause], left=0))
        return state

    def react(self, state: NestedState, seen: Seen, /) -> Iterable[Reaction]:
        return [Publish(x.work, visibility=x.visibility) for x in state.due.get(seen.event.seq, ())]

    def review(self, state: NestedState, request: ActivationRequest, outputs: tuple[BaseModel, ...], /) -> Verdict:
        known = dict(state.works.get(request.run, {}))
        for output in outputs:
            if isinstance(output, WorkDiscovery) and output.work_id is not None:
                known[output.work_id] = output.blocking_work_ids
        for output in nested_work(outputs)[len(outputs) :]:
            if not isinstance(output, WorkDiscovery):
                continue
            fault = _fault(output, known)
            if fault:
                return Reject(f'the listed work "{output.description[:60]}" {fault}', retry=True)
            if output.work_id is not None:
                known[output.work_id] = output.blocking_work_ids
        return ACCEPT


def _published(state: NestedState, event: Published, seen: Seen) -> NestedState:
    if event.work is not None:
        works = {**state.works.get(event.run, {}), event.work: event.blocking}
        state = replace(state, works={**state.works, event.run: works})
    listed: tuple[Listed, ...] = ()
    if seen.artifact is not None:
        visibility = inherited([event.visibility])
        listed = tuple(Listed(event.seq, work, visibility) for work in work_in(seen.artifact.payload))
    if event.held_by and listed:
        state = replace(state, held={**state.held, event.seq: ()})
    if event.system or not event.cause:
        return _due(state, event, listed)
    work = seen.artifact.as_type(WorkDiscovery) if seen.artifact is not None else None
    outputs = state.open.get(event.cause)
    if outputs is None:
        if work is None and not listed:
            return state
        outputs = Outputs()
    outputs = Outputs(
        listed=outputs.listed + listed,
        returned=outputs.returned if work is None else (*outputs.returned, work),
        left=None if outputs.left is None else outputs.left - 1,
    )
    return _with(state, event, outputs)


def _with(state: NestedState, event: Event, outputs: Outputs) -> NestedState:
    """The state with what an activation has published; if nothing more comes of it, what is missing is due."""
    if outputs.left != 0:
        return replace(state, open={**state.open, event.cause: outputs})
    state = replace(state, open={id_: o for id_, o in state.open.items() if id_ != event.cause})
    return _due(state, event, outputs.missing())


def _due(state: NestedState, event: Event, missing: Iterable[Listed]) -> NestedState:
    """Each piece of work follows from its own result; if that was another decision, from this event."""
    due, held = dict(state.due), dict(state.held)
    for listed in missing:
        if listed.artifact in held:
            held[listed.artifact] += (listed,)
        else:
            at = listed.artifact if listed.artifact >= event.tx else event.seq
            due[at] = (*due.get(at, ()), listed)
    if due == state.due and held == state.held:
        return state
    return replace(state, due=due, held=held, tx=event.tx)


def _fault(work: WorkDiscovery, known: Mapping[str, Sequence[str]]) -> str:
    """What keeps this work from being published; empty if nothing does."""
    if work.parent_work_id is not None and work.parent_work_id not in known:
        return f"has parent_work_id {work.parent_work_id!r}, and this run has no such work. Leave it out."
    if work.work_id is None:
        return ""
    if work.work_id in known:
        return f"has work_id {work.work_id!r}, which is already used. Choose another."
    seen: set[str] = set()
    ahead = list(work.blocking_work_ids)
    while ahead:
        name = ahead.pop()
        if name == work.work_id:
            return f"waits for itself: {work.work_id!r} is among what its blocking_work_ids wait for."
        if name not in seen:
            seen.add(name)
            ahead += known.get(name, ())
    return ""
