"""What an event put on the board, as people and agents see it."""

from typing import Any, TypeVar

from pydantic import BaseModel

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.events import Published
from stigmergy.blackboard.opaque import erased
from stigmergy.blackboard.payloads.table import TypeTable

M = TypeVar("M", bound=BaseModel)


def envelope(event: Published, payload: M) -> Artifact[M]:
    """The artifact that an event put on the board, with its payload as read."""
    return Artifact(
        event.seq, payload, event.type, event.version, event.producer, event.cause, event.root or event.seq, event.run,
        tuple(event.tags), event.priority, event.visibility, event.at, event.key, event.depth, event.phase,
    )  # fmt: skip


def opened(types: TypeTable, event: Published) -> Artifact[Any]:
    """The artifact that an event put on the board, with its payload read by today's class.

    Raises:
        PayloadErased: the payload is gone.
        InvalidPayload, StoreDamaged: see `TypeTable.decode`.
    """
    check_there(event)
    return envelope(event, types.decode(event.type, event.version, event.payload))


def check_there(event: Published) -> None:
    """Refuse what needs a payload that is gone.

    Raises:
        PayloadErased: it is.
    """
    if not event.payload:
        raise erased(f"{event.type}@{event.seq}")
