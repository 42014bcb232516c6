"""A component that adds up, and what it says."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from pydantic import BaseModel

from stigmergy import Component, Publish, Seen
from stigmergy.blackboard.component import Reaction
from stigmergy.blackboard.events import Event
from tests.boards import A


class Total(BaseModel):
    of: int


class Go(BaseModel):
    pass


@dataclass(frozen=True)
class Sum:
    total: int = 0
    said: int = 0


class Adder(Component[Sum]):
    """Adds up every A, and says the sum whenever it has passed another ten."""

    publishes = (Total,)
    observes: ClassVar[tuple[type[Event] | type[BaseModel], ...]] = (A, Total)

    def start(self) -> Sum:
        return Sum()

    def step(self, state: Sum, seen: Seen, /) -> Sum:
        assert seen.artifact is not None
        if total := seen.artifact.as_type(Total):
            return replace(state, said=total.of)
        return replace(state, total=state.total + seen.artifact.payload.n)

    def react(self, state: Sum, seen: Seen, /) -> Iterable[Reaction]:
        if state.total // 10 > state.said // 10:
            yield Publish(Total(of=state.total), tags=("sum",), priority="high")
