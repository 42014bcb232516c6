"""What a request asks: the reverse of a prompt, for models that are functions."""

import json
import re
from dataclasses import dataclass

from pydantic import BaseModel

from stigmergy.agents.models.model import Request
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.blackboard.payloads.types import type_of

_AGENT = re.compile(r'^You are the agent "(.*?)"\.', re.MULTILINE)
_FENCED = re.compile(r"<data (\w+)>\n(.*?)\n</data \1>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked, and about what.

    Attributes:
        inputs: of the activation, in the order of its subscription.
        told: what tools answered since, in order.
    """

    agent: str
    inputs: tuple[BaseModel, ...]
    told: tuple[str, ...] = ()


def asked(request: Request, *types: type[BaseModel]) -> Asked:
    """Read a request that has the standard prompt, so that a `Scripted` function can answer by agent and input.

    Args:
        types: of the inputs that may come.

    Raises:
        DefinitionError: the request has another prompt, or inputs of other types.
    """
    system, user = (message.text for message in request.messages[:2])
    agent, data = _AGENT.search(system), _FENCED.search(user)
    if agent is None or data is None:
        raise DefinitionError("the request has another prompt than the standard one, so its inputs cannot be read.")
    by_name = {type_of(model).name: model for model in types}
    inputs = []
    for text in data[2].splitlines():
        line = json.loads(text)
        name = line["id"].partition("@")[0]
        if name not in by_name:
            raise DefinitionError(f"{agent[1]!r} is asked about {line['id']}; give asked(…, {name}) its type.")
        inputs.append(by_name[name].model_validate(line["payload"]))
    told = tuple(message.text for message in request.messages if message.role == "tool")
    return Asked(agent[1], tuple(inputs), told)
