"""Fault points: a board file whose every operation can be interrupted before it, in it, and after it."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from stigmergy.blackboard.stores.base import Row, Snapshot
from stigmergy.blackboard.stores.sqlite import Durability, SQLiteReader, SQLiteStore

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""
Point = Callable[[str], None]


class PointedStore(SQLiteStore):
    """A board file that says what it is about to do and what it has done: "append before", "statement after", …

    Args:
        point: called, with the name of the point, while nothing is being written; what it raises takes the place of
            the operation, or of its answer.
    """

    def __init__(self, path: Path, point: Point, durability: Durability = "full") -> None:
        super().__init__(path, durability)
        self.point = point
        self._reader = PointedReader(path, point)

    async def open(self) -> None:
        self.point("open before")
        await super().open()
        self.point("open after")

    async def append(self, rows: Sequence[Row]) -> None:
        self.point("append before")
        await super().append(rows)
        self.point("append after")

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        self.point("save_snapshot before")
        await super().save_snapshot(snapshot)
        self.point("save_snapshot after")

    async def erase(self, before: int, keep: Sequence[int]) -> None:
        self.point("erase before")
        await super().erase(before, keep)
        self.point("erase after")

    async def close(self) -> None:
        self.point("close before")
        await super().close()
        self.point("close after")

    async def _run(self, sql: str, parameters: Iterable[Any] = ()) -> Any:
        """The statements of the operations: the points in between."""
        self.point("statement before")
        found = await super()._run(sql, parameters)
        self.point("statement after")
        return found


class PointedReader(SQLiteReader):
    """The reading side of it."""

    def __init__(self, path: Path, point: Point) -> None:
        super().__init__(path)
        self._point = point

    def _read(self, query: Any) -> Any:
        def pointed(connection: Any) -> Any:
            self._point("read")
            return query(connection)

        return super()._read(pointed)


def files_of(path: Path) -> dict[str, bytes]:
    """What the disk holds of a board: suffix -> content. The shared memory of readers is nothing that survives."""
    found = {}
    for suffix in ("", "-wal", "-journal"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            found[suffix] = file.read_bytes()
    return found


def put(files: dict[str, bytes], path: Path) -> Path:
    """Make these the files of a board."""
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir(parents=True)
    for suffix, content in files.items():
        path.with_name(path.name + suffix).write_bytes(content)
    return path


def torn(before: dict[str, bytes], after: dict[str, bytes], random: Random) -> dict[str, bytes]:
    """What a power cut may leave of the writes between two states that are on the disk: any of their sectors.

    Of what a file grew by, any part may be there; that it was removed or cut short is there or not.
    """
    files = {}
    for suffix in before.keys() | after.keys():
        if suffix not in after:  # removing a file is all or nothing
            if random.random() < 0.5:
                files[suffix] = before[suffix]
            continue
        old, new = before.get(suffix, b""), after[suffix]
        size = random.choice((len(old), len(new), random.randint(len(old), max(len(old), len(new)))))
        content = bytearray(old[:size].ljust(size, b"\0"))
        for start in range(0, size, SECTOR):
            if random.random() < 0.5:
                piece = new[start : min(start + SECTOR, size)]
                content[start : start + len(piece)] = piece
        files[suffix] = bytes(content)
    return files
