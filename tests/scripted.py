"""A model that answers what a test says, and counts."""

import json
from collections.abc import Callable, Iterable
from decimal import Decimal

import anyio.lowlevel
from pydantic import BaseModel

from stigmergy.agents.models.model import Estimate, OnToken, Reply, Request, ToolCall, Usage

Answer = str | Reply | ToolCall | BaseModel | list[BaseModel] | Exception


def outputs(*payloads: BaseModel) -> str:
    """What a model writes that publishes these."""
    return json.dumps({"outputs": [{"type": type(p).__name__, "payload": p.model_dump(mode="json")} for p in payloads]})


class Script:
    """Answers in order, or as a function says.

    Args:
        cost: dollars of each reply; `most` is what each is said to cost at most.
    """

    name = "test/script"

    def __init__(
        self, answers: Iterable[Answer] | Callable[[Request], Answer], *, cost: str = "0", most: str | None = None,
        tokens: int = 0,
    ) -> None:  # fmt: skip
        self.asked: list[Request] = []
        self._answers = answers if callable(answers) else iter(list(answers))
        self._cost, self._most, self._tokens = Decimal(cost), Decimal(most or cost), tokens

    def estimate(self, request: Request, /) -> Estimate:
        return Estimate(tokens=self._tokens, cost=self._most)

    async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
        self.asked.append(request)
        answer = self._answers(request) if callable(self._answers) else next(self._answers)
        await anyio.lowlevel.checkpoint()
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Reply):
            return answer
        paid = Reply(cost=self._cost, usage=Usage(input=self._tokens), model=self.name)
        if isinstance(answer, ToolCall):
            return paid.model_copy(update={"tool_calls": (answer,), "finish": "tool_calls"})
        if isinstance(answer, BaseModel):
            answer = [answer]
        text = answer if isinstance(answer, str) else outputs(*answer)
        return paid.model_copy(update={"text": text})

    def texts(self, i: int = -1) -> list[str]:
        """What the messages of a request said."""
        return [message.text for message in self.asked[i].messages]
