"""When a workflow is complete."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from stigmergy.blackboard.component import Component, Publish, Reaction, Seen
from stigmergy.blackboard.errors import BadComponent
from stigmergy.blackboard.events import Activated, Enrolled, Event, Idled, Published
from stigmergy.components.worklog import FOLDED, PhaseCounts, WorkLog, phase_names

Goal = Callable[[Mapping[str, PhaseCounts]], bool]
"""Says of a run's counts by phase whether it has what it was for. Pure."""


class WorkflowComplete(BaseModel):
    """A run has no open work left, and has reached its goal.

    Attributes:
        phases_completed: phases in which work was completed, in the order in which they first had any; none that only
            artifacts name that not everybody may see.
        total_work_items: activations that completed.
        failed_work_items: dead letters and what waited for them; they do not keep a run from being complete.
    """

    model_config = ConfigDict(frozen=True)

    phases_completed: list[str]
    total_work_items: int
    failed_work_items: int = 0


def every_phase(phases: Iterable[str]) -> Goal:
    """The goal that each of these phases has completed work and none that waits or runs.

    Raises:
        BadComponent: these are no names of phases.
    """
    names = phase_names(phases)

    def reached(counts: Mapping[str, PhaseCounts]) -> bool:
        found = [counts.get(name, PhaseCounts()) for name in names]
        return all(c.completed and not c.pending and not c.active for c in found)

    return reached


@dataclass(frozen=True, slots=True)
class CompletionState:
    """The work of the runs that are not complete, and the `WorkflowComplete` artifacts of those that are."""

    runs: dict[str, WorkLog] = field(default_factory=dict)
    complete: dict[str, int] = field(default_factory=dict)
    phase_of: dict[str, str] = field(default_factory=dict)


class Completion(Component[CompletionState]):
    """Publishes `WorkflowComplete` once in every run: when the board is idle and the run has no open work.

    Work that no agent took, that waits for other work, or that is held is open. What is published into a run after
    it was complete does not complete it again.

    Args:
        goal: what else must hold, for example `every_phase(PHASES)`; None = something was completed.

    Raises:
        BadComponent: the goal is no function.
    """

    version = 2
    publishes = (WorkflowComplete,)
    observes: ClassVar[tuple[type[Event], ...]] = (*FOLDED, Idled)

    def __init__(self, goal: Goal | None = None) -> None:
        if goal is not None and not callable(goal):
            raise BadComponent(
                f"Completion(goal={goal!r}): a goal is a function of counts, such as every_phase(PHASES)."
            )
        self._goal = goal

    def start(self) -> CompletionState:
        return CompletionState()

    def step(self, state: CompletionState, seen: Seen, /) -> CompletionState:
        event = seen.event
        if isinstance(event, Enrolled):
            agents = {**state.phase_of, event.name: event.phase or ""}
            runs = {run: log.after(seen) for run, log in state.runs.items()}
            return CompletionState(runs, state.complete, agents)
        if isinstance(event, Published) and event.producer == self.name:
            runs = {run: log for run, log in state.runs.items() if run != event.run}
            return CompletionState(runs, {**state.complete, event.run: event.seq}, state.phase_of)
        run = _run(state, seen)
        if run is None or run in state.complete:
            return state
        before = state.runs.get(run) or WorkLog(agents=state.phase_of)
        after = before.after(seen)
        if after is before:
            return state
        return CompletionState({**state.runs, run: after}, state.complete, state.phase_of)

    def react(self, state: CompletionState, seen: Seen, /) -> Iterable[Reaction]:
        if not isinstance(seen.event, Idled) or seen.event.reason != "idle":
            return
        for run, log in state.runs.items():
            if log.open or not log.completed or not (self._goal is None or self._goal(log.phases)):
                continue
            complete = WorkflowComplete(
                phases_completed=[phase for phase, counts in log.public().phases.items() if phase and counts.completed],
                total_work_items=log.completed,
                failed_work_items=sum(counts.failed for counts in log.phases.values()),
            )
            yield Publish(complete, run=run)


def _run(state: CompletionState, seen: Seen) -> str | None:
    event = seen.event
    if isinstance(event, Published | Activated):
        return event.run
    if seen.activation is not None:
        return seen.activation.run
    return next((run for run, log in state.runs.items() if event.cause in log.untaken), None)
