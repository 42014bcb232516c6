"""The command line on files that are not what they should be: one line on stderr, the documented exit code, no
traceback, and the file as it was."""

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.test_cli import TEAM, call, seeds

COMMANDS: dict[str, tuple[str, ...]] = {
    "show": ("show", "STORE"),
    "show a type": ("show", "STORE", "Question"),
    "show as JSON": ("show", "STORE", "--all", "--json"),
    "show the tree": ("show", "STORE", "--tree"),
    "show the past": ("show", "STORE", "--at", "3"),
    "tail": ("tail", "STORE"),
    "why": ("why", "STORE", "3"),
    "why-not": ("why-not", "STORE", "shout", "3"),
    "graph": ("graph", "STORE"),
    "export": ("export", "STORE"),
    "retry": ("retry", "STORE", "4"),
    "cancel": ("cancel", "STORE", "4"),
    "cancel a run": ("cancel", "STORE", "--run", "main"),
    "replay": ("replay", "STORE", "team.py"),
    "resume": ("resume", "team.py", "--store", "STORE"),
    "run": ("run", "team.py", "--seed", "good.jsonl", "--store", "STORE"),
    "publish": ("publish", "team.py", "--seed", "good.jsonl", "--store", "STORE"),
}
MAKES_ONE = {"run", "publish", "resume"}
"""What may start a board in an empty file."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a team and a seed, and it is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("STIGMERGY_STORE", "STIGMERGY_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    Path("team.py").write_text(TEAM)
    seeds("good.jsonl", "hello")
    return tmp_path


def refused(code: int, *arguments: str, stdin: str | None = None) -> str:
    """What a command says that cannot do it."""
    done = call(*arguments, stdin=stdin)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (code, "", 1), (arguments, done.output)
    assert isinstance(done.exception, SystemExit)
    assert "Traceback" not in done.stderr
    return done.stderr


# -- stores ------------------------------------------------------------------------------------------------------------


def text(path: Path) -> None:
    path.write_text("a,b\n1,2\n")


def another_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE event (seq INTEGER)")
    connection.close()


def damaged(path: Path) -> None:
    call("run", "team.py", "--seed", "good.jsonl", "--store", "whole.db", "--quiet")
    path.write_bytes(Path("whole.db").read_bytes()[:8192])


def edited(path: Path) -> None:
    call("run", "team.py", "--seed", "good.jsonl", "--store", "whole.db", "--quiet")
    shutil.copy("whole.db", path)
    connection = sqlite3.connect(path)
    connection.executescript("DELETE FROM snapshot; UPDATE event SET body = '{' WHERE seq = 3")
    connection.close()


def missing(path: Path) -> None:
    """Nothing there, and no folder to make it in."""


STORES: list[tuple[Callable[[Path], object], str, str]] = [
    (text, "run.db", "NotABoard: run.db is no database. "),
    (Path.touch, "run.db", "NotABoard: run.db is an empty file, no board yet. "),
    (Path.mkdir, "run.db", "StoreError: run.db is a folder. "),
    (os.mkfifo, "run.db", "StoreError: run.db is no regular file. "),
    (another_program, "run.db", "NotABoard: run.db is a database of another program. "),
    (damaged, "run.db", "StoreDamaged: run.db is damaged. "),
    (edited, "run.db", "StoreDamaged: run.db is damaged at event 3: it is not what was written. "),
    (missing, "no/run.db", "StoreError: no/run.db"),
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("make", "name", "message"), STORES, ids=[s[0].__name__ for s in STORES])
def test_a_store_that_cannot_be_used_is_one_line_and_exit_code_3(
    folder: Path, make: Callable[[Path], object], name: str, message: str, command: str
) -> None:
    if make is Path.touch and command in MAKES_ONE:
        pytest.skip("an empty file becomes a board")
    path = Path(name)
    make(path)
    before = path.read_bytes() if path.is_file() else None
    assert refused(3, *(name if part == "STORE" else part for part in COMMANDS[command])).startswith(message)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert not Path(f"{name}.lock").exists()


# -- seeds -------------------------------------------------------------------------------------------------------------

GOOD = '{"type": "Question", "payload": {"text": "a"}}'
SEEDS: list[tuple[str, str]] = [
    ('{"type": "Question", "payload": {"text": 5}}', "Question.text: Input should be a valid string."),
    ('{"type": "Question", "payload": {}}', "Question.text: it is required."),
    (
        '{"type": "Question", "payload": {"text": "a", "txt": 1}}',
        "Question.txt: there is no such field. Did you mean 'text'?",
    ),
    ('{"type": "Qestion", "payload": {}}', "there is no artifact type 'Qestion'. Did you mean 'Question'?"),
    ('{"type": "Question"}', "payload is missing."),
    ('{"payload": {"text": "a"}}', "type is missing."),
    ('{"type": "Question", "payload": {"text": "a"}, "tag": "x"}', "there is no field 'tag'. Did you mean 'tags'?"),
    ('{"type": "Question", "payload": {"text": "a"}, "priority": "urgent"}', "priority: 'urgent' is not one of low,"),
    ('{"type": "Question", "payload": {"text": "a"}, "key": "\\u0000"}', "key '\\x00' has a character that cannot be"),
    ('{"type": "Question", "payload": {"text": NaN}}', "this is not JSON: "),
    ("not json", "this is not JSON: "),
    ("[1, 2]", 'this is a list. A line is an object: {"type": …, "payload": …}.'),
    ("null", 'this is null. A line is an object: {"type": …, "payload": …}.'),
    ("[" * 10_000, "this is not JSON: "),
    ("\udcff", "this is not JSON: "),
]


@pytest.mark.parametrize("command", ["run", "publish"])
@pytest.mark.parametrize(("line", "message"), SEEDS, ids=[s[0][:60] for s in SEEDS])
def test_one_bad_line_of_a_seed_file_is_named_and_nothing_is_published(
    folder: Path, line: str, message: str, command: str
) -> None:
    Path("bad.jsonl").write_bytes(f"{GOOD}\n{line}\n{GOOD}\n".encode(errors="surrogateescape"))
    arguments = (command, "team.py", "--seed", "good.jsonl", "--seed", "bad.jsonl", "--store", "run.db")
    said = refused(2, *arguments)
    assert said.startswith(f"SeedError: bad.jsonl:2: {message}"), said
    assert said.endswith(" Nothing was published.\n")
    assert not Path("run.db").exists() or call("show", "run.db", "--all").stdout == "no such artifacts\n"


def test_seeds_that_are_no_files_are_named(folder: Path) -> None:
    Path("folder.jsonl").mkdir()
    for name, message in (
        ("none.jsonl", "none.jsonl cannot be read: No such file or directory."),
        ("folder.jsonl", "folder.jsonl cannot be read: Is a directory."),
        ("team.py", "team.py: seed files end in .jsonl or .json."),
    ):
        assert refused(2, "run", "team.py", "--seed", name, "--store", "run.db") == f"SeedError: {message}\n"
    assert refused(2, "run", "team.py", "--seed", "-", stdin="nothing").startswith("SeedError: stdin:")
    assert not Path("run.db").exists()


# -- teams -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raised", ["raise RuntimeError({!r})", "import sys; sys.exit({!r})"])
def test_what_a_file_says_when_it_cannot_be_loaded_is_one_line_without_secrets(folder: Path, raised: str) -> None:
    text = "GET https://example.org?api_key=canary0a1b2c3d failed\nand again\x1b[2J"
    Path("broken.py").write_text(raised.format(text))
    for command in (("check", "broken.py"), ("run", "broken.py", "--store", "run.db")):
        told = refused(2, *command)
        assert told.startswith("DefinitionError: broken.py:1 cannot be loaded: ")
        assert told.endswith(r"api_key=[hidden] failed and again\x1b[2J" + "\n")


# -- where things are written ------------------------------------------------------------------------------------------


def test_a_place_that_cannot_be_written_is_named(folder: Path) -> None:
    assert call("run", "team.py", "--seed", "good.jsonl", "--store", "run.db", "--quiet").exit_code == 0
    Path("x.svg").mkdir()
    for path, why in (("no/x.svg", "No such file or directory"), ("x.svg", "Is a directory")):
        for words in (("graph", "run.db"), ("export", "run.db"), ("make-test", "run.db", "team.py", "4")):
            told = refused(2, *words, "-o", path)
            assert told == f"BadFileName: {path!r} cannot be written: {why}. Choose another file.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "run.db", "--at", "-1"), "DefinitionError: --at -1: give a position, or a time like"),
        (("show", "run.db", "--where", "x"), "DefinitionError: --where x: write it as field=value."),
        (("why", "run.db", "Question@99"), "NotFound: there is nothing at 99. The last position is 9."),
        (("why", "run.db", "Answer@3"), "NotFound: there is no Answer@3: 3 is about Question@3."),
        (("why", "run.db", ""), "NotFound: '' is no id. Ids are written 12 or Type@12."),
        (("why-not", "run.db", "nobody", "3"), "NotFound: There is no agent 'nobody'. There is: shout."),
        (("why-not", "run.db", "shout", "3", "no.py"), "DefinitionError: no.py does not exist. Name a Python file"),
        (("retry", "run.db", "3"), "NotFound: 3 is no activation."),
        (("retry", "run.db", "4", "--set", "text"), "DefinitionError: --set text: write it as field=value."),
        (("replay", "run.db", "no.py"), "DefinitionError: no.py does not exist. Name a Python file"),
        (("run", "team.py", "--timeout", "0"), "DefinitionError: timeout= is 0 s. Give more than zero"),
        (("run", "team.py", "--timeout", "nan"), "DefinitionError: timeout= is nan s. Give more than zero"),
        (("run", "run.db"), "DefinitionError: run.db is no Python file. Name one that ends in .py."),
        (("run", "."), "DefinitionError: . does not exist. Name a Python file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    assert call("run", "team.py", "--seed", "good.jsonl", "--store", "run.db", "--quiet").exit_code == 0
    assert refused(2, *arguments).startswith(message)
