"""Payloads that go for good, while the row that had one stays and goes on proving itself."""

import sqlite3
from collections.abc import Iterable
from typing import Any

from pydantic_core import to_json

from stigmergy.blackboard.events import Erased
from stigmergy.blackboard.stores.base import Row
from stigmergy.blackboard.stores.rows import decode
from stigmergy.blackboard.stores.seals import sum_of

HAVE_PAYLOADS = ("Published", "Called")
_HEAD = Row._fields[:-1]
SUM = "emptied_sum", len(_HEAD)
"""The name of `emptied_sum` in SQL, and how many arguments it takes."""
OVERWRITE = "PRAGMA secure_delete = ON"
"""What is erased is overwritten, not only unlinked."""
ERASE = f"""
UPDATE event SET payload = '', crc = {SUM[0]}({", ".join(_HEAD)})
WHERE seq < ? AND payload <> '' AND kind IN {HAVE_PAYLOADS} AND seq NOT IN (SELECT value FROM json_each(?))
"""  # noqa: S608  constants only; values are bound
"""One statement, so that it is done as a whole. Digests stay, and with them the seals, which are made of these."""


def emptied_sum(*head: Any) -> int:
    """The check sum of a row without its payload."""
    return sum_of(Row._make((*head, "")))


def positions(keep: Iterable[int]) -> str:
    """Positions as `ERASE` takes them."""
    return to_json(list(keep)).decode()


class Erasures:
    """What the log says is erased.

    Args:
        rows: its `Erased` rows.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._said = [e for e in map(decode, rows) if isinstance(e, Erased)]
        self._kept = [frozenset(e.keep) for e in self._said]

    def cover(self, seq: int) -> bool:
        """Whether the payload at that position may be gone."""
        return any(seq < e.before and seq not in keep for e, keep in zip(self._said, self._kept, strict=True))

    def carry_out(self, connection: sqlite3.Connection) -> None:
        """Do again what the log says; a process may have died between the saying and the doing."""
        if self._said:
            connection.create_function(*SUM, emptied_sum, deterministic=True)
            connection.execute(OVERWRITE)
        for e in self._said:
            connection.execute(ERASE, (e.before, positions(e.keep)))
