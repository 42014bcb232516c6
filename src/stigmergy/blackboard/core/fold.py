"""From a log back to everything that is folded from it; a snapshot only shortens the way."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.decision import request_of
from stigmergy.blackboard.core.ledger import Ledger
from stigmergy.blackboard.core.observers import Observers
from stigmergy.blackboard.core.state import State
from stigmergy.blackboard.events import Erased, Event, Faulted, Published
from stigmergy.blackboard.stores.base import Reader, Snapshot
from stigmergy.blackboard.stores.rows import decode

CODE = "3"
"""Changes whenever the meaning of a snapshot changes; an older snapshot is then not used."""
UNBOOKED = 256
"""Events that the books may be behind."""


@dataclass(slots=True)
class _Saved:
    state: str
    ledger: str
    components: dict[str, tuple[str, str]]


_SAVED = TypeAdapter(_Saved)


@dataclass(slots=True)
class Folded:
    """All folds of one log, at one position."""

    state: State
    observers: Observers
    books: Ledger
    unbooked: list[Event] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        """The books, up to date: they are kept in larger steps, which takes half the time."""
        self.books.apply_all(self.unbooked)
        self.unbooked.clear()
        return self.books

    def book(self, events: list[Event]) -> None:
        """These events were decided, and so folded into all but the books."""
        self.unbooked += events
        if len(self.unbooked) >= UNBOOKED:
            _ = self.ledger

    def apply(self, event: Event, artifact: Callable[[], Artifact[Any]] | None = None) -> None:
        """Fold one recorded event; components observe it but do not react."""
        state, observers = self.state, self.observers
        prior = state.concerned(event) if observers.any else None
        state.apply(event)
        state.ready.clear()
        self.books.apply(event)
        if observers.any:
            a = prior or state.activations.get(event.seq)
            if isinstance(event, Faulted):
                observers.recall(event)
            elif isinstance(event, Erased):
                observers.go_on(event)
            _, _, faults = observers.step(event, artifact, request_of(a) if a else None)
            observers.unrecorded.update(faults)
            observers.changed.clear()

    def snapshot(self) -> Snapshot:
        """Everything as one cacheable value."""
        saved = _Saved(self.state.dump().decode(), self.ledger.dump().decode(), self.observers.dump())
        return Snapshot(self.state.seq, CODE, _SAVED.dump_json(saved))


def fold(
    reader: Reader, observers: Observers, open_artifact: Callable[[Published], Artifact[Any]], until: int | None = None
) -> Folded:
    """Fold a log, from the newest usable snapshot on.

    Args:
        open_artifact: makes the typed envelope of a `Published`, for the components that ask for it.
        until: the last position to fold; None = all.

    Raises:
        PayloadErased: a component asks for a payload that is gone, and no event up to there says that it was erased.
    """
    folded = Folded(State(), observers, Ledger())
    snapshot = reader.snapshot(until)
    if snapshot is not None and snapshot.code == CODE:
        with suppress(ValueError):  # damaged, or written by another version: it is only a cache
            saved = _SAVED.validate_json(snapshot.state)
            state, ledger = State.load(saved.state.encode()), Ledger.load(saved.ledger.encode())
            if observers.load(saved.components, state.faulted):
                folded = Folded(state, observers, ledger)
    for row in reader.events(folded.state.seq, until):
        event = decode(row)
        if isinstance(event, Published):
            folded.apply(event, lambda e=event: open_artifact(e))  # type: ignore[misc]
        else:
            folded.apply(event)
    for error in observers.blind.values():
        raise error
    return folded
