"""What a board file proves itself by.

Every row has the check sum of its values, which every read compares: a bit that flipped is an error, and no other text.
Every payload has its digest. And every append has a seal, in its last row: a digest of its rows and of the seal before,
so that the log is proven from its beginning, and nobody can change it and only make the check sums anew.

What seals cannot show is that the newest appends are missing: a log that was not closed may have lost its tail to
whatever damaged it. All of this is part of the file format.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any
from zlib import crc32

from stigmergy.blackboard.stores.base import Row

SIZE = 16
"""Bytes of a seal, and of a digest."""
_TEXT = "\0".join(["%s"] * len(Row._fields))
_HEAD = "%s\0" * (len(Row._fields) - 1)


def digest_of(payload: str) -> str:
    """The digest of a payload, as hexadecimal digits; "" if there is none."""
    return blake2b(payload.encode(), digest_size=SIZE).hexdigest() if payload else ""


def sum_of(row: Row) -> int:
    """The check sum of a row; whatever a damaged file may give for one."""
    return crc32((_TEXT % row).encode())


def with_proofs(rows: Iterable[Row]) -> tuple[list[Any], bytes]:
    """The values of all rows, each with its digest and its check sum, in one list; and what their seal is made of.

    No value has a NUL character: those of names are refused, JSON has them escaped.

    Raises:
        UnicodeEncodeError: a text cannot be stored.
    """
    values: list[Any] = []
    sealed: list[bytes] = []
    for row in rows:
        head = (_HEAD % row[:-1]).encode()
        digest, checked = "", crc32(head)
        if payload := row[-1]:
            data = payload.encode()
            digest, checked = blake2b(data, digest_size=SIZE).hexdigest(), crc32(data, checked)
            head += digest.encode()
        sealed.append(head)
        values += (*row, digest, checked)
    return values, b"\0".join(sealed)


def seal_of(before: bytes, data: bytes) -> bytes:
    """The seal of an append.

    Args:
        before: the seal of the append before; b"" for the first.
        data: as `with_proofs` gives it.
    """
    digest = blake2b(before, digest_size=SIZE)
    digest.update(data)
    return digest.digest()


class Sealing:
    """The same, row by row.

    Args:
        before: as there.
    """

    def __init__(self, before: bytes) -> None:
        self._digest = blake2b(before, digest_size=SIZE)
        self._between = b""

    def add(self, row: Row, digest: str) -> None:
        """The next row; whatever a damaged file may give for one.

        Args:
            digest: of its payload.
        """
        self._digest.update(self._between + (_TEXT % (*row[:-1], digest)).encode())
        self._between = b"\0"

    def seal(self) -> bytes:
        """The seal after the last row."""
        return self._digest.digest()


def proof_of_snapshot(seq: int, code: str, state: bytes) -> bytes:
    """What a snapshot begins with in a file."""
    return seal_of(f"{seq} {code}".encode(), state)
