"""Reading a function's signature: what it takes and what it may give back."""

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from typing_extensions import TypeAliasType

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.where import written_at
from stigmergy.blackboard.errors import BadSignature

Models = tuple[type[BaseModel], ...]


class ContextMark:
    """Base of what a body may ask for beside its inputs; the parameter is found by this type."""


@dataclass(frozen=True, slots=True)
class Input:
    """One parameter, as written.

    Attributes:
        models: the artifact types it takes; empty = not annotated, so whatever arrives.
        envelope: it takes the `Artifact`, not its payload.
        many: it takes a list.
        grouped: it takes a list of tuples; `models` are then the first member's.
        context: it takes the context; nothing else here is set.
        keyword: it can only be given by name.
    """

    name: str
    models: Models = ()
    envelope: bool = False
    optional: bool = False
    many: bool = False
    grouped: bool = False
    context: bool = False
    keyword: bool = False

    @property
    def text(self) -> str:
        """How it reads in an error."""
        inner = " | ".join(model.__name__ for model in self.models)
        inner = f"Artifact[{inner}]" if self.envelope else inner
        inner = "list[tuple[…]]" if self.grouped else f"list[{inner}]" if self.many else inner
        return f"{inner} | None" if self.optional else inner


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes and gives.

    Attributes:
        outputs: the types of its return annotation; None = not annotated, or `Any`.
    """

    parameters: tuple[Input, ...]
    outputs: Models | None
    is_async: bool

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The parameters that take artifacts."""
        return tuple(p for p in self.parameters if not p.context)


class _Unreadable(Exception):
    """An annotation that says nothing about artifacts; the message is the way out."""


def read_signature(
    function: Callable[..., object], *, subject: str, place: str = "", names: Mapping[str, object] | None = None
) -> Signature:
    """What the function takes and gives, by its annotations.

    Args:
        subject: who is defined, for errors: `agent "ship"`.
        place: where, for errors: `team.py:14`.
        names: local names of the defining scope, for annotations that are strings.

    Raises:
        BadSignature: an annotation cannot be read, naming the parameter and what it may be.
    """
    if not callable(function):
        raise BadSignature(f"{subject}: {function!r} is no function.{written_at(place)}")
    target = _annotated(function)
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        text = f"{subject}: its body yields, but outputs get on the board all at once. Return a list of them."
        raise BadSignature(text + written_at(place))
    hints = _hints(function, subject, place, dict(names or {}))
    parameters: list[Input] = []
    left_alone = ""
    for parameter in inspect.signature(function).parameters.values():
        try:
            found = _parameter(parameter, hints)
        except _Unreadable as reason:
            text = f"{subject}: parameter {parameter.name!r} {reason}"
            raise BadSignature(text + written_at(place)) from None
        if found is None:
            left_alone = parameter.name
        elif left_alone and not found.keyword:
            text = f"{subject}: parameter {left_alone!r} is no input but stands before {found.name!r}. Put it last."
            raise BadSignature(text + written_at(place))
        else:
            parameters.append(found)
    try:
        outputs = _outputs(hints["return"]) if "return" in hints else None
    except _Unreadable as reason:
        raise BadSignature(f"{subject}: its return annotation {reason}{written_at(place)}") from None
    return Signature(tuple(parameters), outputs, _is_async(function))


def _parameter(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Input | None:
    """None for a parameter that keeps its default."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise _Unreadable("takes any number of arguments. Name every input.")
    keyword = parameter.kind == parameter.KEYWORD_ONLY
    has_default = parameter.default is not parameter.empty
    if parameter.name not in hints:
        return None if has_default else Input(parameter.name, keyword=keyword)
    try:
        return _input(parameter.name, hints[parameter.name], keyword)
    except _Unreadable:
        if has_default:
            return None
        raise


def _input(name: str, annotation: Any, keyword: bool) -> Input:
    choices = _choices(annotation)
    optional = types.NoneType in choices
    given = [choice for choice in choices if choice is not types.NoneType]
    if len(given) == 1 and isinstance(given[0], type) and issubclass(given[0], ContextMark):
        return Input(name, context=True, keyword=keyword)
    if Any in given or object in given:
        return Input(name, optional=optional, keyword=keyword)
    if len(given) == 1 and get_origin(given[0]) in (list, Sequence) and not optional:
        members = _choices(get_args(given[0])[0])
        if len(members) == 1 and get_origin(members[0]) is tuple:
            first, envelope = _models(_choices(get_args(members[0])[0]))
            return Input(name, first, envelope, many=True, grouped=True, keyword=keyword)
        models, envelope = _models(members)
        return Input(name, models, envelope, many=True, keyword=keyword)
    models, envelope = _models(given)
    return Input(name, models, envelope, optional, keyword=keyword)


def _models(choices: Sequence[Any]) -> tuple[Models, bool]:
    """The artifact types among the alternatives, and whether their envelopes are meant."""
    found: list[type[BaseModel]] = []
    envelopes = set()
    for choice in choices:
        wrapped = choice is Artifact or get_origin(choice) is Artifact
        envelopes.add(wrapped)
        members = (
            _choices(get_args(choice)[0]) if get_args(choice) and wrapped else (BaseModel,) if wrapped else (choice,)
        )
        for member in members:
            if not isinstance(member, type) or not issubclass(member, BaseModel):
                takes = "an artifact type, Artifact[T], T | None, list[T] or Context"
                raise _Unreadable(f"is {_text(choice)}, which is no artifact type. It may be {takes}.")
            found.append(member)
    if len(envelopes) != 1:
        raise _Unreadable("mixes payloads and envelopes. Write Artifact[A | B], or A | B.")
    return tuple(dict.fromkeys(found)), envelopes.pop()


def _outputs(annotation: Any) -> Models | None:
    found: list[type[BaseModel]] = []
    for choice in _choices(annotation):
        if choice is types.NoneType:
            continue
        if choice is Any or choice is object:
            return None
        if get_origin(choice) in (list, Sequence, tuple):
            for member in get_args(choice):
                inner = () if member is Ellipsis else _outputs(member)
                if inner is None:
                    return None
                found.extend(inner)
        elif get_origin(choice) is Artifact or choice is Artifact:
            raise _Unreadable("is Artifact; the board makes the envelopes. Return the payloads: list[A | B].")
        elif isinstance(choice, type) and issubclass(choice, BaseModel):
            found.append(choice)
        else:
            may_be = "A, A | B, A | None, list[A | B] or None"
            raise _Unreadable(f"has {_text(choice)}, which is no artifact type. It may be {may_be}.")
    return tuple(dict.fromkeys(found))


def _choices(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, with type aliases opened; anything else alone."""
    if isinstance(annotation, TypeAliasType):
        return _choices(annotation.__value__)
    if annotation is None:
        return (types.NoneType,)
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(choice for member in get_args(annotation) for choice in _choices(member))
    return (annotation,)


def _hints(function: Callable[..., object], subject: str, place: str, names: dict[str, Any]) -> dict[str, Any]:
    target = _annotated(function)
    try:
        return get_type_hints(target, localns={**names, **_enclosed(target)})
    except (NameError, TypeError, SyntaxError) as error:
        raw = getattr(target, "__annotations__", {})
        unknown = getattr(error, "name", None)
        culprit = next((p for p, a in raw.items() if isinstance(a, str) and unknown and unknown in a), "")
        part = (
            "its return annotation" if culprit == "return" else f"parameter {culprit!r}" if culprit else "an annotation"
        )
        text = f"{subject}: {part} cannot be read ({error}). Define or import the type before the function."
        raise BadSignature(text + written_at(place)) from None


def _annotated(function: Callable[..., object]) -> Any:
    """The plain function that carries the annotations."""
    target: Any = inspect.unwrap(function)
    if isinstance(target, partial):
        return _annotated(target.func)
    return target if inspect.isroutine(target) else type(target).__call__


def _enclosed(function: Any) -> dict[str, Any]:
    """The names that a nested function uses of those around it."""
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None) or ()
    found = {}
    for name, cell in zip(getattr(code, "co_freevars", ()), cells, strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def _is_async(function: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(_annotated(function))


def _text(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
