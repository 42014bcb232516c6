"""From plain code into asynchronous code, also where a loop runs already."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar, cast

R = TypeVar("R")

GRACE = 5.0
"""Seconds that tasks have to end when the loop does."""


def in_a_loop(main: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Run to the end, in a loop of its own; in a thread of its own if a loop runs here already (as in Jupyter).

    Tasks that will not end do not keep the loop from ending, as they would with `asyncio.run`.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_alone(main))
    outcome: list[R] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(_alone(main)))
        except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
            raised.append(error)

    thread = threading.Thread(target=run, name="stigmergy run_sync")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return outcome[0]


async def _alone(main: Callable[[], Coroutine[Any, Any, R]]) -> R:
    try:
        return await main()
    finally:
        current = asyncio.current_task()
        stuck = await _cancel({task for task in asyncio.all_tasks() if task is not current}, GRACE)
        for task in stuck:
            with suppress(BaseException):  # whatever its cleaning up raises
                cast("Coroutine[Any, Any, Any]", task.get_coro()).close()
        immortal = await _cancel(stuck, 0.1)
        for task in stuck - immortal:
            if not task.cancelled():
                task.exception()  # that its coroutine was closed
        for task in immortal:
            asyncio.tasks._unregister_task(task)


async def _cancel(tasks: set[asyncio.Task[Any]], patience: float) -> set[asyncio.Task[Any]]:
    """Cancel tasks; those that have not ended after so many seconds."""
    for task in tasks:
        task.cancel()
    return (await asyncio.wait(tasks, timeout=patience))[1] if tasks else tasks
