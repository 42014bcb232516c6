"""Digests of definitions, so that a reopened board knows which agents changed.

Code is not part of them: editing a body or a predicate is not a new agent. A function that is a join key counts by
its name.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from stigmergy.blackboard.component import Component
from stigmergy.blackboard.definitions import AgentSpec, Ancestor, Key, Subscription, Where


def shape(subscription: Subscription) -> str:
    """Digest of what gives waiting artifacts their places: types, counts, the join key, the scope.

    When it changes, what waited for the old shape cannot be used; filters and deadlines may change freely.
    """
    return _digest(_places(subscription))


def version_of(component: Component[Any]) -> str:
    """What tells a component from its other versions: its class and its `version`."""
    return f"{type(component).__name__} {component.version}"


def made_as(component: Component[Any]) -> str:
    """Its version and its settings, as far as these are data: made with others, it would have folded another state."""
    settings = {
        name: plain
        for name, value in getattr(component, "__dict__", {}).items()
        if (plain := _plain(value)) is not None
    }
    return f"{version_of(component)} {_digest([settings])}"


def _plain(value: object) -> object:
    """A setting as JSON has it; None if it is no data, such as a function."""
    match value:
        case bool() | int() | float() | str():
            return value
        case Decimal():
            return str(value)
        case type():
            return value.__qualname__
        case set() | frozenset():
            return sorted(map(str, value))
        case list() | tuple():
            return [_plain(v) for v in value]
        case Mapping():
            return sorted([str(k), str(_plain(v))] for k, v in value.items())
        case _:
            return None


def fingerprint(spec: AgentSpec) -> str:
    """Digest of all that an agent consumes and publishes."""
    consumes = [
        [
            *_places(s),
            s.within,
            s.window,
            s.groups,
            s.since,
            [[_equals(p.where), sorted(p.producers), sorted(p.tags), p.optional] for p in s.slots],
        ]
        for s in spec.subscriptions
    ]
    publishes = [[o.type_name, o.fan_out, sorted(o.tags), _equals(o.where)] for o in spec.outputs]
    return _digest([spec.name, consumes, publishes])


def key_name(by: Key) -> str:
    """How a join key reads: a field name, `ancestor(Plan)`, or a function's name."""
    if isinstance(by, Ancestor):
        return f"ancestor({by.type_name})"
    return by if isinstance(by, str) else f"{getattr(by, '__name__', type(by).__name__)}()"


def _places(subscription: Subscription) -> list[object]:
    by = None if subscription.by is None else key_name(subscription.by)
    slots = [[slot.type_name, slot.count] for slot in subscription.slots]
    return [slots, subscription.batch, by, subscription.scope]


def _equals(where: Where) -> list[object]:
    return [[name, sorted(repr(value) for value in allowed)] for name, allowed in where.equals]


def _digest(value: list[object]) -> str:
    return blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()
