"""Numbers about a workflow while it goes on."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import frexp
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from stigmergy.blackboard.component import Component, Publish, Reaction, Seen
from stigmergy.blackboard.definitions import is_number
from stigmergy.blackboard.errors import BadComponent
from stigmergy.blackboard.events import Activated, Completed, Event, Failed, Idled, Published
from stigmergy.components.worklog import FOLDED, PhaseCounts, WorkLog, is_work, phase_names

_STEPS = 32
"""Buckets per doubling of a duration: a quantile is at most 3 % off, and a day has fewer than 1,000 buckets."""
_SHORTEST = 2.0**-20


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the attempts of one agent took.

    Attributes:
        count: attempts that ended by themselves, well or badly.
        seconds: their sum.
        failed: how many of them ended badly.
        rejected: how many of those because a component refused the outputs.
        buckets: attempts by size.
    """

    count: int = 0
    seconds: float = 0.0
    failed: int = 0
    rejected: int = 0
    buckets: dict[int, int] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Seconds on average; 0 without attempts."""
        return self.seconds / self.count if self.count else 0.0

    @property
    def p95(self) -> float:
        """Seconds that 95 % of the attempts did not exceed, at most 3 % off; 0 without attempts."""
        rank = -(-95 * self.count // 100)
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank <= 0:
                exponent, step = divmod(bucket, _STEPS)
                return float((step + _STEPS + 0.5) / (2 * _STEPS) * 2.0**exponent)
        return 0.0

    def after(self, seconds: float, *, failed: bool = False, rejected: bool = False) -> "Timing":
        """With one more attempt."""
        mantissa, exponent = frexp(max(seconds, _SHORTEST))
        bucket = exponent * _STEPS + int(mantissa * 2 * _STEPS) - _STEPS
        return Timing(
            self.count + 1,
            self.seconds + seconds,
            self.failed + failed,
            self.rejected + rejected,
            {**self.buckets, bucket: self.buckets.get(bucket, 0) + 1},
        )


@dataclass(frozen=True, slots=True)
class Statistics:
    """What `PhaseStatistics` knows.

    Attributes:
        work: counts by phase and what is open (`work.phases`, `.active_phases`, `.blocked`, `.blocked_by`).
        agents: agent -> how long its attempts took.
        transitions: "analysis -> implementation" -> how often work of one phase led to work of another.
        origin: the phase of the activation whose outputs are being published, and its decision.
    """

    work: WorkLog = field(default_factory=WorkLog)
    agents: dict[str, Timing] = field(default_factory=dict)
    transitions: dict[str, int] = field(default_factory=dict)
    origin: tuple[int, str] = (0, "")


class PhaseStatistics(Component[Statistics]):
    """Counts completed, active and pending work by phase, times the agents, and counts what leads where.

    Args:
        phases: phases that are listed even while they have no work.
    """

    observes: ClassVar[tuple[type[Event], ...]] = FOLDED

    def __init__(self, phases: Iterable[str] = ()) -> None:
        self._phases = phase_names(phases)

    def start(self) -> Statistics:
        return Statistics(WorkLog({phase: PhaseCounts() for phase in self._phases}))

    def step(self, state: Statistics, seen: Seen, /) -> Statistics:
        event, before = seen.event, state.work
        work = before.after(seen)
        if work is not before:
            state = replace(state, work=work)
        if isinstance(event, Activated):
            return _with_transition(state, event)
        if isinstance(event, Published):
            phase = before.active.get(event.cause)
            return state if phase is None or event.system else replace(state, origin=(event.tx, phase))
        if isinstance(event, Completed | Failed) and seen.activation is not None:
            if isinstance(event, Failed):
                if event.kind in ("interrupted", "crashed"):
                    return state
                timing = {"failed": True, "rejected": event.kind == "rejected"}
            else:
                state = replace(state, origin=(event.tx, before.active.get(event.cause, "")))
                timing = {}
            agent = seen.activation.agent
            times = state.agents.get(agent, Timing()).after(event.seconds, **timing)
            return replace(state, agents={**state.agents, agent: times})
        return state


def _with_transition(state: Statistics, event: Activated) -> Statistics:
    tx, origin = state.origin
    phase = state.work.pending.get(event.seq)
    if tx != event.tx or not origin or not phase:
        return state
    name = f"{origin} -> {phase}"
    return replace(state, transitions={**state.transitions, name: state.transitions.get(name, 0) + 1})


class WorkflowMetrics(BaseModel):
    """How a workflow stands.

    Attributes:
        total_discoveries: work that was ever published.
        completed_work: activations that completed.
        active_phases: phases with open work; none that only artifacts name that not everybody may see.
        blocked_work: activations that wait for other work.
        blocked_by: the work ids they wait for, as far as everybody may see who waits.
        changes: how many changes of the work these numbers include.
    """

    model_config = ConfigDict(frozen=True)

    total_discoveries: int
    completed_work: int
    active_phases: list[str]
    blocked_work: int
    blocked_by: list[str] = []
    changes: int = 0


@dataclass(frozen=True, slots=True)
class MetricsState:
    """The work, how often it changed, and up to which change that was published."""

    work: WorkLog = field(default_factory=WorkLog)
    discoveries: int = 0
    changes: int = 0
    published: int = 0


class Metrics(Component[MetricsState]):
    """Publishes `WorkflowMetrics` of the whole board whenever it comes to rest and the work has changed.

    Its own artifacts are no work, so metrics never lead to metrics.

    Args:
        every: publish after so many changes as well, without waiting for rest.

    Raises:
        BadComponent: `every` is less than 1.
    """

    version = 2
    publishes = (WorkflowMetrics,)
    observes: ClassVar[tuple[type[Event], ...]] = (*FOLDED, Idled)

    def __init__(self, every: int | None = None) -> None:
        if every is not None and (not is_number(every, whole=True) or every < 1):
            raise BadComponent(f"Metrics(every={every!r}) would never publish. Give at least 1, or None for idle only.")
        self._every = every

    def start(self) -> MetricsState:
        return MetricsState()

    def step(self, state: MetricsState, seen: Seen, /) -> MetricsState:
        if isinstance(seen.event, Published) and seen.event.producer == self.name:
            metrics = seen.artifact.as_type(WorkflowMetrics) if seen.artifact else None
            return state if metrics is None else replace(state, published=metrics.changes)
        work = state.work.after(seen)
        if work is state.work:
            return state
        found = isinstance(seen.event, Published) and is_work(seen)
        return replace(state, work=work, discoveries=state.discoveries + found, changes=state.changes + 1)

    def react(self, state: MetricsState, seen: Seen, /) -> Iterable[Reaction]:
        unseen = state.changes - state.published
        at_rest = isinstance(seen.event, Idled) and unseen > 0
        if not at_rest and (self._every is None or unseen < self._every):
            return ()
        work, public = state.work, state.work.public()
        metrics = WorkflowMetrics(
            total_discoveries=state.discoveries,
            completed_work=work.completed,
            active_phases=public.active_phases,
            blocked_work=len(work.blocked),
            blocked_by=public.blocked_by,
            changes=state.changes,
        )
        return [Publish(metrics)]
