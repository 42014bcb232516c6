"""Where a log and its replay part, and what in the definitions of today makes the difference."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import JsonValue

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.core.fingerprints import key_name
from stigmergy.blackboard.core.matching import Index
from stigmergy.blackboard.events import Event, Published
from stigmergy.blackboard.reading.refusal import Taker, candidate, refusal, takers, written
from stigmergy.blackboard.stores.rows import encode
from stigmergy.blackboard.text import short

Cause = Literal[
    "predicate", "filter", "key", "count", "deadline", "component", "output", "roster", "version", "limit", "retry",
    "timeout", "order", "claim", "refused", "library",
]  # fmt: skip
Told = dict[str, JsonValue]
"""An event as JSON: its kind, position, cause, and what it says."""
ASKED = 16
"""How often a predicate is asked to see whether it always says the same."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first event that comes out otherwise.

    Attributes:
        seq: its position; `tx` is the first of its decision.
        cause: what makes the difference: "predicate" (a test of the payload), "filter" (equality, producer, tags or
            visibility), "key" (of a join), "count" (how many make an activation), "deadline" (`within`), "component",
            "output" (what an agent may publish), "roster" (who takes part), "version" (of an artifact type), "limit",
            "retry", "timeout", "order" (of inputs), "claim" (what was started could not be), "refused" (the decision
            raises), "library" (nothing in the definitions explains it).
        detail: that in words.
        expected: the event as recorded; None if there was none.
        got: the event as it would be now; None if there would be none.
    """

    seq: int
    tx: int
    cause: Cause
    detail: str
    expected: Told | None
    got: Told | None

    def lines(self) -> list[str]:
        """Three lines for people."""
        return [f"{self.cause}: {self.detail}", f"recorded  {_line(self.expected)}", f"now       {_line(self.got)}"]


@dataclass(frozen=True, slots=True)
class Scene:
    """What is at hand to explain a difference.

    Attributes:
        artifact: the event and the payload of an artifact.
        components: the names of all components.
        redefined: who is defined otherwise than was recorded.
        refused: why what was claimed cannot be claimed, or the effect that began cannot begin.
    """

    index: Index
    artifact: Callable[[int], tuple[Published, Any] | None]
    components: frozenset[str]
    redefined: frozenset[str]
    refused: str


def told(event: Event) -> Told:
    """An event as JSON."""
    row = encode(event)
    payload: Told = {"payload": json.loads(row.payload)} if row.payload else {}
    return {"event": row.kind, "seq": row.seq, "at": row.at, "cause": row.cause, **json.loads(row.body), **payload}


def find(recorded: Sequence[Event], got: Sequence[Event], scene: Scene) -> Divergence:
    """The first difference between a decision and the same decision now."""
    at = next((i for i, (a, b) in enumerate(zip(recorded, got, strict=False)) if a != b), min(len(recorded), len(got)))
    was = recorded[at] if at < len(recorded) else None
    now = got[at] if at < len(got) else None
    cause, detail = _cause(recorded, got, was, now, scene)
    event = was or now
    assert event is not None
    return Divergence(
        event.seq, recorded[0].tx, cause, detail, told(was) if was is not None else None,
        told(now) if now is not None else None,
    )  # fmt: skip


def _cause(
    recorded: Sequence[Event], got: Sequence[Event], was: Event | None, now: Event | None, scene: Scene
) -> tuple[Cause, str]:
    for explain in (_matching, _groups, _component, _course, _artifact):
        found = explain(recorded, got, was, now, scene)
        if found is not None:
            return found
    return "library", "nothing in the definitions explains it: the log was changed, or the library decides otherwise"


Explanation = tuple[Cause, str] | None
Offer = tuple[str, int]
"""A subscription, and the artifact that it took."""


def _offers(events: Sequence[Event]) -> Iterator[tuple[Offer, Event]]:
    for e in events:
        if isinstance(e, ev.Matched) or (isinstance(e, ev.Activated) and not e.slots and not e.redriven):
            yield (e.subscription, e.cause), e


def _matching(
    recorded: Sequence[Event], got: Sequence[Event], was: Event | None, now: Event | None, scene: Scene
) -> Explanation:
    """Who took an artifact then, and who takes it now."""
    then, today = dict(_offers(recorded)), dict(_offers(got))
    raised_then, raised_today = _raised(recorded), _raised(got)
    for offer, event in then.items():
        if offer not in today:
            return _lost(offer, scene)
        other = today[offer]
        if isinstance(event, ev.Matched) and isinstance(other, ev.Matched):
            if event.key != other.key:
                by = scene.index.subscriptions[event.subscription].by
                how = f" by {key_name(by)}{_place(by)}" if by is not None else ""
                text = f"{event.subscription}{how} had key {event.key or 'none'} for {_ref(event.cause, scene)}"
                return "key", f"{text}; it has {other.key or 'none'} now"
            if (event.slot, event.scope) != (other.slot, other.scope):
                return "count", f"{event.subscription} has other places than it had{_since(event.subscription, scene)}"
        elif type(event) is not type(other) and event.seq not in raised_then | raised_today:
            one, several = "one artifact was an activation", "it waited for several"
            a, b = (one, several) if isinstance(event, ev.Activated) else (several, one)
            return "count", f"{offer[0]}: then {a}, now {b.replace('waited', 'waits').replace('was', 'is')}"
        if (event.seq in raised_then) != (other.seq in raised_today):
            return _raising(offer, then_raised=event.seq in raised_then, scene=scene)
    for offer in today:
        if offer not in then:
            return _won(offer, scene)
    return None


def _raised(events: Sequence[Event]) -> set[int]:
    return {e.cause for e in events if isinstance(e, ev.Ended) and e.reason == "filter raised"}


def _places(subscription: str, scene: Scene) -> list[Taker]:
    agent = scene.index.agents.get(subscription.rpartition("/")[0])
    return takers(agent, subscription) if agent is not None else []


def _lost(offer: Offer, scene: Scene) -> Explanation:
    subscription, id = offer
    known = scene.artifact(id)
    if known is None:
        return None
    event, payload = known
    name = subscription.rpartition("/")[0]
    if name in scene.index.agents and scene.index.agents[name].in_reserve:
        return "component", f"{subscription} took {event.type}@{id}; now {name} is in reserve, and is offered nothing"
    places = [p for p in _places(subscription, scene) if p.slot.type_name == event.type]
    if not places:
        return "roster", f"{subscription} took {event.type}@{id}; it consumes no {event.type} now"
    for place in places:
        found = refusal(place, candidate(event, payload), event.at, event.at)
        if found is not None:
            cause: Cause = "predicate" if found.test in ("predicate", "raises") else "filter"
            if found.test == "key":
                cause = "key"
            text = f"{subscription} took {event.type}@{id} and does not now: {found.text}"
            return cause, text + _fickle(place, event, payload)
    place = places[0]
    if place.slot.where.predicates:
        return "predicate", f"{subscription} took {event.type}@{id}" + _fickle(place, event, payload)
    return _other_taker(event, place)


def _won(offer: Offer, scene: Scene) -> Explanation:
    subscription, id = offer
    known = scene.artifact(id)
    if known is None:
        return None
    event, payload = known
    place = next((p for p in _places(subscription, scene) if p.slot.type_name == event.type), None)
    if place is None:
        return None
    text = f"{subscription} did not take {event.type}@{id} and does now"
    if place.slot.where.predicates:
        tests = ", ".join(map(written, place.slot.where.predicates))
        return "predicate", f"{text}: its predicate {tests} says yes{_fickle(place, event, payload)}"
    if place.slot.where.equals or place.slot.producers or place.slot.tags or event.visibility is not None:
        return "filter", f"{text}: what it asks of fields, producer and tags holds"
    return "filter", f"{text}: it asks for nothing but the type{_since(subscription, scene)}"


def _other_taker(event: Published, place: Taker) -> Explanation:
    if event.producer == place.agent.name and not place.agent.self_trigger:
        return "filter", f"{place.agent.name} took what it published itself; self_trigger is off now"
    return None


def _fickle(place: Taker, event: Published, payload: Any) -> str:
    """Whether the predicates say now this and now that."""
    answers = {refusal(place, candidate(event, payload), event.at, event.at) is None for _ in range(ASKED)}
    if len(answers) == 1:
        return ""
    return "; asked again it says otherwise, so it uses a clock, chance, or something that changes"


def _raising(offer: Offer, *, then_raised: bool, scene: Scene) -> Explanation:
    subscription, id = offer
    if then_raised:
        return "predicate", f"a filter or key of {subscription} raised for {_ref(id, scene)}; it does not now"
    known = scene.artifact(id)
    for place in _places(subscription, scene) if known is not None else ():
        event, payload = known  # type: ignore[misc]
        found = refusal(place, candidate(event, payload), event.at, event.at)
        if found is not None and found.test in ("raises", "key"):
            return ("key" if found.test == "key" else "predicate"), f"{subscription}: {found.text}"
    return "predicate", f"a filter or key of {subscription} raises for {_ref(id, scene)} now"


def _groups(
    recorded: Sequence[Event], got: Sequence[Event], was: Event | None, now: Event | None, scene: Scene
) -> Explanation:
    """Places that fill, fire and expire."""
    if isinstance(was, ev.Activated) and isinstance(now, ev.Activated) and was.subscription == now.subscription:
        if was.inputs != now.inputs and sorted(was.inputs) == sorted(now.inputs):
            return "order", f"the inputs of {was.agent}@{was.seq} are recorded in another order than they have"
        if was.inputs != now.inputs:
            return "count", f"{was.agent} was given {len(was.inputs)} inputs; it is given {len(now.inputs)} now"
        if was.blockers != now.blockers:
            return "library", f"{was.agent}@{was.seq} waited for {was.blockers}; now for {now.blockers}"
    for event, text in ((was, "was complete then and is not now"), (now, "is complete now and was not then")):
        if isinstance(event, ev.Activated) and event.slots and not event.redriven:
            held = len(event.inputs)
            return "count", f"{event.subscription} with {held} inputs {text}{_since(event.subscription, scene)}"
        if isinstance(event, ev.Expired):
            cause: Cause = "deadline" if event.reason == "window" else "count"
            changed = _since(event.subscription, scene)
            return cause, f"{event.subscription} lets artifacts go otherwise than then{changed}"
        if isinstance(event, ev.Rang) and event.timer == "group":
            return "deadline", f"a deadline of places for {_ref(event.cause, scene)} is another one now"
    return None


def _component(
    recorded: Sequence[Event], got: Sequence[Event], was: Event | None, now: Event | None, scene: Scene
) -> Explanation:
    """What components do, and let others do."""
    for event, tense in ((was, "did then and does not now"), (now, "does now and did not then")):
        name = _by(event, scene.components)
        if name and event is not None:
            if was is not None and now is not None and type(was) is type(now) and _by(was, scene.components) == name:
                return "component", f"{name} does otherwise at {event.seq} than it did then"
            return "component", f"{name}: {type(event).__name__} at {event.seq} is what it {tense}"
    return None


def _by(event: Event | None, components: frozenset[str]) -> str:
    """The component that an event is by; "" if by none."""
    match event:
        case ev.Faulted() | ev.Rang(timer="alarm"):
            return event.component
        case Published(system=True):
            return event.producer
        case ev.Held() | ev.Released() | ev.Withdrawn() | ev.Closed():
            return event.by if event.by in components else ""
        case ev.Ended(outcome="skipped" | "cancelled"):
            name = event.reason.partition(": ")[0]
            return name if name in components else ""
        case ev.Failed(kind="rejected") if event.error is not None:
            return event.error.message.partition(": ")[0]
        case ev.Redriven():
            return next(iter(components)) if len(components) == 1 else "a component" if components else ""
    return ""


def _course(
    recorded: Sequence[Event], got: Sequence[Event], was: Event | None, now: Event | None, scene: Scene
) -> Explanation:
    """How attempts start and fail."""
    if isinstance(was, ev.Claimed) and scene.refused:
        for cause in ("limit", "component"):
            if scene.refused.startswith(f"{cause}: "):
                return cause, scene.refused.removeprefix(f"{cause}: ")
        return "claim", scene.refused
    if isinstance(was, ev.Calling) and scene.refused:
        return ("limit" if scene.refused.startswith("limits ") else "component"), scene.refused
    for event in (was, now):
        match event:
            case ev.Failed(kind="timeout") if not (isinstance(was, ev.Failed) and isinstance(now, ev.Failed)):
                return "timeout", "the timeout of that agent is another one now"
            case ev.Failed():
                then = was.retry_at if isinstance(was, ev.Failed) else None
                today = now.retry_at if isinstance(now, ev.Failed) else None
                return "retry", f"it was to run again at {_when(then)}; now at {_when(today)}"
            case ev.Rang(timer="retry"):
                return "retry", "a retry is due at another time now"
            case ev.Ended(outcome="dead_letter"):
                return "retry", "how often it is tried is another number now"
    return None


def _artifact(
    recorded: Sequence[Event], got: Sequence[Event], was: Event | None, now: Event | None, scene: Scene
) -> Explanation:
    """What an artifact carries."""
    if isinstance(was, Published) and isinstance(now, Published):
        if was.ancestors != now.ancestors:
            return "key", f"{was.type}@{was.seq} remembers other ancestors, as other joins ask for them"
        if was.self_skipped != now.self_skipped:
            return "filter", f"{', '.join(was.self_skipped or now.self_skipped)}: self_trigger is another one now"
    return None


def _ref(id: int, scene: Scene) -> str:
    known = scene.artifact(id)
    return f"{known[0].type}@{id}" if known is not None else str(id)


def _place(by: object) -> str:
    return f" {written(by).partition(' ')[2]}" if callable(by) else ""


def _since(subscription: str, scene: Scene) -> str:
    return "; its definition has changed" if subscription.rpartition("/")[0] in scene.redefined else ""


def _when(at: float | None) -> str:
    return "no time" if at is None else f"{at:.3f}"


def _line(event: Told | None) -> str:
    if event is None:
        return "nothing"
    about = " ".join(
        f"{name}={short(json.dumps(value, ensure_ascii=False), 60)}"
        for name, value in event.items() if name not in ("event", "seq", "at", "cause", "schema", "digest")
    )  # fmt: skip
    cause = f" <- {event['cause']}" if event["cause"] else ""
    return f"{event['seq']}  {event['event']}{cause} {about}".rstrip()
