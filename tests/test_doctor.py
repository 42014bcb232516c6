"""What `stigmergy doctor` finds: of the machine, of the disk, and of boards in every condition."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stigmergy import Blackboard
from stigmergy.cli import app, doctor
from tests.boards import A, copying
from tests.golden import make
from tests.trouble import without_privileges

pytestmark = pytest.mark.anyio


def look(*arguments: object) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and the findings by name."""
    done = CliRunner().invoke(app, ["doctor", *map(str, arguments), "--json"])
    return done.exit_code, {f["name"]: f for f in json.loads(done.stdout)}


async def board_at(path: Path, *, failing: bool = False) -> Path:
    """A closed board with one thing that was done, or failed."""
    async with copying(Blackboard(path)) as board:
        if failing:

            @board.agent
            async def fails(a: A) -> None:
                raise ValueError("no")

        await board.publish(A(n=1))
        await board.run_until_idle()
    return path


def test_without_a_board_the_environment_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary0a1b2c3d4e5f")
    code, found = look()
    assert code == 0
    assert list(found) == ["stigmergy", "packages", "SQLite"]
    assert "pydantic " in found["packages"]["found"]
    fixed = sqlite3.sqlite_version_info >= (3, 51, 3)
    assert found["SQLite"]["level"] == ("ok" if fixed else "warning")
    assert "canary" not in json.dumps(found)


async def test_a_sound_board_is_ok_and_stays_as_it_is(tmp_path: Path) -> None:
    path = await board_at(tmp_path / "run.db")
    before = path.read_bytes()
    code, found = look(path)
    assert code == 0
    names = ["file system", "room", "lock", "sync", "owner", "file", "write-ahead log", "seals", "work"]
    assert list(found)[3:] == names
    assert {found[name]["level"] for name in ("lock", "owner", "file", "write-ahead log", "seals", "work")} == {"ok"}
    assert found["owner"]["found"] == "nobody runs it"
    assert found["seals"]["found"].startswith("whole: ")
    assert "2 artifacts, 1 activation, 0 open, 0 dead letters" in found["work"]["found"]
    assert re.fullmatch(r"[\d.,]+ ms for a small write", found["sync"]["found"])
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.lock"))


async def test_it_is_printed_in_lines_with_what_to_do(tmp_path: Path) -> None:
    path = await board_at(tmp_path / "run.db", failing=True)
    done = CliRunner().invoke(app, ["doctor", str(path)])
    assert done.exit_code == 0
    work = done.stdout.splitlines().index(next(x for x in done.stdout.splitlines() if " work " in x))
    lines = done.stdout.splitlines()[work:]
    assert lines[0].startswith("warning  work ")
    assert re.fullmatch(rf"         Next: stigmergy retry {re.escape(str(path))} \d+", lines[1])


async def test_an_owner_is_named_and_one_that_died_is_told(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    async with Blackboard(path) as board:
        await board.publish(A())
        _, found = look(path)
    assert found["owner"]["level"] == "ok"
    assert found["owner"]["found"].startswith(f"process {os.getpid()} on ")
    code = "import asyncio, os, sys; from stigmergy import Blackboard; from tests.boards import A\n"
    code += "async def main(): await Blackboard(sys.argv[1]).publish(A()); os._exit(9)\nasyncio.run(main())"
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    exit_code, found = look(path)
    assert exit_code == 0
    assert (found["owner"]["level"], found["owner"]["found"][-12:]) == ("warning", ", which died")
    await board_at(path)
    assert look(path)[1]["owner"]["found"] == "nobody runs it"


async def test_a_damaged_board_is_a_problem(tmp_path: Path) -> None:
    path = await board_at(tmp_path / "run.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("UPDATE event SET at = at + 1 WHERE kind = 'Completed'")
    code, found = look(path)
    assert code == 3
    assert found["seals"]["level"] == "problem"
    assert "--recover" in found["seals"]["found"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("text.db", b"This is no database at all. " * 100, "NotABoard: "),
        ("none/run.db", None, "does not exist"),
        (".", None, "is a folder"),
    ],
)
def test_what_can_be_no_board_is_a_problem(tmp_path: Path, name: str, content: bytes | None, problem: str) -> None:
    path = f"{tmp_path}/{name}"
    if content is not None:
        Path(path).write_bytes(content)
    done = CliRunner().invoke(app, ["doctor", path])
    assert done.exit_code == 3
    assert problem in done.output


def test_a_board_that_is_yet_to_be_is_no_problem(tmp_path: Path) -> None:
    code, found = look(tmp_path / "new.db")
    assert code == 0
    assert found["file"]["found"].endswith("is not there yet; the first publish makes it")
    assert not list(tmp_path.iterdir())


def test_a_board_of_an_older_version_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    path.write_bytes((make.HERE / "0.1.0" / "hello.db").read_bytes())
    code, found = look(path)
    assert code == 0
    assert "work" in found


async def test_who_may_not_write_is_told(open_folder: Path) -> None:
    path = await board_at(open_folder / "run.db")
    path.chmod(0o644)
    open_folder.chmod(0o555)
    try:
        with without_privileges():
            found = {f.name: f for f in doctor.examined(path)}
    finally:
        open_folder.chmod(0o755)
    assert found["folder"].level == "warning"
    assert found["folder"].todo == "Boards in it can only be read."
    assert found["work"].level == "ok"


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("nfs4", "warning"), ("cifs", "warning"), ("smb3", "warning"), ("9p", "warning"), ("fuse.sshfs", "warning"),
        ("tmpfs", "warning"), ("ext4", "ok"), ("btrfs", "ok"), ("overlay", "ok"), ("apfs", "ok"), ("fuseblk", "ok"),
        ("", "ok"),
    ],
)  # fmt: skip
def test_disks_that_are_elsewhere_are_warned_of(
    tmp_path: Path, kind: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_kind_of", lambda folder: kind)
    assert look(tmp_path / "run.db")[1]["file system"]["level"] == level


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="only Linux tells the kind of a file system so")
def test_the_kind_of_a_file_system_is_that_of_the_nearest_mount() -> None:
    assert doctor._kind_of(Path("/proc/self")) == "proc"
    assert doctor._kind_of(Path("/proc")) == "proc"
    assert doctor._kind_of(Path("/processes")) != "proc"
