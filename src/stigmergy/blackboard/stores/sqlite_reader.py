"""Reading a board file: by anybody, at any time, whoever owns it."""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from stigmergy.blackboard.errors import NotABoard, StoreDamaged, StoreError
from stigmergy.blackboard.events import KINDS, Opened
from stigmergy.blackboard.stores.base import Row, Snapshot
from stigmergy.blackboard.stores.format import (
    COLUMNS,
    INSPECT,
    check_file,
    explain,
    is_board,
    is_sealed,
    real_file,
    saving,
)
from stigmergy.blackboard.stores.rows import decode
from stigmergy.blackboard.stores.seals import SIZE, proof_of_snapshot, sum_of

T = TypeVar("T")

_PAGE = 500
_PAGE_CHARACTERS = 4_000_000
LAST_SEAL = "SELECT seal FROM event ORDER BY seq DESC LIMIT 1"
LOST_END = """
SELECT e.last + 1 FROM (SELECT coalesce(max(seq), 0) AS last FROM event) AS e
WHERE e.last < (SELECT max(seq) FROM snapshot)
"""
"""The first position that is gone, if the log ends before its newest snapshot, which was saved when all before was."""
_ROWS = f"SELECT {COLUMNS}, crc FROM event"  # noqa: S608  constants only; values are bound
_ROWS_WITHOUT = f"SELECT {COLUMNS}, NULL FROM event"  # noqa: S608
"""The same of a file without check sums."""
_WIDTH = len(Row._fields)
_KNOWN = ", ".join(f"'{kind}'" for kind in KINDS)


class SQLiteReader:
    """The reading side of a board file that anybody may own; it never writes. Opened at the first read.

    One connection serves all threads, in turn. Every query is short, so that the owner can always tidy up: what gives
    an iterator reads in pages and holds nothing between them.

    What is read is what was written, or `StoreDamaged` is raised: every row has a check sum, it is what was asked for,
    and positions are only missing where the log says so. That a row is missing from an index cannot be told by a read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = real_file(path)
        self._connection: sqlite3.Connection | None = None
        self._sealed = True
        self._turn = Lock()

    def last(self) -> int:
        """The last durable position; 0 for an empty log."""
        row = self._first("ORDER BY seq DESC LIMIT 1", ())
        return row.seq if row is not None else 0

    def events(self, after: int = 0, until: int | None = None, kinds: Sequence[str] = ()) -> Iterator[Row]:
        """Rows with `after < seq <= until` in log order, optionally only of some kinds."""
        if not kinds:
            return self._complete(self._pages("NOT INDEXED", "", (), after, until), after)
        return self._of_kinds(kinds, after, until)

    def event(self, seq: int) -> Row | None:
        """The row at that position."""
        row = self._first("WHERE seq = ?", (seq,))
        if row is None and seq > 0:
            self._skipped(seq - 1, self._first("WHERE seq > ? ORDER BY seq LIMIT 1", (seq,)))
        return row

    def artifacts(
        self, type: str | None = None, run: str | None = None, *, after: int = 0, until: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[Row]:  # fmt: skip
        """The `Published` rows, by index."""
        if type is None and run is None:
            return self._of_kinds(("Published",), after, until, newest_first)
        index, where, values = _published(type, run)
        rows = self._pages(index, where, values, after, until, newest_first)
        return self._asked_for(rows, type=type, run=run)

    def count(self, type: str | None = None, run: str | None = None, *, until: int | None = None) -> int:
        """How many `Published` rows `artifacts` would give."""
        index, where, values = _published(type, run)
        bound = "" if until is None else " AND seq <= ?"
        index = "INDEXED BY event_type" if index == "NOT INDEXED" else index
        sql = f"SELECT count(*) FROM event {index} WHERE {where}{bound}"  # noqa: S608
        return int(self._one(sql, values if until is None else (*values, until))[0])

    def following(self, cause: int) -> list[Row]:
        """The rows whose cause is that position, in log order."""
        return self._caused_by((cause,))

    def by_key(self, run: str, key: str) -> Row | None:
        """The `Published` row with that idempotency key."""
        row = self._first("INDEXED BY event_key WHERE kind = 'Published' AND run = ? AND key = ?", (run, key))
        return next(self._asked_for([row] if row is not None else [], run=run, key=key), None)

    def by_work(self, run: str, work: str) -> Row | None:
        """The `Published` row with that work id."""
        row = self._first(
            "INDEXED BY event_work WHERE kind = 'Published' AND run = ? AND work = ? ORDER BY seq LIMIT 1", (run, work)
        )
        return next(self._asked_for([row] if row is not None else [], run=run, work=work), None)

    def calls(self, activation: int) -> list[Row]:
        """The `Calling` and `Called` rows of an activation, in log order."""
        calling = [row for row in self.following(activation) if row.kind == "Calling"]
        called = [row for row in self._caused_by([row.seq for row in calling]) if row.kind == "Called"]
        return sorted([*calling, *called])

    def snapshot(self, until: int | None = None) -> Snapshot | None:
        """The newest snapshot not after `until`."""
        bound = "" if until is None else "WHERE seq <= ?"
        sql = f"SELECT seq, code, state FROM snapshot {bound} ORDER BY seq DESC LIMIT 1"  # noqa: S608
        with self._turn:
            row = self._read(lambda c: c.execute(sql, () if until is None else (until,)).fetchone())
        if row is None or not self._sealed:
            return None
        seq, code, kept = row
        proof, state = (kept[:SIZE], kept[SIZE:]) if isinstance(kept, bytes) else (b"", b"")
        return Snapshot(seq, code, state) if proof == proof_of_snapshot(seq, code, state) else None  # only a cache

    def seal(self) -> bytes:
        """The seal of the last append; b"" if there is none."""
        with self._turn:
            found = self._read(lambda c: c.execute(LAST_SEAL).fetchone())
        return (found[0] or b"") if found is not None else b""

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        with self._turn:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _pages(
        self, index: str, where: str, values: tuple[str, ...], after: int, until: int | None, newest_first: bool = False
    ) -> Iterator[Row]:
        order = "DESC" if newest_first else "ASC"
        conditions = " AND ".join(filter(None, (where, "seq > ?", "seq <= ?")))
        sql = f"{_ROWS} {index} WHERE {conditions} ORDER BY seq {order} LIMIT {_PAGE}"
        low, high = after, 2**63 - 1 if until is None else until
        while True:
            rows, more = self._page(sql, (*values, low, high))
            yield from rows
            if not more:
                return
            low, high = (low, rows[-1].seq - 1) if newest_first else (rows[-1].seq, high)

    def _page(self, sql: str, values: tuple[object, ...]) -> tuple[list[Row], bool]:
        """Some rows, and whether there may be more."""

        def read(connection: sqlite3.Connection) -> tuple[list[Row], bool]:
            rows: list[Row] = []
            room = _PAGE_CHARACTERS
            cursor = connection.execute(self._sql(sql), values)
            for row in map(self._proven, cursor):
                rows.append(row)
                room -= len(row.body) + len(row.payload)
                if room < 0:
                    break
            cursor.close()
            return rows, room < 0 or len(rows) == _PAGE

        with self._turn:
            return self._read(read)

    def _of_kinds(
        self, kinds: Sequence[str], after: int, until: int | None, newest_first: bool = False
    ) -> Iterator[Row]:
        """What is of no kind at all is read, too: it may be damaged."""
        where = f"(kind IN ({', '.join('?' * len(kinds))}) OR coalesce(kind, '') NOT IN ({_KNOWN}))"
        rows = self._pages("NOT INDEXED", where, tuple(kinds), after, until, newest_first)
        return (row for row in rows if row.kind in kinds)

    def _caused_by(self, causes: Sequence[int]) -> list[Row]:
        rows: list[Row] = []
        for some in (causes[i : i + _PAGE] for i in range(0, len(causes), _PAGE)):
            where = f"cause IN ({', '.join('?' * len(some))})"
            rows += self._all(f"{_ROWS} INDEXED BY event_cause WHERE {where} ORDER BY seq", tuple(some))
        wanted = frozenset(causes)
        for row in rows:
            if row.cause not in wanted:
                raise self._damaged(row.seq, "the index has it in a wrong place")
        return rows

    def _all(self, sql: str, values: tuple[object, ...]) -> list[Row]:
        with self._turn:
            return self._read(lambda c: list(map(self._proven, c.execute(self._sql(sql), values))))

    def _first(self, rest: str, values: tuple[object, ...]) -> Row | None:
        rows = self._all(f"{_ROWS} {rest}", values)
        return rows[0] if rows else None

    def _sql(self, sql: str) -> str:
        return sql if self._sealed else sql.replace(_ROWS, _ROWS_WITHOUT)

    def _proven(self, values: tuple[Any, ...]) -> Row:
        row = Row._make(values[:_WIDTH])
        if self._sealed and values[_WIDTH] != sum_of(row):
            raise self._damaged(row.seq, "it is not what was written")
        return row

    def _asked_for(self, rows: Iterable[Row], **asked: str | None) -> Iterator[Row]:
        """The rows, if they are what an index was asked for."""
        wanted = [(Row._fields.index(name), value) for name, value in asked.items() if value is not None]
        for row in rows:
            if row.kind != "Published" or any(row[column] != value for column, value in wanted):
                raise self._damaged(row.seq, "the index has it in a wrong place")
            yield row

    def _complete(self, rows: Iterable[Row], after: int) -> Iterator[Row]:
        """The rows, if none is missing among them."""
        for row in rows:
            if row.seq != after + 1:
                self._skipped(after, row)
            after = row.seq
            yield row

    def _skipped(self, after: int, row: Row | None) -> None:
        """See that the log says, in the first row after it, that it has no such position."""
        if row is not None and row.seq != after + 1:
            event = decode(row) if row.kind == "Opened" else None
            if not isinstance(event, Opened) or row.seq - event.gap > after + 1:
                raise self._damaged(after + 1, "it is gone")

    def _damaged(self, seq: int, why: str) -> StoreDamaged:
        error = StoreDamaged(f"{self.path} is damaged at event {seq}: {why}. Restore a copy, or {saving(self.path)}.")
        error.reader = self
        return error

    def _one(self, sql: str, values: tuple[object, ...] = ()) -> tuple[Any, ...]:
        with self._turn:
            found: tuple[Any, ...] = self._read(lambda c: c.execute(sql, values).fetchone())
            return found

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = connect_to_read(self.path, self._file)
                self._sealed = is_sealed(self._connection.execute("PRAGMA user_version").fetchone()[0])
                if (lost := self._connection.execute(f"SELECT ({LOST_END})").fetchone()[0]) is not None:
                    self._connection = None
                    raise self._damaged(lost, "the log ends before it, and a snapshot is of after that")
            return query(self._connection)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            explained = explain(error, self.path)
            explained.reader = self
            raise explained from error


def connect_to_read(path: Path, file: str, *, cut_off: bool = False) -> sqlite3.Connection:
    """A connection that cannot write, to a file that is a board.

    Args:
        path: as people call it; `file` is what it really is.
        cut_off: also to one that is shorter than it says, for who proves every row: SQLite refuses such a file unless
            it is told that its schema is being mended.
    """
    check_file(path, file)
    if not os.path.exists(file):
        raise StoreError(f'{path} does not exist. Blackboard("{path}") makes it at its first publish.')
    if os.path.exists(f"{file}-journal"):  # only the making of a board has one
        raise NotABoard(f"{path} is being made, or was when its process died: no board yet. A publish makes it one.")
    uri = Path(file).as_uri() + "?mode=ro"
    try:
        return _checked(path, uri, cut_off=cut_off)
    except sqlite3.OperationalError as error:
        # In a folder that we cannot write there is no room for SQLite's shared memory; a board that was closed is
        # complete without it.
        if not error.sqlite_errorname.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")) or os.path.exists(
            f"{file}-wal"
        ):
            raise
        return _checked(path, uri + "&immutable=1", cut_off=cut_off)


def _checked(path: Path, uri: str, *, cut_off: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        if cut_off:
            connection.execute("PRAGMA writable_schema = ON")
        if not is_board(path, *connection.execute(INSPECT).fetchone()):
            raise NotABoard(f"{path} is an empty file, no board yet. The first publish makes it one.")
    except BaseException:
        connection.close()
        raise
    return connection


def _published(type_: str | None, run: str | None) -> tuple[str, str, tuple[str, ...]]:
    """Index, condition and values for the `Published` rows of a type, a run, both or any."""
    given = [(column, value) for column, value in (("run", run), ("type", type_)) if value is not None]
    index = f"INDEXED BY event_{'_'.join(column for column, _ in given)}" if given else "NOT INDEXED"
    where = " AND ".join(["kind = 'Published'", *(f"{column} = ?" for column, _ in given)])
    return index, where, tuple(value for _, value in given)
