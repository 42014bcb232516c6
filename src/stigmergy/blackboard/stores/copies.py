"""Copies of board files, made whole or not at all, and what can be thrown away."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from stigmergy.blackboard.errors import StoreError
from stigmergy.blackboard.stores.erasing import Erasures
from stigmergy.blackboard.stores.format import explain, real_file
from stigmergy.blackboard.stores.lock import FileLock
from stigmergy.blackboard.stores.sqlite_reader import SQLiteReader, connect_to_read


def backup(path: str | Path, to: str | Path) -> int:
    """Copy a board file as it is at one moment, also while it is in use; the copy is one file.

    Returns:
        the size of the copy in bytes.

    Raises:
        StoreError: there is something at `to`, or no board at `path`; nothing is changed.
    """
    path, to = Path(path), Path(to)
    try:
        with (
            closing(connect_to_read(path, real_file(path))) as source,
            new_file(to) as part,
            closing(sqlite3.connect(part)) as target,
        ):
            source.backup(target)  # in one step: the owner goes on writing meanwhile
            target.execute("PRAGMA journal_mode = DELETE")  # so that no second file belongs to the copy
    except sqlite3.Error as error:
        raise explain(error, path) from error
    return to.stat().st_size


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """How many bytes a file had, and has."""

    before: int
    after: int


def vacuum(path: str | Path) -> Vacuumed:
    """Throw away what can be made again: snapshots, and the room of what was removed. No event is.

    An erasure that broke off, because its process died, is brought to its end.

    Raises:
        BoardBusy: the board is in use.
        StoreError: there is no such board, or it cannot be written.
    """
    path = Path(path)
    file = real_file(path)
    lock = FileLock(path)
    lock.acquire()
    try:
        with closing(SQLiteReader(path)) as reader:
            erasures = Erasures(reader.events(kinds=("Erased",)))
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            before = os.path.getsize(file)
            erasures.carry_out(connection)
            connection.execute("DELETE FROM snapshot")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise explain(error, path) from error
    finally:
        lock.release()
    return Vacuumed(before, os.path.getsize(file))


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Something to write that takes its name when it is complete; what is there already is never replaced.

    Raises:
        StoreError: there is something already, or no such folder.
    """
    if path.exists() or path.is_symlink():
        raise StoreError(f"{path} exists already. Choose another name.")
    if not path.parent.is_dir():
        raise StoreError(f"{path}: there is no folder {path.parent}. Make it first.")
    part = path.with_name(f"{path.name}.part")
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError as error:
        raise StoreError(f"{part} is left from another copy, or being made. Remove it first.") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be made: {error.strerror}. Choose another folder.") from error
    try:
        yield part
        _name(part, path)
    except FileExistsError as error:
        raise StoreError(f"{path} exists already. Choose another name.") from error
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                os.unlink(f"{part}{suffix}")


def _name(part: Path, path: Path) -> None:
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        os.rename(part, path)
