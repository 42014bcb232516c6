"""The log in memory, as bytes: beside the JSON of a row there are under a hundred bytes of numbers, and no objects."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from stigmergy.blackboard.errors import StoreError
from stigmergy.blackboard.stores.base import Row, Snapshot

_SNAPSHOTS = 4
_UNNAMED = (None, None, None, None)


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

    def reader(self) -> "MemoryLog":
        """What was appended, at once."""
        return self._log

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep it; the oldest ones go."""
        self._log.keep(snapshot)

    async def close(self) -> None:
        """Nothing to give up: the rows stay readable."""


class MemoryLog:
    """The rows as columns of numbers and one run of UTF-8 text, so that the garbage collector has nothing to walk.

    Nothing of an append is shown before all of it is there, also not to other threads.
    """

    def __init__(self) -> None:
        self._seq, self._tx, self._cause, self._at = array("q"), array("q"), array("q"), array("d")
        self._kind, self._run, self._type = array("I"), array("I"), array("I")
        """Kinds, runs and types are few: a row holds the number of the word, 0 for None."""
        self._words: list[str] = [""]
        self._word: dict[str | None, int] = {None: 0}
        self._text = bytearray()
        self._ends = array("Q", [0])
        """Where the body and the payload of each row end in the text: two numbers a row, after a first 0."""
        self._effect, self._sibling = array("q"), array("q")
        """Per row: the newest row that it caused, and the row before it with the same cause (-1 = none)."""
        self._outside = -1
        """The newest row without a cause."""
        self._published: dict[tuple[int, int], array[int]] = {}
        """(run, type) -> positions; 0 stands for any."""
        self._by_key: dict[tuple[str, str], int] = {}
        self._by_work: dict[tuple[str, str], int] = {}
        self._named: dict[int, tuple[str | None, str | None]] = {}
        """Position -> key and work id, for the rows that have one."""
        self._last = 0
        self._snapshots: list[Snapshot] = []

    def append(self, rows: Sequence[Row]) -> None:
        """Keep these rows, all or none.

        Raises:
            StoreError: a position or a key is already taken, or a text cannot be stored.
        """
        texts = self._checked(rows)
        place, end = len(self._seq), len(self._text)
        word, ends = self._word, self._ends
        for seq, tx, at, kind, cause, run, type_, key, work, _, _ in rows:
            if kind not in word:
                self._learn(kind)
            self._kind.append(word[kind])
            if kind == "Published" or (run, type_, key, work) != _UNNAMED:
                self._index(seq, kind, run, type_, key, work)
            self._run.append(word[run])
            self._type.append(word[type_])
            self._tx.append(tx)
            self._at.append(at)
            self._cause.append(cause)
            self._seq.append(seq)
            self._link(place, cause)
            place += 1
        for text in texts:
            end += len(text)
            ends.append(end)
        self._text += b"".join(texts)
        if rows:
            self._last = rows[-1].seq

    def _checked(self, rows: Sequence[Row]) -> list[bytes]:
        """The texts as bytes, two a row. Whatever can fail fails here, before anything is changed."""
        last = self._last
        keys: set[tuple[str, str]] = set()
        texts: list[bytes] = []
        for seq, _, _, kind, _, run, type_, key, work, body, payload in rows:
            if seq <= last:
                raise StoreError(
                    f"memory: event {seq} cannot follow event {last}. Append each event once, in log order."
                )
            last = seq
            named = (run, type_, key, work) != _UNNAMED
            names = f"{run}{type_}{key}{work}" if named else ""
            try:
                texts += body.encode(), payload.encode()
                names.encode()
            except UnicodeEncodeError as error:
                raise StoreError(f"memory: event {seq} has text that is not Unicode.") from error
            if "\0" in names:
                raise StoreError(f"memory: the run, type, key or work id of event {seq} has a NUL character.")
            if key is not None and run is not None and kind == "Published":
                if (run, key) in self._by_key or (run, key) in keys:
                    raise StoreError(f"memory: run {run!r} already has an artifact with the key {key!r}.")
                keys.add((run, key))
        return texts

    def _learn(self, text: str) -> None:
        self._words.append(text)
        self._word[text] = len(self._words) - 1

    def _link(self, place: int, cause: int) -> None:
        self._effect.append(-1)
        by = self._place(cause) if cause else -1
        if by >= 0:
            self._sibling.append(self._effect[by])
            self._effect[by] = place
        elif cause:
            self._sibling.append(-1)
        else:
            self._sibling.append(self._outside)
            self._outside = place

    def _index(
        self, seq: int, kind: str, run: str | None, type_: str | None, key: str | None, work: str | None
    ) -> None:
        word = self._word
        for text in (run, type_):
            if text is not None and text not in word:
                self._learn(text)
        if key is not None or work is not None:
            self._named[seq] = (key, work)
        if kind != "Published":
            return
        for where in {(0, 0), (word[run], 0), (0, word[type_]), (word[run], word[type_])}:
            positions = self._published.get(where)
            if positions is None:
                positions = self._published[where] = array("q")
            positions.append(seq)
        if run is not None and key is not None:
            self._by_key[run, key] = seq
        if run is not None and work is not None:
            self._by_work.setdefault((run, work), seq)

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; the oldest ones go."""
        others = [s for s in self._snapshots if s.seq != snapshot.seq]
        self._snapshots = sorted([*others, snapshot], key=lambda s: s.seq)[-_SNAPSHOTS:]

    def last(self) -> int:
        """The last position; 0 for an empty log."""
        return self._last

    def events(self, after: int = 0, until: int | None = None, kinds: Sequence[str] = ()) -> Iterator[Row]:
        """Rows with `after < seq <= until` in log order, optionally only of some kinds."""
        place = bisect_right(self._seq, after)
        while place < self._end(self._seq, until):
            if not kinds or self._words[self._kind[place]] in kinds:
                yield self._row(place)
            place += 1

    def event(self, seq: int) -> Row | None:
        """The row at that position."""
        place = self._place(seq) if seq <= self._last else -1
        return self._row(place) if place >= 0 else None

    def artifacts(
        self, type: str | None = None, run: str | None = None, *, after: int = 0, until: int | None = None,  # noqa: A002
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

    def count(self, type: str | None = None, run: str | None = None, *, until: int | None = None) -> int:  # noqa: A002
        """How many `Published` rows `artifacts` would give."""
        return self._end(self._positions(type, run), until)

    def following(self, cause: int) -> list[Row]:
        """The rows whose cause is that position, in log order."""
        by = self._place(cause) if cause else -1
        place = self._effect[by] if by >= 0 else self._outside if cause == 0 else -1
        found = []
        while place >= 0:
            if self._seq[place] <= self._last:
                found.append(self._row(place))
            place = self._sibling[place]
        return found[::-1]

    def by_key(self, run: str, key: str) -> Row | None:
        """The `Published` row with that idempotency key."""
        return self.event(self._by_key.get((run, key), 0))

    def by_work(self, run: str, work: str) -> Row | None:
        """The `Published` row with that work id."""
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
        return self._published.get((self._word.get(run, -1), self._word.get(type_, -1))) or array("q")

    def _end(self, positions: "array[int]", until: int | None) -> int:
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
        start, middle, end = self._ends[2 * place : 2 * place + 3]
        words, run, type_ = self._words, self._run[place], self._type[place]
        seq = self._seq[place]
        return Row(
            seq, self._tx[place], self._at[place], words[self._kind[place]], self._cause[place],
            words[run] if run else None, words[type_] if type_ else None, *self._named.get(seq, (None, None)),
            self._text[start:middle].decode(), self._text[middle:end].decode(),
        )  # fmt: skip
