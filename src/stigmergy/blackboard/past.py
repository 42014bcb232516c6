"""What a decision may look up: what is too young to be in the store, then the store's indexes."""

from collections.abc import Callable
from itertools import islice
from typing import Any

from pydantic import BaseModel

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.decision import Draft
from stigmergy.blackboard.drafting import draft_of
from stigmergy.blackboard.errors import NotFound
from stigmergy.blackboard.events import Event, Published
from stigmergy.blackboard.rows import decode
from stigmergy.blackboard.stores.base import Reader
from stigmergy.blackboard.types import TypeTable

KEPT = 4_096
"""Published events kept in memory beyond what is not durable, so that a consumer that starts at once need not read."""


class RecentPast:
    """The past as the decider of a living board sees it."""

    def __init__(self, reader: Reader, types: TypeTable, open_artifact: Callable[[Published], Artifact[Any]]) -> None:
        self._reader = reader
        self._types = types
        self._open = open_artifact
        self._published: dict[int, Published] = {}
        self._keys: dict[tuple[str, str], Published] = {}
        self._works: dict[tuple[str, str], int] = {}

    def add(self, event: Published) -> None:
        """An artifact was published."""
        self._published[event.seq] = event
        if event.key is not None:
            self._keys[event.run, event.key] = event
        if event.work is not None:
            self._works[event.run, event.work] = event.seq

    def trim(self, durable: int) -> None:
        """Forget the oldest of what the store has by now."""
        if len(self._published) > KEPT:
            for id in [i for i in islice(self._published, KEPT // 4) if i <= durable]:
                del self._published[id]
        if len(self._keys) > KEPT:
            for key in [k for k, e in islice(self._keys.items(), KEPT // 4) if e.seq <= durable]:
                del self._keys[key]
        if len(self._works) > KEPT:
            for work in [w for w, seq in islice(self._works.items(), KEPT // 4) if seq <= durable]:
                del self._works[work]

    def published(self, id: int) -> Published:
        """The event that published an artifact.

        Raises:
            NotFound: there is no such artifact.
        """
        event = self._published.get(id)
        if event is not None:
            return event
        row = self._reader.event(id)
        found = decode(row) if row is not None else None
        if not isinstance(found, Published):
            raise NotFound(f"there is no artifact {id}.")
        return found

    def key(self, run: str, key: str) -> tuple[int, str] | None:
        """Id and digest of the artifact with this key."""
        event = self._keys.get((run, key))
        if event is None:
            row = self._reader.by_key(run, key)
            found = decode(row) if row is not None else None
            event = found if isinstance(found, Published) else None
        return (event.seq, event.digest) if event is not None else None

    def work(self, run: str, work: str) -> int | None:
        """Id of the artifact with this work id."""
        known = self._works.get((run, work))
        if known is not None:
            return known
        row = self._reader.by_work(run, work)
        return row.seq if row is not None else None

    def event(self, id: int) -> Event | None:
        """The event at that position."""
        found = self._published.get(id)
        if found is not None:
            return found
        row = self._reader.event(id)
        return decode(row) if row is not None else None

    def artifact(self, id: int) -> Artifact[Any]:
        """An artifact with its typed payload."""
        return self._open(self.published(id))

    def since(self, types: set[str], after: int) -> list[Artifact[Any]]:
        """The artifacts of these types after that position, in log order."""
        events = (decode(row) for name in types for row in self._reader.artifacts(name, after=after))
        published = sorted((e for e in events if isinstance(e, Published)), key=lambda e: e.seq)
        return [self._open(event) for event in published]

    def draft(self, payload: BaseModel) -> Draft:
        """A component's payload, checked and encoded."""
        return draft_of(self._types, payload)
