"""One family of errors: every one has a code, a row in the docs as its class says, and ids that `why` takes."""

import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

import stigmergy
from stigmergy import Blackboard, StigmergyError
from stigmergy.blackboard import errors
from stigmergy.cli import app
from tests.boards import A, Boards, copying
from tests.readme import ROOT

pytestmark = pytest.mark.anyio

ROW = re.compile(r"\| (?P<depth>(?:&emsp;)*)`(?P<code>\w+)` \| (?P<when>[^|]+) \| (?P<todo>[^|]+) \|")


def family(error: type[StigmergyError] = StigmergyError, depth: int = 0) -> Iterator[tuple[type[StigmergyError], int]]:
    """All errors of the library, each before its kinds."""
    for module in pkgutil.walk_packages(stigmergy.__path__, "stigmergy."):
        import_module(module.name)
    for kind in error.__subclasses__():
        if kind.__module__.startswith("stigmergy."):
            yield kind, depth
            yield from family(kind, depth + 1)


def test_the_page_says_of_every_error_what_its_class_says() -> None:
    rows = [
        ROW.fullmatch(x)
        for x in (ROOT / "docs" / "errors.md").read_text().splitlines()
        if "`" in x[:25] and x[0] == "|"
    ]
    found = [(row["code"], len(row["depth"]) // len("&emsp;"), row["when"]) for row in rows if row is not None]
    assert len(found) == len(rows)
    said = [
        (kind.__name__, depth, " ".join(re.split(r"\n\s*\n", (kind.__doc__ or "").strip())[0].split()))
        for kind, depth in family()
    ]
    assert sorted(found) == sorted(said)
    above = {kind.__name__: kind.__base__.__name__ for kind, _ in family() if kind.__base__ is not None}
    path = ["StigmergyError"]
    for code, depth, _ in found:
        path[depth + 1 :] = [code]
        assert above[code] == path[depth], f"{code} stands below {path[depth]}"


def test_the_code_of_an_error_is_the_name_of_its_class() -> None:
    for kind, _ in family():
        assert kind.__new__(kind).code == kind.__name__


def test_the_docstring_of_the_module_names_every_error_in_it() -> None:
    here = {kind.__name__ for kind, _ in family() if kind.__module__ == errors.__name__}
    assert here <= set(re.findall(r"\w+", errors.__doc__ or ""))


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (["show", "{folder}/none.db"], "StoreError: "),
        (["why", "{folder}/run.db", "99"], "NotFound: "),
        (["retry", "{folder}/run.db", "A@1"], "NotFound: "),
        (["show", "{folder}/run.db", "A", "--where", "n"], "DefinitionError: "),
        (["graph", "{folder}/run.db", "-o", "{folder}/x.png"], "BadFileName: "),
    ],
)
async def test_the_command_line_prints_the_code_and_the_message(
    tmp_path: Path, arguments: list[str], start: str
) -> None:
    async with copying(Blackboard(tmp_path / "run.db")) as board:
        await board.publish(A())
        await board.run_until_idle()
    done = CliRunner().invoke(app, [a.format(folder=tmp_path) for a in arguments])
    assert done.exit_code in (2, 3)
    assert done.stderr.startswith(start)
    assert done.stderr.count("\n") == 1


async def test_errors_name_activations_and_artifacts_as_why_takes_them(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def fails(a: A) -> None:
        raise ValueError("no")

    artifact = await board.publish(A())
    [dead] = (await board.run_until_idle()).left.dead_letters
    await board.retry(dead.activation)
    with pytest.raises(errors.NotFound, match=f"fails@{dead.activation} was tried again already"):
        await board.retry(dead.activation)
    with pytest.raises(errors.NotFound, match=f"fails@{dead.activation} was tried again already"):
        await board.discard(f"fails@{dead.activation}", reason="no")
    with pytest.raises(errors.NotFound, match=f"{artifact.id} is A@{artifact.id}"):
        board.get(f"B@{artifact.id}")
    assert board.why(f"fails@{dead.activation}").steps[0].id == dead.activation
