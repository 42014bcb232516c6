"""OpenTelemetry spans of requests to models, by the GenAI conventions (which are still in development)."""

import json
from collections.abc import Iterable

from stigmergy.agents.models.errors import ModelMissing
from stigmergy.agents.models.model import Estimate, Message, Model, OnToken, Reply, Request
from stigmergy.agents.models.resolve import as_model

try:
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider, get_tracer
    from opentelemetry.util.types import AttributeValue
except ImportError as missing:
    raise ModelMissing(
        f"opentelemetry-api, which traces models, is not installed ({missing}). Run: pip install 'stigmergy[otel]'"
    ) from missing


class Traced:
    """Makes a span `chat MODEL` of every request; where no OpenTelemetry SDK is set up it does nothing.

    Args:
        model: who is asked, or its name.
        prompts: record what is asked and answered, too. Without it no text of a prompt, a reply or an error leaves.
        provider: of tracers; by default the process's.
    """

    def __init__(self, model: Model | str, *, prompts: bool = False, provider: TracerProvider | None = None) -> None:
        self._model = as_model(model)
        self.name = self._model.name
        self._prompts = prompts
        self._tracer = get_tracer("stigmergy", tracer_provider=provider)

    def estimate(self, request: Request, /) -> Estimate:
        """The model's."""
        return self._model.estimate(request)

    async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
        """The model's reply."""
        with self._tracer.start_as_current_span(
            f"chat {request.model}",
            kind=SpanKind.CLIENT,
            attributes=_asked(request, streams=on_token is not None),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            if self._prompts:
                span.set_attribute("gen_ai.input.messages", _json(request.messages))
            try:
                reply = await self._model.complete(request, on_token)
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(Status(StatusCode.ERROR))
                raise
            self._tell(span, reply)
            return reply

    def _tell(self, span: Span, reply: Reply) -> None:
        usage = reply.usage
        span.set_attributes(
            {
                "gen_ai.response.model": reply.model,
                "gen_ai.response.finish_reasons": [reply.finish],
                "gen_ai.usage.input_tokens": usage.input,
                "gen_ai.usage.output_tokens": usage.output,
                "gen_ai.usage.cache_read.input_tokens": usage.cached,
                "gen_ai.usage.cache_creation.input_tokens": usage.written,
                "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
                "stigmergy.reused": reply.reused,
            }
        )
        if reply.cost is not None:
            span.set_attribute("stigmergy.cost", str(reply.cost))
        if self._prompts:
            said = Message(role="assistant", text=reply.text, tool_calls=reply.tool_calls)
            span.set_attribute("gen_ai.output.messages", _json([said], finish=reply.finish))


def _asked(request: Request, *, streams: bool) -> dict[str, AttributeValue]:
    provider, slash, _ = request.model.partition("/")
    attributes: dict[str, AttributeValue | None] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider if slash else None,
        "gen_ai.request.model": request.model,
        "gen_ai.request.temperature": request.temperature,
        "gen_ai.request.max_tokens": request.max_tokens,
        "gen_ai.request.seed": request.seed,
        "gen_ai.request.stream": streams,
        "gen_ai.output.type": "json" if request.output is not None else "text",
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _json(messages: Iterable[Message], finish: str | None = None) -> str:
    shown = []
    for message in messages:
        parts: list[dict[str, str]] = []
        if message.tool_call is not None:
            parts.append({"type": "tool_call_response", "id": message.tool_call, "response": message.text})
        elif message.text:
            parts.append({"type": "text", "content": message.text})
        for call in message.tool_calls:
            parts.append({"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments})
        end = {} if finish is None else {"finish_reason": finish}
        shown.append({"role": message.role, "parts": parts, **end})
    return json.dumps(shown, ensure_ascii=False)
