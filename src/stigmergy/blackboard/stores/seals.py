"""Seals: every append is sealed with a digest of its rows and of the seal before, so that a file proves itself.

The chain covers every column of every row. What it cannot show is that the newest appends are missing: a log that was
not closed may have lost its tail to whatever damaged it.
"""

from collections.abc import Iterable
from hashlib import blake2b

from stigmergy.blackboard.stores.base import Row

_SIZE = 16
"""Bytes of a seal."""


def sealed_text(values: Iterable[object]) -> str:
    """What a seal is made of: all values of all rows. This is part of the file format.

    No value has a NUL character: those of names are refused, JSON has them escaped.
    """
    return "\0".join(map(str, values))


def seal_of(before: bytes, data: bytes) -> bytes:
    """The seal of an append.

    Args:
        before: the seal of the append before; b"" for the first.
        data: the text of the rows, as UTF-8.
    """
    digest = blake2b(before, digest_size=_SIZE)
    digest.update(data)
    return digest.digest()


class Sealing:
    """The same, row by row.

    Args:
        before: as there.
    """

    def __init__(self, before: bytes) -> None:
        self._digest = blake2b(before, digest_size=_SIZE)
        self._between = b""

    def add(self, row: Row) -> None:
        """The next row; whatever a damaged file may give for one."""
        self._digest.update(self._between + sealed_text(row).encode("utf-8", "surrogatepass"))
        self._between = b"\0"

    def seal(self) -> bytes:
        """The seal after the last row."""
        return self._digest.digest()
