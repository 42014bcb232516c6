"""What the library says through the standard library's logger."""

import logging

import pytest
from pydantic import BaseModel

from stigmergy import Blackboard


class Task(BaseModel):
    name: str


def board_that_fails() -> Blackboard:
    board = Blackboard()

    @board.agent
    async def break_down(task: Task) -> None:
        raise ValueError(f"cannot do {task.name}")

    return board


def test_nothing_is_printed_when_nobody_listens(capfd: pytest.CaptureFixture[str]) -> None:
    board_that_fails().run_sync(Task(name="this"))
    assert capfd.readouterr() == ("", "")


def test_a_dead_letter_is_a_warning_with_its_facts_for_whoever_listens(caplog: pytest.LogCaptureFixture) -> None:
    board = board_that_fails()
    with caplog.at_level(logging.WARNING, "stigmergy"):
        report = board.run_sync(Task(name="this"))
    assert [record.getMessage() for record in caplog.records] == ["dead letter"]
    facts = vars(caplog.records[0])
    assert facts["activation"] == report.left.dead_letters[0].activation
    assert facts["error"] == "ValueError: cannot do this"
