"""An event loop that chooses by seed what runs next, and in which no time passes but the one it says.

Whatever is ready may run next, not only what was ready first, and timers fall due while others work. So a seed is a
schedule, and the same seed is the same schedule again. Nothing here waits for threads or sockets: a loop that would
sleep for ever has come to a standstill, and says so.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context
from random import Random
from typing import Any, TypeVarTuple

Ts = TypeVarTuple("Ts")

TOO_MANY = 200_000
"""Callbacks after which something goes round in circles."""


class Standstill(RuntimeError):
    """Nothing is ready, nothing will be, and the main task has not ended."""


class _Selector(selectors.DefaultSelector):
    """Waits for nothing: it moves the time of its loop."""

    loop: "SeededLoop"

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Standstill("everybody waits for somebody else")
        self.loop.passed += timeout if timeout > 0 else self.loop.work()
        return []


class SeededLoop(asyncio.SelectorEventLoop):
    """One schedule.

    Args:
        random: draws the schedule.
        wild: how often it is not what was ready first that runs next, as a share.
        passed: what its time begins with.
    """

    def __init__(self, random: Random, wild: float, passed: float = 0.0) -> None:
        self.random = random
        self.passed = passed
        """Seconds since the beginning."""
        self.callbacks = self.stops_at = 0
        self.complaints: list[str] = []
        """What no one else was told: exceptions that nobody retrieved, tasks destroyed while they were pending."""
        self._wild = wild
        self._ready_now: list[asyncio.Handle] = []
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self.set_exception_handler(lambda _, context: self.complaints.append(_text(context)))

    def time(self) -> float:
        """Seconds since the beginning."""
        return self.passed

    def work(self) -> float:
        """Seconds that one turn of the loop takes."""
        return self.random.choice((0.0, 0.0, 0.0, 0.001, 0.01))

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Call this some time."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready_now.append(handle)
        super().call_soon(self._run_one)
        return handle

    def _run_one(self) -> None:
        self.callbacks += 1
        if self.callbacks == self.stops_at:
            self.stop()
        if self.callbacks > TOO_MANY:
            raise Standstill("it goes on and on")
        ready = self._ready_now
        handle = ready.pop(self.random.randrange(len(ready)) if self.random.random() < self._wild else 0)
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
            left = asyncio.all_tasks(loop)
            assert not left, f"tasks are left: {left}"
        else:
            stopped()
            tasks = sorted(asyncio.all_tasks(loop), key=lambda one: int(one.get_name().removeprefix("Task-")))
            for one in tasks:
                one.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    finally:
        del task
        loop.close()
    assert not loop.complaints or stops_at, loop.complaints
