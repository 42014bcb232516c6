"""Who takes part otherwise than when the board was last run: in Python, in the log lines, and from the command line."""

import json
import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stigmergy import Blackboard, Component, Context
from stigmergy.cli import app
from tests.boards import A, B, Boards, C, copying

pytestmark = pytest.mark.anyio


def counter(number: int = 1) -> Component[int]:
    """A version of a component that counts nothing."""

    class Counter(Component[int]):
        name = "counter"
        version = number

        def start(self) -> int:
            return 0

    return Counter()


async def nothing(ctx: Context) -> None:
    pass


def said(board: Blackboard) -> list[str]:
    return [str(change) for change in board.roster_changes]


async def run(board: Blackboard) -> None:
    await board.publish(A(n=1))
    await board.run_until_idle()


async def test_a_new_board_and_the_same_roster_are_no_change(new_board: Boards) -> None:
    board = copying(new_board(components=[counter()]))
    await run(board)
    assert board.roster_changes == ()
    again = copying(await new_board.reopened(board, components=[counter()]))
    report = await again.run_until_idle()
    assert report.roster_changes == again.roster_changes == ()
    assert "since the last run" not in str(report)


async def test_who_is_new_gone_or_changed_is_told(new_board: Boards, caplog: pytest.LogCaptureFixture) -> None:
    board = copying(copying(new_board(components=[counter()]), name="old"))
    board.agent("joins").consumes(A).consumes(B, C).body(nothing)
    board.agent("filters").consumes(A, where={"n": 1}).body(lambda a: None)
    board.agent("outputs").consumes(A).publishes(B).body(lambda a: None)
    await run(board)
    again = copying(copying(await new_board.reopened(board, components=[counter(2)])), name="new")
    again.agent("joins").consumes(A, A).body(nothing)
    again.agent("filters").consumes(A, where={"n": 2}).body(lambda a: None)
    again.agent("outputs").consumes(A).publishes(C).body(lambda a: None)
    with caplog.at_level(logging.INFO, "stigmergy"):
        report = await again.run_until_idle()
    assert said(again) == [
        "agent 'new' is new",
        "agent 'joins' has changed: subscription joins/1 is gone; "
        "subscription joins/0 has other types, counts, join key or scope",
        "agent 'filters' has changed: filters, deadlines or outputs",
        "agent 'outputs' has changed: filters, deadlines or outputs",
        "component 'counter' has changed: Counter 2, was Counter 1",
        "agent 'old' is gone",
    ]
    assert report.roster_changes == again.roster_changes
    assert [c["name"] for c in json.loads(report.to_json())["roster_changes"]] == [c.name for c in again.roster_changes]
    assert all(line in str(report) for line in ["since the last run", *said(again)])
    lines = [vars(r)["what"] for r in caplog.records if r.getMessage().startswith("the roster has changed: ")]
    assert lines == said(again)


async def test_a_changed_body_or_limit_is_no_change_of_the_roster(new_board: Boards) -> None:
    board = copying(new_board(), concurrency=1)
    await run(board)
    again = await new_board.reopened(board)

    async def otherwise(a: A) -> B:
        return B(n=-a.n)

    again.agent("copy").limits(concurrency=2).consumes(A).publishes(B).body(otherwise)
    await again.run_until_idle()
    assert again.roster_changes == ()


async def test_who_is_gone_and_waited_for_is_named_with_the_way_out(
    new_board: Boards, caplog: pytest.LogCaptureFixture
) -> None:
    board = copying(new_board(), name="old")
    first = await board.publish(A(n=1))
    await board.publish_many([A(n=n) for n in range(4)])
    again = copying(await new_board.reopened(board))
    with caplog.at_level(logging.WARNING, "stigmergy"):
        report = await again.run_until_idle()
    [change] = [c for c in again.roster_changes if c.change == "removed"]
    assert len(change.open) == 5
    assert change.open[0] == first.id + 1
    ids = ", ".join(map(str, change.open[:3]))
    assert str(change) == (
        f"agent 'old' is gone, with 5 open activations: {', '.join(f'old@{i}' for i in change.open[:3])}, …. "
        f"Define it again, or give them up with board.cancel({ids}, …) or stigmergy cancel"
    )
    assert [vars(r)["who"] for r in caplog.records] == ["old"]
    [left] = report.left.unfinished
    assert left.line() == "old: 5 ready, and no such agent takes part"
    assert left.command("run.db") == f"define agent 'old' again, or stigmergy cancel run.db {change.open[0]}"
    await again.cancel(*change.open)
    assert not (await again.run_until_idle()).left.unfinished
    back = copying(await new_board.reopened(again), name="old")
    await back.run_until_idle()
    assert said(back) == ["agent 'old' is new", "agent 'copy' is gone"]


async def test_who_only_looks_after_a_board_is_no_change_and_is_not_the_last_run(new_board: Boards) -> None:
    board = copying(new_board())
    await run(board)
    nobody = await new_board.reopened(board)
    await nobody.publish(C(n=1))
    assert nobody.roster_changes == ()
    again = copying(await new_board.reopened(nobody))
    await again.run_until_idle()
    assert again.roster_changes == ()


async def test_what_is_remembered_of_the_roster_outlives_a_crash(file_board: Boards, ending: str) -> None:
    board = copying(file_board(), name="old")
    await run(board)
    again = copying(await file_board.after(ending, board))
    await again.run_until_idle()
    assert said(again) == ["agent 'copy' is new", "agent 'old' is gone"]


TEAM = """
from pydantic import BaseModel
from stigmergy import Roster

class A(BaseModel):
    n: int = 0

roster = Roster()

@roster.agent
async def {name}(a: A) -> None: ...
"""


def test_resume_says_who_takes_part_otherwise(tmp_path: Path) -> None:
    def call(*words: object) -> "tuple[str, str]":
        done = CliRunner().invoke(app, [*map(str, words), "--store", str(tmp_path / "run.db")])
        assert done.exit_code == 0, done.output
        return done.stdout, done.stderr

    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(TEAM.format(name=name))
    (tmp_path / "seeds.jsonl").write_text('{"type": "A", "payload": {"n": 1}}\n')
    assert "is new" not in call("run", tmp_path / "one.py", "--seed", tmp_path / "seeds.jsonl")[1]
    stdout, stderr = call("resume", tmp_path / "two.py", "--json")
    assert stderr == "agent 'two' is new\nagent 'one' is gone\n"
    assert [(c["name"], c["change"]) for c in json.loads(stdout)["roster_changes"]] == [
        ("two", "added"), ("one", "removed"),
    ]  # fmt: skip
    assert call("resume", tmp_path / "one.py", "--quiet") == ("", "")
