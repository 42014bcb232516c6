"""A scripted model whose answers are artifacts, and cost something."""

from collections.abc import Callable, Iterable
from decimal import Decimal

from pydantic import BaseModel

from stigmergy.agents.models.model import Estimate, Reply, Request, ToolCall, Usage
from stigmergy.agents.models.scripted import Scripted
from stigmergy.testing import outputs

Answer = str | Reply | ToolCall | BaseModel | list[BaseModel] | Exception


class Script(Scripted):
    """Answers in order, or as a function says; what is published may be given as it is.

    Args:
        cost: dollars of each reply; `most` is what each is said to cost at most.
        tokens: of each request.
    """

    def __init__(
        self, answers: Iterable[Answer] | Callable[[Request], Answer], *, cost: str = "0", most: str | None = None,
        tokens: int = 0,
    ) -> None:  # fmt: skip
        paid = Reply(cost=Decimal(cost), usage=Usage(input=tokens), model="test/script")

        def whole(answer: Answer) -> Reply | Exception:
            match answer:
                case Reply() | Exception():
                    return answer
                case ToolCall():
                    return paid.model_copy(update={"tool_calls": (answer,), "finish": "tool_calls"})
                case str():
                    return paid.model_copy(update={"text": answer})
                case BaseModel():
                    return paid.model_copy(update={"text": outputs(answer)})
                case _:
                    return paid.model_copy(update={"text": outputs(*answer)})

        estimate = Estimate(tokens=tokens, cost=Decimal(most or cost))
        if callable(answers):
            super().__init__(lambda request: whole(answers(request)), name="test/script", estimate=estimate)
        else:
            super().__init__([whole(answer) for answer in answers], name="test/script", estimate=estimate)

    def texts(self, i: int = -1) -> list[str]:
        """What the messages of a request said."""
        return [message.text for message in self.asked[i].messages]
