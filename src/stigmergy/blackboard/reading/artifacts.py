"""A list of artifacts that is read as it is looked at."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar, cast, overload

from pydantic import BaseModel

from stigmergy.blackboard.artifact import Artifact, T_co
from stigmergy.blackboard.events import Published, Released
from stigmergy.blackboard.opaque import Gone
from stigmergy.blackboard.payloads.envelope import envelope
from stigmergy.blackboard.stores.base import Reader, Row
from stigmergy.blackboard.stores.rows import decode
from stigmergy.blackboard.text import html_table, short

M = TypeVar("M", bound=BaseModel)

PAGE = 256
_SHOWN = 20
ENVELOPE = (
    "id",
    "type_name",
    "producer",
    "run",
    "tags",
    "priority",
    "time",
    "cause",
    "root",
    "key",
    "phase",
    "version",
)


@dataclass(frozen=True, slots=True)
class Query(Generic[T_co]):
    """What is looked for, up to a position that does not move.

    Attributes:
        type, run: by index; None = any.
        producers, tags: any of these; empty = any.
        passes: the filter on the payload; None = all pass.
        held: also artifacts that were never released.
    """

    reader: Reader
    until: int
    read: Callable[[Published], T_co]
    type: str | None = None
    run: str | None = None
    producers: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    passes: Callable[[BaseModel], bool] | None = None
    held: bool = False

    @property
    def filtered(self) -> bool:
        """Whether rows have to be read to know if they belong."""
        return bool(self.producers or self.tags or self.passes)

    def scan(self, after: int = 0, *, newest_first: bool = False) -> Iterator[Artifact[T_co]]:
        """The artifacts after that position, in log order or backwards."""
        for row in self._rows(after, newest_first=newest_first):
            event = decode(row)
            if not isinstance(event, Published) or not self._wanted(event):
                continue
            payload = self.read(event) if event.payload else cast("T_co", Gone(None))
            if self.passes is None or (event.payload and self.passes(payload)):
                yield envelope(event, payload)

    def positions(self) -> Iterator[int]:
        """The ids alone, in log order."""
        if self.filtered:
            yield from (a.id for a in self.scan())
            return
        for row in self._rows(0):
            if self.held or '"held_by"' not in row.body or self._shown(decode(row)):
                yield row.seq

    def _rows(self, after: int, *, newest_first: bool = False) -> Iterator[Row]:
        return self.reader.artifacts(self.type, self.run, after=after, until=self.until, newest_first=newest_first)

    def _wanted(self, event: Published) -> bool:
        if self.producers and event.producer not in self.producers:
            return False
        if self.tags and self.tags.isdisjoint(event.tags):
            return False
        return self.held or self._shown(event)

    def _shown(self, event: object) -> bool:
        """Held artifacts are seen once they were released."""
        if not isinstance(event, Published) or not event.held_by:
            return True
        following = (decode(row) for row in self.reader.following(event.seq) if row.seq <= self.until)
        return any(isinstance(e, Released) for e in following)


class Artifacts(Sequence[Artifact[T_co]]):
    """Artifacts in log order, as of the moment they were asked for; read page by page, so that a million cost nothing.

    Args:
        limit: how many of them to list, from the first; `total` counts all.
    """

    def __init__(self, query: Query[T_co], limit: int | None = None) -> None:
        self._query = query
        self._limit = limit
        self._total: int | None = None
        self._length: int | None = None
        self._starts = [0]
        """The position before each page that was reached so far."""
        self._page: tuple[int, list[Artifact[T_co]]] = (-1, [])

    @property
    def total(self) -> int:
        """How many there are, whatever the limit."""
        if self._total is None:
            count, starts = 0, [0]
            for position in self._query.positions():
                count += 1
                if count % PAGE == 0:
                    starts.append(position)
            self._total, self._starts = count, starts
        return self._total

    def __len__(self) -> int:
        if self._limit is None:
            return self.total
        if self._length is None:
            listed = islice(self._query.positions(), self._limit)
            self._length = sum(1 for _ in listed) if self._total is None else min(self._limit, self._total)
        return self._length

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def __iter__(self) -> Iterator[Artifact[T_co]]:
        return islice(self._query.scan(), self._limit)

    def __reversed__(self) -> Iterator[Artifact[T_co]]:
        if self._limit is None:
            return self._query.scan(newest_first=True)
        return (self[i] for i in range(len(self) - 1, -1, -1))

    @overload
    def __getitem__(self, index: int) -> Artifact[T_co]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Artifact[T_co]]: ...
    def __getitem__(self, index: int | slice) -> Artifact[T_co] | Sequence[Artifact[T_co]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            if self._limit is None and self._total is None:
                found = next(islice(self._query.scan(newest_first=True), -index - 1, None), None)
                if found is not None:
                    return found
            index += len(self)
        if index < 0 or (self._limit is not None and index >= self._limit):
            raise IndexError("there are fewer artifacts")
        page = self._load(index // PAGE)
        if index % PAGE >= len(page):
            raise IndexError("there are fewer artifacts")
        return page[index % PAGE]

    def _load(self, number: int) -> list[Artifact[T_co]]:
        if self._page[0] != number:
            while len(self._starts) <= number:
                known = list(islice(self._query.scan(self._starts[-1]), PAGE))
                if len(known) < PAGE:
                    return []
                self._starts.append(known[-1].id)
            self._page = (number, list(islice(self._query.scan(self._starts[number]), PAGE)))
        return self._page[1]

    @property
    def payloads(self) -> list[T_co]:
        """The payloads alone, all in memory."""
        return [a.payload for a in self]

    def rows(self, *columns: str) -> list[dict[str, object]]:
        """One dictionary per artifact, as data frames take them: `DataFrame(artifacts.rows())`.

        Args:
            columns: fields of the payload and of the envelope (`id`, `producer`, `time`, …), in this order; a field of
                the payload that is called like one of the envelope is `payload.id`. None = `id`, `producer` and all
                fields of the payload.
        """
        return [_record(a, columns) for a in self]

    def __repr__(self) -> str:
        listed, total = len(self), self.total
        count = f"{total:,}" if listed == total else f"{listed:,} of {total:,}"
        return f"Artifacts[{self._query.type or '*'}]({count})"

    def _repr_html_(self) -> str:
        records = [_record(a, ()) for a in islice(self, _SHOWN)]
        names = list(dict.fromkeys(name for record in records for name in record))
        cells = [[short(str(record.get(name, "")), 60) for name in names] for record in records]
        more = f"<p>… {len(self) - _SHOWN:,} more</p>" if len(self) > _SHOWN else ""
        return html_table([names, *cells]) + more if records else "<p>no artifacts</p>"


def _record(artifact: Artifact[BaseModel], columns: Sequence[str]) -> dict[str, object]:
    fields: dict[str, object] = {
        (f"payload.{name}" if name in ENVELOPE else name): value for name, value in _fields(artifact.payload)
    }
    if not columns:
        return {"id": artifact.id, "producer": artifact.producer, **fields}
    return {c: fields[c] if c in fields else getattr(artifact, c) if c in ENVELOPE else None for c in columns}


def _fields(payload: BaseModel) -> list[tuple[str, object]]:
    if isinstance(payload, Gone):
        return []
    found = list(payload)
    if len(found) == 1 and found[0][0] == "root" and isinstance(found[0][1], dict):
        return list(found[0][1].items())
    return found
