"""Pipelined group commit: decisions apply in memory at once, and are made durable in batches of whole decisions."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter, sleep

from stigmergy.blackboard.stores.base import Row, Snapshot, Store

BATCH = 1_000
"""Events in one commit; a larger decision goes alone."""
STARVING = 0.005
"""Seconds after which a loop that never rests makes way for the thread that writes."""
MAKE_WAY = 0.0001


class Writer:
    """Appends rows to a store in the order in which they were decided, and says when they are durable."""

    def __init__(self, store: Store, durable: int, on_durable: Callable[[], None]) -> None:
        self._store = store
        self._on_durable = on_durable
        self.durable = durable
        self.last = durable
        self.failed: BaseException | None = None
        self._decisions: deque[list[Row] | Snapshot] = deque()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._since = 0.0

    @property
    def behind(self) -> int:
        """How many positions are decided and not durable."""
        return self.last - self.durable

    def add(self, rows: list[Row]) -> None:
        """Take the rows of one decision."""
        self.last = rows[-1].seq
        if self._store.immediate:
            self._store.append_now(rows)
            self.durable = self.last
            return
        self._take(rows)

    def keep(self, snapshot: Snapshot) -> None:
        """Save a snapshot once everything before it is durable."""
        if not self._store.immediate:
            self._take(snapshot)

    def _take(self, what: list[Row] | Snapshot) -> None:
        self._decisions.append(what)
        if self._task is None or self._task.done():
            self._since = perf_counter()
            self._task = asyncio.get_running_loop().create_task(self._write())
        elif perf_counter() - self._since > STARVING:
            # A saturated loop with short turns keeps the interpreter lock from the database thread, for seconds.
            sleep(MAKE_WAY)

    async def _write(self) -> None:
        while self._decisions:
            rows = self._decisions.popleft()
            self._since = perf_counter()
            try:
                if isinstance(rows, Snapshot):
                    await self._store.save_snapshot(rows)
                    continue
                while self._decisions and not isinstance(more := self._decisions[0], Snapshot):
                    if len(rows) + len(more) > BATCH:
                        break
                    rows += more
                    self._decisions.popleft()
                await self._store.append(rows)
            except BaseException as error:
                self.fail(error)
                if isinstance(error, Exception):
                    return
                raise
            self.durable = rows[-1].seq
            self._wake()
            self._on_durable()

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
        await future

    async def flush(self) -> None:
        """Wait until everything that was decided is durable."""
        await self.until(self.last)

    async def finish(self) -> None:
        """Wait until everything, snapshots too, is written."""
        await self.flush()
        if self._task is not None:
            await self._task
