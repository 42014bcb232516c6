"""Which test of a definition keeps an artifact from an agent: the index's own tests, one by one and by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

from stigmergy.blackboard.core.fingerprints import key_name
from stigmergy.blackboard.core.matching import Candidate, key_of
from stigmergy.blackboard.core.visibility import visible
from stigmergy.blackboard.definitions import AgentSpec, Predicate, Slot, Subscription
from stigmergy.blackboard.events import Published
from stigmergy.blackboard.payloads.types import plain

Test = Literal["type", "reviewer", "producer", "tags", "visibility", "equality", "predicate", "raises", "key"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The first test that an artifact does not pass, and what it says."""

    test: Test
    text: str


@dataclass(frozen=True, slots=True)
class Taker:
    """A slot of a subscription, and whose it is."""

    agent: AgentSpec
    subscription: Subscription
    slot: Slot


def takers(agent: AgentSpec, subscription: str = "") -> list[Taker]:
    """All slots of an agent, or of one of its subscriptions, in order of definition."""
    return [Taker(agent, s, slot) for s in agent.subscriptions for slot in s.slots if subscription in ("", s.id)]


def refusal(place: Taker, artifact: Candidate, now: float, published: float) -> Refusal | None:
    """Why this slot does not take the artifact; None if it does.

    Args:
        now, published: log times in seconds.
    """
    slot, agent = place.slot, place.agent
    if artifact.type != slot.type_name:
        return Refusal("type", f"it consumes {slot.type_name}, not {artifact.type}")
    for name, allowed in slot.where.equals:
        value = plain(getattr(artifact.payload, name, None))
        if value not in allowed:
            wanted = " or ".join(sorted(map(shown, allowed)))
            return Refusal("equality", f"it wants {name}={wanted}; the artifact has {name}={shown(value)}")
    if artifact.only and agent.name != artifact.only:
        return Refusal("reviewer", f"while it is held, only {artifact.only} is offered it, to review it")
    if slot.producers and artifact.producer not in slot.producers:
        return Refusal(
            "producer", f"it wants what {' or '.join(sorted(slot.producers))} published; this is by {artifact.producer}"
        )
    if slot.tags and slot.tags.isdisjoint(artifact.tags):
        has = f"the artifact has {', '.join(artifact.tags)}" if artifact.tags else "the artifact has none"
        return Refusal("tags", f"it wants one of the tags {', '.join(sorted(slot.tags))}; {has}")
    if artifact.visibility is not None and (text := _unseen(place, artifact, now, published)):
        return Refusal("visibility", text)
    for predicate in slot.where.predicates:
        try:
            if not predicate(artifact.payload):
                return Refusal("predicate", f"its predicate {written(predicate)} says no")
        except Exception as error:  # noqa: BLE001  user code: that it raises is the answer
            return Refusal("raises", f"its predicate {written(predicate)} raises {type(error).__name__}: {error}")
    if not place.subscription.single:
        try:
            key_of(place.subscription, artifact)
        except Exception as error:  # noqa: BLE001  user code: that it raises is the answer
            by = place.subscription.by
            return Refusal("key", f"its key {key_name(by) if by is not None else ''} cannot be found: {error}")
    return None


def candidate(event: Published, payload: Any, *, reviewed: bool = False) -> Candidate:
    """What matching knew of a published artifact; `reviewed`: while only its reviewer was offered it."""
    only = event.held_by if reviewed else ""
    return Candidate(event.type, payload, event.producer, event.tags, event.visibility, event.ancestors, only)


def written(function: Predicate | Callable[..., object]) -> str:
    """How people find a function: its name, file and line."""
    name = str(getattr(function, "__qualname__", type(function).__name__)).rpartition("<locals>.")[2]
    code = getattr(function, "__code__", None)
    if code is None:
        return name
    return f"{name} ({PurePath(code.co_filename).name}:{code.co_firstlineno})"


def shown(value: object) -> str:
    """A value of an equality test as its JSON reads."""
    if isinstance(value, tuple) and len(value) == 2 and value[0] in ("bool", "float", "json"):
        value = value[1]
    return repr(value)


def _unseen(place: Taker, artifact: Candidate, now: float, published: float) -> str:
    agent, visibility = place.agent, artifact.visibility
    if visible(visibility, agent, now=now, published=published):
        return ""
    assert visibility is not None
    if visibility.agents is not None and agent.name not in visibility.agents:
        return f"only {', '.join(visibility.agents)} may see the artifact"
    if visibility.labels is not None and not agent.labels.issuperset(visibility.labels):
        carries = f"carries {', '.join(sorted(agent.labels))}" if agent.labels else "carries none"
        labels = ", ".join(visibility.labels)
        return f"only agents with the labels {labels} may see the artifact; {agent.name} {carries}"
    if visibility.tenant is not None and visibility.tenant != agent.tenant:
        whose = f"of tenant {agent.tenant}" if agent.tenant is not None else "of no tenant"
        return f"only agents of tenant {visibility.tenant} may see the artifact; {agent.name} is {whose}"
    return f"nobody may see the artifact before {visibility.after:g} s have passed"
