"""The commands of people who look after a board's file: verify, backup, vacuum."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from stigmergy import Blackboard, verify
from stigmergy.cli import app
from tests.boards import A, copying


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A board that was closed."""

    async def main() -> None:
        async with Blackboard(tmp_path / "run.db") as board:
            copying(board)
            await board.publish(A(n=1))
            await board.run_until_idle()

    asyncio.run(main())
    return tmp_path / "run.db"


def test_a_whole_board_is_verified(path: Path) -> None:
    done = call("verify", path)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"{verify(path)}\n"
    found = json.loads(call("verify", path, "--json").stdout)
    assert (found["damage"], found["closed"]) == (None, True)


def test_a_damaged_board_is_named_and_what_is_intact_is_saved(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("UPDATE event SET at = at + 1 WHERE kind = 'Completed'")
    saved = tmp_path / "saved.db"
    done = call("verify", path, "--recover", saved)
    assert done.exit_code == 3
    assert f"{path} is damaged at " in done.stdout
    assert done.stderr.startswith("saved ")
    assert call("verify", saved).exit_code == 0
    again = call("verify", path, "--recover", saved)
    assert (again.exit_code, "exists already" in again.stderr) == (3, True)


def test_a_board_is_copied_and_made_smaller(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    done = call("backup", path, copy)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"wrote {copy.stat().st_size:,} bytes to {copy}\n"
    assert verify(copy).seal == verify(path).seal
    done = call("vacuum", copy)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.endswith(f"{copy.stat().st_size:,} after\n")
    for command in (("vacuum",), ("erase", "--before", "1")):
        missing = call(*command, tmp_path / "missing.db")
        assert (missing.exit_code, "does not exist" in missing.stderr) == (3, True)
    assert not (tmp_path / "missing.db").exists()


TEAM = """
from pydantic import BaseModel
from stigmergy import Component, Roster

class Counting(Component[int]):
    name = "counting"
    def start(self): return 0
    def step(self, state, seen): return state + 1

roster = Roster(components=[Counting()])
"""


def test_what_was_said_is_erased_up_to_a_moment_and_with_the_program_if_it_knows_something(
    path: Path, tmp_path: Path
) -> None:
    team = tmp_path / "team.py"
    team.write_text(TEAM)
    assert call("resume", team, "--store", path).exit_code == 0
    done = call("erase", path, "--before", "2001-01-01T00:00:00")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.startswith("erased 0 payloads, 0 bytes; 0 older ones are still needed")
    without = call("erase", path, "--before", "1000")
    assert (without.exit_code, "Erase with the program that has it" in without.stderr) == (2, True)
    found = json.loads(call("erase", path, team, "--before", "1000", "--json").stdout)
    assert (found["payloads"], found["kept"]) == (2, [])
    assert call("show", path, "--all").stdout.count("(erased)") == 2
    listed = json.loads(call("show", path, "--all", "--json").stdout)
    assert [a["payload"] for a in listed] == [None, None]
    assert call("why", path, f"B@{listed[1]['id']}").exit_code == call("verify", path).exit_code == 0
    odd = call("erase", path, "--before", "yesterday")
    assert (odd.exit_code, odd.stderr) == (
        2, "DefinitionError: --before yesterday: give a position, or a time like 2026-11-20T12:00:00.\n",
    )  # fmt: skip
