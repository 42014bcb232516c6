"""Spans of requests to models."""

import json
import subprocess
import sys
from decimal import Decimal

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from stigmergy.agents.models.errors import RateLimited
from stigmergy.agents.models.model import Message, Model, Reply, Request, ToolCall, Usage
from stigmergy.agents.models.scripted import Scripted
from stigmergy.agents.models.tracing import Traced

pytestmark = pytest.mark.anyio

SECRET = "the secret question"
ASKING = Request(model="openai/gpt-4.1", messages=(Message(role="user", text=SECRET),), temperature=0.5)
PAID = Reply(
    text="the secret answer", usage=Usage(input=7, output=2, cached=3), cost=Decimal("0.10"), model="gpt-4.1-x"
)


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def traced(model: Model, spans: InMemorySpanExporter, *, prompts: bool = False) -> Traced:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return Traced(model, prompts=prompts, provider=provider)


async def test_a_request_is_a_span_with_tokens_and_exact_cost_and_no_word_of_its_text(
    spans: InMemorySpanExporter,
) -> None:
    model = traced(Scripted([PAID]), spans)
    assert await model.complete(ASKING) == PAID
    (span,) = spans.get_finished_spans()
    assert (span.name, span.kind, span.status.status_code) == (
        "chat openai/gpt-4.1", SpanKind.CLIENT, StatusCode.UNSET,
    )  # fmt: skip
    attributes = dict(span.attributes or {})
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.provider.name"] == "openai"
    assert attributes["gen_ai.request.temperature"] == 0.5
    assert "gen_ai.request.seed" not in attributes
    assert attributes["gen_ai.response.model"] == "gpt-4.1-x"
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.cache_read.input_tokens"]) == (7, 3)
    assert (attributes["stigmergy.cost"], attributes["stigmergy.reused"]) == ("0.10", False)
    assert "secret" not in span.to_json()


async def test_prompts_and_replies_are_recorded_when_asked_for(spans: InMemorySpanExporter) -> None:
    call = ToolCall(id="1", name="look", arguments="{}")
    messages = (*ASKING.messages, Message(role="tool", text="seen", tool_call="0"))
    model = traced(Scripted([call]), spans, prompts=True)
    await model.complete(ASKING.model_copy(update={"messages": messages}))
    attributes = dict(spans.get_finished_spans()[0].attributes or {})
    assert json.loads(str(attributes["gen_ai.input.messages"])) == [
        {"role": "user", "parts": [{"type": "text", "content": SECRET}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "0", "response": "seen"}]},
    ]
    assert json.loads(str(attributes["gen_ai.output.messages"])) == [
        {
            "role": "assistant", "finish_reason": "tool_calls",
            "parts": [{"type": "tool_call", "id": "1", "name": "look", "arguments": "{}"}],
        }
    ]  # fmt: skip


async def test_a_failure_is_named_by_its_kind_alone(spans: InMemorySpanExporter) -> None:
    with pytest.raises(RateLimited):
        await traced(Scripted([RateLimited(f"slow down with {SECRET}")]), spans).complete(ASKING)
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})["error.type"] == "RateLimited"
    assert "secret" not in span.to_json()


async def test_without_an_sdk_it_does_nothing() -> None:
    pieces: list[str] = []
    model = Traced(Scripted([PAID]))
    assert await model.complete(ASKING, pieces.append) == PAID
    assert "".join(pieces) == PAID.text
    assert (model.name, model.estimate(ASKING).tokens) == ("scripted", 0)


MISSING = """
import sys
sys.modules["opentelemetry"] = None
try:
    import stigmergy.agents.models.tracing
except Exception as error:
    print(type(error).__name__, error)
"""


def test_without_the_extra_one_line_names_the_command() -> None:
    done = subprocess.run([sys.executable, "-c", MISSING], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ModelMissing opentelemetry-api")
    assert "pip install 'stigmergy[otel]'" in done.stdout
    assert done.stdout.count("\n") == 1
