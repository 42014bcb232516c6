"""Boards for tests of behaviour: the same test on every store, and small artifacts to publish."""

import shutil
from pathlib import Path
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
