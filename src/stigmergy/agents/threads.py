"""Plain functions in threads that nobody has to wait for, and where one is."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from threading import Lock, Thread
from typing import TypeVar, cast

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Inside:
    """A body that runs here, of an agent of a board.

    Attributes:
        home: the board's file, links followed, or its store in memory; None = no board may be used here.
    """

    agent: str
    home: object


inside_body: ContextVar[tuple[Inside, ...]] = ContextVar("inside_body", default=())
"""The bodies that run here, each in the one before: a body may run a board of its own."""


def enter_body(body: Inside) -> None:
    """A body of this board begins here, where another of it may have run before."""
    outer, home = inside_body.get(), body.home
    if outer:
        outer = tuple(other for other in outer if other.home is not home and other.home != home)
    inside_body.set((*outer, body))


async def in_thread(fn: Callable[[], R], lingering: Callable[[], Callable[[], None]] | None = None) -> R:
    """Run a function in a thread of its own, and wait for it.

    A thread cannot be stopped: when the caller is cancelled it goes on, and what it gives is thrown away. It does not
    keep the process alive either, which a thread of a pool would, for ever if it hangs.

    Args:
        lingering: called when the caller is cancelled and the function still runs; what it returns is called, in
            that thread, when the function has ended.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[tuple[R | None, BaseException | None]] = loop.create_future()
    lock, ended = Lock(), False
    told: list[Callable[[], None]] = []

    def deliver(result: R | None, raised: BaseException | None) -> None:
        if not outcome.done():
            # Never as the future's own exception: a task throws that in, and GeneratorExit would close the coroutine.
            outcome.set_result((result, raised))

    def body() -> None:
        nonlocal ended
        result, raised = None, None
        try:
            result = context.run(fn)
        except BaseException as error:  # noqa: BLE001  raised again where the function was called
            raised = error
        with lock:
            ended = True
        for tell in told:
            tell()
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(deliver, result, raised)

    context = copy_context()
    Thread(target=body, name=getattr(fn, "__qualname__", "body"), daemon=True).start()
    try:
        result, raised = await outcome
    except asyncio.CancelledError:
        with lock:
            if not ended and lingering is not None:
                told.append(lingering())
        raise
    if raised is not None:
        raise raised
    return cast("R", result)
