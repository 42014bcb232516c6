"""From plain code into asynchronous code, also where a loop runs already."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


def in_a_loop(main: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Run to the end, in a loop of its own; in a thread of its own if a loop runs here already (as in Jupyter)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    outcome: list[R] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(main()))
        except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
            raised.append(error)

    thread = threading.Thread(target=run, name="stigmergy run_sync")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return outcome[0]
