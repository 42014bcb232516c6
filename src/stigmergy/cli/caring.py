"""Commands for people who look after a board's file: prove it, save it, copy it, make it smaller."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from stigmergy.blackboard.stores.copies import backup as backed_up
from stigmergy.blackboard.stores.copies import vacuum as vacuumed
from stigmergy.blackboard.stores.verify import recover
from stigmergy.blackboard.stores.verify import verify as verified
from stigmergy.blackboard.text import number
from stigmergy.cli.errors import errors

Board = Annotated[Path, typer.Argument(metavar="STORE", help="Board file.")]


def verify(
    store: Board,
    saved: Annotated[
        Path | None, typer.Option("--recover", metavar="NEW", help="Copy what is intact to this new file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Prove that the log is as it was written, or name the first damaged entry; exit with 3 if it is damaged."""
    with errors():
        found = verified(store)
        typer.echo(found.to_json() if as_json else str(found))
        if saved is not None:
            typer.echo(f"saved {number(recover(store, saved).events, 'event')} to {saved}", err=True)
        raise typer.Exit(0 if found.whole else 3)


def backup(
    store: Board, to: Annotated[Path, typer.Argument(metavar="COPY", help="A file that does not exist yet.")]
) -> None:
    """Copy a board as it is at this moment to one new file, also while it runs."""
    with errors():
        size = backed_up(store, to)
        typer.echo(f"wrote {size:,} bytes to {to}", err=True)


def vacuum(store: Board) -> None:
    """Throw away what can be made again, such as snapshots; no event of the log is."""
    with errors():
        done = vacuumed(store)
        typer.echo(f"{store}: {done.before:,} bytes before, {done.after:,} after", err=True)


COMMANDS: dict[str, Callable[..., None]] = {"verify": verify, "backup": backup, "vacuum": vacuum}
