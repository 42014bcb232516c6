"""Publishing: what is checked, and who is offered an artifact."""

from collections.abc import Sequence
from functools import partial
from hashlib import blake2b

from pydantic import BaseModel

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.decision import Draft, Origin
from stigmergy.blackboard.core.matching import OWN_ID, Candidate, Place, Take
from stigmergy.blackboard.core.places import Places
from stigmergy.blackboard.errors import (
    BlockingCycle,
    DuplicateWork,
    KeyReused,
    PublishError,
    UnknownWork,
    WrongFanOut,
)
from stigmergy.blackboard.events import Priority, Published
from stigmergy.blackboard.payloads.types import asks_for_work, check_size

Matches = tuple[list[Take], list[str]]


class Offers(Places):
    """The part of the decider that puts artifacts on the board."""

    # -- before the first event -----------------------------------------------------------------------------------

    def _check(self, drafts: Sequence[Draft], run: str = "") -> list[Draft]:
        """The drafts that are new, or an error that says which is refused and why."""
        limit = self.limits.payload_bytes
        for d in drafts:
            if (
                d.key is not None or d.work is not None or d.parent_work is not None or d.blocking or d.review_by
                or (limit is not None and len(d.data) > limit)
            ):  # fmt: skip
                return self._check_each(drafts, run)
        return [*drafts]

    def _check_each(self, drafts: Sequence[Draft], run: str) -> list[Draft]:
        new: list[Draft] = []
        keys: dict[tuple[str, str], str] = {}
        works: dict[tuple[str, str | None], Draft] = {}
        for d in drafts:
            if d.work is not None:
                works.setdefault((d.run or run, d.work), d)
        try:
            for d in drafts:
                check_size(d.type, d.data, self.limits.payload_bytes)
                if self._is_new(d, d.run or run, keys, works):
                    new.append(d)
        except PublishError as error:
            error.position = next(i for i, other in enumerate(drafts) if other is d)
            raise
        return new

    def _is_new(
        self, d: Draft, run: str, keys: dict[tuple[str, str], str], works: dict[tuple[str, str | None], Draft]
    ) -> bool:
        """Check a draft; False if it was published before with the same key."""
        if d.key is not None:
            d.digest = blake2b(d.data, digest_size=12).hexdigest()
            before = self._keys_now.get((run, d.key)) or self.past.key(run, d.key)
            known = before[1] if before is not None else keys.get((run, d.key))
            if known is not None and known != d.digest:
                raise KeyReused(f"key {d.key!r} was used for another payload in run {run!r}. Use a new key.")
            if known is not None:
                return False
            keys[run, d.key] = d.digest
        if d.work is not None or d.blocking or d.parent_work is not None:
            self._check_work(d, run, works)
        if d.review_by and d.visibility is not None and d.visibility.after:
            raise PublishError(
                f"{d.type} is to be reviewed by {d.review_by!r} and delayed by {d.visibility.after:g} s. "
                "A review is a delay already: leave one of them out."
            )
        return True

    def _check_work(self, d: Draft, run: str, works: dict[tuple[str, str | None], Draft]) -> None:
        if d.work is not None:
            used = (run, d.work) in self.state.works or self.past.work(run, d.work) is not None
            if used or works[run, d.work] is not d:
                raise DuplicateWork(f"work id {d.work!r} is already used in run {run!r}. Choose another work_id.")
        parent = d.parent_work
        if parent is not None and (run, parent) not in works and self._unknown_work(run, parent):
            raise UnknownWork(f"{d.type} names parent work {parent!r}; run {run!r} has no such work_id.")
        if d.work is not None and d.blocking:
            self._check_cycle(run, d.work, d.blocking, works)

    def _unknown_work(self, run: str, work: str) -> bool:
        return (run, work) not in self.state.works and self.past.work(run, work) is None

    def _check_cycle(
        self, run: str, work: str, blocking: Sequence[str], works: dict[tuple[str, str | None], Draft]
    ) -> None:
        paths = [[work, b] for b in blocking]
        seen: set[str] = set()
        while paths:
            path = paths.pop()
            if path[-1] == work:
                raise BlockingCycle(f"work waits for itself: {' -> '.join(path)}. Remove one of these blockings.")
            if path[-1] in seen:
                continue
            seen.add(path[-1])
            draft, known = works.get((run, path[-1])), self.state.works.get((run, path[-1]))
            for b in draft.blocking if draft else known.blocking if known else ():
                paths.append([*path, b])

    def _match(self, d: Draft, origin: Origin) -> Matches:
        visibility = d.visibility
        if d.type not in self.index.types or (visibility is not None and visibility.after):
            return [], []
        ancestors = origin.ancestors
        candidate = Candidate(d.type, d.payload, origin.producer, d.tags, visibility, ancestors, d.review_by)
        return self.index.match(candidate, self._at, self._at)

    # -- from here on nothing raises ------------------------------------------------------------------------------

    def _publish(self, d: Draft, origin: Origin, matches: Matches, run: str) -> int:
        takes, own = matches
        visibility = d.visibility
        held_by, held_until = d.review_by, None
        if visibility is not None and visibility.after:
            held_by, held_until = "visibility", self._at + visibility.after
        unserved = not takes and not held_by and self._is_missed(d.type, d.payload, origin.producer)
        event = Published(  # in the order of its fields: by name they would take as long as the rest of a publish
            0, 0.0, 0, 0, d.type, d.version, d.schema, run, origin.producer, d.key, d.tags, d.priority or "medium",
            visibility, origin.root, origin.depth, origin.ancestors, d.work, d.parent_work, d.blocking, d.phase,
            held_by, held_until, own, unserved, origin.system, d.digest, d.data,
        )  # fmt: skip
        id = self._emit(event, origin.cause, partial(artifact_of, event, d) if self.observers.any else None)
        if d.key is not None:
            self._keys_now[run, d.key] = (id, d.digest)
        if held_by:
            self._held_now[id] = artifact_of(event, d)
        if held_until is not None:
            self.timers.push(held_until, "visible", id)
        for take in takes:
            self._offer(take, id, run, event.priority, origin.depth)
        return id

    def _is_missed(self, type_name: str, payload: BaseModel, producer: str) -> bool:
        """Whether something that nobody takes should have been: results at the end of a workflow need nobody."""
        return producer == "outside" or type_name in self.index.types or asks_for_work(payload)

    def _offer(self, take: Take, artifact: int, run: str, priority: Priority, depth: int) -> None:
        place = take.place
        if take.error is not None:
            id = self._activated(_alone(place, artifact, run, priority, depth), artifact)
            self._end(id, "dead_letter", "filter raised", take.error)
        elif not place.single:
            self._enter(place, artifact, run, str(artifact) if take.key == OWN_ID else take.key)
        elif self.state.alive[artifact].blocking:
            self._activated(self._block(_alone(place, artifact, run, priority, depth)), artifact)
        else:
            self._emit(_alone(place, artifact, run, priority, depth), artifact)


def check_count(agent: str, did: str, made: int, limit: int | None) -> None:
    """Refuse more outputs than one attempt may give.

    Raises:
        WrongFanOut: they are more.
    """
    if limit is not None and made > limit:
        error = WrongFanOut(f"Limits(fan_out={limit:_}): {agent!r} {did} {made:,} outputs. Publish fewer, or raise it.")
        error.limit = f"fan_out {made:,} of {limit:,}"
        raise error


def _alone(place: Place, artifact: int, run: str, priority: Priority, depth: int) -> ev.Activated:
    """The activation of an agent on one artifact."""
    name, subscription = place.agent.name, place.subscription.id
    return ev.Activated(0, 0.0, 0, 0, name, subscription, [artifact], [], "", "", run, priority, depth)


def artifact_of(event: Published, draft: Draft) -> Artifact:
    """The envelope of an artifact that was just published."""
    return Artifact(
        event.seq, draft.payload, event.type, event.version, event.producer, event.cause, event.root or event.seq,
        event.run, tuple(event.tags), event.priority, event.visibility, event.at, event.key, event.depth, event.phase,
    )  # fmt: skip
