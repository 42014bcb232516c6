"""What has to be done to its end, also by somebody who is cancelled."""

import asyncio
from collections.abc import Callable

AT_ONCE = "at once"
"""What a run is cancelled with that is to wait for no body any more."""


async def through(doing: asyncio.Future[None], hurry: Callable[[], object] | None = None) -> None:
    """Wait until this is done, however often we are cancelled meanwhile; only then that is raised.

    Args:
        hurry: called when we are cancelled `AT_ONCE`.
    """
    cancelled: asyncio.CancelledError | None = None
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError as error:
            cancelled = error
            if hurry is not None and AT_ONCE in error.args:
                hurry()
    if cancelled is not None:
        if not doing.cancelled():
            doing.exception()  # nobody else asks for it
        raise cancelled
    doing.result()
