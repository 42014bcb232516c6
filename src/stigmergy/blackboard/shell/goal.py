"""What `run_until` waits for."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.where import Filter, matches, parse_where
from stigmergy.blackboard.errors import BadFilter, DefinitionError
from stigmergy.blackboard.events import Published
from stigmergy.blackboard.payloads.types import type_of


class Goal:
    """So many artifacts of a type that pass a filter, counted as they are published.

    Raises:
        DefinitionError: the number is none, or the filter can never pass.
    """

    def __init__(
        self, model: type[BaseModel], where: Filter[Any] | None, count: int, read: Callable[[Published], Artifact[Any]]
    ) -> None:
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise DefinitionError(f"run_until(): count={count!r}; it is a whole number from 1.")
        self._type = type_of(model).name
        self._where = parse_where(model, where, "run_until()")
        self._read = read
        self._left = count
        self.error: BadFilter | None = None
        """What the filter raised; the run is over then."""

    def __call__(self, event: Published) -> bool:
        """Whether the goal is reached with this event; never raises, since the event is decided already."""
        if event.type == self._type and self.error is None:
            try:
                self._left -= matches(self._where, self._read(event).payload)
            except Exception as error:  # noqa: BLE001  user code; raised again by the run
                ref = f"{event.type}@{event.seq}"
                self.error = BadFilter(f"run_until(): where= raised {type(error).__name__} for {ref}: {error}")
                self.error.__cause__ = error
        return self._left <= 0 or self.error is not None
