"""Helpers of the tests about what goes wrong: what a good error looks like, and a board that goes on after it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from stigmergy import Blackboard
from stigmergy.blackboard.errors import StigmergyError
from tests.boards import A, C, numbers


def one_line(error: BaseException) -> str:
    """The message, which is one sentence or two on one line, with its end."""
    text = str(error)
    assert isinstance(error, StigmergyError), repr(error)
    assert "\n" not in text
    assert "Traceback" not in text
    assert text.endswith((".", "?", ")")), text
    return text


async def goes_on(board: Blackboard) -> None:
    """What comes next works as if nothing had happened."""
    before = numbers(board, A)
    await board.publish(A(n=77))
    report = await board.run_until_idle(timeout=20)
    assert report.reason == "idle"
    assert numbers(board, A) == [*before, 77]
    assert 77 in numbers(board, C)


def with_a_witness(board: Blackboard) -> Blackboard:
    """An agent beside the bad one: every A becomes a C."""

    @board.agent
    async def witness(a: A) -> C:
        return C(n=a.n)

    return board


@contextmanager
def without_privileges() -> Iterator[None]:
    """Permissions mean nothing to root, so root becomes nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
