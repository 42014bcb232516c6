"""Dead letters: what failed for good, with all that is known of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic_core import from_json

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.errors import InvalidPayload, NotFound
from stigmergy.blackboard.events import ErrorInfo, Published
from stigmergy.blackboard.opaque import Opaque
from stigmergy.blackboard.payloads.envelope import envelope
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.stores.base import Reader
from stigmergy.blackboard.stores.rows import decode

RECOVERY = "recovery"
"""Tag of work that a component publishes to make good for a failure: who comes after it need not see to that."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that failed; `at` is the log time of its end, `seconds` how long it took."""

    at: float
    kind: str
    seconds: float
    error: ErrorInfo | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An activation that failed for good and was neither tried again nor discarded.

    Attributes:
        inputs: what it was to work on.
        error, reason: why it ended, with the traceback of the last attempt.
        attempts: all that failed, oldest first.
        created, ended: log time in seconds since the epoch.
        repeats: the dead letter that it tried again; 0 = none.
    """

    id: int
    agent: str
    run: str
    inputs: tuple[Artifact[Any], ...]
    error: ErrorInfo | None
    reason: str
    attempts: tuple[Attempt, ...]
    created: float
    ended: float
    repeats: int = 0

    @property
    def time(self) -> datetime:
        """When it ended, in UTC."""
        return datetime.fromtimestamp(self.ended, UTC)

    def record(self) -> dict[str, object]:
        """The dead letter as JSON."""
        inputs = [{"id": a.id, "type": a.type_name, "payload": a.payload.model_dump(mode="json")} for a in self.inputs]
        return {
            "id": self.id, "agent": self.agent, "run": self.run, "time": self.time.isoformat(), "reason": self.reason,
            "error": _ERROR.dump_python(self.error, mode="json"), "repeats": self.repeats, "inputs": inputs,
            "attempts": _ATTEMPTS.dump_python(self.attempts, mode="json"),
        }  # fmt: skip


_ERROR = TypeAdapter(ErrorInfo | None)
_ATTEMPTS = TypeAdapter(tuple[Attempt, ...])


def dead_letters(
    reader: Reader, types: TypeTable, until: int, ids: Iterable[int] | None = None
) -> Iterator[DeadLetter]:
    """The dead letters of a log, oldest first, or those of these activations.

    Raises:
        NotFound: one of the ids is no dead letter.
    """
    if ids is None:
        for row in reader.events(0, until, kinds=("Ended",)):
            found = _dead_letter(reader, types, row.cause, until)
            if found is not None:
                yield found
        return
    for id in ids:
        found = _dead_letter(reader, types, id, until)
        if found is None:
            raise NotFound(f"{id} is no dead letter. List them with: stigmergy dead-letters STORE.")
        yield found


def _payload(types: TypeTable, p: Published) -> BaseModel:
    """Its class may not be able to read it: that can be why it is a dead letter."""
    try:
        return types.decode(p.type, p.version, p.payload)
    except InvalidPayload:
        return Opaque(from_json(p.payload))


def _dead_letter(reader: Reader, types: TypeTable, id: int, until: int) -> DeadLetter | None:
    row = reader.event(id)
    activated = decode(row) if row is not None and row.seq <= until else None
    if not isinstance(activated, ev.Activated):
        return None
    follows = [decode(row) for row in reader.following(id) if row.seq <= until]
    ended = next((e for e in follows if isinstance(e, ev.Ended)), None)
    if ended is None or ended.outcome != "dead_letter" or any(isinstance(e, ev.Redriven) for e in follows):
        return None
    inputs = [decode(row) for i in activated.inputs if (row := reader.event(i)) is not None]
    attempts = [Attempt(e.at, e.kind, e.seconds, e.error) for e in follows
                if isinstance(e, ev.Failed) and e.kind != "interrupted"]  # fmt: skip
    return DeadLetter(
        id, activated.agent, activated.run,
        tuple(envelope(p, _payload(types, p)) for p in inputs if isinstance(p, Published)),
        ended.error, ended.reason, tuple(attempts), activated.at, ended.at, activated.redriven,
    )  # fmt: skip
