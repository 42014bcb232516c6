"""What every store can do. The log is its only truth; everything else it holds can be rebuilt from it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Row(NamedTuple):
    """One event as it is stored. Positions are only missing before an `Opened`, whose `gap` says how many.

    `run`, `type`, `key`, `work` are copies of fields of the body, for the indexes; `body` is the event as a JSON
    object without the common fields; `payload` is the JSON text of an artifact or a reply ("" = none, or erased).
    """

    seq: int
    tx: int
    at: float
    kind: str
    cause: int
    run: str | None
    type: str | None
    key: str | None
    work: str | None
    body: str
    payload: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The folded state after `seq`: a cache that may always be deleted. `code` says which code wrote it."""

    seq: int
    code: str
    state: bytes


class Reader(Protocol):
    """The reading side: plain calls, durable rows only, safe from any thread."""

    def last(self) -> int:
        """The last durable position; 0 for an empty log."""
        ...

    def events(self, after: int = 0, until: int | None = None, kinds: Sequence[str] = ()) -> Iterator[Row]:
        """Rows with `after < seq <= until` in log order, read in pages, optionally only of some kinds."""
        ...

    def event(self, seq: int) -> Row | None:
        """The row at that position."""
        ...

    def artifacts(
        self,
        type: str | None = None,
        run: str | None = None,
        *,
        after: int = 0,
        until: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[Row]:
        """The `Published` rows, in pages, by index."""
        ...

    def count(self, type: str | None = None, run: str | None = None, *, until: int | None = None) -> int:
        """How many `Published` rows `artifacts` would give."""
        ...

    def following(self, cause: int) -> list[Row]:
        """The rows whose cause is that position, in log order."""
        ...

    def by_key(self, run: str, key: str) -> Row | None:
        """The `Published` row with that idempotency key."""
        ...

    def by_work(self, run: str, work: str) -> Row | None:
        """The `Published` row with that work id."""
        ...

    def calls(self, activation: int) -> list[Row]:
        """The `Calling` and `Called` rows of an activation, in log order."""
        ...

    def snapshot(self, until: int | None = None) -> Snapshot | None:
        """The newest snapshot not after `until`."""
        ...

    def close(self) -> None: ...


class Store(Protocol):
    """The writing side, owned by one process at a time."""

    immediate: bool
    """Whether `append_now` exists: rows are kept at once, without awaiting (the memory store)."""

    async def open(self) -> None:
        """Take ownership and read what is needed; makes the file if there is none."""
        ...

    async def append(self, rows: Sequence[Row]) -> None:
        """Keep these rows, all or none; durable when it returns."""
        ...

    def append_now(self, rows: Sequence[Row]) -> None:
        """The same without awaiting; only if `immediate`."""
        ...

    def before_read(self, settle: Callable[[], None]) -> None:
        """Have this called, in whatever thread reads, before anything is read; only if `immediate`."""
        ...

    def reader(self) -> Reader:
        """The reading side of this store."""
        ...

    async def save_snapshot(self, snapshot: Snapshot) -> None: ...

    async def erase(self, before: int, keep: Sequence[int]) -> None:
        """Empty the payloads of `Published` and `Called` rows below a position, but for those at these positions; all
        of them or none, and for good when it returns. Nothing else of a row changes; snapshots go, which may quote."""
        ...

    async def close(self) -> None:
        """Give up ownership, leaving the file checkpointed."""
        ...

    @property
    def name(self) -> str:
        """How people call it: the path, or "memory"."""
        ...
