"""Models as boards use them: a real server behind them, and what may stand between."""

import asyncio
import json
from decimal import Decimal

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stigmergy import Ask, Costs, Limits, Retry, replay
from stigmergy.blackboard.events import Called, Failed
from stigmergy.models import FallbackModel, Paced, Reply, Scripted, Traced
from stigmergy.testing import VirtualClock, outputs
from tests.boards import A, B, Boards, numbers
from tests.chat_server import Behaviour, ChatServer, fail, never, say, stall
from tests.paid import recount
from tests.test_model_litellm import at, closed_connections, pytestmark  # noqa: F401  the same server and marks

GOOD = say(outputs(B(n=1)))
PAID = "0.000062"


@pytest.mark.parametrize("how", ["cancel", "close", "stop"])
@pytest.mark.parametrize("behaviour", [never, stall], ids=["never", "stall"])
async def test_whoever_stops_the_work_stops_its_request_at_the_server(
    new_board: Boards, behaviour: Behaviour, how: str
) -> None:
    async with ChatServer([GOOD, behaviour, GOOD]) as server:
        model = at(server)
        board = new_board(model=model)
        board.agent("thinker").consumes(A).publishes(B)
        watched = board.tokens() if behaviour is stall else None
        await board.publish(A(n=1))
        assert (await board.run_until_idle()).ok
        seed = await board.publish(A(n=2))
        run = asyncio.create_task(board.run_until_idle())
        await server.until_asked(2)
        if how == "cancel":
            await board.cancel(seed.id)
        elif how == "close":
            await board.close()
        else:
            run.cancel()
        await asyncio.wait([run])
        await server.until_hung_up()
        del watched
        after = await new_board.reopened(board, model=model)
        after.agent("thinker").consumes(A).publishes(B)
        report = await after.run_until_idle()
        done = 1 if how == "cancel" else 2
        assert (report.done, report.cancelled, len(server.asked)) == (done, 2 - done, 1 + done)
    _, lost, *later = [e for e in after.events() if isinstance(e, Called)]
    assert lost.outcome == "cancelled"
    assert Decimal(lost.cost) > 0
    assert [e.cost for e in later] == [PAID] * (done - 1)
    assert report.cost == recount(after.events())[0]


async def test_nobody_on_the_board_asks_before_the_time_that_a_provider_named(new_board: Boards) -> None:
    clock = VirtualClock()
    began = clock.now()
    async with ChatServer([fail(429, retry_after="30"), GOOD]) as server:
        board = new_board(model=Paced(at(server), requests=600, clock=clock), clock=clock, concurrency=1)
        for name in ("one", "two", "three"):
            board.agent(name).limits(retry=Retry(attempts=2, backoff=0)).consumes(A).publishes(B)
        await board.publish(A())
        report = await board.run_until_idle(horizon=None)
        assert (report.ok, report.done, len(server.asked)) == (True, 3, 4)
    [failed] = [e for e in board.events() if isinstance(e, Failed)]
    assert failed.error is not None
    assert (failed.error.type, failed.error.retry_after) == ("RateLimited", 30)
    assert all(e.at - began >= 30 for e in board.events() if isinstance(e, Called) and e.outcome == "done")
    assert report.cost == 3 * Decimal(PAID)
    assert replay(board, board).ok


async def test_when_a_provider_fails_another_model_answers_and_the_record_says_who(new_board: Boards) -> None:
    async with ChatServer([fail(500)]) as broken, ChatServer([GOOD]) as whole:
        board = new_board(model=FallbackModel(at(broken), at(whole)), limits=Limits(cost="1.00"))
        board.agent("thinker").consumes(A).publishes(B)
        await board.publish(A())
        report = await board.run_until_idle()
        assert (report.ok, report.failed_attempts, numbers(board, B)) == (True, 0, [1])
        assert (len(broken.asked), len(whole.asked)) == (1, 1)
    [called] = [e for e in board.events() if isinstance(e, Called)]
    assert Reply.model_validate_json(called.payload).model == "test-model-2026"
    assert report.cost == Decimal(PAID) == board.fold(Costs()).total.money


async def test_an_ensemble_asks_each_server_and_pays_each(new_board: Boards) -> None:
    other = say(outputs(B(n=2)))
    async with ChatServer([GOOD]) as first, ChatServer([fail(400)]) as second, ChatServer([other]) as third:
        board = new_board()
        board.agent("thinker").model(
            [at(first), at(second), at(third)], ask=Ask(score=lambda found, _: sum(getattr(b, "n", 0) for b in found))
        ).consumes(A).publishes(B)
        await board.publish(A())
        report = await board.run_until_idle()
        assert (report.ok, numbers(board, B)) == (True, [2])
        assert [len(server.asked) for server in (first, second, third)] == [1, 1, 1]
    assert report.cost == 2 * Decimal(PAID)


@pytest.mark.parametrize("prompts", [False, True], ids=["without prompts", "with prompts"])
async def test_each_request_of_a_board_is_a_span_and_its_words_are_in_it_only_when_asked_for(
    new_board: Boards, prompts: bool
) -> None:
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    model = Scripted(["no", outputs(B(key="the answer"))], cost="0.10", tokens=3)
    board = new_board(model=Traced(model, prompts=prompts, provider=provider))
    board.agent("thinker").description("Thinks hard.").consumes(A).publishes(B)
    await board.publish(A(key="the question"))
    assert (await board.run_until_idle()).ok
    first, second = spans.get_finished_spans()
    for span in (first, second):
        assert dict(span.attributes or {})["stigmergy.cost"] == "0.10"
        for words in ("the question", "Thinks hard", "gen_ai.input.messages"):
            assert (words in span.to_json()) == prompts
    assert ("the answer" in second.to_json()) == prompts
    if prompts:
        said = json.loads(str(dict(second.attributes or {})["gen_ai.input.messages"]))
        assert [message["role"] for message in said] == ["system", "user", "assistant", "user"]
