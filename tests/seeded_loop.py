"""An event loop that chooses by seed what runs next, and in which no time passes but the one it says.

Whatever is ready may run next, not only what was ready first, and timers fall due while others work. So a seed is a
schedule, and the same seed is the same schedule again. Nothing here waits for threads or sockets, and it has none: a
loop that would sleep for ever has come to a standstill, and says so.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from heapq import heappop, heappush
from random import Random
from typing import Any, TypeVarTuple

Ts = TypeVarTuple("Ts")

TOO_MANY = 200_000
"""Callbacks after which something goes round in circles."""


class Standstill(RuntimeError):
    """Nothing is ready, nothing will be, and the main task has not ended."""


class SeededLoop(asyncio.BaseEventLoop):
    """One schedule.

    Args:
        random: draws the schedule.
        wild: how often it is not what was ready first that runs next, as a share.
        passed: what its time begins with.
    """

    def __init__(self, random: Random, wild: float, passed: float = 0.0) -> None:
        super().__init__()
        self.passed = passed
        """Seconds since the beginning."""
        self.callbacks = self.stops_at = 0
        self.complaints: list[str] = []
        """What no one else was told: exceptions that nobody retrieved, tasks destroyed while they were pending."""
        self._draw, self._wild = random.random, wild
        self._soon: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timed = 0
        self.tasks: list[asyncio.Task[Any]] = []
        """All that there were, in their order."""
        self.set_exception_handler(lambda _, context: self.complaints.append(_text(context)))

    def time(self) -> float:
        """Seconds since the beginning."""
        return self.passed

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Call this some time."""
        handle = asyncio.Handle(callback, args, self, context)
        self._soon.append(handle)
        return handle

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """A task of this loop."""
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, **options)
        self.tasks.append(task)
        return task

    def left(self) -> list[asyncio.Task[Any]]:
        """The tasks that have not ended, in the order in which they were made."""
        return [task for task in self.tasks if not task.done()]

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call this some time from then on."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._timed += 1
        heappush(self._timers, (when, self._timed, handle))
        return handle

    def _run_once(self) -> None:
        """One choice: something that is ready, now that some time may have passed."""
        soon, timers, draw = self._soon, self._timers, self._draw
        while timers and timers[0][2].cancelled():
            heappop(timers)
        if soon:
            drawn = draw()
            if drawn < 0.4:  # what ran took a while
                self.passed += 0.001 if drawn < 0.2 else 0.01
        elif timers:
            self.passed = max(self.passed, timers[0][0])
        else:
            raise Standstill("everybody waits for somebody else")
        while timers and timers[0][0] <= self.passed:
            soon.append(heappop(timers)[2])
        self.callbacks += 1
        if self.callbacks == self.stops_at:
            self.stop()
        if self.callbacks > TOO_MANY:
            raise Standstill("it goes on and on")
        more = len(soon)
        handle = soon.pop(int(draw() * more) if more > 1 and draw() < self._wild else 0)
        if not handle.cancelled():
            handle._run()


def _text(context: dict[str, Any]) -> str:
    return f"{context['message']}: {context.get('exception')!r} {context.get('task') or context.get('future') or ''}"


def run_seeded(
    main: Coroutine[Any, Any, object], loop: SeededLoop, stops_at: int = 0, stopped: Callable[[], object] = lambda: None
) -> None:
    """Run to the end, and see that nothing is left over.

    Args:
        stops_at: callbacks after which the loop ends under everybody, as that of `asyncio.run` does; 0 = it does not.
        stopped: called in that instant.

    Raises:
        Standstill: it does not end.
        AssertionError: a task is left, or an exception that nobody retrieved.
    """
    loop.stops_at = stops_at
    task = loop.create_task(main)
    task.add_done_callback(end := lambda _: loop.stop())
    try:
        loop.run_forever()
        task.remove_done_callback(end)
        if task.done():
            task.result()
            assert not loop.left(), f"tasks are left: {loop.left()}"
        else:
            stopped()
            while tasks := loop.left():
                for one in tasks:
                    one.cancel()
                loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    finally:
        del task
        loop.tasks.clear()
        loop.close()
    assert not loop.complaints or stops_at, loop.complaints
