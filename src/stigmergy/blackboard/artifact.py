"""The envelope in which a payload is seen once it is published."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar, cast

from pydantic import BaseModel
from pydantic_core import to_json
from typing_extensions import TypeVar as DefaultTypeVar

from stigmergy.blackboard.events import Priority, Visibility
from stigmergy.blackboard.opaque import Gone, Opaque, erased
from stigmergy.blackboard.payloads.types import type_of

U = TypeVar("U", bound=BaseModel)
T_co = DefaultTypeVar("T_co", bound=BaseModel, covariant=True, default=BaseModel)


@dataclass(frozen=True, slots=True)
class Artifact(Generic[T_co]):
    """A published payload and what the board knows of it.

    Attributes:
        id: position in the log; unique on the board.
        producer: the agent or component that published it; "outside" from outside.
        cause: the activation that published it; 0 from outside.
        root: the oldest outside artifact that it descends from.
        time: log time in seconds since the epoch.
    """

    id: int
    payload: T_co
    type_name: str
    version: int
    producer: str
    cause: int
    root: int
    run: str
    tags: tuple[str, ...]
    priority: Priority
    visibility: Visibility | None
    at: float
    key: str | None = None
    depth: int = 0
    phase: str | None = None

    @property
    def time(self) -> datetime:
        """When it was published (UTC)."""
        return datetime.fromtimestamp(self.at, UTC)

    @property
    def ref(self) -> str:
        """How people write it: `WorkDiscovery@12`."""
        return f"{self.type_name}@{self.id}"

    def as_type(self, model: type[U]) -> U | None:
        """The payload if it is of this artifact type, read into this class; else None.

        Types are the same when their stable name is: a class defined again in a notebook cell still matches.
        """
        payload = self.payload
        if isinstance(payload, model):
            return payload
        kind = type_of(model)
        if kind.name != self.type_name:
            return None
        if isinstance(payload, Gone):
            raise erased(self.ref)
        if isinstance(payload, Opaque):
            return cast("U", kind.decode_version(self.version, to_json(payload.root)))
        held = type_of(type(payload))
        return cast("U", kind.decode_version(held.version, held.encode(payload)[1]))

    def __repr__(self) -> str:
        if isinstance(self.payload, Gone):
            return f"{self.ref}(erased) by {self.producer}"
        fields = ", ".join(f"{k}={_short(v)}" for k, v in list(self.payload)[:4]) if self.payload is not None else ""
        return f"{self.ref}({fields}) by {self.producer}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 24 else text[:21] + "…" + (text[0] if text[0] in "'\"" else "")
