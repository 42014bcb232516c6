"""What work there is and how far it has come, by phase: the fold that completion, statistics and metrics share.

A unit of work is one activation. Work that names a phase and that no agent has taken yet is pending in that phase.
The phase of an activation is its agent's, else that of the work it was given, else "" (no phase).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from stigmergy.blackboard.component import Seen
from stigmergy.blackboard.errors import BadComponent
from stigmergy.blackboard.events import (
    Activated,
    Claimed,
    Completed,
    Ended,
    Enrolled,
    Event,
    Failed,
    Published,
    Released,
    Withdrawn,
)
from stigmergy.blackboard.payloads.types import asks_for_work

FOLDED: tuple[type[Event], ...] = (
    Enrolled, Published, Withdrawn, Activated, Claimed, Released, Failed, Completed, Ended,
)  # fmt: skip
"""The events that `WorkLog.after` looks at."""

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class PhaseCounts:
    """Units of work of one phase; `failed` are dead letters and what waited for them, `dropped` was skipped,
    cancelled or withdrawn."""

    completed: int = 0
    active: int = 0
    pending: int = 0
    failed: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class NamedWork:
    """Work that others may wait for: how many activations on it are open, and whether one failed."""

    run: str
    id: str
    open: int = 0
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Blocked:
    """An activation that waits for work: run and id of each; `hidden` from some if one of its inputs is."""

    on: tuple[tuple[str, str], ...]
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class WorkLog:
    """All counts by phase, and what is open.

    Attributes:
        phases: phase -> counts, in order of first appearance.
        untaken: artifact -> phase, for work that no agent has taken.
        pending, active: activation -> phase, for those that wait and those that run.
        blocked: those of `pending` that wait for other work.
        failed: dead letter -> phase.
        named: artifact -> work that has a name and is not done.
        agents: agent -> the phase it serves.
        told: phases that everybody may know of, since artifacts for everybody name them.
        hidden: work that waits for other work, and that not everybody may see.
    """

    phases: dict[str, PhaseCounts] = field(default_factory=dict)
    untaken: dict[int, str] = field(default_factory=dict)
    pending: dict[int, str] = field(default_factory=dict)
    active: dict[int, str] = field(default_factory=dict)
    blocked: dict[int, Blocked] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    named: dict[int, NamedWork] = field(default_factory=dict)
    agents: dict[str, str] = field(default_factory=dict)
    told: frozenset[str] = frozenset()
    hidden: frozenset[int] = frozenset()

    @property
    def open(self) -> int:
        """Units of work that are not over."""
        return len(self.untaken) + len(self.pending) + len(self.active)

    @property
    def completed(self) -> int:
        """Activations that completed, of all phases and of none."""
        return sum(counts.completed for counts in self.phases.values())

    @property
    def active_phases(self) -> list[str]:
        """The phases that have open work."""
        return [phase for phase, counts in self.phases.items() if phase and (counts.active or counts.pending)]

    @property
    def blocked_by(self) -> list[str]:
        """The work ids that something waits for, each once."""
        return sorted({work for blocked in self.blocked.values() for _, work in blocked.on})

    def public(self) -> "WorkLog":
        """What can be published to everybody: without the names of phases and work that only private work says."""
        told = self.told.union(self.agents.values())
        phases = {phase: counts for phase, counts in self.phases.items() if phase in told}
        return replace(self, phases=phases, blocked={id_: b for id_, b in self.blocked.items() if not b.hidden})

    def after(self, seen: Seen) -> "WorkLog":
        """The log after one more event; the same object if the event changes nothing."""
        match seen.event:
            case Published() as event:
                return self._published(event, seen)
            case Activated() as event:
                return self._activated(event, seen)
            case Claimed(cause=id_):
                return self._claimed(id_)
            case Failed(cause=id_):
                return self._failed(id_)
            case Completed(cause=id_):
                return self._over(id_, "completed", seen)
            case Ended(cause=id_, outcome=outcome):
                return self._over(id_, "failed" if outcome in ("dead_letter", "blocker_failed") else "dropped", seen)
            case Withdrawn(cause=id_) if id_ in self.untaken:
                phases = _count(self.phases, self.untaken[id_], pending=-1, dropped=1)
                return replace(self, phases=phases, untaken=without(self.untaken, id_))
            case Released(cause=id_) if id_ in self.blocked:
                return replace(self, blocked=without(self.blocked, id_))
            case Enrolled(role="agent", name=name, phase=phase) if self.agents.get(name, "") != (phase or ""):
                return replace(self, agents={**self.agents, name: phase or ""})
            case _:
                return self

    def _published(self, event: Published, seen: Seen) -> "WorkLog":
        log = self
        if event.work is not None:
            log = replace(log, named={**log.named, event.seq: NamedWork(event.run, event.work)})
        if is_work(seen):
            phase = event.phase or str(getattr(seen.artifact and seen.artifact.payload, "phase", ""))
            phases = _count(log.phases, phase, pending=1)
            log = replace(log, phases=phases, untaken={**log.untaken, event.seq: phase})
            if event.visibility is None and not event.held_by and phase not in log.told:
                log = replace(log, told=log.told | {phase})
        if event.blocking and (event.visibility is not None or event.held_by):
            log = replace(log, hidden=log.hidden | {event.seq})
        return log

    def _activated(self, event: Activated, seen: Seen) -> "WorkLog":
        phases, untaken, named, failed = self.phases, self.untaken, self.named, self.failed
        for artifact in event.inputs:
            if artifact in untaken:
                phases = _count(phases, untaken[artifact], pending=-1)
                untaken = without(untaken, artifact)
            if artifact in named:
                work = named[artifact]
                named = {**named, artifact: replace(work, open=work.open + 1, failed=False)}
        if event.redriven in failed:
            phases = _count(phases, failed[event.redriven], failed=-1)
            failed = without(failed, event.redriven)
        given = seen.activation.phase if seen.activation else None
        phase = self.agents.get(event.agent) or given or ""
        phases = _count(phases, phase, pending=1)
        blocked = self.blocked
        if event.blockers:
            blocked = {**blocked, event.seq: Blocked(tuple(event.waits), not self.hidden.isdisjoint(event.inputs))}
        pending = {**self.pending, event.seq: phase}
        return replace(
            self, phases=phases, untaken=untaken, pending=pending, blocked=blocked, failed=failed, named=named
        )

    def _claimed(self, id_: int) -> "WorkLog":
        if id_ not in self.pending:
            return self
        phase = self.pending[id_]
        return replace(
            self,
            phases=_count(self.phases, phase, pending=-1, active=1),
            pending=without(self.pending, id_),
            active={**self.active, id_: phase},
            blocked=without(self.blocked, id_),
        )

    def _failed(self, id_: int) -> "WorkLog":
        if id_ not in self.active:
            return self
        phase = self.active[id_]
        return replace(
            self,
            phases=_count(self.phases, phase, active=-1, pending=1),
            active=without(self.active, id_),
            pending={**self.pending, id_: phase},
        )

    def _over(self, id_: int, how: str, seen: Seen) -> "WorkLog":
        if id_ in self.active:
            phase, was = self.active[id_], "active"
        elif id_ in self.pending:
            phase, was = self.pending[id_], "pending"
        else:
            return self
        named, blocked = self.named, without(self.blocked, id_)
        skipped = isinstance(seen.event, Ended) and seen.event.outcome == "skipped"
        for artifact in seen.activation.inputs if seen.activation else ():
            if artifact in named:
                work = named[artifact]
                work = replace(work, open=work.open - 1, failed=work.failed or not (how == "completed" or skipped))
                if work.open or work.failed:
                    named = {**named, artifact: work}
                else:
                    named, blocked = without(named, artifact), _unblock(blocked, work)
        return replace(
            self,
            phases=_count(self.phases, phase, **{was: -1, how: 1}),
            active=without(self.active, id_),
            pending=without(self.pending, id_),
            blocked=blocked,
            failed={**self.failed, id_: phase} if how == "failed" else self.failed,
            named=named,
        )


def phase_names(phases: Iterable[str]) -> tuple[str, ...]:
    """The names, for a component that is told of phases.

    Raises:
        BadComponent: they are none.
    """
    names: tuple[str, ...] = ("",) if isinstance(phases, str) or not isinstance(phases, Iterable) else tuple(phases)
    if not all(isinstance(name, str) and name for name in names):
        raise BadComponent(f"{phases!r} is no list of phases. Give a list of names, or PHASES.")
    return names


def is_work(seen: Seen) -> bool:
    """Whether an artifact was published that asks for work."""
    return seen.artifact is not None and asks_for_work(seen.artifact.payload)


def without(mapping: dict[int, V], key: int) -> dict[int, V]:
    """The mapping without this key; the same object if the key is not in it."""
    if key not in mapping:
        return mapping
    rest = mapping.copy()
    del rest[key]
    return rest


def _count(phases: dict[str, PhaseCounts], phase: str, **by: int) -> dict[str, PhaseCounts]:
    old = phases.get(phase, PhaseCounts())
    return {**phases, phase: replace(old, **{name: getattr(old, name) + n for name, n in by.items()})}


def _unblock(blocked: dict[int, Blocked], work: NamedWork) -> dict[int, Blocked]:
    done = (work.run, work.id)
    if not any(done in b.on for b in blocked.values()):
        return blocked
    rest: dict[int, Blocked] = {}
    for id_, b in blocked.items():
        if on := tuple(w for w in b.on if w != done):
            rest[id_] = replace(b, on=on)
    return rest
