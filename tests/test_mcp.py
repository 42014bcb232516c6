"""Tools of a real MCP server, in a process of its own."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from stigmergy import Blackboard, Limits, McpServer, Retry, Roster
from stigmergy.agents.models.model import Request, ToolCall
from stigmergy.agents.models.scripted import Answer
from stigmergy.blackboard.events import Called, Failed
from stigmergy.models import Scripted
from stigmergy.testing import context, outputs, perform, prompt
from tests.boards import A, B, Boards, numbers

pytest.importorskip("mcp")
pytestmark = pytest.mark.anyio
TARGET = str(Path(__file__).parent / "mcp_target.py")


def shop(noted: Path, *names: str, pipe: Path | None = None) -> McpServer:
    more = [] if pipe is None else [str(pipe)]
    return McpServer(sys.executable, TARGET, str(noted), *more, names=names or ["price"])


def buy(item: str, count: object = 2) -> ToolCall:
    return ToolCall(id="c", name="price", arguments=f'{{"item": "{item}", "count": {count}}}')


def lines(noted: Path) -> list[str]:
    """What the server noted, without the number of its process."""
    return [line.partition(" ")[0] if line.startswith("began") else line for line in noted.read_text().splitlines()]


def process(noted: Path) -> int:
    """The number of the last server's process."""
    return int([line for line in noted.read_text().splitlines() if line.startswith("began")][-1].split()[1])


def buying(board: Blackboard, server: McpServer, *names: str) -> Blackboard:
    """The board, with agents that share a server."""
    for name in names or ("buyer",):
        board.agent(name).tools(server).consumes(A).publishes(B)
    return board


def talkative(request: Request) -> Answer:
    """Buys once, and answers with what it is told."""
    last = request.messages[-1]
    return [B(key=last.text)] if last.role == "tool" else [buy("pens")]


async def test_a_model_calls_tools_of_a_server_and_is_told_what_they_gave(new_board: Boards, tmp_path: Path) -> None:
    def local(n: int) -> int:
        return n

    noted = tmp_path / "noted"
    model = Scripted([buy("pens"), buy("nothing"), buy("pens", '"many"'), [B(n=6)]])
    board = new_board(model=model)
    board.agent("buyer").tools(local, shop(noted)).consumes(A).publishes(B)
    await board.publish(A())
    report = await board.run_until_idle()
    assert report.ok, report
    assert [tool.name for tool in model.asked[0].tools] == ["local", "price"]
    assert model.asked[0].tools[1].description == "What so many of an item cost."
    assert model.texts(1)[-1] == "2 pens: 6"
    assert model.texts(2)[-1].startswith("Error: ")
    assert model.texts(3)[-1].startswith("Error: ")
    assert lines(noted) == ["began", "pens 2", "nothing 2"]
    assert numbers(board, B) == [6]
    keys = [e.key for e in board.events() if isinstance(e, Called)]
    assert keys[:3] == ["model/1", "model/1/tool/1", "model/2"]


async def test_a_server_that_does_not_start_fails_the_attempt_with_one_line(file_board: Boards) -> None:
    board = file_board(model=Scripted([outputs()]))
    board.agent("buyer").tools(McpServer("/no/such/program")).consumes(A).publishes(B)
    await board.publish(A())
    [dead] = (await board.run_until_idle()).left.dead_letters
    assert dead.error is not None
    assert dead.error.type == "ToolsUnavailable"
    assert dead.error.message.startswith("McpServer('/no/such/program') cannot be reached: FileNotFoundError")
    assert "\n" not in dead.error.message


async def test_a_spent_budget_parks_beside_an_open_server_too(new_board: Boards, tmp_path: Path) -> None:
    board = new_board(model=Scripted([], cost="2"), limits=Limits(cost="1"))
    board.agent("buyer").tools(shop(tmp_path / "noted")).consumes(A).publishes(B)
    await board.publish(A())
    report = await board.run_until_idle()
    assert (report.reason, report.open, report.dead) == ("budget", 1, 0)


async def test_a_board_has_one_server_for_all_activations_and_ends_it_with_itself(
    file_board: Boards, tmp_path: Path
) -> None:
    noted = tmp_path / "noted"
    board = buying(file_board(model=Scripted(talkative), concurrency=8), shop(noted), "one", "two", "three")
    for _ in range(2):
        await board.publish_many([A(n=n) for n in range(5)])
        assert (await board.run_until_idle()).ok
    assert {b.payload.key for b in board.artifacts(B)} == {"2 pens: 6"}
    assert lines(noted) == ["began", *["pens 2"] * 30]
    assert runs(process(noted))
    await board.close()
    assert lines(noted)[-1] == "ended"
    assert not runs(process(noted))


def runs(number: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_server_that_dies_of_a_call_is_told_to_the_model_and_started_again_for_the_next(
    file_board: Boards, tmp_path: Path
) -> None:
    noted = tmp_path / "noted"
    burn = ToolCall(id="b", name="burn", arguments="{}")
    model = Scripted([[burn], [buy("pens")], [B(n=1)], [buy("nibs", 1)], [B(n=2)]])
    board = buying(file_board(model=model), shop(noted, "price", "burn"))
    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert model.texts(1)[-1].startswith("Error: McpServer(")
    assert model.texts(1)[-1].endswith("is gone: MCPError: Connection closed. Whether it was done is not known.")
    assert model.texts(2)[-1] == "2 pens: 6"
    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert lines(noted) == ["began", "burns", "began", "pens 2", "nibs 1"]
    assert numbers(board, B) == [1, 2]


async def test_a_server_that_was_killed_meanwhile_is_started_again_and_nobody_notices(
    file_board: Boards, tmp_path: Path
) -> None:
    noted = tmp_path / "noted"
    board = buying(file_board(model=Scripted(talkative)), shop(noted))
    for _ in range(2):
        await board.publish(A())
        assert (await board.run_until_idle()).ok
        os.kill(process(noted), signal.SIGKILL)
    assert {b.payload.key for b in board.artifacts(B)} == {"2 pens: 6"}
    assert lines(noted) == ["began", "pens 2"] * 2


async def test_bodies_are_stopped_before_their_servers_are_closed(new_board: Boards, tmp_path: Path) -> None:
    noted, pipe = tmp_path / "noted", tmp_path / "pipe"
    os.mkfifo(pipe)
    server = shop(noted, "wait", "price", pipe=pipe)
    model = Scripted([[ToolCall(id="w", name="wait", arguments="{}")]])
    board = buying(new_board(model=model), server)
    await board.publish(A())
    run = asyncio.create_task(board.run_until_idle())
    assert await asyncio.to_thread(pipe.read_text) == "waits"
    await board.close()
    assert lines(noted) == ["began", "given up", "ended"]
    assert (await run).reason == "cancelled"
    events = list((await new_board.reopened(board)).events())
    assert [e.kind for e in events if isinstance(e, Failed)] == ["interrupted"]
    assert [e.key for e in events if isinstance(e, Called)] == ["model/1"], "it was not told that its server had gone"


def test_a_loop_that_ends_takes_its_servers_with_it(tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    board = buying(Blackboard(model=Scripted(talkative)), shop(noted))
    for _ in range(2):
        assert board.run_sync(A()).ok
        assert not runs(process(noted))
    assert lines(noted) == ["began", "pens 2", "ended"] * 2


async def test_a_server_that_cannot_be_reached_is_tried_again_by_the_next_attempt(
    file_board: Boards, tmp_path: Path
) -> None:
    late = tmp_path / "late.py"
    server = McpServer(sys.executable, str(late), str(tmp_path / "noted"), names=["price"])

    async def arriving(call_next: Any, ctx: Any) -> Any:
        if ctx.attempt == 2:
            late.symlink_to(TARGET)
        return await call_next()

    board = file_board(model=Scripted(talkative))
    builder = board.agent("buyer").tools(server).around(arriving).limits(retry=Retry(attempts=2, backoff=0))
    builder.consumes(A).publishes(B)
    await board.publish(A())
    assert (await board.run_until_idle()).ok
    [failed] = [e for e in board.events() if isinstance(e, Failed)]
    assert failed.error is not None
    assert failed.error.type == "ToolsUnavailable"


async def test_a_look_at_a_prompt_starts_a_server_only_for_the_look(file_board: Boards, tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    board = buying(file_board(model=Scripted([])), shop(noted))
    seed = await board.publish(A())
    seen = board.prompt("buyer", seed.id)
    assert [tool.name for tool in seen.tools] == ["price"]
    assert lines(noted) == ["began", "ended"]


async def test_a_server_that_says_nothing_is_given_up_after_its_timeout(file_board: Boards) -> None:
    mute = McpServer(sys.executable, "-c", "import sys; sys.stdin.read()", timeout=0.2)
    board = buying(file_board(model=Scripted([])), mute)
    await board.publish(A())
    [dead] = (await board.run_until_idle()).left.dead_letters
    assert dead.error is not None
    assert dead.error.type == "ToolsUnavailable"
    assert "cannot be reached" in dead.error.message


def test_a_body_that_is_called_by_hand_has_its_server_for_the_call(tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    roster = Roster()
    agent = roster.agent("buyer").tools(shop(noted)).consumes(A).publishes(B)
    assert perform(agent, context(inputs=[A()]), model=Scripted(talkative)) == [B(key="2 pens: 6")]
    assert lines(noted) == ["began", "pens 2", "ended"]
    recorded = context(inputs=[A()], served=["price"])
    assert [tool.name for tool in prompt(agent, recorded).tools] == ["price"]
    assert len(lines(noted)) == 3
