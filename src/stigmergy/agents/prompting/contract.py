"""What a model may answer: derived from what its agent publishes, checked before anything is published."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic.json_schema import models_json_schema

from stigmergy.agents.models.model import OutputSchema
from stigmergy.blackboard.definitions import Output

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL | re.IGNORECASE)
_SHOWN_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a reply comes to.

    Attributes:
        outputs: the artifacts in it, if there is no problem.
        problems: what is wrong with it, each with its place.
        repaired: the JSON that it was read as, if what the model wrote was none.
    """

    outputs: tuple[BaseModel, ...] = ()
    problems: tuple[str, ...] = ()
    repaired: JsonValue = None


class Contract:
    """The one form of a reply: `{"outputs": [{"type": …, "payload": …}, …]}` with the types that an agent publishes."""

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._outputs = {output.type_name: output for output in outputs}

    def schema(self) -> OutputSchema | None:
        """As a JSON schema whose objects are closed and whose fields are all required, as strict providers want it.

        A field that has a default is to be written too. What is no object with known fields stays open.
        """
        if not self._outputs:
            return None
        models = [output.model for output in self._outputs.values()]
        refs, definitions = models_json_schema([(model, "validation") for model in dict.fromkeys(models)])
        items = [
            _object(type={"type": "string", "enum": [name]}, payload=refs[output.model, "validation"])
            for name, output in self._outputs.items()
        ]
        outputs = {"type": "array", "items": {"anyOf": items} if len(items) > 1 else items[0]}
        schema = {**_object(outputs=outputs), "$defs": definitions.get("$defs", {})}
        strict: dict[str, JsonValue] = _strict(schema)
        return OutputSchema(name="outputs", json_schema=strict)

    def text(self) -> str:
        """In words, for the prompt."""
        if not self._outputs:
            return "You publish nothing. When you are done, say so in a word."
        lines = [
            "Answer with one JSON object and nothing else:",
            '{"outputs": [{"type": "…", "payload": {…}}, …]}',
            "Each output becomes an artifact of its type. You may publish:",
            *(f"- {name}, {_how_many(output)}{_about(output.model)}" for name, output in self._outputs.items()),
        ]
        return "\n".join(lines)

    def read(self, text: str, *, repair: bool = True) -> Parsed:
        """The artifacts in a reply, or everything that is wrong with it.

        Args:
            repair: whether broken JSON may be read as what it was probably meant to be.
        """
        if not self._outputs:
            return Parsed()
        data, repaired = _json(text, repair=repair)
        if data is None:
            return Parsed(problems=("the reply is no JSON object",))
        items = data.get("outputs") if isinstance(data, dict) else data
        if not isinstance(items, list):
            return Parsed(problems=('the reply has no list "outputs"',), repaired=repaired)
        outputs: list[BaseModel] = []
        problems: list[str] = []
        for i, item in enumerate(items):
            self._read_one(item, f"outputs[{i}]", outputs, problems)
        counts = Counter(str(item.get("type")) for item in items if isinstance(item, dict))
        for name, output in self._outputs.items():
            least, most = output.fan_out or (0, counts[name])
            if not least <= counts[name] <= most:
                problems.append(f"outputs: {counts[name]} of type {name}; {_how_many(output)} is wanted")
        if problems:
            return Parsed(problems=tuple(problems[:_SHOWN_PROBLEMS]), repaired=repaired)
        return Parsed(tuple(outputs), repaired=repaired)

    def _read_one(self, item: JsonValue, place: str, outputs: list[BaseModel], problems: list[str]) -> None:
        if not isinstance(item, dict) or "type" not in item or "payload" not in item:
            problems.append(f'{place}: it is not {{"type": …, "payload": …}}')
            return
        output = self._outputs.get(str(item["type"]))
        if output is None:
            problems.append(f"{place}.type: {item['type']!r} is not one of {', '.join(self._outputs)}")
            return
        try:
            outputs.append(output.model.model_validate_json(json.dumps(item["payload"])))
        except ValidationError as error:
            for e in error.errors(include_url=False, include_input=False):
                where = ".".join(str(part) for part in ("payload", *e["loc"]))
                problems.append(f"{place}.{where}: {e['msg']}")


def _json(text: str, *, repair: bool) -> tuple[JsonValue, JsonValue]:
    """What the text says as JSON, and the same again if it had to be repaired; (None, None) if it says nothing."""
    fenced = _FENCED.search(text)
    for candidate in (text, fenced[1]) if fenced else (text,):
        try:
            data: JsonValue = json.loads(candidate)
        except ValueError:
            continue
        return (data, None) if isinstance(data, dict | list) else (None, None)
    start = min((i for i in map(text.find, "{[") if i >= 0), default=-1)
    if not repair or start < 0:
        return None, None
    import json_repair  # here, because it is seldom needed and not light

    repaired: Any = json_repair.loads(fenced[1] if fenced else text[start:])
    return (repaired, repaired) if isinstance(repaired, dict | list) and repaired else (None, None)


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _strict(node: Any) -> Any:
    """The schema with closed objects and required fields, without defaults and titles."""
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    made: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("properties", "$defs"):
            made[key] = {name: _strict(schema) for name, schema in value.items()}
        elif key in ("enum", "const"):
            made[key] = value
        elif key not in ("default", "title", "examples"):
            made[key] = _strict(value)
    if "properties" in made:
        made["required"] = list(made["properties"])
        made.setdefault("additionalProperties", False)
    return made


def _how_many(output: Output) -> str:
    if output.fan_out is None:
        return "any number, also none"
    least, most = output.fan_out
    return f"exactly {least}" if least == most else f"{least} to {most}"


def _about(model: type[BaseModel]) -> str:
    first = (model.__dict__.get("__doc__") or "").strip().partition("\n")[0]
    return f": {first}" if first else ""
