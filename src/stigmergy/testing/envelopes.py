"""Envelopes for payloads that no board has published."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.clock import VirtualClock
from stigmergy.blackboard.core.drafting import draft_of
from stigmergy.blackboard.events import Priority, Visibility
from stigmergy.blackboard.payloads.table import TypeTable

M = TypeVar("M", bound=BaseModel)
Given = BaseModel | Artifact[Any]
NOON = VirtualClock().now()
"""When it is in tests, unless they say otherwise."""


def artifact(
    payload: M, /, *, id: int = 1, producer: str = "outside", cause: int = 0, root: int | None = None,
    run: str = "main", key: str | None = None, tags: Sequence[str] = (), priority: Priority | None = None,
    visibility: Visibility | None = None, at: float = NOON, depth: int = 0,
) -> Artifact[M]:  # fmt: skip
    """The envelope of a payload as a board would make it.

    Args:
        root: its own id unless given.
        priority: as on a board: by default what the payload's field says, or "medium".
        at: seconds since the epoch.

    Raises:
        NotRoundTrippable: the payload does not come back from JSON as it was.
    """
    d = draft_of(TypeTable(), payload, key=key, tags=tags, priority=priority, visibility=visibility, run=run)
    made: Artifact[Any] = Artifact(
        id, d.payload, d.type, d.version, producer, cause, id if root is None else root, run, tuple(d.tags),
        d.priority or "medium", visibility, at, key, depth, d.phase,
    )  # fmt: skip
    return made


def envelopes(given: Sequence[Given], first: int, step: int) -> tuple[Artifact[Any], ...]:
    """What is given as payloads gets ids from `first`."""
    return tuple(
        item if isinstance(item, Artifact) else artifact(item, id=first + i * step) for i, item in enumerate(given)
    )
