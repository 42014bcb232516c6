"""Commands for people who look after a board: answer what it asks, and see to what failed."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from stigmergy.blackboard.errors import NotFound
from stigmergy.blackboard.question import HumanQuestion
from stigmergy.blackboard.view import read
from stigmergy.board import Blackboard
from stigmergy.cli.errors import errors
from stigmergy.loop import in_a_loop

Board = Annotated[Path, typer.Argument(metavar="STORE", help="Board file.")]


def answer(
    store: Board,
    question: Annotated[str, typer.Argument(metavar="ID", help="15 or HumanQuestion@15.")],
    words: Annotated[list[str], typer.Argument(metavar="VALUE", help="One value, or field=value for each field.")],
) -> None:
    """Answer a question; what waited for it goes on when the board is resumed."""
    with errors():
        with read(store, [HumanQuestion]) as view:
            asked = view.get(question).payload
        kind = asked.answer.get("type") if isinstance(asked, HumanQuestion) else None
        value = " ".join(words) if kind == "string" else spoken(words)
        in_a_loop(lambda: _answer(Blackboard(store), question, value))
        typer.echo(f"answered; go on with: {_resume(store)}", err=True)


async def _answer(board: Blackboard, question: str, value: JsonValue) -> None:
    async with board:
        await board.answer(question, value)


def spoken(words: Sequence[str]) -> JsonValue:
    """An answer as it is typed: one value, or `field=value`s; a value is JSON, or else a text.

    Raises:
        NotFound: it is neither.
    """
    if len(words) == 1 and "=" not in words[0]:
        return _value(words[0])
    pairs = [word.partition("=") for word in words]
    if not all(equals for _, equals, _ in pairs):
        raise NotFound(f"{' '.join(words)!r} is no answer. Give one value, or field=value for each field.")
    return {name: _value(text) for name, _, text in pairs}


def _value(text: str) -> JsonValue:
    try:
        found: JsonValue = json.loads(text)
    except ValueError:
        return text
    return found


def _resume(store: Path) -> str:
    return f"stigmergy resume FILE --store {shlex.quote(str(store))}"
