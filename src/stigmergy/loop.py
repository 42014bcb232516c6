"""From plain code into asynchronous code, also where a loop runs already."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar, cast

from stigmergy.blackboard.shell.through import AT_ONCE

R = TypeVar("R")

GRACE = 5.0
"""Seconds that tasks have to end when the loop does."""
HURRY = 0.1
"""The same after a second Ctrl-C."""


def in_a_loop(main: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Run to the end, in a loop of its own; in a thread of its own if a loop runs here already (as in Jupyter).

    Tasks that will not end do not keep the loop from ending, as they would with `asyncio.run`. Ctrl-C stops what runs
    in good order, wherever it runs; once more leaves at once who does not stop.
    """
    if not _looping():  # no `except` clause around the run: what it raises would seem to come from there
        return _run(main)
    outcome: list[R] = []
    raised: list[BaseException] = []
    stop: list[Callable[[], object]] = []
    stopped, ended = threading.Event(), threading.Event()

    async def stoppable() -> R:
        loop, task = asyncio.get_running_loop(), cast("asyncio.Task[R]", asyncio.current_task())
        stop.append(lambda: loop.call_soon_threadsafe(task.cancel))
        if stopped.is_set():
            raise asyncio.CancelledError
        return await _alone(main)

    def run() -> None:
        try:
            outcome.append(asyncio.run(stoppable()))
        except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
            raised.append(error)
        ended.set()

    try:
        threading.Thread(target=run, name="stigmergy run_sync", daemon=True).start()
        ended.wait()  # a join that was interrupted once may return before its time (Python 3.11, 3.12)
    except KeyboardInterrupt:
        stopped.set()
        for cancel in stop:
            with suppress(RuntimeError):  # that loop is closed: it has ended
                cancel()
        ended.wait()
        raise
    if raised:
        raise raised[0]
    return outcome[0]


def _run(main: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """As `asyncio.run`, which would wait after a second Ctrl-C for whoever did not heed the first."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        begun: list[asyncio.Task[Any]] = []

        async def whole() -> R:
            begun.append(cast("asyncio.Task[Any]", asyncio.current_task()))
            return await _alone(main)

        try:
            return runner.run(whole())
        except KeyboardInterrupt:
            try:
                for task in begun:
                    if not task.done():  # a second one, which took the loop away from it
                        task.cancel(AT_ONCE)
                        with suppress(Exception, asyncio.CancelledError):
                            loop.run_until_complete(task)
            finally:
                for task in asyncio.all_tasks(loop):  # a third one
                    _forget(task)
            raise


def _forget(task: asyncio.Task[Any]) -> None:
    """Nobody is to wait for a task that does not end, nor to be told that it did not."""
    asyncio.tasks._unregister_task(task)
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def _looping() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _alone(main: Callable[[], Coroutine[Any, Any, R]]) -> R:
    try:
        return await main()
    finally:
        current = asyncio.current_task()
        hurried = current is not None and current.cancelling() > 1
        others = {task for task in asyncio.all_tasks() if task is not current}
        stuck = await _cancel(others, HURRY if hurried else GRACE)
        for task in stuck:
            with suppress(BaseException):  # whatever its cleaning up raises
                cast("Coroutine[Any, Any, Any]", task.get_coro()).close()
        immortal = await _cancel(stuck, HURRY)
        for task in stuck - immortal:
            if not task.cancelled():
                task.exception()  # that its coroutine was closed
        for task in immortal:
            _forget(task)


async def _cancel(tasks: set[asyncio.Task[Any]], patience: float) -> set[asyncio.Task[Any]]:
    """Cancel tasks; those that have not ended after so many seconds."""
    for task in tasks:
        task.cancel()
    return (await asyncio.wait(tasks, timeout=patience))[1] if tasks else tasks
