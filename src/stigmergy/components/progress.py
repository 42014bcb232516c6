"""How far every agent has come."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from stigmergy.blackboard.component import Component, Seen
from stigmergy.blackboard.events import Activated, Claimed, Completed, Ended, Event, Failed, Held, Released
from stigmergy.components.worklog import without

Place = Literal["ready", "running", "held", "blocked", "failed"]


@dataclass(frozen=True, slots=True)
class AgentProgress:
    """Activations of one agent: those that are open by what they wait for, and those that are over by how."""

    ready: int = 0
    running: int = 0
    held: int = 0
    blocked: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0

    @property
    def open(self) -> int:
        """Activations that are not over."""
        return self.ready + self.running + self.held + self.blocked


@dataclass(frozen=True, slots=True)
class ProgressState:
    """Counts by agent, and where the activations are that are not simply ready; failed ones may be tried again."""

    agents: dict[str, AgentProgress] = field(default_factory=dict)
    places: dict[int, Place] = field(default_factory=dict)


class Progress(Component[ProgressState]):
    """Counts the activations of every agent by where they stand.

    Those that wait for a retry are ready; those that wait for other work are blocked until they start. A dead letter
    that is tried again is open again, and no longer failed.
    """

    observes: ClassVar[tuple[type[Event], ...]] = (Activated, Claimed, Held, Released, Failed, Completed, Ended)

    def start(self) -> ProgressState:
        return ProgressState()

    def step(self, state: ProgressState, seen: Seen, /) -> ProgressState:
        event, activation = seen.event, seen.activation
        if activation is None:
            return state
        match event:
            case Activated(blockers=blockers, redriven=again):
                old = state.agents.get(activation.agent, AgentProgress())
                was: Place | None = "failed" if again and state.places.get(again) == "failed" else None
                agents = {**state.agents, activation.agent: _moved(old, was, "ready")}
                state = ProgressState(agents, without(state.places, again))
                return _move(state, activation.id, activation.agent, "blocked") if blockers else state
            case Claimed():
                return _move(state, activation.id, activation.agent, "running")
            case Held():
                return _move(state, activation.id, activation.agent, "held")
            case Released() | Failed():
                return _move(state, activation.id, activation.agent, "ready")
            case Completed():
                return _end(state, activation.id, activation.agent, "done")
            case Ended(outcome=outcome):
                how = outcome if outcome in ("skipped", "cancelled") else "failed"
                return _end(state, activation.id, activation.agent, how)
            case _:
                return state


def _move(state: ProgressState, id_: int, agent: str, to: Place) -> ProgressState:
    places = state.places.copy()
    was = places.pop(id_, "ready")
    if to != "ready":
        places[id_] = to
    return ProgressState({**state.agents, agent: _moved(state.agents[agent], was, to)}, places)


def _end(state: ProgressState, id_: int, agent: str, how: str) -> ProgressState:
    places = state.places.copy()
    was = places.pop(id_, "ready")
    if how == "failed":
        places[id_] = "failed"
    return ProgressState({**state.agents, agent: _moved(state.agents[agent], was, how)}, places)


def _moved(counts: AgentProgress, was: str | None, to: str) -> AgentProgress:
    if was == to:
        return counts
    by = {to: getattr(counts, to) + 1}
    if was is not None:
        by[was] = getattr(counts, was) - 1
    return replace(counts, **by)
