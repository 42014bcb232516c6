"""What agents were recorded to publish, against what they publish when the stream is played."""

from collections.abc import Sequence
from hashlib import blake2b

from stigmergy.blackboard.core.decision import OUTSIDE, PERSON
from stigmergy.blackboard.events import Published
from stigmergy.blackboard.payloads.types import type_of
from stigmergy.blackboard.reading.view import View
from stigmergy.blackboard.text import number, short
from stigmergy.testing.streams import Step

OFTEN = 500
"""After so many expected outputs those that came are taken off, so that neither list grows."""
_SHOWN = 5
_Key = tuple[str, str, bytes]
"""Producer, type, and a digest of the payload."""


class Comparison:
    """What agents were recorded to publish, against what they publish here; what agrees is forgotten at once."""

    def __init__(self, view: View, name: str, muted: frozenset[str]) -> None:
        self._view = view
        self._name = name
        self._left_out = muted | {OUTSIDE.producer, PERSON.producer}
        self._seen = view.last
        self._missing: dict[_Key, list[str]] = {}
        self._new: dict[_Key, list[int]] = {}
        self._expected = 0

    def expect(self, step: Step) -> None:
        """These outputs were recorded."""
        for seed in step.seeds:
            data = type_of(type(seed.payload)).encode(seed.payload)[1]
            key = _key(seed.producer, seed.type, data)
            if not _cancelled(self._new, key):
                said = f"{self._name}:{seed.line}: {seed.type} {short(data.decode(), 200)} by {seed.producer}"
                self._missing.setdefault(key, []).append(said)
            self._expected += 1
            if self._expected % OFTEN == 0:
                self._catch_up()

    def _catch_up(self) -> None:
        for event in self._view.events(self._seen):
            self._seen = event.seq
            if isinstance(event, Published) and event.producer not in self._left_out:
                key = _key(event.producer, event.type, event.payload)
                if not _cancelled(self._missing, key):
                    self._new.setdefault(key, []).append(event.seq)

    def check(self) -> None:
        """Compare what is left.

        Raises:
            AssertionError: something did not come, or had not been recorded; names both, with their lineage.
        """
        self._catch_up()
        missing = [text for texts in self._missing.values() for text in texts]
        new = sorted(id for ids in self._new.values() for id in ids)
        if not missing and not new:
            return
        parts = [
            f"the agents answered otherwise than recorded: {number(len(missing), 'output')} did not come, "
            f"{number(len(new), 'output')} came that had not been recorded."
        ]
        parts += _listed("did not come:", missing)
        parts += _listed(
            "was not recorded:", [str(self._view.why(id)).replace("\n", "\n    ") for id in new[:_SHOWN]], len(new)
        )
        raise AssertionError("\n".join(parts))


def _listed(head: str, items: Sequence[str], count: int | None = None) -> list[str]:
    total = len(items) if count is None else count
    more = [f"    … {total - _SHOWN:,} more"] if total > _SHOWN else []
    return [f"  {head}", *(f"    {item}" for item in items[:_SHOWN]), *more] if items else []


def _key(producer: str, type_name: str, data: bytes) -> _Key:
    return producer, type_name, blake2b(data, digest_size=12).digest()


def _cancelled(others: dict[_Key, list[str]] | dict[_Key, list[int]], key: _Key) -> bool:
    """Take one of these away, if there is one."""
    same = others.get(key)
    if not same:
        return False
    same.pop(0)
    if not same:
        del others[key]
    return True
