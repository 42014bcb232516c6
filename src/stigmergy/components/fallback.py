"""Another agent for what one failed to do."""

from collections.abc import Iterable, Mapping
from typing import ClassVar

from stigmergy.blackboard.component import Component, Reaction, Redrive, Seen
from stigmergy.blackboard.core.visibility import Named, name_of
from stigmergy.blackboard.events import Ended, Event


class Fallback(Component):
    """Gives what an agent failed at for good to another one, with the same inputs.

    The other agent is in reserve: it gets nothing else. What it publishes goes on where the output of the first would
    have, so both publish the same types; if it fails too, its own fallback is asked, if it has one.

    An agent that may not see what it would take over gets nothing, and that is a dead letter of its own.

    Args:
        agents: agent -> the one that takes over; both consume the same types in the same order.
    """

    observes: ClassVar[tuple[type[Event], ...]] = (Ended,)

    def __init__(self, agents: Mapping[str, str | Named]) -> None:
        self.reserve = {name: name_of(other) for name, other in agents.items()}

    def react(self, state: None, seen: Seen, /) -> Iterable[Reaction]:
        event, a = seen.event, seen.activation
        if isinstance(event, Ended) and event.outcome == "dead_letter" and a is not None and a.agent in self.reserve:
            yield Redrive(a.id, agent=self.reserve[a.agent])
