"""How places fill, and how activations begin and end.

One rule serves single inputs, counts, joins, batches and windows: artifacts wait in the places of a group (one group
per subscription, scope and key), the oldest first; a group whose places are full is complete; `groups` complete
groups make an activation. A deadline only changes which places must be full.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Literal

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.core.decision import Decision
from stigmergy.blackboard.core.matching import Place
from stigmergy.blackboard.core.records import Activation, OpenCall
from stigmergy.blackboard.definitions import Subscription
from stigmergy.blackboard.events import ErrorInfo

_RANK: dict[str, int] = {"low": 0, "medium": 1, "high": 2, "critical": 3}


class Places(Decision):
    """The part of the decider that puts artifacts into places."""

    def _derive(self) -> None:
        super()._derive()
        self._entered: defaultdict[tuple[str, str], deque[tuple[int, int]]] = defaultdict(deque)
        """(subscription with a window, scope) -> ordinal and id of what entered it, oldest first."""
        for id, places in self.state.waiting.items():
            subscription = self.index.subscriptions.get(id)
            if subscription is None:
                continue
            if subscription.window is not None:
                for place in places.values():
                    self._entered[id, place.scope].append((place.ordinal, place.id))
            if isinstance(subscription.within, float | int):
                for place in places.values():
                    self.timers.push(place.at + subscription.within, "group", place.id, id)
            for scope, key in {(place.scope, place.key) for place in places.values()}:
                self._note_complete(subscription, scope, key)

    def _activated(self, event: ev.Activated, cause: int) -> int:
        id = self._emit(event, cause)
        if event.blockers:
            for run, work in event.waits:
                known = self.state.works.get((run, work))
                if known is not None and known.failed:
                    self._end(id, "blocker_failed", f"work {work!r} failed")
                    break
        return id

    def _block(self, event: ev.Activated) -> ev.Activated:
        """Let it wait for the work that its inputs wait for, each in its own run, and that is not done."""
        found: dict[tuple[str, str], None] = {}
        for artifact in event.inputs:
            alive = self.state.alive.get(artifact)
            for work in alive.blocking if alive else ():
                item = (alive.run, work) if alive else ("", "")
                if item in self.state.works or self.past.work(*item) is None:
                    found[item] = None
        event.blockers = [work for _, work in found]
        if any(run != event.run for run, _ in found):
            event.blocker_runs = [run for run, _ in found]
        return event

    # -- places ---------------------------------------------------------------------------------------------------

    def _enter(self, place: Place, artifact: int, run: str, key: str) -> None:
        """Put an artifact into a place, and fire what is complete with it."""
        subscription = place.subscription
        id = subscription.id
        scope = run if subscription.scope == "run" else ""
        self._emit(ev.Matched(0, 0.0, 0, 0, id, place.index, key, scope), artifact)
        if subscription.within is not None and subscription.within != "idle":
            self.timers.push(self._at + subscription.within, "group", artifact, id)
        if subscription.window is not None:
            self._leave_window(subscription, subscription.window, scope, artifact)
        if subscription.groups == 1 and (id, scope) not in self._complete:
            self._fire_if_full(subscription, scope, key)
        else:
            self._note_complete(subscription, scope, key)
            self._fire(subscription, scope, subscription.groups)
        waiting = self.state.waiting[id]
        if len(waiting) > subscription.max_waiting:
            self._expire(subscription, [next(iter(waiting))], "waiting_limit")

    def _fire_if_full(self, subscription: Subscription, scope: str, key: str) -> None:
        """Fire a group if it is complete; one more artifact completes it once at most."""
        places, wanted = self.state.groups[subscription.id, scope, key], subscription.slots
        if len(places) != len(wanted):
            return
        inputs: list[int] = []
        slots: list[int] = []
        for ids, slot in zip(places, wanted, strict=True):
            if len(ids) < slot.count:
                return
            inputs += ids[: slot.count]
            slots.append(slot.count)
        self._activate_group(subscription, scope, key, inputs, slots)

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
        alive = self.state.alive
        first = alive[inputs[0]]
        priority, depth, blocking = first.priority, first.depth, False
        for id in inputs:
            a = alive[id]
            if a.priority != priority and _RANK[a.priority] > _RANK[priority]:
                priority = a.priority
            if a.depth > depth:
                depth = a.depth
            blocking = blocking or bool(a.blocking)
        event = ev.Activated(
            0, 0.0, 0, 0, subscription.id.rpartition("/")[0], subscription.id, inputs, slots, key, scope, first.run,
            priority, depth,
        )  # fmt: skip
        self._activated(self._block(event) if blocking else event, max(inputs))

    def _leave_window(self, subscription: Subscription, window: int, scope: str, artifact: int) -> None:
        """Expire what entered too long before this artifact, counted in artifacts."""
        waiting = self.state.waiting[subscription.id]
        newest = waiting[artifact].ordinal
        entered = self._entered[subscription.id, scope]
        entered.append((newest, artifact))
        late = []
        while entered and entered[0][0] < newest - window:
            ordinal, artifact = entered.popleft()
            place = waiting.get(artifact)
            if place is not None and place.ordinal == ordinal:  # it did not leave in the meantime
                late.append(artifact)
        self._expire(subscription, late, "window")

    def _expire(self, subscription: Subscription, artifacts: list[int], reason: ev.Expiry) -> None:
        for artifact in artifacts:
            self._give_up(subscription.id, artifact, reason)

    def _give_up(self, subscription: str, artifact: int, reason: ev.Expiry) -> None:
        place = self.state.waiting[subscription][artifact]
        self._emit(
            ev.Expired(
                subscription=subscription, artifacts=[artifact], key=place.key, scope=place.scope, reason=reason
            ),
            artifact,
        )
        if known := self.index.subscriptions.get(subscription):
            self._note_complete(known, place.scope, place.key)

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
                self._settle(self._unsettled(id), "cancelled")
            else:
                self._take_off(a)
            works = [(x.run, x.work) for i in a.inputs if (x := state.alive.get(i)) is not None and x.work]
            self._emit(ev.Ended(outcome=outcome, reason=reason, error=error), id)
            for run, work in works:
                item = state.works.get((run, work))
                if item is not None and item.failed:
                    waiting = state.blocked_on.get((run, work), ())
                    ending += [(waiter, "blocker_failed", f"work {work!r} failed", None) for waiter in waiting]

    def _unsettled(self, activation: int) -> list[OpenCall]:
        """Its effects without an outcome for which something is reserved, or that have no price."""
        calls = self.state.calls
        found = [calls[id] for id in self.state.calls_of.get(activation, ())]
        return [call for call in found if call.tokens or call.cost != "0" or call.unpriced]

    def _settle(self, calls: Sequence[OpenCall], outcome: Literal["unknown", "cancelled"]) -> None:
        """Whoever was asked may send the bill though nobody waits for the answer: book what was reserved."""
        for c in calls:
            event = ev.Called(activation=c.activation, key=c.key, outcome=outcome, cost=c.cost, tokens=c.tokens,
                              unpriced=c.unpriced)  # fmt: skip
            self._emit(event, c.id)

    def _take_off(self, a: Activation) -> None:
        """Forget an open activation that does not run, wherever it waits."""
        if a.id in self.unserved:
            self.unserved.discard(a.id)
        elif a.id in self.suspects:
            self.suspects.remove(a.id)
        elif a.id in self.parked:
            del self.parked[a.id]
            self._too_much.pop(a.id, None)
        elif a.status == "ready":
            self.agenda.remove(a.id)
        elif a.status == "held":
            self._let_go(a)
