"""Errors as the command line says them."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from stigmergy.blackboard.errors import BoardError, StigmergyError, StoreError


@contextmanager
def errors(*, traceback: bool = False, hint: str = "") -> Iterator[None]:
    """Errors as one line on stderr and an exit code."""
    try:
        yield
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo(f"interrupted.{hint}", err=True)
        raise typer.Exit(130) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(0) from None
    except StigmergyError as error:
        if traceback:
            raise
        typer.echo(f"{error.code}: {error}", err=True)
        raise typer.Exit(3 if isinstance(error, StoreError | BoardError) else 2) from None
    except (OSError, ValueError) as error:
        if traceback:
            raise
        what = f"{error.filename}: {error.strerror}." if isinstance(error, OSError) and error.filename else error
        typer.echo(f"{type(error).__name__}: {what}", err=True)
        raise typer.Exit(2) from None
