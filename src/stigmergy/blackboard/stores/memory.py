"""The log in memory, as bytes: beside the JSON of a row there are under a hundred bytes of numbers, and no objects."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence, Set
from operator import itemgetter
from struct import Struct
from threading import Lock

from stigmergy.blackboard.errors import StoreError
from stigmergy.blackboard.stores.base import Row, Snapshot
from stigmergy.blackboard.stores.erasing import HAVE_PAYLOADS

_SNAPSHOTS = 4
_HEAD = Struct("<qdqIIIQII")
"""tx, at, cause, kind, run, type; where the body starts in the text, its length, and the payload's."""
_pack = _HEAD.pack
_KIND, _KIND_AT = Struct("<I"), Struct("<qdq").size
_SEQ = itemgetter(0)


class MemoryStore:
    """A store that is gone with the process."""

    immediate = True
    name = "memory"

    def __init__(self) -> None:
        self._log = MemoryLog()
        self.append_now = self._log.append
        """See `MemoryLog.append`."""

    async def open(self) -> None:
        """Nothing to open."""

    async def append(self, rows: Sequence[Row]) -> None:
        """See `MemoryLog.append`."""
        self._log.append(rows)

    def before_read(self, settle: Callable[[], None]) -> None:
        """See `MemoryLog.settle`. What an earlier writer has not given yet is taken first."""
        self._log.settle()
        self._log.settle = settle

    def reader(self) -> "MemoryLog":
        """What was appended, at once."""
        return self._log

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep it; the oldest ones go."""
        self._log.keep(snapshot)

    async def erase(self, before: int, keep: Sequence[int]) -> None:
        """See `MemoryLog.erase`."""
        self._log.erase(before, frozenset(keep))

    async def close(self) -> None:
        """Nothing to give up: the rows stay readable."""


class _Numbers(dict[str | None, int]):
    """Word -> its number; a new word gets the next one."""

    def __init__(self, words: list[str]) -> None:
        super().__init__({None: 0})
        self._words = words

    def __missing__(self, text: str | None) -> int:
        number = self[text] = len(self._words)
        self._words.append(text or "")
        return number


class MemoryLog:
    """The rows as columns of numbers and one run of UTF-8 text, so that the garbage collector has nothing to walk.

    Nothing of an append is shown before all of it is there, also not to other threads.
    """

    def __init__(self) -> None:
        self.settle: Callable[[], None] = lambda: None
        """Called before anything is read: rows may be appended then that nobody has asked for yet."""
        self._seq = array("q")
        self._heads = bytearray()
        """Per row what `_HEAD` says. Kinds, runs and types are few: a row holds the number of the word, 0 for None."""
        self._text = bytearray()
        """Body and payload of each row, one after the other."""
        self._words: list[str] = [""]
        self._word = _Numbers(self._words)
        self._effect, self._sibling = array("q"), array("q")
        """Per row: the newest row that it caused, and the row before it with the same cause (-1 = none)."""
        self._outside = -1
        """The newest row without a cause."""
        self._published: dict[tuple[int, int], array[int]] = {}
        """(run, type) -> positions; 0 stands for any."""
        self._lists: dict[tuple[str | None, str | None], list[array[int]]] = {}
        """(run, type) -> the positions to which such an artifact is added."""
        self._by_key: dict[tuple[str, str], int] = {}
        self._by_work: dict[tuple[str, str], int] = {}
        self._named: dict[int, tuple[str | None, str | None]] = {}
        """Position -> key and work id, for the rows that have one."""
        self._linking = Lock()
        self._last = 0
        self._snapshots: list[Snapshot] = []

    def append(self, rows: Sequence[Row]) -> None:
        """Keep these rows, all or none.

        Raises:
            StoreError: a position or a key is already taken, or a text cannot be stored.
        """
        last, start, word = self._last, len(self._text), self._word
        heads: list[bytes] = []
        texts: list[bytes] = []
        published: list[tuple[int, list[array[int]]]] = []
        keys: set[tuple[str, str]] = set()
        named: list[Row] = []
        for row in rows:  # whatever can fail fails here, before anything is changed
            seq, tx, at, kind, cause, run, type_, key, work, body, payload = row
            if seq <= last:
                raise StoreError(
                    f"memory: event {seq} cannot follow event {last}. Append each event once, in log order."
                )
            last = seq
            if key is not None or work is not None or run not in word or type_ not in word:
                self._check_names(row, keys)
                named.append(row)
            try:
                text, more = body.encode(), payload.encode()
            except UnicodeEncodeError as error:
                raise not_unicode(seq) from error
            size, rest = len(text), len(more)
            heads.append(_pack(tx, at, cause, word[kind], word[run], word[type_], start, size, rest))
            texts += text, more
            start += size + rest
            if kind == "Published":
                published.append((seq, self._lists.get((run, type_)) or self._new_lists(run, type_)))
        self._seq.extend(map(_SEQ, rows))
        for seq, lists in published:
            for positions in lists:
                positions.append(seq)
        for row in named:
            self._name(row)
        self._heads += b"".join(heads)
        self._text += b"".join(texts)
        self._last = last

    def _check_names(self, row: Row, keys: set[tuple[str, str]]) -> None:
        """Refuse a text that cannot be stored, and a key that is taken: by what is here, or by these keys."""
        names = f"{row.run}{row.type}{row.key}{row.work}"
        try:
            names.encode()
        except UnicodeEncodeError as error:
            raise not_unicode(row.seq) from error
        if "\0" in names:
            raise StoreError(f"memory: the run, type, key or work id of event {row.seq} has a NUL character.")
        if row.key is not None and row.run is not None and row.kind == "Published":
            if (row.run, row.key) in self._by_key or (row.run, row.key) in keys:
                raise StoreError(f"memory: run {row.run!r} already has an artifact with the key {row.key!r}.")
            keys.add((row.run, row.key))

    def _new_lists(self, run: str | None, type_: str | None) -> "list[array[int]]":
        r, t = self._word[run], self._word[type_]
        wanted = dict.fromkeys(((0, 0), (r, 0), (0, t), (r, t)))
        lists = self._lists[run, type_] = [self._published.setdefault(w, array("q")) for w in wanted]
        return lists

    def _name(self, row: Row) -> None:
        """Remember the key and the work id of a row, and who has them first."""
        if row.key is not None or row.work is not None:
            self._named[row.seq] = row.key, row.work
        if row.kind != "Published" or row.run is None:
            return
        if row.key is not None:
            self._by_key[row.run, row.key] = row.seq
        if row.work is not None:
            self._by_work.setdefault((row.run, row.work), row.seq)

    def _link(self) -> None:
        """Link every row that is shown to what caused it; done when somebody asks, for nobody may."""
        with self._linking:
            effect, sibling = self._effect, self._sibling
            for place in range(len(effect), bisect_right(self._seq, self._last)):
                cause = _HEAD.unpack_from(self._heads, place * _HEAD.size)[2]
                effect.append(-1)
                by = self._place(cause) if cause else -1
                if by >= 0:
                    sibling.append(effect[by])
                    effect[by] = place
                elif cause:
                    sibling.append(-1)
                else:
                    sibling.append(self._outside)
                    self._outside = place

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; the oldest ones go."""
        others = [s for s in self._snapshots if s.seq != snapshot.seq]
        self._snapshots = sorted([*others, snapshot], key=lambda s: s.seq)[-_SNAPSHOTS:]

    def erase(self, before: int, keep: Set[int]) -> None:
        """Overwrite payloads; the rows that had them stay, snapshots go."""
        self._snapshots = []
        kinds = {self._word.get(kind) for kind in HAVE_PAYLOADS}
        for place in range(bisect_left(self._seq, before)):
            at = place * _HEAD.size
            *head, start, body, payload = _HEAD.unpack_from(self._heads, at)
            if payload and self._seq[place] not in keep and _KIND.unpack_from(self._heads, at + _KIND_AT)[0] in kinds:
                _HEAD.pack_into(self._heads, at, *head, start, body, 0)
                self._text[start + body : start + body + payload] = bytes(payload)

    def last(self) -> int:
        """The last position; 0 for an empty log."""
        self.settle()
        return self._last

    def events(self, after: int = 0, until: int | None = None, kinds: Sequence[str] = ()) -> Iterator[Row]:
        """Rows with `after < seq <= until` in log order, optionally only of some kinds."""
        place = bisect_right(self._seq, after)
        while place < (end := self._end(self._seq, until)):  # more may be appended meanwhile
            for one in range(place, end):
                if not kinds or self._words[_KIND.unpack_from(self._heads, one * _HEAD.size + _KIND_AT)[0]] in kinds:
                    yield self._row(one)
            place = end

    def event(self, seq: int) -> Row | None:
        """The row at that position."""
        if seq > self._last:
            self.settle()
        place = self._place(seq) if seq <= self._last else -1
        return self._row(place) if place >= 0 else None

    def artifacts(
        self, type: str | None = None, run: str | None = None, *, after: int = 0, until: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[Row]:  # fmt: skip
        """The `Published` rows, by index."""
        positions = self._positions(type, run)
        first = bisect_right(positions, after)
        if newest_first:
            for i in range(self._end(positions, until) - 1, first - 1, -1):
                yield self._row(self._place(positions[i]))
            return
        while first < self._end(positions, until):
            yield self._row(self._place(positions[first]))
            first += 1

    def count(self, type: str | None = None, run: str | None = None, *, until: int | None = None) -> int:
        """How many `Published` rows `artifacts` would give."""
        return self._end(self._positions(type, run), until)

    def following(self, cause: int) -> list[Row]:
        """The rows whose cause is that position, in log order."""
        self.settle()
        self._link()
        by = self._place(cause) if 0 < cause <= self._last else -1
        place = self._effect[by] if by >= 0 else self._outside if cause == 0 else -1
        found = []
        while place >= 0:
            found.append(self._row(place))
            place = self._sibling[place]
        return found[::-1]

    def by_key(self, run: str, key: str) -> Row | None:
        """The `Published` row with that idempotency key."""
        self.settle()
        return self.event(self._by_key.get((run, key), 0))

    def by_work(self, run: str, work: str) -> Row | None:
        """The `Published` row with that work id."""
        self.settle()
        return self.event(self._by_work.get((run, work), 0))

    def calls(self, activation: int) -> list[Row]:
        """The `Calling` and `Called` rows of an activation, in log order."""
        calling = [row for row in self.following(activation) if row.kind == "Calling"]
        called = [row for call in calling for row in self.following(call.seq) if row.kind == "Called"]
        return sorted([*calling, *called])

    def snapshot(self, until: int | None = None) -> Snapshot | None:
        """The newest snapshot not after `until`."""
        return next((s for s in reversed(self._snapshots) if until is None or s.seq <= until), None)

    def close(self) -> None:
        """Nothing to give up."""

    def _positions(self, type_: str | None, run: str | None) -> "array[int]":
        self.settle()
        return self._published.get((self._word.get(run, -1), self._word.get(type_, -1))) or array("q")

    def _end(self, positions: "array[int]", until: int | None) -> int:
        self.settle()
        return bisect_right(positions, self._last if until is None else min(until, self._last))

    def _place(self, seq: int) -> int:
        """The index of the row at a position; -1 if there is none. Positions have gaps only after unclean stops."""
        seqs = self._seq
        place = seq - seqs[0] if seqs else -1
        if 0 <= place < len(seqs) and seqs[place] == seq:
            return place
        place = bisect_left(seqs, seq)
        return place if place < len(seqs) and seqs[place] == seq else -1

    def _row(self, place: int) -> Row:
        seq, words = self._seq[place], self._words
        tx, at, cause, kind, run, type_, start, body, payload = _HEAD.unpack_from(self._heads, place * _HEAD.size)
        middle = start + body
        return Row(
            seq, tx, at, words[kind], cause, words[run] if run else None, words[type_] if type_ else None,
            *self._named.get(seq, (None, None)), self._text[start:middle].decode(),
            self._text[middle : middle + payload].decode(),
        )  # fmt: skip


def not_unicode(seq: int) -> StoreError:
    """What is said of a text with half a surrogate pair."""
    return StoreError(f"memory: event {seq} has text that is not Unicode.")
