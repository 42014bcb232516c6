"""A model that answers what it was told to answer: for tests, and for examples without a network."""

import json
import re
from collections.abc import Callable, Iterable, Sequence

from anyio.lowlevel import checkpoint
from pydantic import BaseModel

from stigmergy.agents.models.errors import ScriptEnded
from stigmergy.agents.models.model import Estimate, OnToken, Reply, Request, ToolCall
from stigmergy.blackboard.payloads.types import type_of

Answer = str | BaseModel | Sequence[BaseModel] | Exception
"""A text; artifacts, written as agents are asked to write them; `ToolCall`s; a whole `Reply`; or what goes wrong."""


class Scripted:
    """Answers from a list, one after the other, or with a function of the request.

    A list is read in the order of the calls. Where several agents ask at once that order is nobody's promise, and a
    function is the better script.

    Args:
        replies: the answers, or what gives one for a request.
        name: what requests and reports call it.
        estimate: what each request is said to cost at most.

    Attributes:
        asked: all requests so far.
    """

    def __init__(
        self,
        replies: Iterable[Answer] | Callable[[Request], Answer],
        *,
        name: str = "scripted",
        estimate: Estimate | None = None,
    ) -> None:
        if isinstance(replies, str | BaseModel):
            raise TypeError("Scripted takes a list of replies, or a function. Put the reply into a list.")
        self.name = name
        self.asked: list[Request] = []
        self._answer = replies if callable(replies) else _one_by_one(name, list(replies), self.asked)
        self._estimate = estimate or Estimate()

    def estimate(self, request: Request, /) -> Estimate:
        """What was given; by default nothing."""
        return self._estimate

    async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
        """The next answer.

        Raises:
            ScriptEnded: there is none left.
        """
        self.asked.append(request)
        answer = self._answer(request)
        await checkpoint()  # as any model it gives way, and can be cancelled
        if isinstance(answer, Exception):
            raise answer
        reply = _reply(answer, self.name)
        if on_token is not None:
            for piece in re.findall(r"\s*\S+|\s+", reply.text):
                on_token(piece)
                await checkpoint()
        return reply


def _one_by_one(name: str, replies: list[Answer], asked: list[Request]) -> Callable[[Request], Answer]:
    remaining = iter(replies)

    def answer(request: Request) -> Answer:
        try:
            return next(remaining)
        except StopIteration:
            last = request.messages[-1].text if request.messages else ""
            short = " ".join(last.split())
            raise ScriptEnded(
                f"{name}: it has {len(replies)} replies and was asked for number {len(asked)}: "
                f"{short[:200]!r}. Add a reply, or give a function."
            ) from None

    return answer


def _reply(answer: str | BaseModel | Sequence[BaseModel], name: str) -> Reply:
    match answer:
        case Reply():
            return answer if answer.model else answer.model_copy(update={"model": name})
        case str():
            return Reply(text=answer, model=name)
    several = [answer] if isinstance(answer, BaseModel) else answer
    calls = tuple(call for call in several if isinstance(call, ToolCall))
    if calls:
        return Reply(tool_calls=calls, finish="tool_calls", model=name)
    outputs = [{"type": type_of(type(p)).name, "payload": p.model_dump(mode="json", by_alias=True)} for p in several]
    return Reply(text=json.dumps({"outputs": outputs}, ensure_ascii=False), model=name)
