"""From what `.consumes()` or a signature says to a subscription."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, Generic, Literal, Required, TypedDict, TypeVar

from pydantic import BaseModel

from stigmergy.blackboard.core.visibility import Named
from stigmergy.blackboard.core.where import Filter, known_field, parse_where, written_at
from stigmergy.blackboard.definitions import MAX_WAITING, Ancestor, Key, Slot, Subscription
from stigmergy.blackboard.durations import Seconds, in_seconds
from stigmergy.blackboard.errors import BadSignature, DefinitionError
from stigmergy.blackboard.payloads.types import type_of

T = TypeVar("T")
Producers = str | Named | Iterable[str | Named]
Within = Seconds | Literal["idle"]
BATCH = 32


class Reading(TypedDict, Generic[T], total=False):
    """Options of every `.consumes()`.

    Attributes:
        where: only what passes.
        producer: only artifacts by these agents; "outside" = published from outside.
        tags: only artifacts with at least one of these tags.
        since: "start" also offers what was published before the agent was first enrolled.
    """

    where: Filter[T] | None
    producer: Producers | None
    tags: str | Iterable[str]
    since: Literal["now", "start"]


class Joining(Reading[T], Generic[T], total=False):
    """Options of a `.consumes()` that waits for several artifacts.

    Attributes:
        by: what must be equal among them: a field name, a function of the payload, or `ancestor(T)`.
        within: seconds an artifact waits for the rest; "idle" = until nothing else can run.
        window: expire an artifact when more than this many later ones have entered.
        max_waiting: how many artifacts may wait here; beyond that the oldest expires, which is on the report.
        scope: "run" keeps runs apart; "board" mixes them.
        optional: of these types, none need be there when `within` passes.
    """

    by: str | Callable[[T], object] | Ancestor | None
    within: Within | None
    window: int | None
    max_waiting: int
    scope: Literal["run", "board"]
    optional: Collection[type[BaseModel]]


class Batching(Reading[T], Generic[T], total=False):
    """Options of a batch: `batch` artifacts at most; fewer when `within` passes."""

    batch: Required[int]
    by: str | Callable[[T], object] | Ancestor | None
    within: Within | None
    max_waiting: int
    scope: Literal["run", "board"]


class Grouping(Joining[T], Generic[T], total=False):
    """Options of a join of which `groups` complete sets make one activation."""

    groups: Required[int]


def ancestor(model: type[BaseModel]) -> Ancestor:
    """A join key: what descends from the same artifact of this type belongs together (fork and join)."""
    return Ancestor(type_of(model).name, model)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One `.consumes()`, as said."""

    types: tuple[type[BaseModel], ...]
    where: Filter[Any] | None = None
    producer: Producers | None = None
    tags: str | Iterable[str] = ()
    since: Literal["now", "start"] = "now"
    batch: int | None = None
    by: Key | None = None
    within: Within | None = None
    window: int | None = None
    groups: int = 1
    max_waiting: int = MAX_WAITING
    scope: Literal["run", "board"] = "run"
    optional: Collection[type[BaseModel]] = ()


def subscription(wanted: Wanted, name: str, subject: str, place: str) -> Subscription:
    """The checked subscription; repeated types become one slot with a count.

    Raises:
        UnknownField: `by` or `where` names a field that a type does not have.
        BadFilter, BadType, BadSignature, DefinitionError: something else in it cannot work.
    """
    _check(wanted, subject, written_at(place))
    if isinstance(wanted.by, str):
        for model in wanted.types:
            known_field(model, wanted.by, f"{subject} joins {model.__name__} by", place)
    producers = names(wanted.producer, f"{subject}: producer=", place)
    tags = names(wanted.tags, f"{subject}: tags=", place)
    if wanted.producer is not None and not producers:
        text = f"{subject}: producer={wanted.producer!r} names nobody, so nothing would ever pass"
        raise DefinitionError(f"{text}. Leave it out for anybody.{written_at(place)}")
    slots = tuple(
        Slot(
            type_name=type_of(model).name,
            model=model,
            count=wanted.batch or wanted.types.count(model),
            optional=model in wanted.optional,
            where=parse_where(model, wanted.where, subject, place),
            producers=frozenset(producers),
            tags=frozenset(tags),
        )
        for model in dict.fromkeys(wanted.types)
    )
    within = wanted.within
    return Subscription(
        id=name,
        slots=slots,
        by=wanted.by,
        within="idle" if within == "idle" else None if within is None else in_seconds(within, f"{subject}: within="),
        window=wanted.window,
        groups=wanted.groups,
        scope=wanted.scope,
        batch=wanted.batch is not None,
        since=wanted.since,
        max_waiting=wanted.max_waiting,
    )


def names(given: Producers | None, what: str = "", place: str = "") -> tuple[str, ...]:
    """One name, one agent or several of them, as names.

    Args:
        what: who says it where, for errors: `agent "ship": tags=`.
    """
    if given is None:
        return ()
    several = (
        given if isinstance(given, Iterable) and not isinstance(given, str) and not hasattr(given, "name") else (given,)
    )
    found = [one if isinstance(one, str) else getattr(one, "name", None) for one in several]
    for name, one in zip(found, several, strict=True):
        if not isinstance(name, str) or not name:
            text = f"{what}{one!r} is no name. Give a text or an agent, or several."
            raise DefinitionError(text + written_at(place))
    return tuple(name for name in found if name)


def _check(wanted: Wanted, subject: str, at: str) -> None:
    types = wanted.types
    if not types:
        raise BadSignature(f"{subject} consumes nothing here. Name at least one type: .consumes(T).{at}")
    if isinstance(wanted.optional, type) or not isinstance(wanted.optional, Collection):
        raise DefinitionError(f"{subject}: optional={wanted.optional!r}; it is a list of types.{at}")
    for model in (*types, *wanted.optional):
        type_of(model)
    several = len(types) > 1
    if wanted.batch is not None and (several or wanted.groups > 1 or wanted.optional or wanted.window):
        beside = "by=, within=, max_waiting= and scope="
        raise DefinitionError(f"{subject}: batch= takes one type and only {beside} beside it.{at}")
    if not several and wanted.batch is None:
        useless = [name for name in ("by", "within", "window", "optional") if getattr(wanted, name)]
        useless += ["groups"] if wanted.groups != 1 else []
        useless += ["max_waiting"] if wanted.max_waiting != MAX_WAITING else []
        useless += ["scope"] if wanted.scope == "board" else []
        if useless:
            way_out = "List the types it waits for, or give batch="
            raise DefinitionError(f"{subject}: {useless[0]}= has no meaning for one artifact alone. {way_out}.{at}")
    plain = isinstance(wanted.by, str | Ancestor) or (callable(wanted.by) and not iscoroutinefunction(wanted.by))
    if wanted.by is not None and not plain:
        raise DefinitionError(f"{subject}: by={wanted.by!r}; it is a field name, a plain function or ancestor(T).{at}")
    for name in ("batch", "window", "groups", "max_waiting"):
        count = getattr(wanted, name)
        if (count is not None or name == "max_waiting") and (type(count) is not int or count < 1):
            raise DefinitionError(f"{subject}: {name}={count!r}; it is a whole number from 1.{at}")
    needed = (wanted.batch or len(types) - len(wanted.optional)) * wanted.groups
    if needed > wanted.max_waiting + 1:  # the last one need not wait
        text = f"{subject}: max_waiting={wanted.max_waiting} is too little for the {needed} artifacts of one activation"
        raise DefinitionError(f"{text}, so nothing would ever run. Raise it.{at}")
    if wanted.groups > 1 and wanted.optional:
        raise DefinitionError(f"{subject}: groups= takes complete groups only, so no type can be optional.{at}")
    for model in wanted.optional:
        if types.count(model) != 1:
            text = f"{subject}: optional type {model.__name__} must be listed once among the consumed types"
            raise DefinitionError(f"{text}, which are {_listed(types)}.{at}")
    if set(types) <= set(wanted.optional):
        raise DefinitionError(f"{subject}: at least one of {_listed(types)} must not be optional.{at}")
    if wanted.optional and wanted.within is None:
        text = (
            f"{subject}: {next(iter(wanted.optional)).__name__} is optional, but nothing says how long it is waited for"
        )
        raise DefinitionError(f'{text}. Give within= in seconds, or within="idle".{at}')
    for name, allowed in (("since", ("now", "start")), ("scope", ("run", "board"))):
        if getattr(wanted, name) not in allowed:
            raise DefinitionError(
                f"{subject}: {name}={getattr(wanted, name)!r} is not one of {', '.join(allowed)}.{at}"
            )


def _listed(types: Sequence[type[BaseModel]]) -> str:
    return ", ".join(model.__name__ for model in types)
