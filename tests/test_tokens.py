"""Those who watch what models write see it as it comes; the log does not, and the run waits for nobody."""

import asyncio
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stigmergy import Blackboard, Retry
from stigmergy.agents.prompting.tokens import BEHIND
from stigmergy.models import OnToken, ProviderFailed, Reply, Request, Scripted, Token
from stigmergy.testing import VirtualClock, outputs
from tests.boards import A, B, Boards

pytestmark = pytest.mark.anyio


class Listened(Scripted):
    """Notes whether somebody watched, and can break off after its first piece."""

    def __init__(self, replies: list[Any], *, breaks: int = 0) -> None:
        super().__init__(replies)
        self.watched: list[bool] = []
        self._breaks = breaks

    async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
        self.watched.append(on_token is not None)
        if len(self.watched) <= self._breaks:
            assert on_token is not None
            on_token("so far")
            raise ProviderFailed("it broke off", charged=True)
        return await super().complete(request, on_token)


def with_thinker(board: Blackboard, **limits: Any) -> Blackboard:
    board.agent("thinker").limits(**limits).consumes(A).publishes(B)
    return board


async def seen(board: Blackboard) -> tuple[list[Token], list[Any]]:
    """What is shown while the board runs, and what is on its log then, but for times."""
    tokens = board.tokens()
    await board.publish(A())
    assert (await board.run_until_idle()).ok
    log = [(type(e).__name__, e.seq, getattr(e, "payload", None)) for e in board.events()]
    await board.close()
    return [token async for token in tokens], log


async def test_pieces_come_in_order_with_who_writes_them_and_the_log_is_as_without(new_board: Boards) -> None:
    replies = ["I would rather\ntalk.", outputs(B(n=1))]
    tokens, log = await seen(with_thinker(new_board(model=Scripted(replies), clock=VirtualClock())))
    [activation] = {token.activation for token in tokens}
    assert {(t.agent, t.attempt) for t in tokens} == {("thinker", 1)}
    assert [("Activated", activation) == entry[:2] for entry in log].count(True) == 1
    for number, text in enumerate(replies, 1):
        assert "".join(t.text for t in tokens if t.reply == f"model/{number}") == text
    assert [t.reply for t in tokens] == sorted(t.reply for t in tokens)
    assert len(tokens) > 2
    unwatched = with_thinker(new_board(model=Scripted(replies), clock=VirtualClock()))
    await unwatched.publish(A())
    await unwatched.run_until_idle()
    assert [(type(e).__name__, e.seq, getattr(e, "payload", None)) for e in unwatched.events()] == log


async def test_a_model_streams_only_while_somebody_watches(new_board: Boards) -> None:
    model = Listened([outputs()] * 3)
    board = with_thinker(new_board(model=model))
    for watching in (False, True, False):
        tokens = board.tokens() if watching else None
        await board.publish(A())
        await board.run_until_idle()
        del tokens
    assert model.watched == [False, True, False]


async def test_pieces_arrive_while_the_reply_is_being_written(new_board: Boards) -> None:
    class Waiting(Scripted):
        async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
            assert on_token is not None
            on_token("first")
            await go_on.wait()
            return await super().complete(request)

    go_on = asyncio.Event()
    board = with_thinker(new_board(model=Waiting([outputs()])))
    await board.publish(A())
    tokens = board.tokens()
    run = asyncio.create_task(board.run_until_idle())
    assert (await anext(tokens)).text == "first"
    assert not run.done()
    go_on.set()
    assert (await run).ok


async def test_a_reply_that_broke_off_has_been_shown_and_the_next_attempt_begins_anew(new_board: Boards) -> None:
    board = new_board(model=Listened([outputs(B())], breaks=1), clock=VirtualClock())
    tokens, _ = await seen(with_thinker(board, retry=Retry(attempts=2)))
    assert (tokens[0].text, tokens[0].attempt, tokens[0].reply) == ("so far", 1, "model/1")
    assert "".join(t.text for t in tokens if t.attempt == 2) == outputs(B())


async def test_who_does_not_read_holds_nobody_up_and_misses_the_oldest(new_board: Boards) -> None:
    text = " ".join(str(n) for n in range(BEHIND + 500))
    tokens, _ = await seen(with_thinker(new_board(model=Scripted([text, outputs()]))))
    assert len(tokens) == BEHIND
    assert "".join(t.text for t in tokens if t.reply == "model/2") == outputs()


async def test_several_watch_and_who_comes_after_the_end_sees_nothing(new_board: Boards) -> None:
    board = with_thinker(new_board(model=Scripted([outputs()])))
    other = board.tokens()
    tokens, _ = await seen(board)
    assert [token async for token in other] == tokens
    assert [token async for token in board.tokens()] == []


PROGRAM = "from stigmergy.cli import main; main()"
TEAM = """
import anyio
from pathlib import Path
from pydantic import BaseModel
from stigmergy import Roster
from stigmergy.models import Scripted

class Question(BaseModel):
    text: str

class Slow(Scripted):
    async def complete(self, request, /, on_token=None):
        assert on_token is not None
        on_token("aloud it thinks\\x1b[31m")
        while not Path("go").exists():
            await anyio.sleep(0.01)
        return await super().complete(request)

roster = Roster(model=Slow(['{"outputs": []}']))
roster.agent("thinker").consumes(Question).publishes(Question, fan_out=(0, 1))
"""


async def test_the_command_shows_what_is_being_written_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "team.py").write_text(TEAM)
    (tmp_path / "seeds.jsonl").write_text('{"type": "Question", "payload": {"text": "why?"}}\n')
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", PROGRAM, "run", "team.py", "--seed", "seeds.jsonl"]
    env = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"aloud it thinks" not in shown and (more := os.read(ours, 4096)):
            shown += more
        (tmp_path / "go").touch()
        assert process.stdout is not None
        printed = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0
    assert b"thinker: aloud it thinks [31m" in shown
    assert b"aloud" not in printed
