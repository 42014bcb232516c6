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
    missing = call("vacuum", tmp_path / "missing.db")
    assert (missing.exit_code, "does not exist" in missing.stderr) == (3, True)
    assert not (tmp_path / "missing.db").exists()
