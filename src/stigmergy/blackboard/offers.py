"""Publishing: what is checked, who is offered an artifact, and how places fill.

One rule serves single inputs, counts, joins, batches and windows: artifacts wait in the places of a group (one group
per subscription, scope and key), the oldest first; a group whose places are full is complete; `groups` complete
groups make an activation. A deadline only changes which places must be full.
"""

from collections.abc import Sequence
from functools import partial
from hashlib import blake2b

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.decision import Decision, Draft, Origin
from stigmergy.blackboard.definitions import Subscription
from stigmergy.blackboard.errors import (
    BlockingCycle,
    DuplicateWork,
    KeyReused,
    PayloadTooLarge,
    PublishError,
    UnknownWork,
)
from stigmergy.blackboard.events import ErrorInfo, Priority, Published
from stigmergy.blackboard.matching import OWN_ID, Candidate, Take
from stigmergy.blackboard.records import Activation

Matches = tuple[list[Take], list[str]]


class Offers(Decision):
    """The part of the decider that puts artifacts on the board."""

    def _derive(self) -> None:
        super()._derive()
        for id, places in self.state.waiting.items():
            subscription = self.index.subscriptions.get(id)
            if subscription is None:
                continue
            if isinstance(subscription.within, float | int):
                for place in places.values():
                    self.timers.push(place.at + subscription.within, "group", place.id, id)
            for scope, key in {(place.scope, place.key) for place in places.values()}:
                self._note_complete(subscription, scope, key)

    # -- before the first event -----------------------------------------------------------------------------------

    def _check(self, drafts: Sequence[Draft], run: str = "") -> list[Draft]:
        """The drafts that are new, or an error that says which is refused and why."""
        new: list[Draft] = []
        keys: dict[tuple[str, str], str] = {}
        works: dict[tuple[str, str | None], Draft] = {}
        for d in drafts:
            if d.work is not None:
                works.setdefault((d.run or run, d.work), d)
        try:
            for d in drafts:
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
        limit = self.limits.payload_bytes
        if limit is not None and len(d.data) > limit:
            raise PayloadTooLarge(
                f"{d.type} is {len(d.data):,} bytes as JSON; the limit is {limit:,}. Store large data in a file "
                "and publish its path, or raise Limits(payload_bytes=)."
            )
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
        if visibility is not None and visibility.after:
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
        unserved = not takes and not held_by and (origin.producer == "outside" or d.type in self.index.types)
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

    def _offer(self, take: Take, artifact: int, run: str, priority: Priority, depth: int) -> None:
        subscription = take.place.subscription
        if take.error is not None:
            id = self._activate(take, artifact, run, priority, depth, [])
            self._end(id, "dead_letter", "filter raised", take.error)
        elif take.place.single:
            blockers = self._blockers([artifact]) if self.state.alive[artifact].blocking else []
            self._activate(take, artifact, run, priority, depth, blockers)
        else:
            scope = run if subscription.scope == "run" else ""
            key = str(artifact) if take.key == OWN_ID else take.key
            self._emit(ev.Matched(subscription=subscription.id, slot=take.place.index, key=key, scope=scope), artifact)
            if isinstance(subscription.within, float | int):
                self.timers.push(self._at + subscription.within, "group", artifact, subscription.id)
            self._leave_window(subscription, scope)
            self._note_complete(subscription, scope, key)
            self._fire(subscription, scope, subscription.groups)
            if len(waiting := self.state.waiting.get(subscription.id, {})) > subscription.max_waiting:
                self._expire(subscription, [next(iter(waiting))], "waiting_limit")

    def _activate(
        self, take: Take, artifact: int, run: str, priority: Priority, depth: int, blockers: list[str]
    ) -> int:
        place = take.place
        event = ev.Activated(
            0,
            0.0,
            0,
            0,
            place.agent.name,
            place.subscription.id,
            [artifact],
            [],
            "",
            "",
            run,
            priority,
            depth,
            blockers,
        )
        return self._activated(event, artifact)

    def _activated(self, event: ev.Activated, cause: int) -> int:
        id = self._emit(event, cause)
        for work in event.blockers:
            known = self.state.works.get((event.run, work))
            if known is not None and known.failed:
                self._end(id, "blocker_failed", f"work {work!r} failed")
                break
        return id

    def _blockers(self, inputs: Sequence[int]) -> list[str]:
        """The work ids that these artifacts wait for and that are not done."""
        found: list[str] = []
        for artifact in inputs:
            alive = self.state.alive.get(artifact)
            for work in alive.blocking if alive else ():
                pending = (alive.run, work) in self.state.works if alive else False
                if alive and work not in found and (pending or self.past.work(alive.run, work) is None):
                    found.append(work)
        return found

    # -- places ---------------------------------------------------------------------------------------------------

    def _note_complete(self, subscription: Subscription, scope: str, key: str) -> None:
        """Count anew how often a group is complete."""
        feed = self._complete.get((subscription.id, scope))
        completions = self._completions(subscription, scope, key)
        if feed is not None:
            completions = sorted([*completions, *(entry for entry in feed if entry[1] != key)])
        if completions:
            self._complete[subscription.id, scope] = completions
        elif feed is not None:
            del self._complete[subscription.id, scope]

    def _completions(self, subscription: Subscription, scope: str, key: str) -> list[tuple[int, str]]:
        """For every time that a group is complete: the ordinal of the artifact that completed it, and its key."""
        places = self.state.groups.get((subscription.id, scope, key), ())
        slots = subscription.slots
        if len(places) != len(slots):
            return []
        waiting = self.state.waiting[subscription.id]
        full = min(len(ids) // slot.count for slot, ids in zip(slots, places, strict=True))
        return [
            (max(waiting[ids[n * s.count - 1]].ordinal for s, ids in zip(slots, places, strict=True)), key)
            for n in range(1, full + 1)
        ]

    def _fire(self, subscription: Subscription, scope: str, groups: int) -> None:
        feed = self._complete.get((subscription.id, scope), [])
        while feed and len(feed) >= groups:
            keys = [key for _, key in feed[:groups]]
            del feed[:groups]
            inputs: list[int] = []
            slots: list[int] = []
            used: dict[str, int] = {}
            for key in keys:
                n = used.get(key, 0)
                used[key] = n + 1
                places = self.state.groups[subscription.id, scope, key]
                for slot, ids in zip(subscription.slots, places, strict=True):
                    inputs += ids[n * slot.count : (n + 1) * slot.count]
                    slots.append(slot.count)
            self._activate_group(subscription, scope, keys[0] if len(set(keys)) == 1 else "", inputs, slots)
        if not feed:
            self._complete.pop((subscription.id, scope), None)

    def _fire_partly(self, subscription: Subscription, scope: str, key: str, due: int = 0) -> bool:
        """At a deadline: fire what may be fired of this group; False if it lacks what it must have, or if the
        artifact whose deadline it is would be left behind in an optional slot that is not full."""
        places = self.state.groups[subscription.id, scope, key]
        inputs: list[int] = []
        slots: list[int] = []
        for i, slot in enumerate(subscription.slots):
            ids = places[i][: slot.count] if i < len(places) else []
            if len(ids) < slot.count and not (subscription.batch or slot.optional):
                return False
            if slot.optional and len(ids) < slot.count:
                if due in ids:
                    return False
                ids = []
            inputs += ids
            slots.append(len(ids))
        if not inputs:
            return False
        self._activate_group(subscription, scope, key, inputs, slots)
        self._note_complete(subscription, scope, key)
        return True

    def _activate_group(
        self, subscription: Subscription, scope: str, key: str, inputs: list[int], slots: list[int]
    ) -> None:
        alive = [self.state.alive[i] for i in inputs]
        event = ev.Activated(
            agent=subscription.id.rpartition("/")[0], subscription=subscription.id, inputs=inputs, slots=slots,
            key=key, scope=scope, run=alive[0].run, priority=max((a.priority for a in alive), key=_RANK.__getitem__),
            depth=max(a.depth for a in alive), blockers=self._blockers(inputs),
        )  # fmt: skip
        self._activated(event, max(inputs))

    def _leave_window(self, subscription: Subscription, scope: str) -> None:
        """Expire what entered too long ago, counted in artifacts."""
        if subscription.window is None:
            return
        oldest = self.state.ordinals[subscription.id, scope] - subscription.window
        late = []
        for place in self.state.waiting[subscription.id].values():
            if place.scope == scope:
                if place.ordinal >= oldest:
                    break
                late.append(place.id)
        self._expire(subscription, late, "window")

    def _expire(self, subscription: Subscription, artifacts: list[int], reason: str) -> None:
        for artifact in artifacts:
            place = self.state.waiting[subscription.id][artifact]
            self._emit(
                ev.Expired(
                    subscription=subscription.id, artifacts=[artifact], key=place.key, scope=place.scope,
                    reason="window" if reason == "window" else "waiting_limit",
                ),
                artifact,
            )  # fmt: skip
            self._note_complete(subscription, place.scope, place.key)

    # -- ends -----------------------------------------------------------------------------------------------------

    def _end(self, id: int, outcome: ev.Outcome, reason: str, error: ErrorInfo | None = None) -> None:
        """End an activation without completing it, and whatever waited for the work that failed with it."""
        state = self.state
        ending: list[tuple[int, ev.Outcome, str, ErrorInfo | None]] = [(id, outcome, reason, error)]
        for id, outcome, reason, error in ending:  # grows: chains of waiting work can be long
            a = state.activations.get(id)
            if a is None:
                continue
            if a.status == "running":
                self.stopped.append((a.fence, a.agent))
            else:
                self._take_off(a)
            works = [(x.run, x.work) for i in a.inputs if (x := state.alive.get(i)) is not None and x.work]
            self._emit(ev.Ended(outcome=outcome, reason=reason, error=error), id)
            for run, work in works:
                item = state.works.get((run, work))
                if item is not None and item.failed:
                    waiting = state.blocked_on.get((run, work), ())
                    ending += [(waiter, "blocker_failed", f"work {work!r} failed", None) for waiter in waiting]

    def _take_off(self, a: Activation) -> None:
        """Forget an open activation that does not run, wherever it waits."""
        if a.id in self.unserved:
            self.unserved.discard(a.id)
        elif a.id in self.suspects:
            self.suspects.remove(a.id)
        elif a.id in self.parked:
            del self.parked[a.id]
        elif a.status == "ready":
            self.agenda.remove(a.id)
        elif a.status == "held":
            self._let_go(a)


_RANK: dict[str, int] = {"low": 0, "medium": 1, "high": 2, "critical": 3}


def artifact_of(event: Published, draft: Draft) -> Artifact:
    """The envelope of an artifact that was just published."""
    return Artifact(
        event.seq, draft.payload, event.type, event.version, event.producer, event.cause, event.root or event.seq,
        event.run, tuple(event.tags), event.priority, event.visibility, event.at, event.key, event.depth, event.phase,
    )  # fmt: skip
