"""The state of a board: a fold of its log, holding only what is alive.

Rules. `apply` is the only writer; it is O(1), runs library code only, and never asks the time. What it cannot know
from the event and itself is recorded on the event. What is finished leaves the state: history is in the store.
The order in which artifacts fill places, activations become ready and works end is therefore the log's order.

`ready` is the one output beside the state itself: activations that became ready since the decider last looked.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.core.records import (
    Activation,
    Alive,
    Dump,
    HeldArtifact,
    Member,
    OpenCall,
    Runs,
    RunTotals,
    Waiting,
    Work,
)
from stigmergy.blackboard.events import Event

_DUMP = TypeAdapter(Dump)


class State:
    """What is alive on a board after the event `seq`."""

    def __init__(self) -> None:
        self.seq = 0
        self.at = 0.0
        self.epoch = 0
        self.unclean = 0
        """Unclean opens in a row."""
        self.quiet = True
        """Nothing can be lost if the process ends here: the last decision has an `Idled` or the owner's `Closed`."""
        self.alive: dict[int, Alive] = {}
        self.activations: dict[int, Activation] = {}
        self.running: set[int] = set()
        self.groups: dict[tuple[str, str, str], list[list[int]]] = {}
        """(subscription, scope, key) -> the waiting artifact ids of each slot, oldest first."""
        self.waiting: dict[str, dict[int, Waiting]] = {}
        """subscription -> artifact id -> its place, oldest first."""
        self.ordinals: dict[tuple[str, str], int] = {}
        self.held: dict[int, HeldArtifact] = {}
        self.works: dict[tuple[str, str], Work] = {}
        self.blocked_on: dict[tuple[str, str], list[int]] = {}
        """(run, work id) -> the activations that wait for it."""
        self.calls: dict[int, OpenCall] = {}
        self.calls_of: dict[int, list[int]] = {}
        self.maybe_done: list[int] = []
        """Effects announced by a process that died before their outcome was recorded."""
        self.runs = Runs()
        self.seen: dict[str, int] = {}
        """subscription -> how far artifacts were offered to it before this process; enrolled ones are not in it."""
        self.enrolled: set[str] = set()
        self.shapes: dict[str, str] = {}
        self.members: dict[str, Member] = {}
        """Everybody who ever took part."""
        self.faults: dict[str, dict[str, str]] = {}
        """component -> the fingerprint of every version of it that raised, and what it raised."""
        self.absent: set[str] = set()
        """Of these components, those that take no part now."""
        self.erased_before = 0
        self.spared: set[int] = set()
        """Below that position what was said is erased, but for these."""
        self.ready: list[int] = []
        self._fresh: list[int] = []
        self._apply: dict[type[Event], Callable[[Any], None]] = {
            ev.Published: self._published, ev.Activated: self._activated, ev.Claimed: self._claimed,
            ev.Completed: self._completed, ev.Matched: self._matched, ev.Failed: self._failed, ev.Ended: self._ended,
            ev.Opened: self._opened, ev.Enrolled: self._enrolled, ev.Expired: self._expired, ev.Held: self._held,
            ev.Released: self._released, ev.Withdrawn: self._withdrawn, ev.Calling: self._calling,
            ev.Called: self._called, ev.Faulted: self._faulted, ev.Idled: self._idled, ev.Closed: self._closed,
            ev.Resumed: self._resumed, ev.Recalled: self._recalled, ev.Rang: self._rang, ev.Erased: self._erased,
        }  # fmt: skip

    def apply(self, event: Event) -> None:
        """Fold one event."""
        seq = event.seq
        if seq == event.tx:
            self.quiet = False
            if self._fresh:
                self._forget_unneeded()
        self.seq, self.at = seq, event.at
        change = self._apply.get(event.__class__)
        if change is not None:
            change(event)

    # -- artifacts ------------------------------------------------------------------------------------------------

    def _published(self, e: ev.Published) -> None:
        self.alive[e.seq] = Alive(
            e.seq, e.type, e.run, e.producer, e.priority, e.depth, e.root or e.seq, e.at, e.ancestors, e.work,
            e.blocking, e.phase,
        )  # fmt: skip
        self._fresh.append(e.seq)
        self.runs[e.run].artifacts += 1
        if e.work is not None and not e.replaces:
            self.works[e.run, e.work] = Work(e.run, e.work, e.seq, e.blocking)
        if e.held_by:
            self.held[e.seq] = HeldArtifact(e.seq, e.held_by, e.held_until)
            self.alive[e.seq].refs += 1

    def _recalled(self, e: ev.Recalled) -> None:
        for k in e.inputs:
            if k.id not in self.alive:
                self.alive[k.id] = Alive(
                    k.id, k.type, k.run, k.producer, k.priority, k.depth, k.root, k.at, k.ancestors, k.work,
                    k.blocking, k.phase,
                )  # fmt: skip
                self._fresh.append(k.id)

    def _released(self, e: ev.Released) -> None:
        if self.held.pop(e.cause, None) is not None:
            self._drop(e.cause)
            self._fresh.append(e.cause)
        elif (a := self.activations.get(e.cause)) is not None and a.status in ("held", "retrying"):
            a.status, a.held_by, a.due = "ready", "", None
            self.ready.append(a.id)

    def _withdrawn(self, e: ev.Withdrawn) -> None:
        if self.held.pop(e.cause, None) is not None:
            self._drop(e.cause)

    def _drop(self, artifact: int) -> None:
        alive = self.alive.get(artifact)
        if alive is not None:
            alive.refs -= 1
            if alive.refs <= 0:
                self._fresh.append(artifact)

    def _forget_unneeded(self) -> None:
        for artifact in self._fresh:
            alive = self.alive.get(artifact)
            if alive is not None and alive.refs <= 0:
                del self.alive[artifact]
        self._fresh = []

    # -- places ---------------------------------------------------------------------------------------------------

    def _matched(self, e: ev.Matched) -> None:
        feed = (e.subscription, e.scope)
        ordinal = self.ordinals.get(feed, 0) + 1
        self.ordinals[feed] = ordinal
        self._place(Waiting(e.cause, e.subscription, e.scope, e.key, e.slot, e.at, ordinal))
        if (alive := self.alive.get(e.cause)) is not None:
            alive.refs += 1

    def _place(self, place: Waiting) -> None:
        self.waiting.setdefault(place.subscription, {})[place.id] = place
        slots = self.groups.setdefault((place.subscription, place.scope, place.key), [])
        while len(slots) <= place.slot:
            slots.append([])
        slots[place.slot].append(place.id)

    def _unplace(self, subscription: str, artifact: int) -> None:
        place = self.waiting.get(subscription, {}).pop(artifact, None)
        if place is None:
            return
        group = (subscription, place.scope, place.key)
        slots = self.groups[group]
        slots[place.slot].remove(artifact)
        if not any(slots):
            del self.groups[group]

    def _expired(self, e: ev.Expired) -> None:
        for artifact in e.artifacts:
            self._unplace(e.subscription, artifact)
            self._drop(artifact)

    # -- activations ----------------------------------------------------------------------------------------------

    def _activated(self, e: ev.Activated) -> None:
        root, phase = e.seq, None
        from_places = bool(e.slots) and not e.redriven
        for artifact in e.inputs:
            if from_places:
                self._unplace(e.subscription, artifact)
            alive = self.alive.get(artifact)
            if alive is None:
                continue
            if not from_places:
                alive.refs += 1
            if alive.root < root:
                root = alive.root
            phase = phase or alive.phase
            if alive.work is not None and (item := self.works.get((alive.run, alive.work))) is not None:
                item.open += 1
                item.failed -= bool(e.redriven)
        a = Activation(
            e.seq, e.agent, e.subscription, e.inputs, e.slots, e.key, e.run, e.priority, e.depth, root, e.at,
            phase=phase, redriven=e.redriven,
        )  # fmt: skip
        self.activations[e.seq] = a
        if e.blockers:
            a.status, a.blockers, a.blocker_runs = "blocked", list(e.blockers), list(e.blocker_runs)
            for work in a.waits:
                self.blocked_on.setdefault(work, []).append(e.seq)
        else:
            self.ready.append(e.seq)

    def _claimed(self, e: ev.Claimed) -> None:
        a = self.activations[e.cause]
        if not a.fence:
            self.runs[a.run].activations += 1
        a.status, a.fence, a.claimed_at, a.alone, a.due = "running", e.seq, e.at, e.alone, None
        a.suspect = False
        self.running.add(a.id)

    def _held(self, e: ev.Held) -> None:
        a = self.activations[e.cause]
        a.status, a.held_by, a.reason, a.due = "held", e.by, e.reason, e.until

    def _completed(self, e: ev.Completed) -> None:
        a = self._leave(e.cause)
        if a is not None:
            self.runs[a.run].seconds += e.seconds
            self._settle_works(a, failed=False)

    def _failed(self, e: ev.Failed) -> None:
        a = self.activations[e.cause]
        self.running.discard(a.id)
        self.run(a.run).seconds += e.seconds
        self._abandon_calls(a.id, crashed=e.kind == "crashed")
        if e.kind == "crashed":
            a.suspect = True
            a.crashes += e.guilty
        elif e.kind != "interrupted":
            a.attempts += 1
        a.feedback, a.alone = e.feedback, False
        if e.retry_at is None:
            a.status = "retrying"
            return
        if e.retry_at > e.at:
            a.status, a.due = "retrying", e.retry_at
        else:
            a.status, a.due = "ready", None
            self.ready.append(a.id)

    def _ended(self, e: ev.Ended) -> None:
        a = self._leave(e.cause)
        if a is not None:
            self._settle_works(a, failed=e.outcome != "skipped")

    def _leave(self, activation: int) -> Activation | None:
        a = self.activations.pop(activation, None)
        if a is None:
            return None
        self.running.discard(activation)
        if self.calls_of:
            for call in self.calls_of.pop(activation, ()):
                self.calls.pop(call, None)
        if a.blockers:
            for work in a.waits:
                waiting = self.blocked_on.get(work, [])
                if activation in waiting:
                    waiting.remove(activation)
                if not waiting:
                    self.blocked_on.pop(work, None)
        return a

    def _settle_works(self, a: Activation, *, failed: bool) -> None:
        for artifact in a.inputs:
            alive = self.alive.get(artifact)
            if alive is None:
                continue
            if alive.work is not None and (work := self.works.get((alive.run, alive.work))) is not None:
                work.open -= 1
                work.failed += failed
                if work.open == 0 and not work.failed:
                    self._work_done(work)
            self._drop(artifact)

    def _work_done(self, work: Work) -> None:
        del self.works[work.run, work.id]
        for activation in self.blocked_on.pop((work.run, work.id), []):
            a = self.activations[activation]
            place = a.waits.index((work.run, work.id))
            del a.blockers[place], a.blocker_runs[place : place + 1]
            if not a.blockers:
                a.status = "ready"
                self.ready.append(activation)

    # -- effects --------------------------------------------------------------------------------------------------

    def _calling(self, e: ev.Calling) -> None:
        self._open_call(OpenCall(e.seq, e.cause, e.key, self.activations[e.cause].run, e.cost, e.tokens, e.until,
                                 unpriced=e.unpriced))  # fmt: skip

    def _open_call(self, call: OpenCall) -> None:
        self.calls[call.id] = call
        self.calls_of.setdefault(call.activation, []).append(call.id)

    def _called(self, e: ev.Called) -> None:
        call = self.calls.pop(e.cause, None)
        if call is not None:
            self.calls_of[call.activation].remove(call.id)
        a = self.activations.get(e.activation)
        run = self.run(call.run if call else a.run if a else "main")
        run.tokens += e.tokens
        if e.cost != "0":
            run.cost = str(Decimal(run.cost) + Decimal(e.cost))

    def _rang(self, e: ev.Rang) -> None:
        if e.timer == "sleep" and (call := self.calls.get(e.cause)) is not None:
            call.rung = True

    def _abandon_calls(self, activation: int, *, crashed: bool) -> None:
        """A sleep goes on over attempts; any other effect without an outcome may or may not have happened."""
        for call in list(self.calls_of.get(activation, ())):
            if self.calls[call].until is not None:
                continue
            if crashed:
                self.maybe_done.append(call)
            del self.calls[call]
            self.calls_of[activation].remove(call)

    # -- the board ------------------------------------------------------------------------------------------------

    def _opened(self, e: ev.Opened) -> None:
        self.epoch = e.epoch
        self.unclean = 0 if e.clean else self.unclean + 1
        self.absent = set(self.faults)
        for subscription in self.enrolled:
            self.seen[subscription] = e.seq - 1 - e.gap
        self.enrolled = set()

    def _enrolled(self, e: ev.Enrolled) -> None:
        self.members[e.name] = Member(e.role, e.fingerprint, e.subscriptions, self.epoch)
        self.absent.discard(e.name)
        for subscription, shape in e.subscriptions.items():
            self.shapes[subscription] = shape
            self.seen.pop(subscription, None)
            self.enrolled.add(subscription)

    def _faulted(self, e: ev.Faulted) -> None:
        self.faults.setdefault(e.component, {})[e.fingerprint] = e.error.message if e.error else ""

    @property
    def faulted(self) -> list[str]:
        """The components that take part and are out of service: this version of them has raised."""
        here = {c: by for c, by in self.faults.items() if c not in self.absent}
        return [c for c, by in here.items() if "" in by or (c in self.members and self.members[c].fingerprint in by)]

    @property
    def roster(self) -> dict[str, Member]:
        """Who took part when the board was last opened to run, and not only to answer or look after something."""
        latest = max((m.epoch for m in self.members.values()), default=0)
        return {name: m for name, m in self.members.items() if m.epoch == latest}

    def _idled(self, e: ev.Idled) -> None:
        self.quiet = True

    def _closed(self, e: ev.Closed) -> None:
        if e.run:
            run = self.run(e.run)
            run.closed, run.detail = e.reason, e.detail
        else:
            self.quiet = True

    def _resumed(self, e: ev.Resumed) -> None:
        self.runs[e.run].closed = self.runs[e.run].detail = ""

    def _erased(self, e: ev.Erased) -> None:
        mine = {id for id in self.spared if id >= e.before}  # only what both spare is spared where both erase
        theirs = {id for id in e.keep if id >= self.erased_before}
        self.spared = mine | theirs | self.spared.intersection(e.keep)
        self.erased_before = max(self.erased_before, e.before)

    def is_erased(self, artifact: int) -> bool:
        """Whether what an artifact said is erased, or will be when an erasure that broke off is brought to its end."""
        return artifact < self.erased_before and artifact not in self.spared

    def concerned(self, event: Event) -> Activation | None:
        """The open activation that an event is about; to be asked before the event is applied."""
        a = self.activations.get(event.cause)
        if a is None and (call := self.calls.get(event.cause)) is not None:
            a = self.activations.get(call.activation)
        return a

    def run(self, name: str) -> RunTotals:
        """The totals of a run."""
        return self.runs[name]

    # -- plain data -----------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """The whole state as JSON. Taken at a decision border."""
        return _DUMP.dump_json(
            Dump(
                self.seq, self.at, self.epoch, self.unclean, self.quiet, list(self.alive.values()),
                list(self.activations.values()), [w for _, s in sorted(self.waiting.items()) for w in s.values()],
                [(s, scope, n) for (s, scope), n in self.ordinals.items()], list(self.held.values()),
                list(self.works.values()), list(self.calls.values()), list(self.runs.values()),
                {**self.seen, **dict.fromkeys(sorted(self.enrolled), -1)}, self.shapes, self.members, self.faults,
                sorted(self.absent), self.maybe_done, self._fresh, self.erased_before, sorted(self.spared),
            )
        )  # fmt: skip

    @classmethod
    def load(cls, data: bytes) -> "State":
        """The state that `dump` wrote."""
        d, s = _DUMP.validate_json(data), cls()
        s.seq, s.at, s.epoch, s.unclean, s.quiet = d.seq, d.at, d.epoch, d.unclean, d.quiet
        s.alive = {a.id: a for a in d.alive}
        s.activations = {a.id: a for a in d.activations}
        s.running = {a.id for a in d.activations if a.status == "running"}
        for place in d.waiting:
            s._place(place)
        s.ordinals = {(sub, scope): n for sub, scope, n in d.ordinals}
        s.held = {h.id: h for h in d.held}
        s.works = {(w.run, w.id): w for w in d.works}
        for a in d.activations:
            for work in a.waits:
                s.blocked_on.setdefault(work, []).append(a.id)
        for call in d.calls:
            s._open_call(call)
        s.runs = Runs((r.name, r) for r in d.runs)
        s.seen = {name: seq for name, seq in d.seen.items() if seq >= 0}
        s.enrolled = {name for name, seq in d.seen.items() if seq < 0}
        s.shapes, s.members, s.faults, s.absent = d.shapes, d.members, d.faults, set(d.absent)
        s.maybe_done, s._fresh = d.maybe_done, d.fresh
        s.erased_before, s.spared = d.erased_before, set(d.spared)
        s.ready = [a.id for a in d.activations if a.status == "ready"]
        return s
