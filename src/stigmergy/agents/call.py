"""How the inputs of an activation become the arguments of a body."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Literal

from pydantic import BaseModel

from stigmergy.agents.signature import Input, Signature
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.where import written_at
from stigmergy.blackboard.definitions import Subscription
from stigmergy.blackboard.errors import BadSignature

Kind = Literal["payload", "envelope", "list", "optional", "groups", "context"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a body.

    Attributes:
        slot: which slot of the subscription fills it; -1 when that is no question.
        place: which of the slot's artifacts, from 0.
        envelope: it takes the `Artifact`, not its payload.
        keyword: it is given by name.
    """

    name: str
    kind: Kind
    slot: int = -1
    place: int = 0
    envelope: bool = False
    keyword: bool = False


@dataclass(frozen=True, slots=True)
class CallShape:
    """The arguments of a body, in order.

    Attributes:
        width: how many slots one group has.
    """

    parameters: tuple[Parameter, ...] = ()
    width: int = 1

    def arguments(
        self, inputs: Sequence[Artifact[Any]], slots: Sequence[int], context: object
    ) -> tuple[list[object], dict[str, object]]:
        """The positional and the named arguments.

        Args:
            inputs: the envelopes, in declared slot order, group after group.
            slots: how many inputs each slot holds, per group; empty for a single input (see `Activated`).
            context: given to the parameter that asks for it.
        """
        sizes, filled, start = slots or (len(inputs),), [], 0
        for size in sizes:
            filled.append(inputs[start : start + size])
            start += size
        args: list[object] = []
        named: dict[str, object] = {}
        for parameter in self.parameters:
            value = context if parameter.kind == "context" else self._value(parameter, inputs, filled)
            if parameter.keyword:
                named[parameter.name] = value
            else:
                args.append(value)
        return args, named

    def _value(
        self, parameter: Parameter, inputs: Sequence[Artifact[Any]], filled: Sequence[Sequence[Artifact[Any]]]
    ) -> object:
        shown = [artifact if parameter.envelope else artifact.payload for artifact in inputs]
        if parameter.kind == "list":
            return shown
        if parameter.kind == "groups":
            sizes = [sum(map(len, filled[i : i + self.width])) for i in range(0, len(filled), self.width)]
            starts = [sum(sizes[:i]) for i in range(len(sizes))]
            return [tuple(shown[start : start + size]) for start, size in zip(starts, sizes, strict=True)]
        slot = filled[parameter.slot]
        if parameter.place >= len(slot):
            return None
        return slot[parameter.place] if parameter.envelope else slot[parameter.place].payload


NO_ARGUMENTS = CallShape()


def brings(subscription: Subscription, types: Sequence[str], slots: Sequence[int]) -> bool:
    """Whether an activation of this subscription could have these inputs.

    Args:
        types: the type names of the inputs, in their order.
        slots: how many of them each slot holds; empty for a single input (see `Activated`).
    """
    if not slots:
        return subscription.single and list(types) == [subscription.slots[0].type_name]
    wanted: list[str] = []
    for slot, size in zip(cycle(subscription.slots), slots, strict=False):
        short = size < slot.count and (subscription.batch or slot.optional)
        if size != slot.count and not short:
            return False
        wanted += [slot.type_name] * size
    groups, rest = divmod(len(slots), len(subscription.slots))
    return not rest and groups <= subscription.groups and wanted == list(types)


@dataclass(frozen=True, slots=True)
class _Expected:
    """What arrives at one place of the argument list."""

    kind: Kind
    slot: int
    place: int


def call_shape(
    signature: Signature,
    subscriptions: Sequence[Subscription],
    declared: Sequence[Sequence[type[BaseModel]]],
    *,
    subject: str,
    place: str,
) -> CallShape:
    """How this signature takes what these subscriptions bring.

    Args:
        declared: for every subscription, its types as they were listed, repetitions included.

    Raises:
        BadSignature: number, kind or type of a parameter does not fit, naming it and what arrives there.
    """
    at = written_at(place)
    if not signature.inputs:
        if not signature.parameters:
            raise BadSignature(f"{subject}: its body takes nothing. Give it its inputs, or ctx: Context.{at}")
        return CallShape(tuple(Parameter(p.name, "context", keyword=p.keyword) for p in signature.parameters))
    layouts = {_layout(s, types) for s, types in zip(subscriptions, declared, strict=True)}
    if len(layouts) > 1:
        way_out = "Take only ctx: Context and read ctx.artifacts, or make it two agents."
        raise BadSignature(f"{subject}: its subscriptions bring different arguments. {way_out}{at}")
    expected = layouts.pop() if layouts else ()
    if len(expected) != len(signature.inputs):
        arrives = ", ".join(
            _arrives(e, {types[i] for types in declared if i < len(types)}) for i, e in enumerate(expected)
        )
        takes = ", ".join(p.name for p in signature.inputs)
        hint = " Annotate the last as Context if it is that." if len(signature.inputs) == len(expected) + 1 else ""
        raise BadSignature(f"{subject}: its body takes ({takes}), but gets ({arrives}).{hint}{at}")
    remaining = iter(enumerate(expected))
    parameters = []
    for p in signature.parameters:
        if p.context:
            parameters.append(Parameter(p.name, "context", keyword=p.keyword))
            continue
        i, e = next(remaining)
        _check(p, e, list(dict.fromkeys(types[i] for types in declared)), subject, at)
        kind: Kind = "envelope" if e.kind == "payload" and p.envelope else e.kind
        parameters.append(Parameter(p.name, kind, e.slot, e.place, p.envelope, p.keyword))
    return CallShape(tuple(parameters), len(subscriptions[0].slots) if subscriptions else 1)


def _layout(subscription: Subscription, types: Sequence[type[BaseModel]]) -> tuple[_Expected, ...]:
    if subscription.batch:
        return (_Expected("list", 0, 0),)
    if subscription.groups > 1:
        return (_Expected("groups", -1, 0),)
    order = list(dict.fromkeys(types))
    places = []
    for i, model in enumerate(types):
        slot = order.index(model)
        kind: Kind = "optional" if subscription.slots[slot].optional else "payload"
        places.append(_Expected(kind, slot, list(types[:i]).count(model)))
    return tuple(places)


def _check(parameter: Input, expected: _Expected, types: Sequence[type[BaseModel]], subject: str, at: str) -> None:
    if not parameter.models:
        return
    many = expected.kind in ("list", "groups")
    fits = (
        parameter.many == many
        and parameter.grouped == (expected.kind == "groups")
        and (parameter.optional or expected.kind != "optional")
        and all(_takes(parameter.models, model) for model in types)
    )
    if not fits:
        arrives = _arrives(expected, types)
        text = f"{subject}: parameter {parameter.name!r} is {parameter.text}, but {arrives} arrives there."
        raise BadSignature(text + at)


def _takes(models: Sequence[type[BaseModel]], arriving: type[BaseModel]) -> bool:
    return any(issubclass(arriving, model) or model.__qualname__ == arriving.__qualname__ for model in models)


def _arrives(expected: _Expected, types: Sequence[type[BaseModel]] | set[type[BaseModel]]) -> str:
    text = " | ".join(sorted(model.__name__ for model in types))
    if expected.kind == "groups":
        return f"list[tuple[{text}, …]]"
    return f"list[{text}]" if expected.kind == "list" else f"{text} | None" if expected.kind == "optional" else text
