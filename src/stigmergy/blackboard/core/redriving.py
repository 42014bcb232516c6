"""Dead letters tried again: as they were, with other inputs, by another agent, or by nobody any more."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.component import Publish
from stigmergy.blackboard.core.decision import PERSON
from stigmergy.blackboard.core.offers import Offers
from stigmergy.blackboard.core.visibility import inherited, of_inputs, visible
from stigmergy.blackboard.errors import NotFound, PayloadErased
from stigmergy.blackboard.events import Event, Visibility

Fields = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Edited:
    """A payload that takes the place of another, as JSON of that version of its type."""

    data: bytes
    version: int
    schema: str


Edits = Mapping[int, Edited]
"""Input -> what is to be in its place."""
DISCARDED = "discarded: "


class Redriving(Offers):
    """The part of the decider that opens what failed again.

    What is tried again is a new activation that names the dead letter it repeats, so that the old one stays as it
    was on the log, and every count of what is open or dead follows from the two.
    """

    def redrive(
        self, id: int, now: float, *, edits: Edits | None = None, agent: str = "", by: str = "person"
    ) -> list[Event]:
        """Try a dead letter again.

        Args:
            edits: what takes the place of its inputs; nobody else is offered that.
            agent: who is to try; by default the one that failed.

        Raises:
            NotFound: there is no such activation, or it did not fail, or was tried again already.
        """
        self._begin(now)
        self._try_again(id, edits or {}, agent, by)
        return self._finish()

    def discard(self, id: int, reason: str, now: float) -> list[Event]:
        """Give a dead letter up: it counts as skipped from here on, and no longer as failed.

        Raises:
            NotFound: see `redrive`.
        """
        self._begin(now)
        self._discard(id, reason)
        return self._finish()

    def redrivable(self, id: int) -> tuple[ev.Activated, ev.Ended]:
        """The activation, if it can be tried again, and its end.

        Raises:
            NotFound: it did not fail, or was tried again already.
        """
        old = self._event(id)
        follows = [*self.past.following(id), *(e for e in self._events if e.cause == id)]
        ended = next((e for e in follows if isinstance(e, ev.Ended)), None)
        if not isinstance(old, ev.Activated) or ended is None or ended.outcome == "skipped":
            raise NotFound(f"{id} is no activation that failed. The report lists what can be tried again.")
        if any(isinstance(e, ev.Redriven) for e in follows):
            name = f"{old.agent}@{id}"
            raise NotFound(
                f"{name} was tried again already, or discarded. Look at what became of it with `why {name}`."
            )
        for p in self.inputs_of(old):
            if self.state.is_erased(p.seq):
                raise PayloadErased(f"{old.agent}@{id} cannot be tried again: its input {p.type}@{p.seq} was erased.")
        return old, ended

    def inputs_of(self, old: ev.Activated) -> list[ev.Published]:
        """What a dead letter consumed."""
        return self._artifacts(old.inputs)

    def _artifacts(self, ids: Iterable[int]) -> list[ev.Published]:
        return [p for p in map(self._event, ids) if isinstance(p, ev.Published)]

    def _event(self, id: int) -> Event | None:
        """What is at that position, in this decision (which has no gaps) or before it."""
        made = self._events
        if made and made[0].seq <= id <= made[-1].seq:
            return made[id - made[-1].seq - 1]
        return self.past.event(id)

    def edits_of(self, id: int, fields: Fields) -> tuple[Edits, str]:
        """The same fields in every input that has a field of that name, and the first that no input has ("").

        Whether its class can read that shows when it runs, and if not, it is a dead letter again.
        """
        found: dict[int, Edited] = {}
        unknown = dict.fromkeys(fields)
        for p in self.inputs_of(self.redrivable(id)[0]) if fields else ():
            if edited := with_fields(Edited(p.payload, p.version, p.schema), fields):
                found[p.seq] = edited
                unknown = {name: None for name in unknown if name not in from_json(p.payload)}
        return found, next(iter(unknown), "")

    def _discard(self, id: int, reason: str, by: str = "") -> None:
        self._end(self._redrive(id, {}, "", by), "skipped", DISCARDED + reason)

    def _redrive(self, id: int, edits: Edits, agent: str, by: str) -> int:
        old, ended = self.redrivable(id)
        inputs = self.inputs_of(old)
        again = self._emit(ev.Redriven(outcome=ended.outcome, by="" if by == PERSON.producer else by), id)
        self._recall(inputs, id)
        others = {p.seq: self._edited(p, edits[p.seq], again, by) for p in inputs if p.seq in edits}
        ids = [others.get(i, i) for i in old.inputs]
        event = ev.Activated(
            agent=agent or old.agent, subscription=old.subscription, inputs=ids, slots=old.slots, key=old.key,
            scope=old.scope, run=old.run, priority=old.priority, depth=old.depth, redriven=id,
        )  # fmt: skip
        return self._activated(self._block(event), ids[-1])

    def _try_again(self, id: int, edits: Edits, agent: str, by: str, unknown: str = "") -> None:
        """Open it again; it ends at once where its agent, another or one that has changed, may not see an input, and
        where no input has a field that was to be edited."""
        a = self.state.activations.get(again := self._redrive(id, {} if unknown else edits, agent, by))
        if a is not None and unknown:
            self._end(again, "dead_letter", f"it was to be edited, and no input has a field {unknown!r}")
            return
        spec = self.index.agents.get(a.agent) if a is not None else None
        if a is None or spec is None:
            return
        for p in self._artifacts(a.inputs):
            if not visible(inherited([p.visibility]), spec, now=self._at, published=p.at):
                self._end(again, "dead_letter", f"{spec.name} may not see {p.type}@{p.seq}")
                return

    def _narrowed(self, reaction: Publish) -> Visibility | None:
        """Who may see what a component publishes: nobody who may not see what it tells of."""
        if not reaction.about:
            return reaction.visibility
        found = [reaction.visibility]
        for id in reaction.about:
            event = self._event(id)
            if isinstance(event, ev.Activated):
                found += of_inputs(self.inputs_of(event), event.agent)
            elif isinstance(event, ev.Published):
                found.append(event.visibility)
            else:
                raise NotFound(
                    f"{id} is neither an artifact nor an activation, so who may see what is about it is unknown."
                )
        return inherited(found, reaction.visibility.after if reaction.visibility is not None else None)

    def _edited(self, p: ev.Published, edited: Edited, cause: int, by: str) -> int:
        """An artifact in the place of another."""
        return self._emit(
            ev.Published(
                type=p.type, version=edited.version, schema=edited.schema, run=p.run, producer=by, tags=p.tags,
                priority=p.priority, visibility=p.visibility, root=p.root or p.seq, depth=p.depth,
                ancestors=p.ancestors, work=p.work, parent_work=p.parent_work, blocking=p.blocking, phase=p.phase,
                system=True, payload=edited.data, replaces=p.seq,
            ),
            cause,
        )  # fmt: skip

    def _recall(self, published: Sequence[ev.Published], cause: int) -> None:
        kept = [
            ev.Kept(
                p.seq, p.type, p.run, p.producer, p.priority, p.depth, p.root or p.seq, p.at, p.ancestors, p.work,
                p.blocking, p.phase,
            )
            for p in published
        ]  # fmt: skip
        self._emit(ev.Recalled(inputs=kept), cause)


def with_fields(there: Edited, fields: Fields) -> Edited | None:
    """A payload with those fields changed that it has; None if it has none of them."""
    before = from_json(there.data)
    mine = {name: value for name, value in fields.items() if isinstance(before, dict) and name in before}
    return Edited(to_json({**before, **mine}), there.version, there.schema) if mine else None
