"""Commands for people who look after a board's file: prove it, save it, copy it, empty it, make it smaller."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from stigmergy.blackboard.errors import StoreError
from stigmergy.blackboard.reading.erasable import Erasure
from stigmergy.blackboard.stores.copies import backup as backed_up
from stigmergy.blackboard.stores.copies import vacuum as vacuumed
from stigmergy.blackboard.stores.verify import recover
from stigmergy.blackboard.stores.verify import verify as verified
from stigmergy.blackboard.text import number
from stigmergy.board import Blackboard
from stigmergy.cli.errors import errors
from stigmergy.cli.loading import load
from stigmergy.cli.looking import moment
from stigmergy.cli.options import Board, Json, SetList
from stigmergy.cli.printing import say, tell
from stigmergy.loop import in_a_loop


def verify(
    store: Board,
    saved: Annotated[
        Path | None, typer.Option("--recover", metavar="NEW", help="Copy what is intact to this new file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Prove that a log is as it was written. Or name the first damaged entry, and exit with 3."""
    with errors():
        found = verified(store)
        if not as_json:
            say(str(found))
        if saved is not None:
            kept = recover(store, saved).events
            tell(f"saved {number(kept, 'event')} to {saved}", as_json=False, quiet=as_json)
        if as_json:
            facts = {} if saved is None else {"saved": str(saved)}
            typer.echo(json.dumps({**json.loads(found.to_json()), **facts}, ensure_ascii=False, indent=2))
        raise typer.Exit(0 if found.whole else 3)


def backup(
    store: Board,
    to: Annotated[Path, typer.Argument(metavar="COPY", help="A file that does not exist yet.")],
    as_json: Json = False,
) -> None:
    """Copy a board, also while it runs. The copy is one new file, as of this moment."""
    with errors():
        size = backed_up(store, to)
        tell(f"wrote {size:,} bytes to {to}", as_json=as_json, wrote=str(to), bytes=size)


def vacuum(store: Board, as_json: Json = False) -> None:
    """Throw away what can be made again. Those are snapshots and free room; no event of the log is."""
    with errors():
        done = vacuumed(store)
        said = f"{store}: {done.before:,} bytes before, {done.after:,} after"
        tell(said, as_json=as_json, store=str(store), before=done.before, after=done.after)


def erase(
    store: Board,
    before: Annotated[str, typer.Option("--before", help="A position or an ISO time.")],
    target: Annotated[
        str | None, typer.Argument(metavar="[FILE[:NAME]]", help="The program that runs the board.")
    ] = None,
    settings: SetList = [],
    as_json: Json = False,
) -> None:
    """Remove what was said before a moment. Lineage, times, costs and whatever is still needed stay."""
    with errors():
        until = moment(before, "--before")
        if not store.exists():
            raise StoreError(f"{store} does not exist. Name a board file.")
        board = Blackboard(store, roster=load(target, settings) if target is not None else None)
        gone = in_a_loop(lambda: _erased(board, until))
        needed = f"{number(len(gone.keep), 'older one')} {'is' if len(gone.keep) == 1 else 'are'} still needed"
        said = f"erased {number(gone.payloads, 'payload')}, {gone.bytes:,} bytes; {needed}; give the room back with: "
        said += f"stigmergy vacuum {quote(str(store))}"
        tell(said, as_json=as_json, payloads=gone.payloads, bytes=gone.bytes, kept=list(gone.keep))


async def _erased(board: Blackboard, before: int | datetime) -> Erasure:
    async with board:
        return await board.erase(before=before)


COMMANDS: dict[str, Callable[..., None]] = {"verify": verify, "backup": backup, "erase": erase, "vacuum": vacuum}
