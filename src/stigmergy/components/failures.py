"""What failed, as artifacts that agents can wait for."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from stigmergy.blackboard.component import Component, Publish, Reaction, Seen
from stigmergy.blackboard.core.visibility import Named, name_of
from stigmergy.blackboard.events import Ended, Event, Redriven


class WorkflowError(BaseModel):
    """An activation of this artifact's run failed for good, and nothing took it over.

    Attributes:
        activation: its id, for `board.why`, `board.retry` and `board.discard`.
        inputs: ids of the artifacts that it was to work on.
        error_type, message: of the exception that ended its last attempt; without one, `message` is the reason.
        attempts: how often it was tried.
    """

    model_config = ConfigDict(frozen=True)

    agent: str
    activation: int
    inputs: tuple[int, ...]
    error_type: str
    message: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Unmended:
    """The activations that ended badly in the newest decision, and were not opened again in it."""

    failed: frozenset[int] = frozenset()
    tx: int = 0


class Failures(Component[Unmended]):
    """Publishes a `WorkflowError` about what failed for good, so that agents can do something about it.

    It takes care of nothing itself. What a component before it makes good is no error. Only who may see all inputs of
    what failed sees it.

    Args:
        agents: whose failures; none = everybody's.
    """

    publishes = (WorkflowError,)
    observes: ClassVar[tuple[type[Event], ...]] = (Ended, Redriven)

    def __init__(self, *agents: str | Named) -> None:
        self._agents = frozenset(map(name_of, agents))

    def start(self) -> Unmended:
        return Unmended()

    def step(self, state: Unmended, seen: Seen, /) -> Unmended:
        event = seen.event
        failed = state.failed if event.tx == state.tx else frozenset()
        match event:
            case Ended(outcome="dead_letter"):
                return Unmended(failed | {event.cause}, event.tx)
            case Redriven():
                return Unmended(failed - {event.cause}, event.tx)
            case _:
                return state

    def react(self, state: Unmended, seen: Seen, /) -> Iterable[Reaction]:
        event, a = seen.event, seen.activation
        if not isinstance(event, Ended) or a is None or a.id not in state.failed:
            return
        if self._agents and a.agent not in self._agents:
            return
        kind, message = (event.error.type, event.error.message) if event.error else ("", event.reason)
        yield Publish(WorkflowError(agent=a.agent, activation=a.id, inputs=a.inputs, error_type=kind, message=message,
                                    attempts=a.attempt - 1), run=a.run, about=(a.id,))  # fmt: skip
