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
    dead = report.left.dead_letters[0].activation
    assert [record.getMessage() for record in caplog.records] == [
        f"dead letter: board=memory activation={dead} error='ValueError: cannot do this'"
    ]
    facts = vars(caplog.records[0])
    assert facts["activation"] == report.left.dead_letters[0].activation
    assert facts["error"] == "ValueError: cannot do this"


def test_a_plain_log_file_says_in_one_line_what_happened_and_where(caplog: pytest.LogCaptureFixture) -> None:
    board = board_that_fails()
    with caplog.at_level(logging.INFO, "stigmergy"):
        board.run_sync(Task(name="this\nand that, with token=0123456789abcdef"))
    [opened, dead] = [logging.Formatter("%(levelname)s %(name)s %(message)s").format(r) for r in caplog.records]
    assert opened == "INFO stigmergy opened: board=memory epoch=1"
    assert dead.startswith("WARNING stigmergy dead letter: board=memory activation=")
    assert dead.endswith(r"error='ValueError: cannot do this\nand that, with token=[hidden]'")
