"""Errors as the command line says them."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from stigmergy.blackboard.errors import BadFileName, BoardError, StigmergyError, StoreError
from stigmergy.blackboard.redaction import redacted
from stigmergy.cli.printing import say

_UsageError: Any = typer.BadParameter.__bases__[0]
"""Click's, of which newer versions of typer have a copy of their own."""


class Commands(TyperGroup):
    """The commands; a line that they cannot understand gets one line back."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command line and leave with the exit code of the command."""
        leaving = extra.get("standalone_mode", True)
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except _UsageError as error:
            said = " ".join(error.format_message().split())
            command = error.ctx.command_path if error.ctx is not None else "stigmergy"
            say(f"UsageError: {said}{'' if said[-1:] in '.?' else '.'} See {command} --help.", err=True)
            code = 2
        except typer.Abort:
            code = 130
        if leaving:
            sys.exit(code or 0)
        return code


@contextmanager
def errors(*, traceback: bool = False, hint: str = "") -> Iterator[None]:
    """Errors as one line on stderr and an exit code."""
    try:
        yield
    except (KeyboardInterrupt, asyncio.CancelledError):
        say(f"interrupted.{hint}", err=True)
        raise typer.Exit(130) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(0) from None
    except StigmergyError as error:
        if traceback:
            raise
        _complain(error.code, error)
        raise typer.Exit(3 if isinstance(error, StoreError | BoardError) else 2) from None
    except (OSError, ValueError) as error:
        if traceback:
            raise
        what = f"{error.filename}: {error.strerror}." if isinstance(error, OSError) and error.filename else error
        _complain(type(error).__name__, what)
        raise typer.Exit(2) from None


def _complain(code: str, what: object) -> None:
    """One line, whatever it quotes, and without secrets: it may end in the log of another machine."""
    say(f"{code}: {' '.join(redacted(str(what)).splitlines())}", err=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Where a file is written.

    Raises:
        BadFileName: it cannot be.
    """
    try:
        yield
    except OSError as error:
        raise BadFileName(f"{str(path)!r} cannot be written: {error.strerror}. Choose another file.") from error
