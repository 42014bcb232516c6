"""Running a board from the command line: publish, run, show what happens meanwhile, stop in good order."""

import asyncio
import os
import signal
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import cast

from pydantic import BaseModel
from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from stigmergy.agents.prompting.tokens import Tokens
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.ledger import Ledger
from stigmergy.blackboard.reading.report import Report
from stigmergy.blackboard.text import money, number, seconds
from stigmergy.board import Blackboard

_REFRESH = 0.25
_LINE = 100
"""Characters that are shown of what a model writes."""
_STOPPING = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 1.0
"""Seconds after which somebody who interrupted is told what is waited for."""


async def go(
    board: Blackboard,
    seeds: Sequence[Path],
    *,
    bare_type: str | None,
    timeout: float | None,
    live: bool,
    run: bool,
    tell: bool,
) -> tuple[Report | None, list[Artifact[BaseModel]]]:
    """Publish seeds and run until idle; whatever happens, the board is given up in good order.

    Args:
        seeds: files that were checked.
        bare_type: their lines are bare payloads of this type.
        timeout: seconds; None = none.
        live: show progress on stderr.
        run: False to publish only.
        tell: say on stderr who takes part otherwise than when the board was last run.

    Returns:
        the report of a run, and what was published.
    """
    _stop_on_signals()
    try:
        published = await board.publish_file(*seeds, type_name=bare_type)
        if not run:
            return None, published
        if not seeds:
            await board.resume()
        for change in board.roster_changes if tell else ():
            sys.stderr.write(f"{change}\n")
        watching = asyncio.ensure_future(_watch(board, board.tokens())) if live else None
        try:
            return await board.run_until_idle(timeout=timeout), published
        finally:
            if watching is not None:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching
    finally:
        await board.close()


@contextmanager
def own_signals() -> Iterator[None]:
    """What `go` does on signals ends with this."""
    before = {which: signal.getsignal(which) for which in _STOPPING}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def _stop_on_signals() -> None:
    """The first Ctrl-C or SIGTERM stops what runs in good order, the second leaves at once.

    They are handlers of the process and not of the loop, which a body that computes keeps from hearing of them.
    """
    loop, task = asyncio.get_running_loop(), cast("asyncio.Task[object]", asyncio.current_task())

    def stop(*_: object) -> None:
        for which in _STOPPING:
            signal.signal(which, leave)
        with suppress(RuntimeError):  # the loop is closed: it has ended
            loop.call_soon_threadsafe(begin)

    def begin() -> None:
        task.cancel()
        loop.call_later(_PATIENCE, _tell, "stopping what runs; once more leaves at once.")

    def leave(*_: object) -> None:
        os.write(2, _line("interrupted twice: left at once; what was acknowledged is kept.").encode())
        os._exit(130)

    for which in _STOPPING:
        signal.signal(which, stop)


def _tell(text: str) -> None:
    sys.stderr.write(_line(text))
    sys.stderr.flush()


def _line(text: str) -> str:
    show_cursor = "\x1b[?25h" if on_terminal() else ""
    return f"{show_cursor}{text}\n"


async def _watch(board: Blackboard, tokens: Tokens) -> None:
    """A few lines on the terminal that follow the log; they disappear at the end."""
    ledger = Ledger()
    console = Console(stderr=True)

    async def follow() -> None:
        async for event in board.watch():
            ledger.apply(event)

    written: deque[str] = deque(maxlen=1)

    async def listen() -> None:
        said: dict[tuple[int, str], str] = {}
        async for token in tokens:
            key = (token.activation, token.reply)
            text = said[key] = (said.pop(key, "") + token.text)[-_LINE:]
            written.append(f"{token.agent}: {''.join(c if c.isprintable() else ' ' for c in text)}")

    following = asyncio.gather(follow(), listen())
    spinner = Spinner("dots")
    started = asyncio.get_running_loop().time()
    try:
        with Live(console=console, auto_refresh=False, transient=True) as screen:
            while not following.done():
                elapsed = asyncio.get_running_loop().time() - started
                lines = [Text(line, "dim", no_wrap=True) for line in written]
                screen.update(Group(*_lines(ledger, spinner, elapsed), *lines), refresh=True)
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
