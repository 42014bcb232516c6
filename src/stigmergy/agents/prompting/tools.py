"""Tools: functions that a model may call, with arguments checked and errors given back to it."""

import inspect
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, get_type_hints, runtime_checkable

from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError, create_model
from pydantic_core import PydanticSerializationError

from stigmergy.agents.models.model import ToolSpec
from stigmergy.agents.threads import in_thread
from stigmergy.blackboard.errors import BadSignature, BodyError
from stigmergy.blackboard.payloads.roundtrip import lossless_json
from stigmergy.blackboard.text import problems


class ToolsUnavailable(BodyError):
    """A server of tools cannot be reached."""


@runtime_checkable
class ToolSource(Protocol):
    """Something that has tools while it is open; a board opens it once, and closes it when it is closed itself."""

    def open_tools(self) -> AbstractAsyncContextManager["ListTools"]:
        """Open it: gives what lists the tools that it has at that time.

        Listing them, or running one, raises `ToolsUnavailable` where it is gone, and is then opened anew.

        Raises:
            ToolsUnavailable: it cannot be reached.
        """
        ...


class ToolResult(BaseModel):
    """What a tool gave, as the model is told it."""

    text: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool.

    Attributes:
        run: takes the arguments as JSON; what goes wrong is a result too, unless the server of the tool is gone.
    """

    spec: ToolSpec
    run: Callable[[str], Awaitable[ToolResult]]

    @property
    def name(self) -> str:
        """What the model calls it by."""
        return self.spec.name


ListTools = Callable[[], Awaitable[Sequence[Tool]]]


def tool_of(function: Callable[..., object]) -> Tool:
    """A function as a tool: its name, its docstring, and its parameters as a closed JSON schema.

    Raises:
        BadSignature: a parameter cannot be given as JSON by name.
    """
    name = getattr(function, "__name__", type(function).__name__)
    subject = f'tool "{name}"'
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError) as error:
        raise BadSignature(
            f"{subject}: its annotations cannot be read ({error}). Annotate with importable types."
        ) from error
    fields: dict[str, Any] = {}
    for p in inspect.signature(function).parameters.values():
        if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise BadSignature(f"{subject}: parameter {p.name!r} cannot be given by name. Make it an ordinary one.")
        if p.name not in hints:
            raise BadSignature(
                f"{subject}: parameter {p.name!r} has no annotation, so nothing can be checked. Add one."
            )
        fields[p.name] = (hints[p.name], ... if p.default is p.empty else p.default)
    try:
        arguments = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
        schema = arguments.model_json_schema()
    except PydanticUserError as error:
        raise BadSignature(f"{subject}: its parameters have no JSON schema ({error.message}).") from error
    schema.pop("title", None)

    async def run(text: str) -> ToolResult:
        try:
            given = arguments.model_validate_json(text or "{}")
        except ValidationError as error:
            return ToolResult(text=f"The arguments are wrong: {problems(error)}", failed=True)
        named = {field: getattr(given, field) for field in fields}
        try:
            if inspect.iscoroutinefunction(function):
                found = await function(**named)
            else:
                found = await in_thread(lambda: function(**named))
            return ToolResult(text=_text(found))
        except Exception as error:  # noqa: BLE001  user code: the model is told, on record
            return ToolResult(text=f"{type(error).__name__}: {error}", failed=True)

    run.__qualname__ = name
    return Tool(ToolSpec(name=name, description=inspect.getdoc(function) or "", parameters=schema), run)


def tools_of(functions: Sequence[Callable[..., object]], subject: str) -> tuple[Tool, ...]:
    """The tools of an agent.

    Raises:
        BadSignature: one cannot be a tool, or two have one name.
    """
    return distinct([tool_of(function) for function in functions], subject)


def distinct(tools: Sequence[Tool], subject: str) -> tuple[Tool, ...]:
    """The tools, if no two have one name.

    Raises:
        BadSignature: two have.
    """
    names = [tool.name for tool in tools]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise BadSignature(f'{subject} has two tools called "{twice}". Give one of them another name.')
    return tuple(tools)


def allowed(tools: Sequence[Tool], names: Collection[str] | None) -> tuple[Tool, ...]:
    """Those of these names; None = all."""
    return tuple(tool for tool in tools if names is None or tool.name in names)


def _text(found: object) -> str:
    if isinstance(found, str):
        return found
    try:
        return lossless_json(found).decode()
    except PydanticSerializationError:
        return json.dumps(str(found), ensure_ascii=False)
