"""Why something is on the board: the way from it back to what came from outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape

from pydantic import TypeAdapter

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.errors import NotFound
from stigmergy.blackboard.events import Event
from stigmergy.blackboard.reading.prov import prov_of
from stigmergy.blackboard.reading.step import Step
from stigmergy.blackboard.stores.base import Reader
from stigmergy.blackboard.stores.rows import decode, event_at
from stigmergy.blackboard.text import guides, money, number, seconds, short, table, title

STEPS = 200
"""How many lines a proof has at most."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The ancestors of an artifact or an activation, each once; `cut` are those whose own ancestors are left out."""

    steps: tuple[Step, ...]
    cut: tuple[int, ...] = ()

    def __str__(self) -> str:
        rows = []
        for guide, step in zip(guides([s.parent for s in self.steps]), self.steps, strict=True):
            what = f"{guide}{step.name} {step.title}".rstrip()
            rows.append((what, "explained above" if step.above else step.by))
        lines = table(rows, indent="")
        if self.cut:
            lines.append(
                f"… the ancestors of {', '.join(str(i) for i in self.cut[:5])} are left out; ask for them alone"
            )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def to_json(self) -> str:
        """The proof as a JSON object."""
        return _PROOF.dump_json(self, indent=2).decode()

    def to_prov(self) -> str:
        """The lineage as W3C PROV-JSON, for tools that draw or store provenance."""
        return prov_of(self.steps)


_PROOF = TypeAdapter(Proof)


def why(reader: Reader, id: int, until: int | None = None) -> Proof:
    """Trace an artifact or an activation back to the artifacts from outside.

    Args:
        id: of an artifact or an activation, or of any event of an activation.
        until: the last position that counts.

    Raises:
        NotFound: there is no such position, or it is about nothing that has a history.
    """
    event = _subject(reader, id, until)
    steps: list[Step] = []
    cut: list[int] = []
    seen: set[int] = set()
    todo: list[tuple[Event, int]] = [(event, -1)]
    while todo:
        event, parent = todo.pop()
        if len(steps) >= STEPS:
            cut.append(event.seq)
            continue
        above = event.seq in seen
        steps.append(_step(reader, event, parent, above=above, until=until))
        if above:
            continue
        seen.add(event.seq)
        before = rests_on(reader, event)
        todo += [(e, len(steps) - 1) for e in reversed(before)]
    return Proof(tuple(steps), tuple(cut))


def _subject(reader: Reader, id: int, until: int | None) -> Event:
    event = event_at(reader, id) if until is None or id <= until else None
    if event is None:
        raise NotFound(f"there is nothing at {id}. The last position is {min(reader.last(), until or reader.last())}.")
    found = _origin(reader, event)
    if found is None:
        raise NotFound(
            f"{id} is {type(event).__name__}, which follows from nothing. Ask for an artifact or activation."
        )
    return found


def _origin(reader: Reader, event: Event | None) -> Event | None:
    """The artifact or activation that an event is, or is about."""
    while event is not None and not isinstance(event, ev.Published | ev.Activated):
        event = event_at(reader, event.cause)
    return event


def rests_on(reader: Reader, event: Event) -> list[Event]:
    """The artifacts that an artifact or activation rests on."""
    if isinstance(event, ev.Activated):
        found = [event_at(reader, i) for i in event.inputs]
        return [e for e in found if e is not None]
    cause = _origin(reader, event_at(reader, event.cause))
    return rests_on(reader, cause) if isinstance(cause, ev.Activated) else [cause] if cause is not None else []


def _step(reader: Reader, event: Event, parent: int, *, above: bool, until: int | None) -> Step:
    if isinstance(event, ev.Published):
        by = "" if above else _publication(reader, event, until)
        name = f"{event.type}@{event.seq}"
        cause = event_at(reader, event.cause)
        activation = cause.seq if isinstance(cause, ev.Activated) else 0
        about = title(event.payload.decode())
        return Step(event.seq, "artifact", name, about, by, parent, above, event.producer, activation, event.at)
    assert isinstance(event, ev.Activated)
    by = _course(reader, event, until)
    name = f"{event.agent}@{event.seq}"
    return Step(event.seq, "activation", name, "", by, parent, above, event.agent, event.seq, event.at)


def _publication(reader: Reader, event: ev.Published, until: int | None) -> str:
    cause = event_at(reader, event.cause)
    held = f"; {_release(reader, event, until)}" if event.held_by else ""
    if cause is None:
        return "from outside" + held
    if isinstance(cause, ev.Activated):
        return f"by {cause.agent}@{cause.seq}{_joined(cause)}: {_course(reader, cause, until)}" + held
    if event.replaces:
        return f"by {event.producer}, in the place of {event.replaces}"
    return f"by {event.producer}, following {type(cause).__name__}@{cause.seq}" + held


def _joined(activation: ev.Activated) -> str:
    if len(activation.inputs) < 2:
        return ""
    return f" from {number(len(activation.inputs), 'input')}" + (
        f" with key {activation.key}" if activation.key else ""
    )


def _release(reader: Reader, event: ev.Published, until: int | None) -> str:
    for e in _following(reader, event.seq, until):
        if isinstance(e, ev.Released):
            return f"held by {event.held_by}, released by {e.by}"
        if isinstance(e, ev.Withdrawn):
            return f"withdrawn by {e.by}: {short(e.reason)}"
    return f"held by {event.held_by}"


def _course(reader: Reader, activation: ev.Activated, until: int | None) -> str:
    """How an activation went: its outcome, time, attempts, price."""
    events = _following(reader, activation.seq, until)
    calls = [e for e in map(decode, reader.calls(activation.seq)) if isinstance(e, ev.Called)]
    parts = [_outcome(events, activation)]
    failed = [e for e in events if isinstance(e, ev.Failed) and e.kind != "interrupted"]
    if len(failed) > 1 or (failed and not isinstance(events[-1], ev.Ended)):
        last = failed[-1]
        error = f" ({last.error.type})" if last.error else ""
        parts.append(f"{number(len(failed), 'failed attempt')}{error}")
    cost = sum((Decimal(c.cost) for c in calls), Decimal(0))
    if calls:
        parts.append(number(len(calls), "effect"))
    if cost:
        parts.append(money(cost))
    if activation.redriven:
        again = (e for e in _following(reader, activation.redriven, until) if isinstance(e, ev.Redriven))
        parts.append(f"{activation.redriven} tried again" + next((f" by {e.by}" for e in again if e.by), ""))
    parts += _chain(reader, events, until)
    return ", ".join(parts)


def _chain(reader: Reader, events: Sequence[Event], until: int | None) -> list[str]:
    """Who did what about its failure."""
    parts = [f"held back by {name}" for name in dict.fromkeys(e.by for e in events[:-1] if isinstance(e, ev.Held))]
    ended = next((e for e in events if isinstance(e, ev.Ended) and e.outcome == "dead_letter"), None)
    for e in _following(reader, ended.seq, until) if ended is not None else ():
        if isinstance(e, ev.Published):
            parts.append(f"{e.type}@{e.seq} by {e.producer}")
    parts += [f"opened again by {e.by or 'a person'}" for e in events if isinstance(e, ev.Redriven)]
    return parts


def _outcome(events: Sequence[Event], activation: ev.Activated) -> str:
    for e in reversed(events):
        if isinstance(e, ev.Completed):
            return seconds(e.seconds)
        if isinstance(e, ev.Ended):
            error = (
                f": {e.error.type}: {short(e.error.message)}" if e.error else f": {short(e.reason)}" if e.reason else ""
            )
            return e.outcome.replace("_", " ") + error
        if isinstance(e, ev.Held):
            return f"held by {e.by}: {short(e.reason)}"
        if isinstance(e, ev.Claimed):
            return "running"
    return f"blocked by {', '.join(activation.blockers)}" if activation.blockers else "ready"


def _following(reader: Reader, id: int, until: int | None) -> list[Event]:
    return [decode(row) for row in reader.following(id) if until is None or row.seq <= until]
