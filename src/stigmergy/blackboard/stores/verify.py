"""Proving that a board file is whole, and saving what is provable of one that is not."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from stigmergy.blackboard.errors import NewerBoard, StoreDamaged, StoreError
from stigmergy.blackboard.stores.base import Row
from stigmergy.blackboard.stores.copies import new_file
from stigmergy.blackboard.stores.erasing import Erasures
from stigmergy.blackboard.stores.format import CREATE, PROVEN, explain, is_sealed, real_file
from stigmergy.blackboard.stores.rows import decode
from stigmergy.blackboard.stores.seals import Sealing, digest_of, sum_of
from stigmergy.blackboard.stores.sqlite_reader import LOST_END, SQLiteReader, connect_to_read
from stigmergy.blackboard.text import number

_PAGE = 500
_ROWS = f"SELECT {PROVEN}, seal FROM event NOT INDEXED WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608  constants
_INSERT = f"INSERT INTO event ({PROVEN}, seal) VALUES ({', '.join('?' * (len(Row._fields) + 3))})"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Damage:
    """The first damage of a log.

    Attributes:
        first, last: it is in one of the events at these positions (0 = nobody can say up to where).
        why: what is wrong there.
    """

    first: int
    last: int
    why: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What is proven of a board file.

    Attributes:
        events: how many events from the beginning are as they were written.
        last: position of the last of them.
        seal: the digest of the log up to there, as hexadecimal digits: two logs with one seal are the same.
        closed: the log ends with an orderly stop. One that does not may go on, or its process died; if the file was
            damaged from outside, a tail that is missing cannot be told from one that was never written.
        damage: what comes after that; None = nothing but intact events.
    """

    store: str
    events: int
    last: int
    seal: str
    closed: bool
    damage: Damage | None = None

    @property
    def whole(self) -> bool:
        """Whether everything that is there is proven."""
        return self.damage is None

    def __str__(self) -> str:
        if self.damage is not None:
            first, last = self.damage.first, self.damage.last
            where = f"event {first}" if first == last else f"one of the events {first} to {last or 'the end'}"
            kept = f"{number(self.events, 'event')} before it {'is' if self.events == 1 else 'are'} intact"
            way_out = (
                f"{kept}; save them with --recover NEW.db" if self.events else "Nothing is before it: restore a copy"
            )
            return f"{self.store} is damaged at {where}: {self.damage.why}. {way_out}."
        end = "closed" if self.closed else "not closed: in use, or its process died"
        return f"{self.store} is whole: {number(self.events, 'event')}, {end}, seal {self.seal or 'none'}"

    def to_json(self) -> str:
        """The same as a JSON object."""
        return _VERIFIED.dump_json(self, indent=2).decode()


_VERIFIED = TypeAdapter(Verified)


def verify(path: str | Path) -> Verified:
    """Check every event of a board file against its seals; works while the board is in use, and writes nothing.

    Raises:
        NotABoard, NewerBoard, StoreError: there is no such board, or nothing of it can be read.
    """
    path = Path(path)
    with closing(_connect(path)) as connection:
        if not is_sealed(connection.execute("PRAGMA user_version").fetchone()[0]):
            raise StoreError(f"{path} is of a format without seals. Open it once with Blackboard, which seals it.")
        chain = _Chain(_erasures(path))
        try:
            for row, proofs in _proven_rows(connection):
                chain.add(row, *proofs)
            chain.end()
            if why := _loose(connection):
                chain.damage = Damage(chain.last + 1, 0, why)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            chain.damage = Damage(chain.last + 1, 0, f"the file cannot be read there ({error})")
        except _Broken:
            pass
        return Verified(str(path), chain.events, chain.last, chain.seal.hex(), chain.closed, chain.damage)


def recover(path: str | Path, to: str | Path) -> Verified:
    """Copy what is intact of a board file to a new one: whole decisions, from the first to the last provable one.

    Returns:
        what is proven of the new file.

    Raises:
        StoreError: there is something at `to`; nothing is changed.
    """
    path, to = Path(path), Path(to)
    proven = verify(path)
    with new_file(to) as part, closing(_connect(path)) as source, closing(sqlite3.connect(part)) as target:
        try:
            target.executescript(CREATE)
            for row, proofs in _proven_rows(source) if proven.last else ():
                target.execute(_INSERT, (*row, *proofs))
                if row.seq == proven.last:  # the next row may be one that cannot be read
                    break
            target.commit()
        except sqlite3.Error as error:
            raise explain(error, to) from error
    return verify(to)


def _erasures(path: Path) -> Erasures:
    """What the log says is erased; if it cannot be read, nothing is, and the chain finds out why."""
    with closing(SQLiteReader(path)) as reader, suppress(StoreError):
        return Erasures(list(reader.events(kinds=("Erased",))))
    return Erasures(())


def _connect(path: Path) -> sqlite3.Connection:
    try:
        return connect_to_read(path, real_file(path), cut_off=True)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise explain(error, path) from error


def _proven_rows(connection: sqlite3.Connection) -> Iterator[tuple[Row, tuple[str, int, bytes | None]]]:
    """All rows with their digests, check sums and seals, in short reads, so that an owner can tidy up; what comes
    before damage is given."""
    after, more = 0, True
    while more:
        more = False
        for *values, digest, checked, seal in connection.execute(_ROWS, (after, _PAGE)):
            row = Row._make(values)
            if row.seq <= after:
                raise sqlite3.DatabaseError("the order of the events is lost")
            after, more = row.seq, True
            yield row, (digest, checked, seal)


def _loose(connection: sqlite3.Connection) -> str:
    """What else is wrong with the file, though all events are there."""
    found: str = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        return f"the events are all there, but not what finds them ({' '.join(found.split())})"
    lost = connection.execute(f"SELECT ({LOST_END})").fetchone()[0]
    return "" if lost is None else "the log ends before it, and a snapshot is of after that"


class _Broken(Exception):
    """Nothing after this is proven."""


class _Chain:
    """Follows the seals from the beginning."""

    def __init__(self, erasures: Erasures) -> None:
        self._erasures = erasures
        self.events = self.last = 0
        self.seal = b""
        self.closed = False
        self.pending = 0
        """The first position of the append that is being read; 0 between two."""
        self.damage: Damage | None = None
        self._sealing = Sealing(b"")
        self._count = 0
        self._suspect: Damage | None = None

    def add(self, row: Row, digest: str, checked: int, seal: bytes | None) -> None:
        """The next row; with a seal, the last one of an append."""
        self.pending = self.pending or row.seq
        self._count += 1
        self._sealing.add(row, digest)
        gone = bool(digest) and not row.payload and self._erasures.cover(row.seq)
        if self._suspect is None and (why := _wrong(row, "" if gone else digest, checked)):
            self._suspect = Damage(row.seq, row.seq, why)
        if seal is None:
            return
        if self._suspect is not None or self._sealing.seal() != seal:
            self._break(row.seq, "it is not what was written")
        self.events += self._count
        self.seal, self.last, self.closed = seal, row.seq, row.kind == "Closed" and not row.cause
        self._sealing, self._count, self.pending, self._suspect = Sealing(seal), 0, 0, None

    def end(self) -> None:
        """There are no more rows."""
        if self.pending:
            self._break(0, "the seal is missing")

    def _break(self, last: int, why: str) -> None:
        self.damage = self._suspect or Damage(self.last + 1, last, why)
        raise _Broken


def _wrong(row: Row, digest: str, checked: int) -> str:
    """What is wrong with a row that no seal can tell: which one of an append it is."""
    if not all(isinstance(text, str) for text in (row.body, row.payload)):
        return f"event {row.seq} has no text where text was written"
    if digest_of(row.payload) != digest:
        return f"the payload of {_name(row)} is not what was written"
    try:
        decode(row)
    except NewerBoard:
        pass
    except StoreDamaged as error:
        return str(error).partition(". ")[0]
    return "" if sum_of(row) == checked else f"{_name(row)} is not what was written"


def _name(row: Row) -> str:
    return f"{row.type}@{row.seq}" if row.kind == "Published" else f"event {row.seq} ({row.kind})"
