"""What commands print: text for people, JSON for programs."""

import json
from collections.abc import Iterable
from typing import Protocol

import typer

from stigmergy.blackboard.text import plain


class Shown(Protocol):
    """What reads well as text, and has the same as JSON."""

    def to_json(self) -> str:
        """A JSON object."""
        ...


def say(text: str, *, err: bool = False) -> None:
    """Print what is for people, and may have come from anywhere."""
    typer.echo(plain(text), err=err)


def show(found: Shown, *, as_json: bool) -> None:
    """Print what was asked for."""
    if as_json:
        typer.echo(found.to_json())
    else:
        say(str(found))


def print_lines(lines: Iterable[str]) -> None:
    """Print what is JSON, or was made safe to print."""
    for line in lines:
        typer.echo(line)


def tell(said: str, *, as_json: bool, quiet: bool = False, **facts: object) -> None:
    """Say what a command did: to people on stderr, to programs as a JSON object on stdout."""
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
    elif not quiet:
        say(said, err=True)
