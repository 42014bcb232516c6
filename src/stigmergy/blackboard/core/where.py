"""Reading `where=`: what is equality, and so indexed, and what is a test that only Python can run."""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.definitions import Predicate, Slot, Where
from stigmergy.blackboard.errors import BadFilter, UnknownField
from stigmergy.blackboard.payloads.types import plain

T = TypeVar("T")

Filter: TypeAlias = Mapping[str, object] | Callable[[T], bool] | Sequence[Mapping[str, object] | Callable[[T], bool]]
"""`{"phase": "analysis"}`: these fields have these values, a set of values = any of them; a callable on the payload;
or a list of both, all of which must hold."""


def parse_where(model: type[BaseModel], where: Filter[Any] | None, subject: str = "where=", place: str = "") -> Where:
    """Check a filter against the type that it filters.

    Args:
        model: the artifact type.
        where: a mapping of field names to values, a predicate, or a list of both.
        subject: who filters, for errors: `agent "analyzer"`.
        place: where that is written: `team.py:14`.

    Raises:
        UnknownField: the type has no such field.
        BadFilter: the field can never have such a value, or this is no filter.
    """
    equals: dict[str, tuple[object, ...]] = {}
    predicates: list[Predicate] = []
    for part in _parts(where):
        if isinstance(part, Mapping):
            for name, value in part.items():
                known_field(model, name, f"{subject} filters {model.__name__} by", place)
                allowed = _allowed(model, name, value, subject, place)
                if name in equals:
                    allowed = tuple(v for v in equals[name] if v in allowed)
                if not allowed:
                    message = (
                        f"{subject} filters {model.__name__}.{name} by no value at all, so nothing would ever pass."
                    )
                    raise BadFilter(f"{message} Give at least one.{written_at(place)}")
                equals[name] = allowed
        elif callable(part) and not isinstance(part, type) and not _is_async(part):
            predicates.append(part)
        else:
            what = "a mapping of fields to values, a plain function of the payload, or a list of both"
            raise BadFilter(f"{subject} filters {model.__name__} by {part!r}; where= takes {what}.{written_at(place)}")
    return Where(tuple(sorted(equals.items())), tuple(predicates))


def matches(where: Where, payload: BaseModel) -> bool:
    """Whether a payload of the filtered type passes; a predicate's exception is passed on, never read as no."""
    for name, allowed in where.equals:
        if plain(getattr(payload, name)) not in allowed:
            return False
    return all(holds(predicate, payload) for predicate in where.predicates)


def holds(predicate: Predicate, payload: BaseModel) -> bool:
    """Whether a predicate lets a payload pass; what would have to be awaited is no answer, and not a yes.

    Raises:
        BadFilter: it gave something to be awaited.
    """
    answer: object = predicate(payload)
    if answer is True or answer is False:
        return answer
    if isinstance(answer, Awaitable):
        if isinstance(answer, Coroutine):
            answer.close()
        raise BadFilter(f"{type(answer).__name__} is no answer: a filter is a plain function, and nobody awaits it.")
    return bool(answer)


def accepts(slot: Slot, artifact: Artifact[Any]) -> bool:
    """Whether an artifact may fill this slot by its type, producer, tags and content; visibility is asked elsewhere."""
    if artifact.type_name != slot.type_name or (slot.producers and artifact.producer not in slot.producers):
        return False
    if slot.tags and slot.tags.isdisjoint(artifact.tags):
        return False
    return matches(slot.where, artifact.payload)


def known_field(model: type[BaseModel], name: object, doing: str, place: str = "") -> None:
    """Check that a type has a stored field of this (Python) name.

    Args:
        doing: the beginning of the error: `agent "ship" joins Order by`.

    Raises:
        UnknownField: it has not, or it is computed and so not stored.
    """
    if name in model.model_fields:
        return
    if isinstance(name, str) and (
        name in model.model_computed_fields or isinstance(getattr(model, name, None), property)
    ):
        raise UnknownField(
            f"{doing} {name!r}, which is computed, not stored. Use a function: lambda x: x.{name}.{written_at(place)}"
        )
    alias = next(
        (field for field, info in model.model_fields.items() if name in (info.alias, info.serialization_alias)), ""
    )
    way_out = f" Its Python name is {alias!r}." if alias else did_you_mean(str(name), model.model_fields)
    raise UnknownField(f"{doing} {name!r}; it has no such field.{way_out}{written_at(place)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the nearest name, or all of them, or nothing."""
    names = list(known)
    near = get_close_matches(name, names, n=1)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" There is: {', '.join(names)}." if names else ""


def written_at(place: str) -> str:
    """The end of an error's line: where in the user's code the mistake stands."""
    return f"    {place}" if place else ""


def _is_async(function: Callable[..., object]) -> bool:
    call = getattr(type(function), "__call__", None)  # noqa: B004  whether the method is async, not whether there is one
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _parts(where: Filter[Any] | None) -> Sequence[object]:
    if where is None:
        return ()
    return where if isinstance(where, list | tuple) else (where,)


def _allowed(model: type[BaseModel], name: str, value: object, subject: str, place: str) -> tuple[object, ...]:
    """The JSON values that pass, each checked by the field's own type."""
    values = list(value) if isinstance(value, set | frozenset | list | tuple) else [value]
    field = _field_type(model, name)
    allowed: list[object] = []
    for one in values:
        try:
            checked = plain(one if field is None else field.validate_python(one))
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            reason = reason[0].lower() + reason[1:]
            message = f"{subject} filters {model.__name__}.{name} by {one!r}, a value it never has: {reason}."
            raise BadFilter(message + written_at(place)) from None
        if checked not in allowed:
            allowed.append(checked)
    return tuple(allowed)


def _field_type(model: type[BaseModel], name: str) -> TypeAdapter[Any] | None:
    """What checks values of the field; None for a type that pydantic knows only inside its model."""
    info = model.model_fields[name]
    try:
        field: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
        return TypeAdapter(field)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return None
