"""Models behind the OpenAI chat API: a real server on loopback, asked through the real litellm."""

import json
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from email.utils import formatdate
from time import time
from typing import Any

import anyio
import pytest
from anyio import to_thread

from stigmergy import Blackboard, Retry
from stigmergy.agents.models import litellm as adapter
from stigmergy.agents.models.chat import MAX_TEXT
from stigmergy.agents.models.errors import (
    BadKey,
    BadRequest,
    ContextTooLong,
    ModelError,
    ModelMissing,
    ModelTimeout,
    ModelUnreachable,
    ProviderFailed,
    RateLimited,
    UnknownPrice,
)
from stigmergy.agents.models.litellm import LiteLLM
from stigmergy.agents.models.model import Message, OutputSchema, Reply, Request, ToolCall, ToolSpec, Usage
from stigmergy.agents.models.price import Price
from stigmergy.testing.network import NetworkRefused
from tests.boards import A, B
from tests.chat_server import (
    Behaviour,
    ChatServer,
    Exchange,
    break_off,
    call_tools,
    completion,
    cut_off,
    fail,
    huge,
    never,
    raw,
    reset,
    reset_in_the_middle,
    say,
    stall,
)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.xdist_group("litellm"),  # importing it takes seconds: one worker does
    # What pydantic says of litellm's own types when litellm builds a streamed reply.
    pytest.mark.filterwarnings("ignore:Item '.*' on TypedDict class .* `ReadOnly` qualifier:UserWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_(computed_)?fields' attribute:DeprecationWarning"),
]

PRICE = Price("2", "8")
ASKING = Request(model="openai/test", messages=(Message(role="user", text="hello"),), max_tokens=100)
SCHEMA: dict[str, Any] = {
    "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False,
}  # fmt: skip
both_ways = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])


@pytest.fixture(autouse=True)
async def closed_connections() -> AsyncIterator[None]:
    """litellm keeps its connections for the next request; each test has a loop of its own."""
    yield
    litellm: Any = sys.modules.get("litellm")
    if litellm is not None:
        await litellm.close_litellm_async_clients()


def at(server: ChatServer, name: str = "openai/test", **options: Any) -> LiteLLM:
    return LiteLLM(name, **{"api_base": server.url, "price": PRICE, "timeout": 30, **options})


async def ask(behaviour: Behaviour, *, streams: bool = False, request: Request = ASKING, **options: Any) -> Any:
    """The reply, or the error; and that the server was asked once only."""
    async with ChatServer([behaviour]) as server:
        try:
            return await at(server, **options).complete(request, (lambda piece: None) if streams else None)
        except ModelError as error:
            return error
        finally:
            assert len(server.asked) <= 1


@both_ways
async def test_a_text_comes_with_its_tokens_its_exact_cost_and_who_answered(streams: bool) -> None:
    pieces: list[str] = []
    async with ChatServer([say("hello to you")]) as server:
        reply = await at(server).complete(ASKING, pieces.append if streams else None)
        sent = server.asked[0]
    assert (reply.text, reply.finish) == ("hello to you", "stop")
    assert reply.model == ("test" if streams else "test-model-2026")  # litellm hides it in a stream
    assert (reply.usage, reply.cost) == (Usage(input=11, output=5), Decimal("0.000062"))
    assert pieces == (["hell", "o to", " you"] if streams else [])
    assert sent.path == "/v1/chat/completions"
    assert sent.body["messages"] == [{"role": "user", "content": "hello"}]
    assert sent.body["max_tokens"] == 100
    assert sent.headers["authorization"] == "Bearer none"


async def test_everything_in_a_request_is_sent() -> None:
    messages = (
        Message(role="system", text="be brief"),
        Message(role="assistant", tool_calls=(ToolCall(id="c1", name="look", arguments='{"at":"it"}'),)),
        Message(role="tool", text="seen", tool_call="c1"),
    )
    request = Request(
        model="openai/test", messages=messages, temperature=0.5, seed=7, options={"top_p": 0.9},
        tools=(ToolSpec(name="look", description="looks", parameters={"type": "object", "properties": {}}),),
    )  # fmt: skip
    async with ChatServer([say("ok")]) as server:
        await at(server).complete(request)
        body = server.asked[0].body
    assert (body["temperature"], body["seed"], body["top_p"], body["model"]) == (0.5, 7, 0.9, "test")
    assert body["messages"][0] == {"role": "system", "content": "be brief"}
    assert body["messages"][1]["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":"it"}'}}
    ]
    assert body["messages"][2] == {"role": "tool", "content": "seen", "tool_call_id": "c1"}
    assert body["tools"][0]["function"] == {
        "name": "look", "description": "looks", "parameters": {"type": "object", "properties": {}},
    }  # fmt: skip


@both_ways
async def test_tool_calls_arrive_whole(streams: bool) -> None:
    reply = await ask(call_tools(("a", "look", '{"at": "this"}'), ("b", "count", "{}")), streams=streams)
    assert reply.finish == "tool_calls"
    assert reply.tool_calls == (
        ToolCall(id="a", name="look", arguments='{"at": "this"}'), ToolCall(id="b", name="count", arguments="{}"),
    )  # fmt: skip
    assert reply.usage == Usage(input=11, output=5)


@pytest.mark.parametrize("strict", [True, False])
async def test_a_schema_is_sent_where_the_provider_takes_it_as_strict_where_it_is(strict: bool) -> None:
    schema = SCHEMA if strict else {**SCHEMA, "required": []}
    request = ASKING.model_copy(update={"output": OutputSchema(name="Count", json_schema=schema)})
    async with ChatServer([say('{"n": 1}')]) as server:
        reply = await at(server, schemas=True).complete(request)
        body = server.asked[0].body
    assert reply.text == '{"n": 1}'
    assert body["response_format"] == {
        "type": "json_schema", "json_schema": {"name": "Count", "schema": schema, "strict": strict},
    }  # fmt: skip
    assert body["messages"] == [{"role": "user", "content": "hello"}]


async def test_elsewhere_the_schema_is_put_into_words_in_the_first_system_message() -> None:
    output = OutputSchema(name="Count", json_schema=SCHEMA)
    talk = (Message(role="system", text="be brief"), *ASKING.messages)
    async with ChatServer([say("{}")]) as server:
        await at(server).complete(ASKING.model_copy(update={"output": output}))
        await at(server).complete(ASKING.model_copy(update={"output": output, "messages": talk}))
        bodies = [exchange.body for exchange in server.asked]
    for body in bodies:
        assert "response_format" not in body
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
        assert json.dumps(SCHEMA) in body["messages"][0]["content"]
    assert bodies[1]["messages"][0]["content"].startswith("be brief\n")


CASES: list[Any] = [
    pytest.param(fail(429, retry_after="7"), RateLimited, 7.0, id="429 with Retry-After"),
    pytest.param(fail(429), RateLimited, None, id="429"),
    pytest.param(fail(429, "Sorry", "insufficient_quota"), BadKey, None, id="no money"),
    pytest.param(fail(500), ProviderFailed, None, id="500"),
    pytest.param(fail(502), ProviderFailed, None, id="502"),
    pytest.param(fail(503, retry_after="3"), ProviderFailed, 3.0, id="503 with Retry-After"),
    pytest.param(fail(529), ProviderFailed, None, id="overloaded"),
    pytest.param(fail(401, "Incorrect API key"), BadKey, None, id="bad key"),
    pytest.param(fail(403), BadKey, None, id="not allowed"),
    pytest.param(fail(404, "no such model", "model_not_found"), ModelMissing, None, id="no such model"),
    pytest.param(fail(408), ModelTimeout, None, id="408"),
    pytest.param(fail(400), BadRequest, None, id="bad request"),
    pytest.param(fail(422), BadRequest, None, id="unprocessable"),
    pytest.param(fail(413), ContextTooLong, None, id="too large"),
    pytest.param(
        fail(400, "This model's maximum context length is 8 tokens", "context_length_exceeded"), ContextTooLong, None,
        id="context overflow",
    ),
    pytest.param(reset, ModelUnreachable, None, id="reset"),
    pytest.param(cut_off, ModelUnreachable, None, id="cut off"),
    pytest.param(raw('{"id": "x", "choices": [{"ind'), ProviderFailed, None, id="truncated JSON"),
    pytest.param(raw("<html>hello</html>", "text/html"), ProviderFailed, None, id="wrong content type"),
    pytest.param(raw(""), ProviderFailed, None, id="empty body"),
    pytest.param(raw("null"), ProviderFailed, None, id="null"),
    pytest.param(raw(json.dumps({**completion({}), "choices": []})), ProviderFailed, None, id="empty choices"),
]  # fmt: skip


@both_ways
@pytest.mark.parametrize(("behaviour", "kind", "wait"), CASES)
async def test_every_failure_is_of_its_kind_and_is_not_tried_again_in_secret(
    behaviour: Behaviour, kind: type[ModelError], wait: float | None, streams: bool
) -> None:
    error = await ask(behaviour, streams=streams)
    assert type(error) is kind
    assert error.retry_after == wait
    assert error.retryable == (kind in (RateLimited, ProviderFailed, ModelTimeout, ModelUnreachable))
    assert str(error).startswith("openai/test: ")
    assert "\n" not in str(error)
    assert "litellm" not in str(error)


@both_ways
@pytest.mark.parametrize(
    ("behaviour", "charged"),
    [(reset, True), (never, True), (raw("null"), True), (raw("{}"), True), (fail(429), False), (fail(500), False)],
)
async def test_what_may_have_been_paid_for_says_so(behaviour: Behaviour, charged: bool, streams: bool) -> None:
    assert (await ask(behaviour, streams=streams, timeout=0.5)).charged == charged


@pytest.mark.parametrize("behaviour", [break_off, reset_in_the_middle])
async def test_a_stream_that_broke_off_is_no_answer(behaviour: Behaviour) -> None:
    error = await ask(behaviour, streams=True)
    assert type(error) is ProviderFailed
    assert "broke off after 6 characters" in str(error)
    assert error.charged


@both_ways
async def test_a_slow_first_byte_is_a_timeout(streams: bool) -> None:
    error = await ask(never, streams=streams, timeout=0.3)
    assert type(error) is ModelTimeout
    assert error.retryable


async def test_a_stall_in_the_middle_is_a_timeout() -> None:
    pieces: list[str] = []
    async with ChatServer([stall]) as server:
        with pytest.raises(ModelTimeout):
            await at(server, timeout=0.5).complete(ASKING, pieces.append)
        await server.until_hung_up()
    assert pieces == ["so far"]


@pytest.mark.parametrize("behaviour", [never, stall])
async def test_a_cancelled_request_is_stopped_at_the_server(behaviour: Behaviour) -> None:
    async with ChatServer([say("warm"), behaviour]) as server:
        model = at(server)
        await model.complete(ASKING)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(model.complete, ASKING, lambda piece: None)
            await server.until_asked(2)
            tasks.cancel_scope.cancel()
        await server.until_hung_up()


async def test_retry_after_may_be_a_date() -> None:
    error = await ask(fail(429, retry_after=formatdate(time() + 60, usegmt=True)))
    assert 50 < error.retry_after <= 60


@both_ways
async def test_a_refusal_and_a_filtered_text_are_replies_that_say_so(streams: bool) -> None:
    refused = await ask(say("", refusal="I will not"), streams=streams)
    assert (refused.finish, refused.text) == ("refused", "I will not")
    filtered = await ask(say("some", finish="content_filter"), streams=streams)
    assert (filtered.finish, filtered.text) == ("refused", "some")
    cut = await ask(say("some", finish="length"), streams=streams)
    assert cut.finish == "length"
    assert refused.cost == filtered.cost == cut.cost == Decimal("0.000062")


@both_ways
async def test_a_huge_reply_is_cut_and_paid_for(streams: bool) -> None:
    reply = await ask(huge, streams=streams)
    assert (len(reply.text), reply.finish) == (MAX_TEXT, "length")
    assert reply.cost > 0


@both_ways
async def test_where_a_server_does_not_count_tokens_are_not_free(streams: bool) -> None:
    reply = await ask(say("hello to you", usage=None), streams=streams)
    assert reply.usage.input > 0
    assert reply.usage.output > 0
    assert reply.cost == PRICE.cost(reply.usage)


async def test_cached_and_reasoning_tokens_have_their_own_prices() -> None:
    usage = {
        "prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100,
        "prompt_tokens_details": {"cached_tokens": 600}, "completion_tokens_details": {"reasoning_tokens": 40},
    }  # fmt: skip
    reply = await ask(say("x", usage=usage), price=Price("2", "8", cached="0.5", reasoning="10"))
    assert reply.usage == Usage(input=1000, output=100, cached=600, reasoning=40)
    assert reply.cost == (400 * Decimal(2) + 600 * Decimal("0.5") + 60 * Decimal(8) + 40 * Decimal(10)) / 1_000_000


async def test_nobody_at_the_address_is_unreachable() -> None:
    async with ChatServer([say("x")]) as server:
        model = at(server)
    with pytest.raises(ModelUnreachable, match="nobody answers there") as failed:
        await model.complete(ASKING)
    assert failed.value.retryable
    assert not failed.value.charged


async def test_a_missing_key_names_the_variable_to_set(monkeypatch: pytest.MonkeyPatch, real_models: None) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    for name, variable in (("openai/gpt-4.1", "OPENAI_API_KEY"), ("anthropic/claude-sonnet-4-5", "ANTHROPIC_API_KEY")):
        with pytest.raises(BadKey) as failed:
            await LiteLLM(name).complete(ASKING)
        assert str(failed.value) == f"{name}: there is no key. Set {variable}, or give api_key=."


async def test_a_key_in_the_environment_is_not_sent_to_a_local_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-the-environment")
    async with ChatServer([say("x"), say("x")]) as server:
        await at(server).complete(ASKING)
        await at(server, api_key="sk-given").complete(ASKING)
        keys = [exchange.headers["authorization"] for exchange in server.asked]
    assert keys == ["Bearer none", "Bearer sk-given"]


async def test_a_key_is_in_no_error() -> None:
    error = await ask(fail(401, "Incorrect API key provided: sk-given."), api_key="sk-given")
    assert "sk-given" not in str(error)
    assert "[hidden]" in str(error)


@pytest.mark.parametrize("name", ["nonsense/model", "nonsense"])
async def test_a_model_of_no_provider_says_how_to_write_it(name: str, real_models: None) -> None:
    with pytest.raises(ModelMissing, match="names no provider that litellm knows"):
        await LiteLLM(name, price=PRICE).complete(ASKING)


async def test_an_unknown_price_refuses_before_anybody_is_asked_unless_allowed() -> None:
    async with ChatServer([say("x")]) as server:
        with pytest.raises(UnknownPrice, match="allow_unpriced=True"):
            await at(server, price=None).complete(ASKING)
        assert server.asked == []
        model = at(server, price=None, allow_unpriced=True)
        assert model.estimate(ASKING).cost is None
        assert (await model.complete(ASKING)).cost is None


async def test_a_listed_model_is_priced_and_known_to_take_schemas() -> None:
    request = ASKING.model_copy(update={"output": OutputSchema(name="Count", json_schema=SCHEMA)})
    async with ChatServer([say("{}")]) as server:
        model = at(server, "openai/gpt-4.1", price=None)
        reply = await model.complete(request)
        assert "response_format" in server.asked[0].body
    assert reply.cost == Decimal("0.000062")
    estimate = model.estimate(request)
    assert estimate.cost is not None
    assert estimate.cost > reply.cost
    assert estimate.tokens > reply.usage.tokens


async def test_litellm_keeps_quiet_and_leaves_logging_alone(capfd: pytest.CaptureFixture[str]) -> None:
    await ask(fail(500))
    await ask(say("x"), streams=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("price", [PRICE, None], ids=["priced", "unpriced: the list of prices is missing as well"])
async def test_without_the_extra_one_line_names_the_command(
    price: Price | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "litellm", None)
    async with ChatServer([say("x")]) as server:
        with pytest.raises(ModelMissing) as failed:
            await LiteLLM("openai/test", api_base=server.url, price=price).complete(ASKING)
    assert "pip install 'stigmergy[llm]'" in str(failed.value)
    assert "\n" not in str(failed.value)


async def test_litellm_is_imported_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    in_thread = to_thread.run_sync

    async def watched(function: Any, **options: Any) -> Any:
        ran.append(function)
        return await in_thread(function, **options)

    monkeypatch.setattr(to_thread, "run_sync", watched)
    await ask(say("x"))
    assert ran == [adapter._import_litellm]


async def test_no_test_asks_a_real_model_by_accident() -> None:
    for model in (LiteLLM("openai/gpt-4.1"), LiteLLM("openai/gpt-4.1", api_base="https://models.example/v1")):
        with pytest.raises(NetworkRefused, match="a test asked the model openai"):
            await model.complete(ASKING)


async def test_fifty_at_once_get_their_own_answers_at_the_exact_cost() -> None:
    async def echo(exchange: Exchange) -> None:
        await say(exchange.body["messages"][0]["content"].upper())(exchange)

    replies: dict[int, Reply] = {}
    async with ChatServer([echo]) as server:
        model = at(server)

        async def one(n: int) -> None:
            request = ASKING.model_copy(update={"messages": (Message(role="user", text=f"question {n}"),)})
            replies[n] = await model.complete(request, (lambda piece: None) if n % 2 else None)

        async with anyio.create_task_group() as tasks:
            for n in range(50):
                tasks.start_soon(one, n)
        assert len(server.asked) == 50
    assert {n: reply.text for n, reply in replies.items()} == {n: f"QUESTION {n}" for n in range(50)}
    assert sum(reply.cost or 0 for reply in replies.values()) == 50 * Decimal("0.000062")


async def test_it_answers_for_an_agent_and_the_report_has_the_exact_cost() -> None:
    answer = json.dumps({"outputs": [{"type": "B", "payload": {"n": 3}}]})
    async with ChatServer([fail(503), say("let me think"), say(answer)]) as server:
        board = Blackboard(model=at(server))
        board.agent("thinker").limits(retry=Retry(attempts=2, backoff=0)).consumes(A).publishes(B)
        await board.publish(A(n=1))
        report = await board.run_until_idle()
        assert report.ok
        assert len(server.asked) == 3
    assert board.artifacts(B).payloads == [B(n=3)]
    assert (report.cost, report.tokens) == (2 * Decimal("0.000062"), 32)


IMPORTED = """
import logging, socket, sys
def refuse(*_, **__): raise AssertionError("the network was asked")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
from stigmergy.agents.models.litellm import _import_litellm
before = (list(logging.root.handlers), logging.root.level)
assert "litellm" not in sys.modules
_import_litellm()
assert "litellm" in sys.modules
assert (list(logging.root.handlers), logging.root.level) == before
assert not logging.getLogger("LiteLLM").handlers
"""


async def test_importing_litellm_asks_nobody_says_nothing_and_leaves_the_root_logger_alone() -> None:
    done = await anyio.run_process([sys.executable, "-c", IMPORTED], check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
