"""Looking for what could go wrong, before or after it did: what the program runs on, and one board's file."""

import fcntl
import json
import os
import platform
import re
import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Annotated, Literal

import typer

from stigmergy.blackboard.errors import StigmergyError
from stigmergy.blackboard.reading.view import read
from stigmergy.blackboard.redaction import redacted
from stigmergy.blackboard.stores.format import FORMAT, check_file, explain, is_sealed, real_file
from stigmergy.blackboard.stores.sqlite_reader import connect_to_read
from stigmergy.blackboard.stores.verify import verify
from stigmergy.blackboard.text import number, table
from stigmergy.cli.errors import errors
from stigmergy.cli.options import Json
from stigmergy.version import VERSION

Level = Literal["ok", "warning", "problem"]

_NETWORK = re.compile(
    r"nfs|cifs|smb|9p$|afs|ncp|ceph|lustre|gluster|beegfs|gpfs|drvfs|vboxsf|virtiofs|fuse\.(?!ext|ntfs)"
)
_EXTRAS = re.compile(r"extra == .(llm|mcp|otel)\b")
"""Those that a program may need; the others are for tests and examples."""
_FLEETING = {"tmpfs", "ramfs"}
_WAL_RESET_FIXED = (3, 51, 3)
_MB = 1_000_000
_LEAST_ROOM, _LITTLE_ROOM = 20 * _MB, 500 * _MB
_SLOW_SYNC = 50.0
"""Milliseconds: a run makes a few dozen commits in a row before anything is seen of it."""
_LARGE_WAL = 64 * _MB


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at and found; `todo` is what to do about it."""

    name: str
    level: Level
    found: str
    todo: str = ""


def doctor(
    store: Annotated[
        Path | None, typer.Argument(metavar="[STORE]", help="Board file, also one that is yet to be.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check what it runs on, and a board. Exit with 3 if something is a problem."""
    with errors():
        findings = [*examined(store)]
        if as_json:
            typer.echo(json.dumps([asdict(f) for f in findings], ensure_ascii=False, indent=2))
        else:
            for f, line in zip(findings, table([(f.level, f.name, f.found) for f in findings], indent=""), strict=True):
                typer.echo(line)
                if f.todo:
                    typer.echo(f"         {f.todo}")
        raise typer.Exit(3 if any(f.level == "problem" for f in findings) else 0)


def examined(store: Path | None) -> Iterator[Finding]:
    """All that is found of the environment and, if it is given, of a board; a check that fails is a problem itself."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [("packages", _packages), ("SQLite", _sqlite)]
    yield Finding("stigmergy", "ok", f"{VERSION} on Python {platform.python_version()}, {platform.system()}")
    if store is not None:
        file = Path(real_file(store))
        checks += [
            ("folder", lambda: _folder(file)),
            ("file", lambda: _file(store, file)),
        ]
    for name, check in checks:
        try:
            yield from check()
        except (StigmergyError, OSError, sqlite3.Error) as raised:
            error = explain(raised, store) if store and isinstance(raised, sqlite3.Error) else raised
            yield Finding(name, "problem", redacted(f"{type(error).__name__}: {error}"))


# -- what the program runs on ------------------------------------------------------------------------------------------


def _packages() -> Iterator[Finding]:
    try:
        wanted = metadata.requires("stigmergy") or []
    except metadata.PackageNotFoundError:
        yield Finding("packages", "warning", "stigmergy is not installed as a package", "pip install stigmergy")
        return
    found, missing = [], []
    for requirement in wanted:
        if "extra ==" in requirement and not _EXTRAS.search(requirement):
            continue
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            if "extra ==" not in requirement:
                missing.append(requirement)
    if missing:
        todo = f"pip install {' '.join(repr(m) for m in missing)}"
        yield Finding("packages", "problem", f"{', '.join(missing)}: not installed", todo)
    yield Finding("packages", "ok", ", ".join(dict.fromkeys(found)))


def _sqlite() -> Iterator[Finding]:
    if sqlite3.sqlite_version_info >= _WAL_RESET_FIXED:
        yield Finding("SQLite", "ok", sqlite3.sqlite_version)
        return
    yield Finding(
        "SQLite", "warning", f"{sqlite3.sqlite_version} may damage a file that two programs write at one moment",
        "A board has one writer, so this needs a second program: write to its file with no other while it is open, "
        "or use SQLite 3.51.3.",
    )  # fmt: skip


# -- the disk ----------------------------------------------------------------------------------------------------------


def _folder(file: Path) -> Iterator[Finding]:
    folder = file.parent
    if not folder.is_dir():
        yield Finding("folder", "problem", f"{folder} does not exist", f"mkdir -p {folder}")
        return
    yield _file_system(folder)
    free = shutil.disk_usage(folder).free
    level: Level = "problem" if free < _LEAST_ROOM else "warning" if free < _LITTLE_ROOM else "ok"
    yield Finding("room", level, f"{free / _MB:,.0f} MB free", "" if level == "ok" else "Make room on this disk.")
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        yield Finding("folder", "warning", f"this user may not write {folder}", "Boards in it can only be read.")
        return
    with tempfile.TemporaryFile(dir=folder, prefix=".doctor-") as one:
        yield _lock(one.fileno())
        yield _sync(one.fileno())


def _file_system(folder: Path) -> Finding:
    kind = _kind_of(folder)
    if _NETWORK.search(kind):
        return Finding(
            "file system", "warning", f"{kind}, which may lie about locks and syncs", "Keep boards on a local disk."
        )
    if kind in _FLEETING:
        return Finding("file system", "warning", f"{kind}: in memory, gone at the next start of the machine")
    return Finding("file system", "ok", kind or "of a kind that this system does not tell")


def _kind_of(folder: Path) -> str:
    """The type of the file system that a folder is on, as Linux calls it; "" where nobody says."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        place = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4])
        if folder.is_relative_to(place) and len(place) >= best:  # of two on one place, the later hides the other
            best, kind = len(place), after.split()[0]
    return kind


def _lock(first: int) -> Finding:
    """A second opening of a locked file must be refused; files that are shared over a network may not care."""
    fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
    second = os.open(f"/proc/self/fd/{first}" if os.path.exists("/proc/self/fd") else f"/dev/fd/{first}", os.O_RDWR)
    try:
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Finding("lock", "ok", "a second owner would be refused")
    finally:
        os.close(second)
    return Finding("lock", "problem", "locks do nothing here: two owners could write", "Keep boards on a local disk.")


def _sync(file: int) -> Finding:
    started = perf_counter()
    os.write(file, b"x" * 4_096)
    os.fsync(file)
    took = 1_000 * (perf_counter() - started)
    if took > _SLOW_SYNC:
        return Finding(
            "sync", "warning", f"{took:,.1f} ms for a small write", 'Every commit waits as long. Try durability="fast".'
        )
    return Finding("sync", "ok", f"{took:,.1f} ms for a small write")


# -- the board ---------------------------------------------------------------------------------------------------------


def _file(store: Path, file: Path) -> Iterator[Finding]:
    check_file(store, str(file))
    if not file.exists():
        yield Finding("file", "ok", f"{store} is not there yet; the first publish makes it")
        return
    yield _owner(file)
    with closing(connect_to_read(store, str(file))) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    what = f"{file.stat().st_size / _MB:,.1f} MB, format {version}"
    if version == FORMAT:
        yield Finding("file", "ok", what)
    else:
        yield Finding("file", "warning", f"{what}; this version writes {FORMAT}", "The next run brings it up to date.")
    wal = Path(f"{file}-wal")
    size = wal.stat().st_size if wal.exists() else 0
    if size > _LARGE_WAL:
        todo = "Close the board and what reads it; opening it again puts it into the file."
        yield Finding("write-ahead log", "warning", f"{size / _MB:,.0f} MB", todo)
    else:
        yield Finding("write-ahead log", "ok", f"{size / _MB:,.1f} MB")
    if is_sealed(version):
        proven = verify(store)
        yield Finding("seals", "ok" if proven.whole else "problem", str(proven).removeprefix(f"{store} is "))
    yield from _contents(store)


def _owner(file: Path) -> Finding:
    """Who says to own it. The lock itself is not tried: for that moment nobody else could take it."""
    try:
        said = json.loads(Path(f"{file}.lock").read_bytes())
        pid, host, since = int(said["pid"]), str(said["host"]), str(said["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return Finding("owner", "ok", "nobody runs it")
    who = f"process {pid} on {host}, since {since}"
    if host == socket.gethostname() and not _runs(pid):
        return Finding("owner", "warning", f"{who}, which died", "Go on with it: stigmergy resume.")
    return Finding("owner", "ok", who)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True


def _contents(store: Path) -> Iterator[Finding]:
    with read(store) as view:
        report = view.report()
    counts = [
        number(report.artifacts, "artifact"), number(report.activations, "activation"), f"{report.open:,} open",
        number(report.dead, "dead letter"), f"{len(report.left.waiting):,} waiting for more",
        number(len(report.left.questions), "question"),
    ]  # fmt: skip
    kinds = report.left.by_kind()
    todo = f"Next: {kinds[0][0].command(str(store))}" if kinds else ""
    bad = report.dead or report.left.failed_components
    yield Finding("work", "warning" if bad else "ok", ", ".join(counts), todo)
