"""What has to be done to its end, also by somebody who is cancelled."""

import asyncio


async def through(doing: asyncio.Future[None]) -> None:
    """Wait until this is done, however often we are cancelled meanwhile; only then that is raised."""
    cancelled: asyncio.CancelledError | None = None
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not doing.cancelled():
            doing.exception()  # nobody else asks for it
        raise cancelled
    doing.result()
