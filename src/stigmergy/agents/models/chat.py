"""Requests and replies as the OpenAI chat API writes them, and litellm for all providers."""

import json
from collections.abc import Iterator
from typing import Any, Final

from pydantic import JsonValue

from stigmergy.agents.models.errors import ProviderFailed
from stigmergy.agents.models.model import Finish, OnToken, OutputSchema, Request, ToolCall, Usage

MAX_TEXT: Final = 1_000_000
"""Characters of a reply; what is longer is cut there, as if `max_tokens` had been reached."""

TOOLS_PREAMBLE: Final = 1000
"""Tokens at most that providers add to the request when there are tools."""

_FINISH: Final[dict[str, Finish]] = {
    "length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls", "content_filter": "refused",
}  # fmt: skip
_IN_WORDS = "Answer with one JSON value that follows this JSON schema, and with nothing else:"


def wire(request: Request, model: str, *, schemas: bool) -> dict[str, Any]:
    """The request as it is sent.

    Args:
        schemas: the provider holds replies to a schema; otherwise the schema is put into words.
    """
    sent: dict[str, Any] = {**request.options, "model": model}
    messages = list(_messages(request))
    if request.output is not None and schemas:
        sent["response_format"] = _response_format(request.output)
    elif request.output is not None:
        messages = _in_words(messages, request.output)
    if request.tools:
        sent["tools"] = [{"type": "function", "function": tool.model_dump(mode="json")} for tool in request.tools]
    asked = {"temperature": request.temperature, "max_tokens": request.max_tokens, "seed": request.seed}
    return sent | {"messages": messages} | {name: value for name, value in asked.items() if value is not None}


def most_tokens(sent: dict[str, Any]) -> int:
    """An upper bound of the tokens of what is sent: a token is at least one byte.

    English text has about a quarter of it.
    """
    size = len(json.dumps(sent, ensure_ascii=False, default=str).encode(errors="replace"))
    return size + TOOLS_PREAMBLE * ("tools" in sent)


class Answer:
    """What has arrived of a reply."""

    def __init__(self) -> None:
        self.model = ""
        self.text = ""
        self.refusal = ""
        self.finish: Finish = "stop"
        self.usage = Usage()
        self.tool_calls: tuple[ToolCall, ...] = ()


def _messages(request: Request) -> Iterator[dict[str, JsonValue]]:
    for message in request.messages:
        sent: dict[str, JsonValue] = {"role": message.role, "content": message.text}
        if message.tool_calls:
            sent["content"] = message.text or None
            sent["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in message.tool_calls
            ]
        if message.tool_call is not None:
            sent["tool_call_id"] = message.tool_call
        yield sent


def _in_words(messages: list[dict[str, JsonValue]], output: OutputSchema) -> list[dict[str, JsonValue]]:
    said = f"{_IN_WORDS}\n{json.dumps(output.json_schema, ensure_ascii=False)}"
    if messages and messages[0]["role"] == "system":  # some models take one system message only, the first
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{said}"}, *messages[1:]]
    return [{"role": "system", "content": said}, *messages]


def _response_format(output: OutputSchema) -> dict[str, Any]:
    schema = {"name": output.name, "schema": output.json_schema, "strict": _strict(output.json_schema)}
    return {"type": "json_schema", "json_schema": schema}


def _strict(schema: JsonValue) -> bool:
    """Whether providers take the schema as strict: every object has all its fields required, and no others."""
    if isinstance(schema, list):
        return all(map(_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        fields, required = schema.get("properties"), schema.get("required", [])
        if schema.get("additionalProperties") is not False or not isinstance(fields, dict):
            return False
        if not isinstance(required, list) or set(fields) != set(map(str, required)):
            return False
    return all(map(_strict, schema.values()))


def whole(name: str, response: Any) -> Answer:
    """What a reply that came at once says."""
    answer = Answer()
    if not response.choices:
        raise ProviderFailed(f"{name}: the answer has no choices.", charged=True)
    choice = response.choices[0]
    message = choice.message
    answer.text = message.content or ""
    answer.refusal = _refusal(message)
    answer.tool_calls = tuple(
        ToolCall(id=call.id or f"call_{i}", name=call.function.name or "", arguments=call.function.arguments or "")
        for i, call in enumerate(message.tool_calls or ())
    )
    return _finished(answer, response, choice.finish_reason)


async def streamed(name: str, stream: Any, on_token: OnToken) -> Answer:
    """What a reply says that comes in pieces, each of which is shown."""
    answer = Answer()
    calls: dict[int, dict[str, str]] = {}
    text: list[str] = []
    size, finish, last = 0, None, None
    async for piece in stream:
        last = piece
        if getattr(piece, "usage", None) is not None:
            answer.usage = _usage(piece.usage)
        for choice in piece.choices:
            finish = choice.finish_reason or finish
            answer.refusal += _refusal(choice.delta)
            if choice.delta.content:
                text.append(choice.delta.content)
                size += len(choice.delta.content)
                on_token(choice.delta.content)
            for call in choice.delta.tool_calls or ():
                known = calls.setdefault(call.index, {"id": call.id or f"call_{call.index}", "name": "", "said": ""})
                known["name"] += call.function.name or ""
                known["said"] += call.function.arguments or ""
                size += len(call.function.arguments or "")
        if size > MAX_TEXT:
            break
    else:
        # litellm ends every stream with "stop", also one that broke off; only this tells them apart.
        if getattr(stream, "received_finish_reason", finish) is None:
            raise ProviderFailed(f"{name}: the answer broke off after {size} characters.", charged=True)
    answer.text = "".join(text)
    answer.tool_calls = tuple(
        ToolCall(id=call["id"], name=call["name"], arguments=call["said"]) for _, call in sorted(calls.items())
    )
    return _finished(answer, last, finish)


def _finished(answer: Answer, response: Any, finish: str | None) -> Answer:
    answer.model = getattr(response, "model", None) or ""
    usage = getattr(response, "usage", None)
    if usage is not None:
        answer.usage = _usage(usage)
    answer.finish = _FINISH.get(finish or "", "tool_calls" if answer.tool_calls else "stop")
    if answer.refusal:
        answer.text, answer.finish = answer.text or answer.refusal, "refused"
    if len(answer.text) > MAX_TEXT:
        answer.text, answer.finish = answer.text[:MAX_TEXT], "length"
    return answer


def _refusal(message: Any) -> str:
    fields = getattr(message, "provider_specific_fields", None) or {}
    return getattr(message, "refusal", None) or fields.get("refusal") or ""


def _usage(usage: Any) -> Usage:
    read = getattr(usage, "prompt_tokens_details", None)
    made = getattr(usage, "completion_tokens_details", None)
    return Usage(
        input=usage.prompt_tokens or 0,
        output=usage.completion_tokens or 0,
        cached=getattr(read, "cached_tokens", None) or 0,
        written=getattr(read, "cache_creation_tokens", None) or 0,
        reasoning=getattr(made, "reasoning_tokens", None) or 0,
    )
