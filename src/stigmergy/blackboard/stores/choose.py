"""Which store a user means."""

from pathlib import Path

from stigmergy.blackboard.errors import StoreError, StoreLooksLikeModel
from stigmergy.blackboard.stores.base import Store
from stigmergy.blackboard.stores.memory import MemoryStore
from stigmergy.blackboard.stores.sqlite import Durability, SQLiteStore

_SUFFIXES = (".db", ".sqlite", ".sqlite3")


def store_for(value: "str | Path | Store | None", durability: Durability = "full") -> Store:
    """The store that `Blackboard(value)` means; no file is opened.

    Args:
        value: None or ":memory:" for memory, a file name with a suffix of SQLite, any `Path`, or a store.
        durability: see `SQLiteStore`; a store that is given keeps its own.

    Raises:
        StoreLooksLikeModel: a string that is no such file name.
        StoreError: something else that is no store.
    """
    if durability not in ("full", "fast"):
        raise StoreError(f'durability is {durability!r}. Use "full" or "fast".')
    if value is None or value == ":memory:":
        return MemoryStore()
    if isinstance(value, str):
        if not value.lower().endswith(_SUFFIXES):
            raise StoreLooksLikeModel(
                f'"{value}" is not a board file (.db, .sqlite, or a Path). A model goes to model=.'
            )
        value = Path(value)
    if isinstance(value, Path):
        return SQLiteStore(value, durability)
    if not hasattr(value, "append_now"):
        raise StoreError(f"{value!r} is no store. Give a file name that ends in .db, a Path, a store, or nothing.")
    return value
