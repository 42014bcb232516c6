"""Tools of a real MCP server, in a process of its own."""

import sys
from pathlib import Path

import pytest

from stigmergy import Limits, McpServer
from stigmergy.agents.models.model import ToolCall
from stigmergy.blackboard.events import Called
from stigmergy.models import Scripted
from stigmergy.testing import outputs
from tests.boards import A, B, Boards, numbers

pytest.importorskip("mcp")
pytestmark = pytest.mark.anyio
TARGET = str(Path(__file__).parent / "mcp_target.py")


def shop(noted: Path) -> McpServer:
    return McpServer(sys.executable, TARGET, str(noted), names=["price"])


def buy(item: str, count: object = 2) -> ToolCall:
    return ToolCall(id="c", name="price", arguments=f'{{"item": "{item}", "count": {count}}}')


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
    assert noted.read_text(encoding="utf-8") == "pens 2\nnothing 2\n"
    assert numbers(board, B) == [6]
    keys = [e.key for e in board.events() if isinstance(e, Called)]
    assert keys[:3] == ["model/1", "model/1/tool/1", "model/2"]


async def test_a_server_that_does_not_start_fails_the_attempt_with_one_line(new_board: Boards) -> None:
    board = new_board(model=Scripted([outputs()]))
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
