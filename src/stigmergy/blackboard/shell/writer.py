"""Pipelined group commit: decisions apply in memory at once, and are made durable in batches of whole decisions."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from time import sleep

from stigmergy.blackboard.events import Event
from stigmergy.blackboard.stores.base import Snapshot, Store
from stigmergy.blackboard.stores.rows import encode_all

BATCH = 1_000
"""Events in one commit; a larger decision goes alone."""
STARVING = 0.005
"""Seconds after which, again and again, a loop that may never rest makes way for the thread that writes: with short
turns it keeps the interpreter lock from that thread for seconds."""
MAKE_WAY = 0.0001
YOUNG = 256
"""Events that an immediate store need not have yet: encoding many in one go takes half the time."""


class Writer:
    """Appends events to a store in the order in which they were decided, and says when they are durable."""

    def __init__(self, store: Store, durable: int, on_durable: Callable[[], None]) -> None:
        self._store = store
        self._on_durable = on_durable
        self.durable = durable
        self.last = durable
        self.failed: BaseException | None = None
        self._decisions: deque[list[Event] | Snapshot] = deque()
        self._young: list[Event] = []
        self._settling = Lock()
        self._immediate = store.immediate
        if store.immediate:
            store.before_read(self.settle)
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._way: asyncio.TimerHandle | None = None
        """Runs while the store writes: when the loop makes way next."""

    @property
    def behind(self) -> int:
        """How many positions are decided and not durable."""
        return self.last - self.durable

    def add(self, events: list[Event]) -> None:
        """Take the events of one decision."""
        self.last = events[-1].seq
        if self._immediate:
            self.durable = self.last
            self._young += events
            if len(self._young) >= YOUNG:
                self.settle()
            return
        self._take(events)

    def settle(self) -> None:
        """Give an immediate store what it does not have yet; it asks for it, from any thread, before it is read."""
        if not self._young:
            return
        with self._settling:
            young = self._young[:]
            try:
                self._store.append_now(encode_all(young))
            except Exception as error:
                self.failed = error
                raise
            del self._young[: len(young)]

    def keep(self, snapshot: Callable[[], Snapshot]) -> None:
        """Save a snapshot of now once everything before it is durable; an immediate store has no use for one."""
        if not self._immediate:
            self._take(snapshot())

    def _take(self, what: list[Event] | Snapshot) -> None:
        self._decisions.append(what)
        if self._idle():
            asyncio.get_running_loop().call_soon(self._start)  # what follows from it at once joins its batch

    def _idle(self) -> bool:
        return self._task is None or self._task.done()

    def _start(self) -> None:
        if self._decisions and self.failed is None and self._idle():
            self._task = asyncio.get_running_loop().create_task(self._write())
            self._task.add_done_callback(self._go_on)

    def _go_on(self, _: object) -> None:
        """The loop ended the task under those who still wait in it."""
        if self.failed is None and any(not future.done() for _, future in self._waiting):
            self._start()

    def _watch(self) -> None:
        self._way = asyncio.get_running_loop().call_later(STARVING, self._make_way)

    def _make_way(self) -> None:
        sleep(MAKE_WAY)
        self._watch()

    async def _write(self) -> None:
        """Write the decisions that fit in one commit, or a snapshot; what is decided meanwhile is for the next task."""
        if self.failed is not None:
            return
        first = self._decisions.popleft()
        self._watch()
        try:
            if isinstance(first, Snapshot):
                with suppress(Exception):  # a cache: what is wrong with the store, the next append will say
                    await self._store.save_snapshot(first)
            else:
                events = self._batch(first)
                await self._store.append(encode_all(events))
        except BaseException as error:
            if isinstance(first, Snapshot) or (isinstance(error, asyncio.CancelledError) and self._settled(events)):
                raise
            self.fail(error)
            if isinstance(error, Exception):
                return
            raise
        finally:
            if self._way is not None:
                self._way.cancel()
        if not isinstance(first, Snapshot):
            self.durable = events[-1].seq
            self._wake()
            self._on_durable()
        self._task = None
        self._start()

    def _batch(self, first: list[Event]) -> list[Event]:
        events = first[:]
        while self._decisions and not isinstance(more := self._decisions[0], Snapshot):
            if len(events) + len(more) > BATCH:
                break
            events += more
            self._decisions.popleft()
        return events

    def _settled(self, events: list[Event]) -> bool:
        """The loop ends under an append: it is through or did not happen, and the next loop goes on from there."""
        try:
            last = self._store.reader().last()
        except Exception:  # noqa: BLE001  the append failed as well, as far as anybody knows
            return False
        if last >= events[-1].seq:
            self.durable = events[-1].seq
        elif last < events[0].seq:
            self._decisions.appendleft(events)
        self._wake()
        return last >= events[-1].seq or last < events[0].seq

    def _wake(self) -> None:
        waiting = self._waiting
        while waiting and waiting[0][0] <= self.durable:
            future = waiting.popleft()[1]
            if not future.done():
                future.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Give up: nothing more is written, and whoever waits is told."""
        self.failed = error
        self._decisions.clear()
        while self._waiting:
            future = self._waiting.popleft()[1]
            if not future.done():
                future.set_exception(error if isinstance(error, Exception) else RuntimeError("the writer was stopped"))
        self._on_durable()

    async def until(self, seq: int) -> None:
        """Wait until this position is durable.

        Raises:
            Exception: the append failed; whether it reached the disk is not known.
        """
        if self.durable >= seq:
            return
        if self.failed is not None:
            raise self.failed
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._waiting and self._waiting[-1][0] > seq:
            # Rare: somebody already waits for a later position; the order of the queue is the order of the log.
            self._waiting = deque(sorted([*self._waiting, (seq, future)], key=lambda w: w[0]))
        else:
            self._waiting.append((seq, future))
        self._start()
        await future

    async def flush(self) -> None:
        """Wait until everything that was decided is durable."""
        await self.until(self.last)

    async def finish(self) -> None:
        """Wait until everything, snapshots too, is written."""
        await self.flush()
        self.settle()
        while self._task is not None and not self._idle():
            await self._task
