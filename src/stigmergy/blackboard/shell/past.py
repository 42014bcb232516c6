"""What a decision may look up: what is too young to be in the store, then the store's indexes."""

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from pydantic import BaseModel

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.decision import Draft
from stigmergy.blackboard.core.drafting import draft_of
from stigmergy.blackboard.errors import NotFound
from stigmergy.blackboard.events import Event, Published, Released
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.stores.base import Reader, Row
from stigmergy.blackboard.stores.rows import as_published, decode, event_at

KEPT = 1_024
"""Published events kept in memory beyond what is not durable, so that a consumer that starts at once need not read."""
AHEAD = 256
"""Positions that are read in one go when a backlog is worked off."""


class RecentPast:
    """The past as the decider of a living board sees it."""

    def __init__(self, reader: Reader, types: TypeTable, open_artifact: Callable[[Published], Artifact[Any]]) -> None:
        self._reader = reader
        self._types = types
        self._open = open_artifact
        self._published: dict[int, Published] = {}
        self._keys: dict[tuple[str, str], Published] = {}
        self._works: dict[tuple[str, str], int] = {}
        self._young: deque[Event] = deque()
        """What may not be durable yet, oldest first."""
        self._enough = KEPT
        """How many published events there are when the oldest are forgotten."""
        self._ahead: dict[int, Row] = {}
        self._read_to = 0

    def remember(self, events: Iterable[Event]) -> None:
        """These events were decided; they are remembered until they are durable."""
        self._young.extend(events)

    def add(self, event: Published, durable: int) -> None:
        """An artifact was published; of those that the store has by now, the oldest are forgotten."""
        published = self._published
        published[event.seq] = event
        if event.key is not None:
            self._keys[event.run, event.key] = event
        if event.work is not None:
            self._works[event.run, event.work] = event.seq
        if len(published) > self._enough:
            self.trim(durable)

    def trim(self, durable: int) -> None:
        """Forget the oldest of what the store has by now."""
        young = self._young
        while young and young[0].seq <= durable:
            young.popleft()
        if len(self._published) > self._enough:
            for id in [i for i in islice(self._published, KEPT) if i <= durable]:
                del self._published[id]
            self._enough = len(self._published) + KEPT
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
        found = as_published(self._ahead.pop(id, None) or self._read(id))
        if found is None:
            raise NotFound(f"there is no artifact {id}.")
        return found

    def _read(self, id: int) -> Row | None:
        """The row at that position; if the last one read was shortly before, those behind it are read with it."""
        if not 0 < id - self._read_to <= AHEAD:
            self._read_to = id
            return self._reader.event(id)
        self._read_to = id + AHEAD
        self._ahead = {row.seq: row for row in self._reader.events(id - 1, self._read_to, kinds=("Published",))}
        return self._ahead.pop(id, None)

    def key(self, run: str, key: str) -> tuple[int, str] | None:
        """Id and digest of the artifact with this key."""
        event = self._keys.get((run, key)) or as_published(self._reader.by_key(run, key))
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
        found = self._published.get(id) or event_at(self._reader, id)
        if found is not None:
            return found
        return next((event for event in self._young if event.seq == id), None)

    def young(self, after: int) -> list[Event]:
        """The events after that position, if that is the last that is durable."""
        return [event for event in self._young if event.seq > after]

    def following(self, cause: int) -> list[Event]:
        """The events with that cause, in log order."""
        young = [event for event in self.young(self._reader.last()) if event.cause == cause]
        return [*map(decode, self._reader.following(cause)), *young]

    def artifact(self, id: int) -> Artifact[Any]:
        """An artifact with its typed payload."""
        return self._open(self.published(id))

    def since(self, types: set[str], after: int, erased: Callable[[int], bool]) -> list[tuple[int, Artifact[Any]]]:
        """The artifacts of these types that were offered after that position and are not erased, with where they were,
        in that order."""
        durable = self._reader.last()
        published = [decode(row) for name in types for row in self._reader.artifacts(name, after=after)]
        published += [e for e in self._published.values() if e.type in types and e.seq > max(after, durable)]
        releases = [decode(row) for row in self._reader.events(after, kinds=("Released",))]
        releases += [e for e in self._young if isinstance(e, Released) and e.seq > max(after, durable)]
        offered = {e.seq: e for e in published if isinstance(e, Published) and not e.held_by and not e.replaces}
        for release in releases:
            event = self.event(release.cause)
            if isinstance(event, Published) and event.type in types:
                offered[release.seq] = event
        return [(position, self._open(e)) for position, e in sorted(offered.items()) if not erased(e.seq)]

    def draft(self, payload: BaseModel) -> Draft:
        """A component's payload, checked and encoded."""
        return draft_of(self._types, payload)
