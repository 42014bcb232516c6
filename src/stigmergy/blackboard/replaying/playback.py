"""A whole log decided anew, decision by decision, up to the first that comes out otherwise."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.core.decision import Draft
from stigmergy.blackboard.core.fingerprints import fingerprint
from stigmergy.blackboard.core.matching import Index
from stigmergy.blackboard.core.observers import AnyComponent
from stigmergy.blackboard.core.reserve import with_reserve
from stigmergy.blackboard.core.state import State
from stigmergy.blackboard.core.where import matches
from stigmergy.blackboard.definitions import AgentSpec, Limits, Output
from stigmergy.blackboard.errors import InvalidPayload, PayloadErased, PayloadTooLarge, WrongFanOut
from stigmergy.blackboard.events import Event, Published
from stigmergy.blackboard.payloads.envelope import opened
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.payloads.types import ArtifactType
from stigmergy.blackboard.replaying.divergence import Cause, Divergence, Scene, find, told
from stigmergy.blackboard.replaying.redecide import Cast, RecordedPast, Redecider, draft_again, given
from stigmergy.blackboard.stores.base import Reader
from stigmergy.blackboard.stores.rows import decode


def decisions(reader: Reader, until: int | None) -> Iterator[list[Event]]:
    """The log, one decision at a time."""
    decision: list[Event] = []
    for row in reader.events(0, until):
        if decision and row.tx != decision[0].tx:
            yield decision
            decision = []
        decision.append(decode(row))
    if decision:
        yield decision


class Playback:
    """Plays a log against definitions.

    Attributes:
        decisions, events: how many came out the same.
        changed: what is defined otherwise than it was recorded, in words; that alone is no difference.
    """

    def __init__(
        self, reader: Reader, specs: Iterable[AgentSpec], components: Sequence[AnyComponent], limits: Limits,
        types: TypeTable,
    ) -> None:  # fmt: skip
        self._reader = reader
        self._specs = {spec.name: spec for spec in with_reserve(list(specs), components)}
        self._declared = {name: {o.type_name: o for o in spec.outputs} for name, spec in self._specs.items()}
        self._counted = {
            name: [o for o in spec.outputs
                   if o.fan_out is not None and not o.where.predicates and not o.where.equals]
            for name, spec in self._specs.items()
        }  # fmt: skip
        """Agent -> its outputs whose number is declared and not changed by a filter."""
        self._components = {c.name: c for c in components}
        self._limits = limits
        self._types = types
        self._cast = Cast(components)
        self._past = RecordedPast(reader, types)
        self._seated: dict[str, None] = {}
        self._decider = Redecider(State(), Index(()), self._cast, self._past, limits)
        self._looked_into: set[str] = set()
        """Types whose payloads somebody who takes part looks into, to say whether he takes them."""
        self._everybody_checked = False
        self._redefined: set[str] = set()
        self.changed: dict[str, None] = {}
        self.decisions = 0
        self.events = 0

    def play(self, until: int | None) -> Divergence | None:
        """Decide anew up to that position; the first difference.

        Raises:
            PayloadErased: something was erased, which decisions may have looked at.
        """
        for row in self._reader.events(kinds=("Erased",)):
            raise PayloadErased(
                f"what this board decided cannot be decided again: event {row.seq} erased what some of it rests on. "
                "Replay a copy from before."
            )
        for recorded in decisions(self._reader, until):
            found = self._play(recorded)
            if found is not None:
                return found
            self.decisions += 1
            self.events += len(recorded)
        return None

    def _play(self, recorded: list[Event]) -> Divergence | None:
        first = recorded[0]
        drafts: list[Draft] = []
        if first.__class__ is not ev.Claimed:  # every second decision is a claim, and no more
            if isinstance(first, (ev.Opened, ev.Enrolled)):
                found = self._seat(recorded)
                if found is not None:
                    return found
            published = given(recorded)
            for event in published:
                try:
                    drafts.append(draft_again(self._types, event, unread=self._unread(event)))
                except InvalidPayload as error:
                    return _at(event, "version", str(error))
            if isinstance(first, ev.Completed):
                found = self._outputs(first, drafts, published)
                if found is not None:
                    return found
        self._past.before = first.tx
        try:
            got = self._decider.again(recorded, drafts)
        except (PayloadTooLarge, WrongFanOut) as error:
            return _at(recorded[0], "limit", str(error))
        except Exception as error:  # noqa: BLE001  whatever stops it, this decision cannot be taken now
            return _at(recorded[0], "refused", f"{type(error).__name__}: {error}")
        if got == recorded:
            if isinstance(recorded[0], ev.Opened):
                self._cast.recorded()
            return None
        return find(recorded, got, self._scene(recorded))

    def _scene(self, recorded: Sequence[Event]) -> Scene:
        def artifact(id: int) -> tuple[Published, Any] | None:
            event = next((e for e in recorded if e.seq == id), None) or self._past.event(id)
            if not isinstance(event, Published):
                return None
            return event, opened(self._types, event).payload

        names = frozenset(self._components)
        return Scene(self._decider.index, artifact, names, frozenset(self._redefined), self._decider.refused)

    # -- who takes part -------------------------------------------------------------------------------------------

    def _seat(self, recorded: Sequence[Event]) -> Divergence | None:
        """Make a decider of those who took part from here on."""
        enrolled = [e for e in recorded if isinstance(e, ev.Enrolled)]
        for e in enrolled:
            found = self._missing(e) or self._newcomer(e)
            if found is not None:
                return found
            self._note_definition(e)
        if isinstance(recorded[0], ev.Opened):
            self._seated.clear()
        self._seated.update((e.name, None) for e in enrolled)
        self._cast.enroll({e.name: e.fingerprint for e in enrolled})
        self._cast.seat([name for name in self._seated if name in self._components])
        specs = [self._specs[name] for name in self._seated if name in self._specs]
        self._looked_into = {
            slot.type_name for spec in specs for s in spec.subscriptions for slot in s.slots
            if slot.where.equals or slot.where.predicates or s.by is not None
        }  # fmt: skip
        state = self._decider.state
        self._decider = Redecider(state, Index(specs), self._cast, self._past, self._limits)
        return None

    def _missing(self, e: ev.Enrolled) -> Divergence | None:
        if e.role == "component":
            if e.name not in self._components:
                return _at(e, "roster", f"component {e.name!r} took part; it is not in this roster")
            return None
        spec = self._specs.get(e.name)
        if spec is None:
            return _at(e, "roster", f"agent {e.name!r} took part; it is not in this roster")
        gone = sorted(e.subscriptions.keys() - {s.id for s in spec.subscriptions})
        if gone:
            text = f"agent {e.name!r} had subscription {gone[0]}; it has {len(spec.subscriptions)} now"
            return _at(e, "roster", text)
        return None

    def _newcomer(self, e: ev.Enrolled) -> Divergence | None:
        """Who is in the roster and took part at no time."""
        if self._everybody_checked:
            return None
        self._everybody_checked = True
        ever = {event.name for row in self._reader.events(kinds=("Enrolled",))
                if isinstance(event := decode(row), ev.Enrolled)}  # fmt: skip
        for name in (*self._specs, *self._components):
            if name not in ever:
                what = "agent" if name in self._specs else "component"
                return Divergence(e.seq, e.tx, "roster", f"{what} {name!r} is new: it took no part", told(e), None)
        return None

    def _note_definition(self, e: ev.Enrolled) -> None:
        if e.role == "component":
            c = self._components[e.name]
            if e.fingerprint != f"{type(c).__name__} {c.version}":
                self._redefined.add(e.name)
                self.changed[f"component {e.name} is {type(c).__name__} {c.version}; it was {e.fingerprint}"] = None
        elif e.fingerprint != fingerprint(self._specs[e.name]):
            self._redefined.add(e.name)
            self.changed[f"agent {e.name} consumes or publishes otherwise than at {e.seq}"] = None

    def _unread(self, e: Published) -> bool:
        """Whether nobody looks into the artifact, and it is of today's shape; another shape is noted."""
        kind = self._types.get(e.type)
        if kind is None or kind.schema == e.schema:
            return not self._cast.any and e.type not in self._looked_into
        self._note_version(kind, e)
        return False

    def _note_version(self, kind: ArtifactType, e: Published) -> None:
        if kind.version != e.version:
            self.changed[f"{e.type} is version {kind.version}; it was {e.version}"] = None
        else:
            self.changed[f"{e.type} has other fields than it had, and the same version {e.version}"] = None

    # -- what bodies returned -------------------------------------------------------------------------------------

    def _outputs(self, first: Event, drafts: Sequence[Draft], events: Sequence[Published]) -> Divergence | None:
        """Whether the agent may publish now what it published then."""
        a = self._decider.state.activations.get(first.cause)
        spec = self._decider.index.agents.get(a.agent) if a is not None else None
        if spec is None:
            return None
        outputs = self._declared[spec.name]
        for draft, event in zip(drafts, events, strict=True):
            output = outputs.get(event.type)
            if output is None:
                declared = " | ".join(o.type_name for o in spec.outputs) or "nothing"
                return _at(event, "output", f"{spec.name} published {event.type}; it publishes {declared} now")
            if text := _otherwise(output, draft, self._types):
                return _at(event, "output", f"{spec.name}: {text}")
        for output in self._counted[spec.name]:
            count = sum(event.type == output.type_name for event in events)
            least, most = output.fan_out or (0, count)
            if not least <= count <= most:
                text = f"{spec.name} published {count} {output.type_name}; its fan_out is {least} to {most} now"
                return _at(first, "output", text)
        return None


def _otherwise(output: Output, draft: Draft, types: TypeTable) -> str:
    """What the declared output would do to this artifact that was not done."""
    where = output.where
    if where.predicates or where.equals:
        try:
            if not matches(where, types.decode(draft.type, draft.version, draft.data)):
                return f"{draft.type} would be left out by the filter of that output"
        except Exception as error:  # noqa: BLE001  user code: that it raises is the answer
            return f"the filter of {draft.type} raises {type(error).__name__}: {error}"
    if output.visibility != draft.visibility:
        return f"the visibility of {draft.type} is another one now"
    if output.tags and not set(output.tags) <= set(draft.tags):
        return f"{draft.type} gets the tags {', '.join(output.tags)} now"
    if output.review_by != draft.review_by and not (draft.visibility is not None and draft.visibility.after):
        return f"{draft.type} is reviewed by {output.review_by or 'nobody'} now"
    return ""


def _at(event: Event, cause: Cause, detail: str) -> Divergence:
    return Divergence(event.seq, event.tx, cause, detail, told(event), None)
