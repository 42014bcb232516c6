"""Boards of every released version open, say what they said, go on and replay for ever (see `golden/make.py`)."""

import json
import shutil
import sqlite3
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from stigmergy import Blackboard, HumanAnswer, read, replay, verify
from stigmergy.blackboard.errors import StoreError
from stigmergy.blackboard.events import KINDS
from stigmergy.blackboard.stores.format import FORMAT
from stigmergy.seeds import write_stream
from stigmergy.testing import VirtualClock, assert_published, play
from stigmergy.version import VERSION
from tests.golden import make

pytestmark = pytest.mark.anyio
FILES = sorted(make.HERE.glob("*/*.db"))
NEVER = {"Withdrawn", "Faulted", "Resumed", "Erased"}
"""What only components that are no example do, what can only be done by hand after a limit, and what would leave
nothing to compare."""


@pytest.fixture(params=FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def golden(request: pytest.FixtureRequest) -> Path:
    """A board that is kept."""
    file: Path = request.param
    return file


@pytest.fixture
def board_file(golden: Path, tmp_path: Path) -> Path:
    """A copy of it to be written."""
    return Path(shutil.copy(golden, tmp_path / "board.db"))


def code_of(golden: Path) -> Any:
    return make.module_of(golden.with_suffix(".py"))


def test_this_version_has_its_boards_and_they_hold_what_a_log_can_say() -> None:
    assert {f.stem for f in FILES if f.parent.name == VERSION} == set(make.CODE)
    found: set[str] = set()
    for file in FILES:
        found |= json.loads(file.with_suffix(".json").read_text())["kinds"].keys()
    assert found >= KINDS.keys() - NEVER


async def test_a_kept_board_says_what_it_said(golden: Path, board_file: Path) -> None:
    roster = make.roster_of(code_of(golden))
    with read(board_file, make.models_of(roster)) as view:
        assert make.said(view) == json.loads(golden.with_suffix(".json").read_text())
        for artifact in view.artifacts(held=True):
            assert str(view.why(artifact.id))
        assert view.at(view.last // 2).report().done <= view.report().done
        assert view.graph().mermaid()
        with StringIO() as written:
            write_stream(view, written)
            assert written.getvalue() == golden.with_suffix(".jsonl").read_text()


async def test_a_kept_board_is_decided_the_same_way_again(golden: Path, board_file: Path) -> None:
    found = replay(board_file, make.roster_of(code_of(golden)))
    assert found.ok, str(found)
    assert all(text.startswith("component ") for text in found.changed), "components of the library have versions"
    with read(board_file) as view:
        assert found.events == view.last


async def test_a_kept_board_goes_on_and_is_decided_the_same_way_after_that(golden: Path, board_file: Path) -> None:
    code = code_of(golden)
    roster = make.roster_of(code)
    async with Blackboard(board_file, roster=roster, clock=VirtualClock(start=1_800_000_000)) as board:
        before = board.report()
        report = await board.run_until_idle(horizon=None)
        assert report.done + report.dead >= before.done + before.dead
        if golden.stem == "hello":
            await board.publish(code.Question(text="again"))
        elif golden.stem == "everything":
            await board.publish(code.Order(n=8, key="z"), key="order 8")
            await board.publish(code.Order(n=1, key="b"), key="order 1")  # there already
        report = await board.run_until_idle(horizon=None)
        if golden.stem == "hello":
            assert_published(board, code.Answer, where={"text": "AGAIN"})
        elif golden.stem == "everything":
            assert_published(board, code.Bill, where={"n": 8}, count=1)
            assert_published(board, code.Order, where={"n": 1}, count=1)
    found = replay(board_file, roster)
    assert found.ok, str(found)


async def test_a_kept_board_is_sealed_when_it_is_opened_and_proven_whole_then(golden: Path, board_file: Path) -> None:
    format_then = pragma(golden, "user_version")
    if format_then < 2:
        with pytest.raises(StoreError, match="of a format without seals"):
            verify(board_file)
    else:
        assert verify(board_file).whole
    with read(board_file) as view:
        before = [(e.seq, repr(e)) for e in view.events()]
    assert pragma(board_file, "user_version") == format_then, "reading changes nothing"
    async with Blackboard(
        board_file, roster=make.roster_of(code_of(golden)), clock=VirtualClock(start=1_800_000_000)
    ) as b:
        await b.publish(HumanAnswer(question=0, value=None))
    assert pragma(board_file, "user_version") == FORMAT
    proven = verify(board_file)
    assert proven.whole, str(proven)
    assert proven.closed
    with read(board_file) as view:
        assert [(e.seq, repr(e)) for e in view.events()][: len(before)] == before


def pragma(file: Path, name: str) -> int:
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        found: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
        return found


async def test_a_kept_stream_is_played_with_the_agents_of_then(golden: Path) -> None:
    code = code_of(golden)
    board = Blackboard(roster=make.roster_of(code), clock=VirtualClock())
    report = play(board, golden.with_suffix(".jsonl"))
    kept = json.loads(golden.with_suffix(".json").read_text())
    assert report.done >= min(kept["done"], 1)
    if golden.stem != "everything":  # which is stopped in its middle, and goes on
        assert report.done == kept["done"]
    await board.close()
