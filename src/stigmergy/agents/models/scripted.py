"""A model that answers what it was told to answer: for tests, and for examples without a network."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from anyio.lowlevel import checkpoint
from pydantic import BaseModel

from stigmergy.agents.models.errors import ScriptEnded
from stigmergy.agents.models.model import Estimate, OnToken, Reply, Request, ToolCall, Usage
from stigmergy.blackboard.definitions import is_money, is_number
from stigmergy.blackboard.errors import DefinitionError
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
        cost, tokens: of each reply; dollars, exact. An answer that is a whole `Reply` says itself what it costs.
        estimate: what each request is said to cost at most; by default what it costs.

    Attributes:
        asked: all requests so far.

    Raises:
        DefinitionError: an argument is of no use.
    """

    def __init__(
        self,
        replies: Iterable[Answer] | Callable[[Request], Answer],
        *,
        name: str = "scripted",
        cost: Decimal | str = "0",
        tokens: int = 0,
        estimate: Estimate | None = None,
    ) -> None:
        if isinstance(replies, str | BaseModel):
            raise DefinitionError("Scripted takes a list of replies, or a function. Put the reply into a list.")
        if not callable(replies) and not isinstance(replies, Iterable):
            raise DefinitionError(f"Scripted({replies!r}): it takes a list of replies, or a function.")
        if not is_money(cost) or not is_number(tokens, whole=True):
            raise DefinitionError(
                f"Scripted(cost={cost!r}, tokens={tokens!r}): dollars as a Decimal or text, tokens whole, from 0."
            )
        self.name = name
        self.asked: list[Request] = []
        self._answer = replies if callable(replies) else _one_by_one(name, list(replies), self.asked)
        self._paid = Reply(model=name, cost=Decimal(cost), usage=Usage(input=tokens))
        self._estimate = estimate or Estimate(tokens=tokens, cost=self._paid.cost)

    def estimate(self, request: Request, /) -> Estimate:
        """What was given; by default what each reply costs."""
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
        reply = self._reply(answer)
        if on_token is not None:
            for piece in re.findall(r"\s*\S+|\s+", reply.text):
                on_token(piece)
                await checkpoint()
        return reply

    def texts(self, number: int = -1) -> list[str]:
        """What the messages of a request said; by default of the last one."""
        return [message.text for message in self.asked[number].messages]

    def _reply(self, answer: str | BaseModel | Sequence[BaseModel]) -> Reply:
        match answer:
            case Reply():
                return answer if answer.model else answer.model_copy(update={"model": self.name})
            case str():
                return self._paid.model_copy(update={"text": answer})
        several = [answer] if isinstance(answer, BaseModel) else answer
        calls = tuple(call for call in several if isinstance(call, ToolCall))
        if calls:
            return self._paid.model_copy(update={"tool_calls": calls, "finish": "tool_calls"})
        return self._paid.model_copy(update={"text": outputs(*several)})


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


def outputs(*payloads: BaseModel) -> str:
    """What a model writes that publishes these: for scripted ones."""
    items = [{"type": type_of(type(p)).name, "payload": p.model_dump(mode="json", by_alias=True)} for p in payloads]
    return json.dumps({"outputs": items}, ensure_ascii=False)
