"""Models that answer what they were told to."""

from decimal import Decimal

import anyio
import pytest
from pydantic import BaseModel

from stigmergy import Blackboard
from stigmergy.agents.models.errors import RateLimited, ScriptEnded
from stigmergy.agents.models.model import Estimate, Message, Reply, Request, ToolCall, Usage
from stigmergy.agents.models.scripted import Answer, Scripted
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.testing import Asked, asked, outputs
from tests.boards import A, B, Boards, C

pytestmark = pytest.mark.anyio


class Verdict(BaseModel):
    good: bool


def asking(text: str) -> Request:
    return Request(model="scripted", messages=(Message(role="user", text=text),))


async def test_a_list_is_answered_in_order_whatever_kind_its_replies_are() -> None:
    call = ToolCall(id="1", name="look", arguments="{}")
    whole = Reply(text="whole", usage=Usage(input=3, output=4))
    model = Scripted(
        ["text", Verdict(good=True), whole, call, [call, call], [], RateLimited("slow down", retry_after=2)]
    )
    got = [await model.complete(asking(str(n))) for n in range(6)]
    assert [(r.text, len(r.tool_calls), r.finish) for r in got] == [
        ("text", 0, "stop"),
        ('{"outputs": [{"type": "Verdict", "payload": {"good": true}}]}', 0, "stop"),
        ("whole", 0, "stop"),
        ("", 1, "tool_calls"),
        ("", 2, "tool_calls"),
        ('{"outputs": []}', 0, "stop"),
    ]
    assert {r.model for r in got} == {"scripted"}
    assert got[2].usage.tokens == 7
    with pytest.raises(RateLimited, match="slow down") as failed:
        await model.complete(asking("6"))
    assert failed.value.retry_after == 2
    assert [request.messages[0].text for request in model.asked] == list("0123456")


async def test_running_out_of_replies_says_what_was_asked_in_one_line() -> None:
    model = Scripted(["only"], name="script")
    await model.complete(asking("first"))
    with pytest.raises(ScriptEnded) as ended:
        await model.complete(asking("second\nquestion"))
    assert "script: it has 1 replies and was asked for number 2: 'second question'." in str(ended.value)
    assert not ended.value.retryable


async def test_a_function_answers_each_request_by_itself_however_many_ask_at_once() -> None:
    model = Scripted(lambda request: request.messages[-1].text.upper())
    answers: dict[str, str] = {}

    async def ask(text: str) -> None:
        answers[text] = (await model.complete(asking(text))).text

    async with anyio.create_task_group() as tasks:
        for n in range(20):
            tasks.start_soon(ask, f"q{n}")
    assert answers == {f"q{n}": f"Q{n}" for n in range(20)}


@pytest.mark.parametrize(("text", "count"), [("two words", 2), (" led by\n\nspaces ", 4), ("", 0), ("one", 1)])
async def test_text_is_streamed_in_pieces_that_are_the_text(text: str, count: int) -> None:
    pieces: list[str] = []
    reply = await Scripted([text]).complete(asking("x"), pieces.append)
    assert "".join(pieces) == reply.text == text
    assert len(pieces) == count


async def test_it_answers_for_an_agent() -> None:
    board = Blackboard(model=Scripted([ToolCall(id="1", name="look", arguments="{}"), Verdict(good=True)]))
    board.agent("judge").consumes(A).publishes(Verdict)
    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert board.artifacts(Verdict).payloads == [Verdict(good=True)]


async def test_it_costs_what_it_is_told_to() -> None:
    assert Scripted([]).estimate(asking("x")) == Estimate()
    assert Scripted([], estimate=Estimate(tokens=5)).estimate(asking("x")).tokens == 5
    call = ToolCall(id="1", name="look", arguments="{}")
    paid = Scripted(["text", Verdict(good=True), call, Reply(text="free")], cost="0.10", tokens=3)
    assert paid.estimate(asking("x")) == Estimate(tokens=3, cost=Decimal("0.10"))
    replies = [await paid.complete(asking(str(n))) for n in range(4)]
    assert [(r.cost, r.usage.tokens) for r in replies] == [(Decimal("0.10"), 3)] * 3 + [(Decimal(0), 0)]
    assert paid.texts(0) == ["0"]
    assert paid.texts() == ["3"]


def test_one_reply_alone_is_refused_as_a_list_of_characters_is_never_meant() -> None:
    with pytest.raises(DefinitionError, match="into a list"):
        Scripted("hello")
    with pytest.raises(DefinitionError, match=r"Scripted\(3\): it takes a list"):
        Scripted(3)  # type: ignore[arg-type]
    for paid in ({"cost": 0.1}, {"cost": "much"}, {"tokens": -1}):
        with pytest.raises(DefinitionError, match="dollars as a Decimal or text"):
            Scripted([], **paid)


async def test_a_function_answers_by_agent_input_and_what_tools_said(new_board: Boards) -> None:
    seen: list[Asked] = []

    def look(n: int) -> int:
        return n + 1

    def answer(request: Request) -> Answer:
        seen.append(asked(request, A, B))
        if seen[-1].told:
            return outputs(C(n=int(seen[-1].told[0])))
        return [ToolCall(id="1", name="look", arguments='{"n": 7}')]

    board = new_board(model=Scripted(answer))
    board.agent("looker").description("Looks.").tools(look).consumes(A, B).publishes(C)
    await board.publish_many([B(n=2), A(n=1, key="</data>")])
    assert (await board.run_until_idle()).ok
    assert seen == [
        Asked("looker", (A(n=1, key="</data>"), B(n=2))),
        Asked("looker", (A(n=1, key="</data>"), B(n=2)), ("8",)),
    ]
    request = board.prompt("looker", board.artifacts(A)[0].id, board.artifacts(B)[0].id)
    with pytest.raises(DefinitionError, match=r"'looker' is asked about A@\d+; give asked\(…, A\) its type"):
        asked(request, B)
    with pytest.raises(DefinitionError, match="another prompt than the standard one"):
        asked(request.model_copy(update={"messages": request.messages[1:] * 2}), A, B)
