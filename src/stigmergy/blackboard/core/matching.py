"""Who wants an artifact: an index by type, then by equality keys; opaque predicates come last.

A thousand agents that ask for different values of a field cost one dictionary look-up, not a thousand tests.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from json.encoder import encode_basestring

from pydantic import BaseModel

from stigmergy.blackboard.core.visibility import visible
from stigmergy.blackboard.core.where import holds
from stigmergy.blackboard.definitions import AgentSpec, Ancestor, Slot, Subscription
from stigmergy.blackboard.events import ErrorInfo, Visibility
from stigmergy.blackboard.payloads.types import plain

_as_json = json.JSONEncoder(ensure_ascii=False).encode
OWN_ID = "\0own id"
"""The key of an artifact that is itself the ancestor its group shares; its id is known once it is on the log."""


@dataclass(slots=True, eq=False)
class Place:
    """A slot of a subscription, with whose it is.

    Attributes:
        order: the order of definition.
        single: one artifact alone is an activation.
        plainly: how it takes whatever the index finds for it, if it asks for nothing else and needs no key.
    """

    order: int
    agent: AgentSpec
    subscription: Subscription
    slot: Slot
    index: int
    single: bool
    plainly: "Take | None" = None

    def __post_init__(self) -> None:
        slot = self.slot
        if self.single and not (slot.producers or slot.tags or slot.where.predicates):
            self.plainly = Take(self)


@dataclass(slots=True)
class Take:
    """An agent takes the artifact: into this place, under this key; or its filter raised."""

    place: Place
    key: str = ""
    error: ErrorInfo | None = None


@dataclass(slots=True)
class Candidate:
    """What matching needs to know of an artifact."""

    type: str
    payload: BaseModel
    producer: str
    tags: Sequence[str]
    visibility: Visibility | None
    ancestors: dict[str, int]
    only: str = ""
    """Offer it to this agent alone (its reviewer)."""


class Index:
    """All places of all agents."""

    def __init__(self, agents: Sequence[AgentSpec]) -> None:
        self.agents = {agent.name: agent for agent in agents}
        self.subscriptions: dict[str, Subscription] = {}
        self._opaque: dict[str, list[Place]] = {}
        self._keyed: dict[str, dict[tuple[str, ...], dict[tuple[object, ...], list[Place]]]] = {}
        self.ancestors: set[str] = set()
        order = 0
        for agent in agents:
            for subscription in agent.subscriptions:
                self.subscriptions[subscription.id] = subscription
                if isinstance(subscription.by, Ancestor):
                    self.ancestors.add(subscription.by.type_name)
                for i, slot in enumerate(() if agent.in_reserve else subscription.slots):
                    self._add(Place(order, agent, subscription, slot, i, subscription.single))
                    order += 1
        self.types = set(self._opaque) | set(self._keyed)

    def _add(self, place: Place) -> None:
        equals = place.slot.where.equals
        if not equals:
            self._opaque.setdefault(place.slot.type_name, []).append(place)
            return
        fields = tuple(name for name, _ in equals)
        table = self._keyed.setdefault(place.slot.type_name, {}).setdefault(fields, {})
        for values in product(*(allowed for _, allowed in equals)):
            table.setdefault(values, []).append(place)

    def places(self, type_name: str, payload: BaseModel) -> list[Place]:
        """The places whose type and equality keys fit, in order of definition."""
        found = self._opaque.get(type_name, [])
        keyed = self._keyed.get(type_name)
        if keyed is None:
            return found
        several = bool(found)
        for fields, table in keyed.items():
            values = tuple(plain(getattr(payload, f, None)) for f in fields)
            hit = table.get(values)
            if hit:
                found, several = ([*found, *hit], True) if several else (hit, True)
        return sorted(found, key=lambda p: p.order) if several else found

    def match(self, artifact: Candidate, now: float, published: float) -> tuple[list[Take], list[str]]:
        """Who takes the artifact, and who would have if it had not published it itself.

        An agent takes an artifact once: by the first of its subscriptions that accepts it.
        """
        takes: list[Take] = []
        own: list[str] = []
        taken = ""
        done: set[str] | None = None
        public = artifact.visibility is None and not artifact.only
        for place in self.places(artifact.type, artifact.payload):
            agent = place.agent
            if agent.name == taken or (done is not None and agent.name in done):
                continue
            take = (place.plainly if public else None) or self._try(place, artifact, now, published)
            if take is None:
                continue
            if artifact.producer == agent.name and not agent.self_trigger:
                if agent.name not in own:
                    own.append(agent.name)
                continue
            takes.append(take)
            if taken:
                done = done or set()
                done.add(taken)
            taken = agent.name
        return takes, own

    def _try(self, place: Place, artifact: Candidate, now: float, published: float) -> Take | None:
        slot, agent = place.slot, place.agent
        if artifact.only and agent.name != artifact.only:
            return None
        if slot.producers and artifact.producer not in slot.producers:
            return None
        if slot.tags and slot.tags.isdisjoint(artifact.tags):
            return None
        if artifact.visibility is not None and not visible(artifact.visibility, agent, now=now, published=published):
            return None
        try:
            for predicate in slot.where.predicates:
                if not holds(predicate, artifact.payload):
                    return None
            if place.single:
                return Take(place)
            return Take(place, key_of(place.subscription, artifact))
        except Exception as error:  # noqa: BLE001  user code: recorded as a dead letter with its lineage
            where = "a filter" if not isinstance(error, _NoKey) else "the key"
            info = ErrorInfo.of(error)
            return Take(place, error=ErrorInfo(info.type, f"{where} of {agent.name!r} raised: {info.message}"))


class _NoKey(Exception):
    """The artifact has no value for the join key."""


def key_of(subscription: Subscription, artifact: Candidate) -> str:
    """The join key of an artifact as JSON text; "" when the subscription has none."""
    by = subscription.by
    if by is None:
        return ""
    if isinstance(by, str) and type(text := getattr(artifact.payload, by)) is str:
        text = encode_basestring(text)  # what the encoder does with a text, once it knows that it is one
        text.encode()
        return text
    if isinstance(by, Ancestor):
        if artifact.type == by.type_name:
            return OWN_ID
        if by.type_name not in artifact.ancestors:
            raise _NoKey(f"it has no single nearest ancestor of type {by.type_name}")
        return str(artifact.ancestors[by.type_name])
    value = plain(getattr(artifact.payload, by) if isinstance(by, str) else by(artifact.payload))
    text = _as_json(value)
    text.encode()  # half a surrogate pair cannot be stored: then there is no key
    return text
