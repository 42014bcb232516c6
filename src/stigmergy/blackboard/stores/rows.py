"""Events as rows and back. The body of a row is the event as JSON, with fields that have their default left out."""

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import ValidationError

from stigmergy.blackboard.errors import NewerBoard, StoreDamaged
from stigmergy.blackboard.events import KINDS, Called, Event, Published
from stigmergy.blackboard.stores.base import Reader, Row
from stigmergy.blackboard.stores.encoding import ADAPTERS, ROWS

_FROM_JSON: dict[str, Callable[..., Any]] = {k: ADAPTERS[cls].validator.validate_json for k, cls in KINDS.items()}
_NEWER = {"unexpected_keyword_argument", "literal_error"}
"""What pydantic calls a field that there is not, and a word that is not one of those there are."""


def encode(event: Event) -> Row:
    """The row of an event."""
    return ROWS[event.__class__](event)


def encode_all(events: Iterable[Event]) -> list[Row]:
    """The rows of some events."""
    rows = ROWS
    return [rows[event.__class__](event) for event in events]


def decode(row: Row) -> Event:
    """The event of a row.

    Raises:
        NewerBoard: the kind is not known here, or one of its fields, or what stands in one.
        StoreDamaged: the body is not what that kind looks like.
    """
    read = _FROM_JSON.get(row.kind)
    if read is None:
        raise NewerBoard(f"event {row.seq} is a {row.kind!r}, which this version does not know. Update stigmergy.")
    try:
        event: Event = read(row.body)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] in _NEWER:
            what = ".".join(map(str, first["loc"]))
            raise NewerBoard(
                f"event {row.seq} ({row.kind}) says something of {what} that this version does not know. "
                "Update stigmergy."
            ) from error
        why = f"event {row.seq} ({row.kind}) cannot be read ({first['msg']})"
        raise StoreDamaged(f"{why}. Restore a copy of the file.") from error
    event.seq, event.tx, event.at, event.cause = row.seq, row.tx, row.at, row.cause
    if row.payload and isinstance(event, Published | Called):
        event.payload = row.payload.encode()
    return event


def event_at(reader: Reader, seq: int) -> Event | None:
    """The event at a position, if there is one; 0 is none."""
    row = reader.event(seq) if seq > 0 else None
    return decode(row) if row is not None else None


def as_published(row: Row | None) -> Published | None:
    """The artifact that a row holds; None if there is no row, or it holds something else."""
    event = decode(row) if row is not None else None
    return event if isinstance(event, Published) else None
