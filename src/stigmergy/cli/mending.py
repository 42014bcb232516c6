"""Commands for people who look after a board: answer what it asks, and see to what failed."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from stigmergy.blackboard.errors import UnknownField
from stigmergy.blackboard.events import Ended
from stigmergy.blackboard.question import HumanQuestion
from stigmergy.blackboard.reading.dead_letters import DeadLetter
from stigmergy.blackboard.reading.leftovers import resume_command
from stigmergy.blackboard.reading.view import read
from stigmergy.blackboard.text import number, seconds, short, table, when
from stigmergy.board import Blackboard
from stigmergy.cli.errors import errors
from stigmergy.cli.options import Board, Json
from stigmergy.cli.printing import say, tell
from stigmergy.cli.words import fields, value
from stigmergy.loop import in_a_loop


def answer(
    store: Board,
    question: Annotated[str, typer.Argument(metavar="ID", help="15 or HumanQuestion@15.")],
    words: Annotated[list[str], typer.Argument(metavar="VALUE", help="One value, or field=value for each field.")],
    as_json: Json = False,
) -> None:
    """Answer a question. What waited for it goes on when the board is resumed."""
    with errors():
        with read(store, [HumanQuestion]) as view:
            asked = view.get(question).payload
        form = asked.answer if isinstance(asked, HumanQuestion) else {}
        said = " ".join(words) if form.get("type") == "string" else spoken(words)
        _fits(said, form)
        in_a_loop(lambda: _do(store, lambda board: board.answer(question, said)))
        go_on = resume_command(store)
        tell(f"answered; go on with: {go_on}", as_json=as_json, answered=said, next=go_on)


def dead_letters(
    store: Board,
    activation: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="33 or agent@33.")] = None,
    as_json: Json = False,
) -> None:
    """List what failed for good. With IDs, show inputs, attempts and tracebacks."""
    with errors(), read(store) as view:
        found = view.dead_letters(*(activation or ()))
        if as_json:
            typer.echo(json.dumps([letter.record() for letter in found], ensure_ascii=False, indent=2))
            return
        for line in chain.from_iterable(map(_told, found)) if activation else _listed(found):
            say(line)


def retry(
    store: Board,
    activation: Annotated[list[str], typer.Argument(metavar="ID...", help="Dead letters: 33 or agent@33.")],
    edits: Annotated[list[str], typer.Option("--set", help="field=value of an input; can be repeated.")] = [],
    as_json: Json = False,
) -> None:
    """Try dead letters again. They run when the board is resumed, with the same inputs or edited ones."""
    with errors():
        edited = fields(edits, "--set") if edits else None
        ids = _ids(store, activation)
        in_a_loop(lambda: _do(store, lambda board: board.retry(*ids, edited=edited)))
        go_on = resume_command(store)
        tell(f"{len(ids)} will be tried again by: {go_on}", as_json=as_json, retried=ids, next=go_on)


def discard(
    store: Board,
    activation: Annotated[list[str], typer.Argument(metavar="ID...", help="Dead letters: 33 or agent@33.")],
    reason: Annotated[str, typer.Option("--reason", help="Why nobody is to try them again.")],
    as_json: Json = False,
) -> None:
    """Give dead letters up. They count as skipped, with the reason."""
    with errors():
        ids = _ids(store, activation)
        in_a_loop(lambda: _do(store, lambda board: board.discard(*ids, reason=reason)))
        tell(f"{len(ids)} discarded", as_json=as_json, discarded=ids)


def cancel(
    store: Board,
    subject: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID...]", help="33 or agent@33; of an artifact, all that descends from it."),
    ] = None,
    run: Annotated[str | None, typer.Option("--run", help="Everything of this run.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for whoever looks at it later.")] = "asked for",
    as_json: Json = False,
) -> None:
    """End what is open on a board that nobody runs. Nothing of it starts any more."""
    with errors():
        if not subject and run is None:
            raise typer.BadParameter("give an ID, or --run.")
        ended = in_a_loop(lambda: _cancelled(store, subject or (), run, reason))
        said = f"{number(len(ended), 'activation')} cancelled" if ended else "nothing of it is open"
        tell(said, as_json=as_json, cancelled=ended)


COMMANDS: dict[str, Callable[..., None]] = {
    "dead-letters": dead_letters, "retry": retry, "discard": discard, "cancel": cancel, "answer": answer,
}  # fmt: skip


async def _do(store: Path, verb: Callable[[Blackboard], Awaitable[object]]) -> None:
    """Change a board and run nothing."""
    async with Blackboard(store) as board:
        await verb(board)


async def _cancelled(store: Path, ids: Sequence[str], run: str | None, reason: str) -> list[int]:
    """Cancel, and say which activations that ended."""
    with read(store):
        pass  # a file that is none is to be named, and not made
    async with Blackboard(store) as board:
        before = board.last
        await board.cancel(*ids, run=run, reason=reason)
        return [e.cause for e in board.events(before) if isinstance(e, Ended)]


def _ids(store: Path, activations: Sequence[str]) -> list[int]:
    with read(store) as view:
        return [view.why(a).steps[0].id for a in activations]


def _listed(letters: Sequence[DeadLetter]) -> list[str]:
    rows = [
        (
            f"{d.agent}@{d.id}", when(d.ended), ", ".join(a.ref for a in d.inputs),
            number(len(d.attempts), "attempt"), short(f"{d.error.type}: {d.error.message}" if d.error else d.reason),
        )
        for d in letters
    ]  # fmt: skip
    return table(rows, indent="") or ["no dead letters"]


def _told(d: DeadLetter) -> list[str]:
    lines = [f"{d.agent}@{d.id} ended {when(d.ended)}" + (f": {d.reason}" if d.reason else "")]
    lines += [f"  {a.ref} {a.payload.model_dump_json()}" for a in d.inputs]
    for n, attempt in enumerate(d.attempts, 1):
        error = f": {attempt.error.type}: {attempt.error.message}" if attempt.error else ""
        lines.append(f"  attempt {n} after {seconds(attempt.seconds)}, {attempt.kind}{error}")
    if d.error is not None and d.error.traceback:
        lines += [f"    {line}" for line in d.error.traceback.rstrip().splitlines()]
    return lines


def spoken(words: Sequence[str]) -> JsonValue:
    """An answer as it is typed: one value, or `field=value`s.

    Raises:
        UnknownField: they are several values.
    """
    if len(words) == 1 and "=" not in words[0]:
        return value(words[0])
    if not all("=" in word for word in words):
        raise UnknownField(f"{' '.join(words)!r}: give one value, or field=value for each field.")
    return {**fields(words, "answer")}


def _fits(value: JsonValue, form: Mapping[str, JsonValue]) -> None:
    """Refuse an answer that lacks fields of what is asked for, or has others.

    Raises:
        UnknownField: it does.
    """
    fields = form.get("properties")
    if not isinstance(fields, dict):
        return
    needed = form.get("required")
    wanted = [str(name) for name in needed] if isinstance(needed, list) else []
    way_out = f"Give {' '.join(f'{name}=…' for name in wanted or fields)}."
    given = value if isinstance(value, dict) else {}
    for name in given:
        if name not in fields:
            raise UnknownField(f"the answer has no field {name!r}. {way_out}")
    for name in wanted:
        if name not in given:
            raise UnknownField(f"the answer lacks {name!r}. {way_out}")
