"""Boards for tests of behaviour: the same test on every store, with small artifacts and a small agent."""

import asyncio
import shutil
import sys
from collections.abc import Awaitable
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import BaseModel

from stigmergy import Blackboard, Roster, View
from stigmergy.blackboard.stores.base import Store
from stigmergy.blackboard.stores.memory import MemoryStore


class A(BaseModel):
    n: int = 0
    key: str = ""


class B(BaseModel):
    n: int = 0
    key: str = ""


class C(BaseModel):
    n: int = 0
    key: str = ""


def numbers(view: View, model: type[A] | type[B] | type[C]) -> list[int]:
    """The `n` of all artifacts of a type, oldest first."""
    return [int(getattr(artifact.payload, "n")) for artifact in view.artifacts(model)]  # noqa: B009  a union of types


def copying(board: Blackboard, ran: list[int] | None = None, *, name: str = "copy", **limits: Any) -> Blackboard:
    """The board, with an agent that makes a B of every A and notes which."""

    async def copy(a: A) -> B:
        if ran is not None:
            ran.append(a.n)
        return B(n=a.n, key=a.key)

    board.agent(name).limits(**limits).consumes(A).publishes(B).body(copy)
    return board


async def in_the_middle(board: Blackboard, reached: asyncio.Event) -> asyncio.Task[object]:
    """Run a board until a body says that it is where it should be; it goes on running."""
    run: asyncio.Task[object] = asyncio.create_task(board.run_until_idle())
    await reached.wait()
    return run


async def stopped(*runs: asyncio.Task[object]) -> None:
    """End runs that were only there to be interrupted."""
    for run in runs:
        run.cancel()
    await asyncio.wait(runs)


async def lines_for(doing: Awaitable[object], *, part: str = "") -> int:
    """How many lines of this library, or of a part of it, something takes: unlike seconds, the same on every machine.

    Those of the writer are left out: it looks around for as long as a disk takes.
    """
    count = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        file = frame.f_code.co_filename
        if f"stigmergy/{part}" not in file or file.endswith("writer.py"):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        await doing
    finally:
        sys.settrace(before)
    return count


class Boards:
    """Makes boards on one kind of store, and closes them when the test is over.

    Calling it gives a board on a new store.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self._folder = folder
        self._made: list[tuple[Blackboard, Store | Path]] = []

    def __call__(self, roster: Roster | None = None, **options: Any) -> Blackboard:
        store = MemoryStore() if self.kind == "memory" else self._folder / f"board{len(self._made)}.db"
        return self._make(store, roster, options)

    async def reopened(self, board: Blackboard, roster: Roster | None = None, **options: Any) -> Blackboard:
        """Close a board and open another one on what it leaves."""
        await board.close()
        return self._make(self._store_of(board), roster, options)

    async def after(self, ending: str, board: Blackboard, **options: Any) -> Blackboard:
        """The board that comes after one that was "closed" or "died"."""
        return self.crashed(board, **options) if ending == "died" else await self.reopened(board, **options)

    def crashed(self, board: Blackboard, roster: Roster | None = None, **options: Any) -> Blackboard:
        """Another board on the files as they are at this moment, as if its process had died here; files only."""
        path = self._store_of(board)
        assert isinstance(path, Path)
        copy = self._folder / f"board{len(self._made)}.db"
        for suffix in ("", "-wal"):
            if (file := path.with_name(path.name + suffix)).exists():
                shutil.copy(file, copy.with_name(copy.name + suffix))
        return self._make(copy, roster, options)

    async def close(self) -> None:
        """Close all boards."""
        for board, _ in self._made:
            await board.close()

    def _make(self, store: Store | Path, roster: Roster | None, options: dict[str, Any]) -> Blackboard:
        board = Blackboard(store, roster=roster, **options)
        self._made.append((board, store))
        return board

    def _store_of(self, board: Blackboard) -> Store | Path:
        return next(store for made, store in self._made if made is board)
