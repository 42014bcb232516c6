"""What a language model is to an agent: it is asked with a request and gives a reply.

Both are plain data, because a reply is journaled before it is used and a cassette keeps both.
"""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "tool_calls", "refused"]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ToolCall(_Data):
    """A model wants a tool run.

    Attributes:
        id: what its result refers to.
        arguments: as the model wrote them: JSON, if it did well.
    """

    id: str
    name: str
    arguments: str


class Message(_Data):
    """One message of a conversation; `tool_call` says which call a message of role "tool" answers."""

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call: str | None = None


class ToolSpec(_Data):
    """A tool as the model sees it: a name, what it does, and the JSON schema of its arguments."""

    name: str
    description: str
    parameters: dict[str, JsonValue]


class OutputSchema(_Data):
    """The JSON schema that the text of the reply is to follow."""

    name: str
    json_schema: dict[str, JsonValue]


class Request(_Data):
    """All that a model is told; equal requests may be given the same reply.

    Attributes:
        model: the provider's name of the model, as in "openai/gpt-4.1".
        output: None = free text.
        max_tokens: of the reply; None = the provider's limit.
        options: whatever else the provider takes, such as `{"top_p": 0.9}`.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    output: OutputSchema | None = None
    temperature: float | None = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    seed: int | None = None
    options: dict[str, JsonValue] = {}

    @field_validator("options")
    @classmethod
    def _without_secrets(cls, options: dict[str, JsonValue]) -> dict[str, JsonValue]:
        secret = [name for name in options if name.lower() in _SECRET]
        if secret:
            raise ValueError(f"{secret[0]} does not belong to a request, which is kept; give it to the model")
        return options

    def __str__(self) -> str:
        """As people read it: who says what, and which tools there are."""
        parts = [f"--- {message.role}\n{message.text}" for message in self.messages]
        if self.tools:
            parts.append("--- tools\n" + "\n".join(f"{tool.name}: {tool.description}" for tool in self.tools))
        return "\n\n".join(parts)

    def canonical(self) -> str:
        """The request as JSON that is equal for equal requests and readable: sorted, without defaults."""
        data = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(data, ensure_ascii=False, sort_keys=True)


_SECRET = {"api_key", "authorization", "headers", "extra_headers"}


class Usage(_Data):
    """Tokens that were paid for.

    Attributes:
        cached: those of `input` that the provider had kept from earlier requests.
        written: those of `input` that the provider was paid to keep.
        reasoning: those of `output` that are not in the text.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    reasoning: int = 0

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.input + self.output


class Reply(_Data):
    """What a model answered.

    Attributes:
        cost: dollars, exact; None = nobody knows the price.
        model: who really answered, as the provider says.
        reused: it was not bought now but taken from a cassette or a cache; then it costs nothing.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish: Finish = "stop"
    usage: Usage = Usage()
    cost: Decimal | None = Decimal(0)
    model: str = ""
    reused: bool = False

    def again(self) -> "Reply":
        """The same reply when it is not bought but taken from where it was kept."""
        return self.model_copy(update={"reused": True, "cost": Decimal(0), "usage": Usage()})


class Estimate(_Data):
    """The most that a request is expected to cost, reserved before it is sent; cost None = the price is unknown."""

    tokens: int = 0
    cost: Decimal | None = Decimal(0)


OnToken = Callable[[str], None]
"""Called with each piece of text as it arrives; it must not raise. What it shows is never in the log."""


class Model(Protocol):
    """Answers requests. An implementation keeps nothing between two of them that changes an answer.

    Attributes:
        name: what `Request.model` is set to.
    """

    name: str

    def estimate(self, request: Request, /) -> Estimate:
        """What the request may cost at most, without asking anybody."""
        ...

    async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
        """Ask the model.

        Raises:
            ModelError: one of its few kinds (`agents/models/errors.py`), each known to be worth a retry or not.
        """
        ...
