"""Running a board from the command line: publish, run, show what happens meanwhile, stop in good order."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from stigmergy.blackboard.ledger import Ledger
from stigmergy.blackboard.report import Report
from stigmergy.blackboard.text import money, number, seconds
from stigmergy.board import Blackboard

_REFRESH = 0.25


async def go(
    board: Blackboard, seeds: Sequence[Path], *, bare_type: str | None, timeout: float | None, live: bool, run: bool
) -> Report | None:
    """Publish seeds and run until idle; whatever happens, the board is given up in good order.

    Args:
        seeds: files that were checked.
        bare_type: their lines are bare payloads of this type.
        timeout: seconds; None = none.
        live: show progress on stderr.
        run: False to publish only.
    """
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        for path in seeds:
            await board.publish_file(path, type_name=bare_type)
        if not run:
            return None
        watching = asyncio.ensure_future(_watch(board)) if live else None
        try:
            return await board.run_until_idle(timeout=timeout)
        finally:
            if watching is not None:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching
    finally:
        await board.close()


async def again(board: Blackboard, ids: Sequence[int]) -> None:
    """Open dead letters again, and run nothing."""
    async with board:
        await board.retry(*ids)


async def _watch(board: Blackboard) -> None:
    """A few lines on the terminal that follow the log; they disappear at the end."""
    ledger = Ledger()
    console = Console(stderr=True)

    async def follow() -> None:
        async for event in board.watch():
            ledger.apply(event)

    following = asyncio.ensure_future(follow())
    spinner = Spinner("dots")
    started = asyncio.get_running_loop().time()
    try:
        with Live(console=console, auto_refresh=False, transient=True) as screen:
            while not following.done():
                elapsed = asyncio.get_running_loop().time() - started
                screen.update(Group(*_lines(ledger, spinner, elapsed)), refresh=True)
                await asyncio.sleep(_REFRESH)
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


def _lines(ledger: Ledger, spinner: Spinner, elapsed: float) -> list[Spinner | Table]:
    parts = [number(ledger.artifacts, "artifact"), f"{ledger.done:,} done", f"{ledger.open:,} open"]
    if ledger.dead:
        parts.append(f"{ledger.dead:,} failed")
    if ledger.cost != Decimal(0):
        parts.append(money(ledger.cost))
    spinner.update(text=Text(f"{seconds(elapsed)}  {', '.join(parts)}"))
    open_by_agent = Counter(a.agent for a in ledger.running.values())
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("agent", "open", "done", "failed"):
        table.add_column(heading, justify="left" if heading == "agent" else "right")
    for column in list(ledger.agents.values())[:20]:
        counts = (open_by_agent[column.name], column.done, column.dead)
        table.add_row(Text(column.name), *(f"{n:,}" if n else "" for n in counts))
    return [spinner, table]


def on_terminal() -> bool:
    """Whether progress would be seen."""
    return sys.stderr.isatty()
