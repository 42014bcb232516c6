"""Agents in reserve: they are offered nothing, and get only what a component hands over to them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from stigmergy.blackboard.component import Component
from stigmergy.blackboard.core.where import did_you_mean
from stigmergy.blackboard.definitions import AgentSpec
from stigmergy.blackboard.errors import BadComponent


def with_reserve(specs: Sequence[AgentSpec], components: Iterable[Component[Any]]) -> list[AgentSpec]:
    """The agents, those in reserve marked.

    Raises:
        BadComponent: a component names an agent that is not there, or that cannot take over.
    """
    by_name = {spec.name: spec for spec in specs}
    reserve: set[str] = set()
    for c in components:
        for name, other in c.reserve.items():
            for wanted in (name, other):
                if wanted not in by_name:
                    text = f"component {c.name!r} names agent {wanted!r}, which is not on this board"
                    raise BadComponent(f"{text}.{did_you_mean(wanted, by_name)}")
            if not _layouts(by_name[name]) <= _layouts(by_name[other]):
                raise BadComponent(
                    f"{other!r} cannot take over from {name!r}, because it does not consume the same types in the same "
                    "order. Give both the same subscriptions."
                )
            reserve.add(other)
    return [replace(spec, in_reserve=True) if spec.name in reserve else spec for spec in specs]


def _layouts(spec: AgentSpec) -> set[tuple[object, ...]]:
    """What its bodies are called with: per subscription the types, in order, and how they come."""
    return {
        (s.batch, s.groups, *((slot.type_name, slot.count, slot.optional) for slot in s.slots))
        for s in spec.subscriptions
    }
