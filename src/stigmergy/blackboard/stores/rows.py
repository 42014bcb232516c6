"""Events as rows and back. The body of a row is the event as JSON, with fields that have their default left out."""

from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import ValidationError

from stigmergy.blackboard.errors import NewerBoard, StoreDamaged
from stigmergy.blackboard.events import KINDS, Called, Event, Published
from stigmergy.blackboard.stores.base import Row
from stigmergy.blackboard.stores.encoding import ADAPTERS, BODIES

_TO_JSON: dict[type[Event], tuple[str, Callable[[Any], str]]] = {
    cls: (kind, BODIES[cls]) for kind, cls in KINDS.items()
}
_FROM_JSON: dict[str, Callable[..., Any]] = {k: ADAPTERS[cls].validator.validate_json for k, cls in KINDS.items()}
_NEWER = {"unexpected_keyword_argument", "literal_error"}
"""What pydantic calls a field that there is not, and a word that is not one of those there are."""
_row: Callable[[tuple[object, ...]], Row] = partial(tuple.__new__, Row)
"""A row from its values in order; the class itself takes twice as long."""


def encode(event: Any) -> Row:
    """The row of an event."""
    cls = event.__class__
    kind, body = _TO_JSON[cls]
    if cls is Published:
        return _row((
            event.seq, event.tx, event.at, kind, event.cause, event.run, event.type, event.key, event.work,
            body(event), event.payload.decode(),
        ))  # fmt: skip
    payload = event.payload.decode() if cls is Called else ""
    return _row((event.seq, event.tx, event.at, kind, event.cause, None, None, None, None, body(event), payload))


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
