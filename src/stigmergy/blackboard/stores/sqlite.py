"""The log in one SQLite file, written by its owner alone."""

import asyncio
import os
import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import repeat
from operator import itemgetter
from pathlib import Path
from threading import Thread
from typing import Any, Literal
from weakref import WeakValueDictionary

import aiosqlite
from anyio import CancelScope
from pydantic_core import to_json

from stigmergy.blackboard.errors import StoreError
from stigmergy.blackboard.stores.base import Row, Snapshot
from stigmergy.blackboard.stores.erasing import ERASE, OVERWRITE, SUM, emptied_sum, positions
from stigmergy.blackboard.stores.format import (
    ADD_SEAL,
    BEGIN_SEALING,
    CREATE,
    END_SEALING,
    INSPECT,
    PROVE,
    PROVEN,
    check_file,
    explain,
    is_board,
    is_sealed,
    real_file,
)
from stigmergy.blackboard.stores.lock import FileLock
from stigmergy.blackboard.stores.seals import Sealing, digest_of, proof_of_snapshot, seal_of, sum_of, with_proofs
from stigmergy.blackboard.stores.sqlite_reader import LAST_SEAL, SQLiteReader

__all__ = ["Durability", "SQLiteReader", "SQLiteStore", "owner_in_this_process"]

Durability = Literal["full", "fast"]

_SNAPSHOTS = 4
_SYNCHRONOUS = {"full": "FULL", "fast": "NORMAL"}
_WIDTH = len(Row._fields) + 2
"""Values of a row, with its digest and its check sum."""
_MOST = 1024 if sqlite3.sqlite_version_info >= (3, 32) else 64
"""Rows in one statement; older versions take no more than 999 values."""
_SIZES = sorted({size for n in range(11) for size in (2**n, 3 * 2**n // 2) if size <= _MOST})
"""Statements are made for few numbers of rows, so that they stay prepared; what is left over is filled up with NULL."""
_VALUES = ", ".join(f"json_extract(value, '$[{i}]') AS column{i + 1}" for i in range(_WIDTH))
_SEALED = "SELECT *, CASE column1 WHEN ? THEN ? END FROM"
"""Parameters: the last position, and the seal of all rows, which goes with it."""
_APPEND_MANY = f"INSERT INTO event ({PROVEN}, seal) {_SEALED} (SELECT {_VALUES} FROM json_each(?))"  # noqa: S608
"""For more rows than a statement can name; it takes twice as long per row."""
_time = itemgetter(2)


@cache
def _append(size: int) -> str:
    """One statement for many rows: it commits or fails as a whole, runs without the interpreter lock, and a cancelled
    caller cannot leave a transaction open. Bodies and payloads are strings, so they come back byte for byte."""
    rows = ", ".join([f"({', '.join('?' * _WIDTH)})"] * size)
    return f"INSERT INTO event ({PROVEN}, seal) {_SEALED} (VALUES {rows}) WHERE column1 IS NOT NULL"


class SQLiteStore:
    """A board file and the right to write it; nothing is opened before `open`.

    Args:
        path: the file; made when there is none, in a folder that must exist.
        durability: "full" = what `append` returned from survives a power cut; "fast" = it survives the death of the
            process, and a power cut may take the last moments (in whole appends, never out of order).
    """

    immediate = False

    def __init__(self, path: str | Path, durability: Durability = "full") -> None:
        if durability not in _SYNCHRONOUS:
            raise StoreError(f'durability is {durability!r}. Use "full" or "fast".')
        self.path = Path(path)
        self._file = real_file(path)
        self._durability = durability
        self._lock = FileLock(self.path)
        self._reader = SQLiteReader(self.path)
        self._connection: aiosqlite.Connection | None = None
        self._identity: os.stat_result | None = None
        self._seal: bytes | None = None
        """Of the last append; None = the file knows it: after an append of which nobody knows how it ended."""

    @property
    def name(self) -> str:
        """The path as it was given."""
        return str(self.path)

    async def open(self) -> None:
        """Take ownership; makes the file if there is none.

        Raises:
            BoardBusy: another process owns it, or another store of this process.
            NotABoard, NewerBoard, StoreDamaged, StoreReadOnly, StoreFull, StoreError: what is wrong with the file.
        """
        if self._connection is not None:
            return
        check_file(self.path, self._file)
        self._lock.acquire()
        try:
            self._connection = await _connect(self._file)
            await self._prepare()
            self._identity = os.stat(self._file)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            await self._let_go()
            raise explain(error, self.path) from error
        except BaseException:
            await self._let_go()
            raise
        _OPEN[self._file] = self

    async def _prepare(self) -> None:
        assert self._connection is not None
        [found] = await self._run(INSPECT)
        if not is_board(self.path, *found):
            await self._connection.executescript(CREATE)
        elif not is_sealed(found[1]):
            for sql in (*BEGIN_SEALING, *((ADD_SEAL,) if found[1] == 1 else ())):
                await self._run(sql)
            await self._connection.executemany(PROVE, _proofs(self._reader))
            for sql in END_SEALING:
                await self._run(sql)
            self._reader.close()  # it may have read the file as it was
        [(mode,)] = await self._run("PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise StoreError(f"{self.path}: this file system cannot hold a write-ahead log. Put it on a local disk.")
        await self._run(f"PRAGMA synchronous = {_SYNCHRONOUS[self._durability]}")
        await self._run("DELETE FROM snapshot WHERE seq < 0")  # a file that can only be read says so here, not later
        last = list(await self._run(LAST_SEAL))
        self._seal = last[0][0] or b"" if last else b""

    async def append(self, rows: Sequence[Row]) -> None:
        """Keep these rows, all or none; durable when it returns. When it is cancelled they may be kept.

        Raises:
            StoreError: nothing was kept if a text or position is refused; after any other error that is unknown.
        """
        if not rows:
            return
        if set(map(type, map(_time, rows))) != {float}:  # a clock that gives whole seconds
            rows = [row._replace(at=float(row.at)) for row in rows]
        try:
            values, sealed = with_proofs(rows)
        except UnicodeEncodeError as error:
            raise StoreError(
                f"{self.path}: event {rows[0].seq} or a later one has text that is not Unicode."
            ) from error
        if sealed.count(b"\0") != len(rows) * len(Row._fields) - 1:
            _refuse_nul(self.path, rows)
        before, self._seal = self._seal, None
        seal = seal_of(self._reader.seal() if before is None else before, sealed)
        if len(rows) > _MOST:
            many = [values[i : i + _WIDTH] for i in range(0, len(values), _WIDTH)]
            await self._execute(_APPEND_MANY, (rows[-1].seq, seal, to_json(many).decode()))
        else:
            size = _SIZES[bisect_left(_SIZES, len(rows))]
            spare = repeat(None, (size - len(rows)) * _WIDTH)
            await self._execute(_append(size), [rows[-1].seq, seal, *values, *spare])
        self._seal = seal
        self._check_place()

    def _check_place(self) -> None:
        """Raise if what was written cannot be found by anybody else, which SQLite does not notice."""
        for part, there in (("", self._identity), ("-wal", None)):
            try:
                found = os.stat(self._file + part)
            except OSError:
                found = None
            if found is None or (there is not None and not os.path.samestat(found, there)):
                raise StoreError(
                    f"{self.path}{part} was deleted, moved or replaced while the board was open. Put it back, or "
                    "choose another file."
                )
        if self._lock.lost():
            raise StoreError(
                f"{self.path}.lock was removed while the board was open, so another process may own the board, too. "
                "Leave that file alone."
            )

    def append_now(self, rows: Sequence[Row]) -> None:
        """Not here: see `immediate`."""
        raise StoreError(f"{self.path} is a file: await append().")

    def before_read(self, settle: Callable[[], None]) -> None:
        """Not here: see `immediate`."""
        raise StoreError(f"{self.path} is a file: it is read as it is.")

    def reader(self) -> "SQLiteReader":
        """The reading side; it goes on working when the store is closed."""
        return self._reader

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep it; the oldest ones go."""
        proof = proof_of_snapshot(snapshot.seq, snapshot.code, snapshot.state)
        values = (snapshot.seq, snapshot.code, proof + snapshot.state)
        await self._execute("INSERT OR REPLACE INTO snapshot (seq, code, state) VALUES (?, ?, ?)", values)
        await self._execute(
            "DELETE FROM snapshot WHERE seq NOT IN (SELECT seq FROM snapshot ORDER BY seq DESC LIMIT ?)", (_SNAPSHOTS,)
        )

    async def erase(self, before: int, keep: Sequence[int]) -> None:
        """Empty payloads, and overwrite the room they had; in the log beside the file, when no reader is in the way."""
        connection = self._connection
        if connection is not None:
            await connection.create_function(*SUM, emptied_sum, deterministic=True)
        await self._execute(OVERWRITE)
        await self._execute("DELETE FROM snapshot")
        await self._execute(ERASE, (before, positions(keep)))
        await self._execute("PRAGMA wal_checkpoint(TRUNCATE)")

    async def close(self) -> None:
        """Give up ownership, leaving one file; it can be opened again."""
        if self._connection is None:
            return
        self._reader.close()
        try:
            if _alive(self._connection):
                with suppress(sqlite3.Error):  # a full disk, a reader in the way: the log beside the file has it all
                    await self._run("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        connection, self._connection, self._seal = self._connection, None, None
        try:
            if connection is not None and _alive(connection):
                with CancelScope(shield=True):
                    await connection.close()
        finally:
            self._lock.release()
            if _OPEN.get(self._file) is self:
                del _OPEN[self._file]

    async def _execute(self, sql: str, parameters: Iterable[Any] = ()) -> None:
        try:
            await self._run(sql, parameters)
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    async def _run(self, sql: str, parameters: Iterable[Any] = ()) -> Iterable[sqlite3.Row]:
        """One statement, one hop to the writing thread."""
        connection = self._connection
        if connection is None:
            raise StoreError(f"{self.path} is not open.")
        if not self._lock.held or not _alive(connection):
            raise StoreError(f"{self.path} lost its writer, to a fork or a closed event loop. Open the board again.")
        try:
            return await connection.execute_fetchall(sql, parameters)
        except asyncio.CancelledError:
            # The statement runs all the same, and its thread would die if it found our event loop closed: wait for it.
            with CancelScope(shield=True):
                await _settled(connection)
            raise


def _proofs(reader: SQLiteReader) -> Iterator[tuple[str, int, bytes | None, int]]:
    """Digest, check sum, seal and position of every row of a file that has none yet; all of it is one append."""
    sealing, last = Sealing(b""), reader.last()
    for row in reader.events():
        digest = digest_of(row.payload)
        sealing.add(row, digest)
        yield digest, sum_of(row), sealing.seal() if row.seq == last else None, row.seq


def owner_in_this_process(path: str | Path) -> SQLiteStore | None:
    """The store of this process that has this file open, if one has."""
    return _OPEN.get(os.path.realpath(path))


_OPEN: "WeakValueDictionary[str, SQLiteStore]" = WeakValueDictionary()


async def _connect(path: str) -> aiosqlite.Connection:
    """A connection whose thread does not keep the process alive when a board is never closed.

    Threads are daemons when they are made by one; aiosqlite has no other way to ask for it.
    """
    made: list[aiosqlite.Connection] = []
    maker = Thread(target=lambda: made.append(aiosqlite.connect(path, isolation_level=None)), daemon=True)
    maker.start()
    maker.join()
    return await made[0]


def _alive(connection: aiosqlite.Connection) -> bool:
    """Whether the thread behind it runs; without it every await would hang. (aiosqlite < 0.22 is a thread itself.)"""
    thread: Any = getattr(connection, "_thread", connection)
    return bool(thread.is_alive())


async def _settled(connection: aiosqlite.Connection) -> None:
    """Return when all statements before this one are through, however often we are cancelled."""

    async def last_in_line() -> None:
        with suppress(sqlite3.Error):
            await connection.execute_fetchall("SELECT 1")

    while True:
        task = asyncio.ensure_future(last_in_line())
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():  # a loop that ends cancels every task once
            return


def _refuse_nul(path: Path, rows: Sequence[Row]) -> None:
    """SQLite would cut these at the character; in bodies and payloads JSON has it escaped."""
    for row in rows:
        if any(text and "\0" in text for text in (row.run, row.type, row.key, row.work)):
            raise StoreError(f"{path}: the run, type, key or work id of event {row.seq} has a NUL character.")
