"""What a board file looks like to SQLite, and what SQLite's errors mean for a board."""

import os
import shlex
import sqlite3
from pathlib import Path

from stigmergy.blackboard.errors import (
    NewerBoard,
    NotABoard,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreReadOnly,
)

APPLICATION_ID = int.from_bytes(b"Stig")
FORMAT = 3
"""Since 3, rows have check sums and digests, and appends are sealed (see `seals`); so they were in 2, which was never
released, in another way."""

_STRICT = " STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
_UNTIDY = ("SQLITE_READONLY_RECOVERY", "SQLITE_READONLY_CANTINIT", "SQLITE_READONLY_CANTLOCK")
COLUMNS = "seq, tx, at, kind, cause, run, type, key, work, body, payload"
PROVEN = f"{COLUMNS}, digest, crc"

CREATE = f"""
BEGIN IMMEDIATE;
CREATE TABLE event (
    seq INTEGER PRIMARY KEY, tx INTEGER NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL, cause INTEGER NOT NULL,
    run TEXT, type TEXT, key TEXT, work TEXT, body TEXT NOT NULL, payload TEXT NOT NULL, seal BLOB,
    digest TEXT NOT NULL DEFAULT '', crc INTEGER NOT NULL DEFAULT 0
){_STRICT};
CREATE INDEX event_type ON event (type) WHERE kind = 'Published';
CREATE INDEX event_run ON event (run) WHERE kind = 'Published';
CREATE INDEX event_run_type ON event (run, type) WHERE kind = 'Published';
CREATE UNIQUE INDEX event_key ON event (run, key) WHERE kind = 'Published' AND key IS NOT NULL;
CREATE INDEX event_work ON event (run, work) WHERE kind = 'Published' AND work IS NOT NULL;
CREATE INDEX event_cause ON event (cause);
CREATE TABLE snapshot (seq INTEGER PRIMARY KEY, code TEXT NOT NULL, state BLOB NOT NULL){_STRICT};
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
COMMIT;
"""
"""One transaction, so that a file is a board or empty. The indexes hold only rows that are asked for by them."""

INSPECT = """
SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
    (SELECT page_count FROM pragma_page_count)
"""


def real_file(path: str | Path) -> str:
    """Where the file really is, links followed; nothing is opened.

    Raises:
        StoreError: no file can have this name.
    """
    try:
        return os.path.realpath(path)
    except (ValueError, OSError) as error:
        raise StoreError(f"{str(path)!r} is no file name ({error}). Choose another one for the board.") from error


def check_file(path: Path, file: str) -> None:
    """Refuse what would hang or lose everything: a folder, a pipe, a device, a log whose file is gone.

    Raises:
        StoreError: it is there, and no regular file.
        StoreDamaged: it is not there, or empty, but its write-ahead log is; SQLite would throw that away.
    """
    if os.path.isdir(file):
        raise StoreError(f"{path} is a folder. Give the name of a file in it.")
    if os.path.exists(file) and not os.path.isfile(file):
        raise StoreError(f"{path} is no regular file. A board needs one: choose another name.")
    if _size(file) == 0 and _size(f"{file}-wal") > 0:
        raise StoreDamaged(
            f"{path} is gone, but {path}-wal has events of it. Put the file back, or move that away to begin anew."
        )


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size
    except OSError:
        return 0


def is_sealed(version: int) -> bool:
    """Whether the rows of a file of that format have check sums, and its appends seals."""
    return version >= FORMAT


BEGIN_SEALING = (
    "BEGIN IMMEDIATE",
    "ALTER TABLE event ADD COLUMN digest TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE event ADD COLUMN crc INTEGER NOT NULL DEFAULT 0",
)
ADD_SEAL = "ALTER TABLE event ADD COLUMN seal BLOB"
"""What format 1 lacks, too."""
PROVE = "UPDATE event SET digest = ?, crc = ?, seal = ? WHERE seq = ?"
END_SEALING = ("DELETE FROM snapshot", f"PRAGMA user_version = {FORMAT}", "COMMIT")
"""What makes a board of an earlier format one of this: one transaction, in which each row gets its proofs."""


def is_board(path: Path, application_id: int, version: int, pages: int) -> bool:
    """Whether what `INSPECT` found is a board that this version reads; False for an empty file.

    Raises:
        NotABoard: another program's database.
        NewerBoard: a later version wrote it.
    """
    if pages == 0:
        return False
    if application_id != APPLICATION_ID:
        raise NotABoard(f"{path} is a database of another program. Choose another file for the board.")
    if version > FORMAT:
        raise NewerBoard(f"{path} has format {version}; this version reads up to {FORMAT}. Update stigmergy.")
    return True


def saving(path: Path) -> str:
    """How to save what is intact of a damaged file."""
    return f"save what is intact: stigmergy verify {shlex.quote(str(path))} --recover NEW.db"


def explain(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> StoreError:
    """The same error in this library's words; SQLite's own name of it is kept in the message.

    Args:
        error: also of the module's reading of SQLite's message, which quotes what is in the file.
    """
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    why = f"({name}: {' '.join(str(error).split())})"  # it may quote what is in the file
    if name == "SQLITE_NOTADB":
        return NotABoard(f"{path} is no database. Choose another file for the board. {why}")
    if name.startswith("SQLITE_CORRUPT"):
        return StoreDamaged(f"{path} is damaged. Restore a copy, or {saving(path)}. {why}")
    if name in _UNTIDY:
        return StoreReadOnly(
            f"{path} was not closed, and this user may not write its folder. Read it once as one who may. {why}"
        )
    if name.startswith("SQLITE_READONLY"):
        return StoreReadOnly(f'{path} cannot be written. Use read("{path}"), or change its permissions. {why}')
    if isinstance(error, UnicodeDecodeError) or str(error).startswith("Could not decode"):
        return StoreDamaged(f"{path} is damaged: there is text that is none. Restore a copy, or {saving(path)}.")
    if name == "SQLITE_ERROR" and str(error).startswith("no such"):
        return StoreDamaged(f"{path} lacks a part of what a board is. Restore a copy. {why}")
    if name == "SQLITE_FULL":
        return StoreFull(f"{path}: the disk is full. Make room and open the board again; nothing kept is lost. {why}")
    if name.startswith("SQLITE_CANTOPEN"):
        return StoreError(f"{path} cannot be opened. Check that it is a file and who may read it. {why}")
    if name.startswith("SQLITE_CONSTRAINT"):
        return StoreError(f"{path} already has one of these events, or an artifact with the same key. {why}")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreError(f"{path} is held by another program, not by a board. Close it there and try again. {why}")
    return StoreError(f"{path} cannot be read or written. Look at the disk, then open the board again. {why}")
