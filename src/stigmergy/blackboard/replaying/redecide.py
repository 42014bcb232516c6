"""A recorded log, decided anew: the recorded intentions are given to a decider with the definitions of today.

What is taken from the record is what came from outside the core: artifacts from outside, what bodies returned and how
attempts failed, effects and their outcomes, which ready activation a worker took, the time, and who took part. All
else is derived again: matches, places, activations, deadlines, retries, ends, and whatever components do. The order
in which agents and components were enrolled is the order in which they are asked.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from stigmergy.blackboard import component as cp
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.agenda import Agenda
from stigmergy.blackboard.core.decider import PAUSED, Decider
from stigmergy.blackboard.core.decision import PERSON, Draft, Origin
from stigmergy.blackboard.core.drafting import draft_of
from stigmergy.blackboard.core.enrolment import Enrolment
from stigmergy.blackboard.core.matching import Index
from stigmergy.blackboard.core.observers import AnyComponent, Observers, overrides
from stigmergy.blackboard.core.records import Activation
from stigmergy.blackboard.core.redriving import DISCARDED, Edited
from stigmergy.blackboard.core.running import over_limit
from stigmergy.blackboard.core.state import State
from stigmergy.blackboard.definitions import ONCE, Limits
from stigmergy.blackboard.errors import NotFound
from stigmergy.blackboard.events import ErrorInfo, Event, Published
from stigmergy.blackboard.opaque import Opaque
from stigmergy.blackboard.payloads.envelope import opened
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.stores.base import Reader, Row
from stigmergy.blackboard.stores.rows import decode


class Cast(Observers):
    """The components of today. Those that took no part at a moment only watch, as they will when they join later."""

    def __init__(self, components: Sequence[AnyComponent]) -> None:
        super().__init__(components)
        self._everybody = dict(self.components)
        self._broken: dict[str, ErrorInfo] = {}
        """Who raised while only watching; that is recorded when the board is opened with them."""
        self.seat(())

    def seat(self, names: Sequence[str]) -> None:
        """From here on these take part, in this order."""
        self.components = {name: self._everybody[name] for name in names}
        seated = list(self.components.values())
        self.admitting = [c for c in seated if overrides(c, "admit")]
        self.reviewing = [c for c in seated if overrides(c, "review")]
        self.alarming = [c for c in seated if overrides(c, "alarm")]
        self._by_kind, self._by_type, self._all = {}, {}, []
        for c in (*seated, *(c for name, c in self._everybody.items() if name not in self.components)):
            self._index(c)
        self.unrecorded = {name: error for name, error in self._broken.items() if name in self.components}

    def enroll(self, versions: Mapping[str, str]) -> None:
        """Components count as the versions that took part then; one that another replaced is in service again."""
        self.faulted -= {name for name, version in versions.items() if self.versions.get(name) != version}
        self.versions.update(versions)

    def recorded(self) -> None:
        """Who raised before it took part is on the log now."""
        for name in self.components.keys() & self._broken:
            del self._broken[name]
        self.unrecorded = {}

    def step(
        self, event: Event, artifact: Callable[[], Artifact[Any]] | None, activation: cp.ActivationRequest | None
    ) -> tuple[cp.Seen | None, Sequence[AnyComponent], list[tuple[str, ErrorInfo]]]:
        """Fold one event into everybody; only who takes part may react or fail on record."""
        seen, may_react, faults = super().step(event, artifact, activation)
        if len(self.components) == len(self._everybody):
            return seen, list(may_react), faults
        self._broken.update((name, error) for name, error in faults if name not in self.components)
        self.changed.intersection_update(self.components)
        here = [fault for fault in faults if fault[0] in self.components]
        return seen, [c for c in may_react if c.name in self.components], here


class RecordedPast:
    """What a decision could look up when it was made: the log before it."""

    def __init__(self, reader: Reader, types: TypeTable) -> None:
        self._reader = reader
        self._types = types
        self.before = 1
        """The first position of the decision that is made."""

    def _known(self, row: Row | None) -> Event | None:
        return decode(row) if row is not None and row.seq < self.before else None

    def key(self, run: str, key: str) -> tuple[int, str] | None:
        """Id and digest of the artifact with this key."""
        event = self._known(self._reader.by_key(run, key))
        return (event.seq, event.digest) if isinstance(event, Published) else None

    def work(self, run: str, work: str) -> int | None:
        """Id of the artifact with this work id."""
        row = self._reader.by_work(run, work)
        return row.seq if row is not None and row.seq < self.before else None

    def event(self, id: int) -> Event | None:
        """The event at that position."""
        return self._known(self._reader.event(id))

    def following(self, cause: int) -> list[Event]:
        """The events with that cause, in log order."""
        return [decode(row) for row in self._reader.following(cause) if row.seq < self.before]

    def artifact(self, id: int) -> Artifact[Any]:
        """An artifact with its typed payload."""
        event = self.event(id)
        if not isinstance(event, Published):
            raise NotFound(f"there is no artifact {id}.")
        return self._open(event)

    def _open(self, event: Published) -> Artifact[Any]:
        return opened(self._types, event)

    def since(self, types: set[str], after: int, erased: Callable[[int], bool]) -> list[tuple[int, Artifact[Any]]]:
        """The artifacts of these types that were offered after that position, with where they were, in that order; of a
        board that is replayed nothing is erased."""
        until = self.before - 1
        offered: dict[int, Published] = {}
        for name in types:
            for row in self._reader.artifacts(name, after=after, until=until):
                event = decode(row)
                if isinstance(event, Published) and not event.held_by and not event.replaces:
                    offered[event.seq] = event
        for row in self._reader.events(after, until, kinds=("Released",)):
            released = self.event(row.cause)
            if isinstance(released, Published) and released.type in types:
                offered[row.seq] = released
        return [(at, self._open(offered[at])) for at in sorted(offered)]

    def draft(self, payload: BaseModel) -> Draft:
        """A component's payload, checked and encoded."""
        return draft_of(self._types, payload)


class Unordered(Agenda):
    """No order of its own: which ready activation a worker took is taken from the record."""

    def __init__(self) -> None:
        super().__init__({})

    def add(self, a: Activation) -> None:
        """It is ready, as its status says."""

    def remove(self, activation: int) -> None:
        """It is no longer ready, as its status says."""

    def occupy(self, agent: str) -> None:
        """How many bodies really ran is not on the log."""

    def free(self, agent: str) -> None:
        """How many bodies really ran is not on the log."""


class Redecider(Decider):
    """Decides what was decided before, with the definitions of today."""

    def __init__(self, state: State, index: Index, cast: Cast, past: RecordedPast, limits: Limits) -> None:
        super().__init__(state, index, cast, past, limits)
        self.agenda = Unordered()
        self._asked: Sequence[int] = ()
        self.refused = ""
        """Why the activation that was claimed then cannot be claimed now, or its effect not begin."""

    def again(self, recorded: Sequence[Event], drafts: Sequence[Draft]) -> list[Event]:
        """The events that follow now from the intention behind a recorded decision.

        Args:
            drafts: what it published from outside or out of a body, in order (see `given`).

        Raises:
            NotImplementedError: nothing is known that begins like this decision.
        """
        first = recorded[0]
        now, state = first.at, self.state
        if first.__class__ is ev.Claimed:  # every second decision; the cases are tried in turn
            return self._claim_again(recorded, now)
        self.stopped.clear()
        match first:
            case ev.Held() | ev.Ended(outcome="skipped"):
                return self._claim_again(recorded, now)
            case ev.Completed():
                a = state.activations[first.cause]
                retry = self.index.agents[a.agent].retry
                return self.complete(a.id, a.fence, drafts, first.seconds, now, retry)
            case ev.Published(cause=0):
                return self.publish(drafts, now, PERSON if first.system else Origin(first.producer))
            case ev.Published():
                return self.publish(drafts, now, self._origin_again(first))
            case ev.Calling():
                return self._call_again(first, now)
            case ev.Called(outcome="cancelled"):  # booked with the end of its activation, which follows
                return self.again(recorded[1:], drafts)
            case ev.Called():
                return self.called(first.cause, ev.Called(
                    activation=first.activation, key=first.key, outcome=first.outcome, error=first.error,
                    seconds=first.seconds, cost=first.cost, tokens=first.tokens, payload=first.payload,
                    unpriced=first.unpriced,
                ), now)  # fmt: skip
            case ev.Rang() | ev.Failed(kind="timeout"):
                return self.wake(now)
            case ev.Failed():
                return self._fail_again(recorded, first, now)
            case ev.Faulted():
                return self._fault_again(recorded, first, drafts)
            case ev.Activated():
                return self.fire_at_idle(now)
            case _:
                return self._steer_again(recorded, first, now)

    def _steer_again(self, recorded: Sequence[Event], first: Event, now: float) -> list[Event]:
        """What people and the owner of the board do."""
        match first:
            case ev.Idled():
                return self.idle(first.reason, first.detail, now, first.short)
            case ev.Opened():
                window = 0 if first.clean else first.gap
                return self.open(first.version, first.durability, window, now, enrolments(recorded))
            case ev.Enrolled():
                return self.enroll(enrolments(recorded), now)
            case ev.Closed(run="", by="owner"):
                return self.leave(now)
            case ev.Closed():
                return self.close_run(first.run, first.reason, first.detail, first.by, first.stop, now)
            case ev.Resumed() if self.state.run(first.run).closed == PAUSED:
                return self.resume_run(first.run, now)
            case ev.Resumed():
                return self.resume_runs(now)
            case ev.Ended(outcome="cancelled") | ev.Expired(reason="cancelled") | ev.Withdrawn(by="person"):
                ended = [e for e in recorded if isinstance(e, ev.Ended) and isinstance(first, ev.Ended)
                         and (e.outcome, e.reason) == (first.outcome, first.reason)]  # fmt: skip
                reason = "" if isinstance(first, ev.Expired) else first.reason
                by_hand = [e for e in recorded if (isinstance(e, ev.Expired) and e.reason == "cancelled")
                           or (isinstance(e, ev.Withdrawn) and e.by == PERSON.producer)]  # fmt: skip
                waiting = dict.fromkeys(e.cause for e in by_hand)
                return self.cancel([e.cause for e in ended], reason, now, waiting=list(waiting))
            case ev.Redriven():
                return self._redrive_again(recorded, first, now)
            case ev.Released() | ev.Withdrawn():
                return self.release(first.cause, first.by, now)
            case _:
                raise NotImplementedError(f"no decision is known that begins with {type(first).__name__}")

    def _redrive_again(self, recorded: Sequence[Event], first: ev.Redriven, now: float) -> list[Event]:
        [again] = [e for e in recorded if isinstance(e, ev.Activated) and e.redriven == first.cause][:1]
        ended = next((e for e in recorded if isinstance(e, ev.Ended) and e.cause == again.seq), None)
        if ended is not None and ended.outcome == "skipped":
            return self.discard(first.cause, ended.reason.removeprefix(DISCARDED), now)
        replaced = [e for e in recorded if isinstance(e, Published) and e.replaces]
        edits = {e.replaces: Edited(e.payload, e.version, e.schema) for e in replaced}
        by = replaced[0].producer if replaced else ""
        return self.redrive(first.cause, now, edits=edits, agent=again.agent, by=by)

    # -- claims ---------------------------------------------------------------------------------------------------

    def _claim_again(self, recorded: Sequence[Event], now: float) -> list[Event]:
        """Ask for the same activations in the same order, until one may start."""
        self.refused = ""
        first = recorded[0]
        if isinstance(first, ev.Claimed):  # nothing was held or denied before it
            self._asked = (first.cause,)
            return self.claim(now, first.worker)[0]
        asked = [
            e for e in recorded
            if isinstance(e, ev.Claimed | ev.Held) or (isinstance(e, ev.Ended) and e.outcome == "skipped")
        ]  # fmt: skip
        self._asked = [e.cause for e in asked]
        return self.claim(now, asked[-1].worker if isinstance(asked[-1], ev.Claimed) else "")[0]

    def _next_suspect(self) -> Activation | None:
        if self.state.running:
            return None
        for id in [i for i in self.suspects if self.state.run(self.state.activations[i].run).closed]:
            self.suspects.remove(id)
            self.parked[id] = "closed"
        wanted = self._asked[0]
        if wanted in self.suspects:
            self.suspects.remove(wanted)
            return self.state.activations[wanted]
        if self.suspects:
            self.refused = "what ran when a process died goes first, alone"
        return None

    def _next(self) -> Activation | None:
        running = self.state.running
        if len(running) == 1 and self.state.activations[next(iter(running))].alone:
            self.refused = "what ran when a process died runs alone"
            return None
        for id in self._asked:
            a = self.state.activations.get(id)
            if a is None or a.status != "ready":
                self.refused = f"activation {id} is {a.status if a is not None else 'not open'}"
                return None
            if self.state.run(a.run).closed:
                self.refused = f"run {a.run!r} is closed"
                return None
            if why := over_limit(a, self.state.run(a.run), self.limits):
                self.refused = f"limit: {why}"
                return None
            if not self.observers.admitting or self._admitted(a):
                return a
            if id in self.parked:
                self.refused = f"component: {self.parked[id]}"
        return None

    def _origin_again(self, first: Published) -> Origin:
        if first.cause in self.state.activations:
            return self.origin_of(first.cause)
        # A test played it in the place of an agent that was muted, whose activation had ended by then.
        return Origin(first.producer, first.cause, first.run, first.root, first.depth, first.ancestors)

    def _call_again(self, first: ev.Calling, now: float) -> list[Event]:
        a = self.state.activations[first.cause]
        event = ev.Calling(key=first.key, name=first.name, digest=first.digest, cost=first.cost, tokens=first.tokens,
                           until=first.until, unpriced=first.unpriced)  # fmt: skip
        events, refusal = self.calling(a.id, a.fence, event, now)
        self.refused = refusal.reason if isinstance(refusal, cp.Hold) else str(refusal or "")
        return events

    # -- failures -------------------------------------------------------------------------------------------------

    def _fail_again(self, recorded: Sequence[Event], first: ev.Failed, now: float) -> list[Event]:
        if any(isinstance(e, ev.Closed) and not e.run for e in recorded):
            return self.leave(now)
        if first.kind == "rejected":
            return self._reject_again(first, ())
        a = self.state.activations[first.cause]
        error = first.error or ErrorInfo("", "")
        return self.fail(a.id, a.fence, error, first.seconds, now, self.index.agents[a.agent].retry, first.kind)

    def _reject_again(self, failed: ev.Failed, faults: Sequence[ev.Faulted]) -> list[Event]:
        """What was rejected is not on the log, so that a review that refused is believed."""
        a = self.state.activations[failed.cause]
        self._begin(failed.at)
        for fault in faults:
            self._believe(fault)
        retry = self.index.agents[a.agent].retry if failed.retry_at is not None else ONCE
        self._fail(a, "rejected", failed.error or ErrorInfo("", ""), failed.seconds, retry, failed.feedback)
        return self._finish()

    def _fault_again(self, recorded: Sequence[Event], first: ev.Faulted, drafts: Sequence[Draft]) -> list[Event]:
        """A component raised when it was asked, before anything else was decided."""
        for i, e in enumerate(recorded):
            if isinstance(e, ev.Held | ev.Claimed) or (isinstance(e, ev.Ended) and e.outcome == "skipped"):
                return self._claim_again(recorded, first.at)
            if isinstance(e, ev.Failed) and e.kind == "rejected":
                return self._reject_again(e, [f for f in recorded[:i] if isinstance(f, ev.Faulted)])
            if isinstance(e, ev.Calling | ev.Completed):
                return self.again([e, *recorded], drafts)
        self._begin(first.at)  # an effect was refused; which one is not on the log
        self._believe(first)
        return self._finish()

    def _believe(self, fault: ev.Faulted) -> None:
        self.observers.fault(fault.component)
        self._record_fault(fault.component, fault.error, self.state.seq)


def enrolments(recorded: Sequence[Event]) -> list[Enrolment]:
    """Who was enrolled in a decision, as recorded."""
    return [
        Enrolment(e.name, e.role, e.fingerprint, e.subscriptions, e.phase)
        for e in recorded if isinstance(e, ev.Enrolled)
    ]  # fmt: skip


def given(recorded: Sequence[Event]) -> list[Published]:
    """What a decision published from outside or out of a body; the rest follows from it."""
    return [e for e in recorded if isinstance(e, Published) and not (e.system and e.cause)]


UNREAD = Opaque(None)


def draft_again(types: TypeTable, event: Published, *, unread: bool = False) -> Draft:
    """The draft of a recorded artifact, its payload read into today's class.

    Args:
        unread: nobody looks into the payload, so that it need not be read.

    Raises:
        InvalidPayload: today's class cannot read it.
    """
    delayed = event.visibility is not None and event.visibility.after
    return Draft(
        UNREAD if unread else opened(types, event).payload, event.payload, event.type,
        event.version, event.schema, event.run, event.key, event.tags, event.priority, event.visibility,
        "" if delayed else event.held_by, event.work, event.parent_work, event.blocking, event.phase, event.digest,
    )  # fmt: skip
