"""The decider: turns intentions into events. Pure: its clock, its randomness and its look-ups come from outside.

Every public method is one decision: it returns the events that were applied to the state, to be appended as one.
A method that raises has decided nothing. An empty list means that nothing had to be done (a late worker, say).
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Literal

from stigmergy.blackboard import component as cp
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.decision import OUTSIDE, Draft, Origin
from stigmergy.blackboard.core.enrolment import Enrolment
from stigmergy.blackboard.core.matching import Candidate, Place
from stigmergy.blackboard.core.running import Running
from stigmergy.blackboard.core.timers import Timer
from stigmergy.blackboard.definitions import ONCE
from stigmergy.blackboard.errors import BadComponent, NotFound, StigmergyError, UndeclaredOutput
from stigmergy.blackboard.events import ErrorInfo, Event, Reason
from stigmergy.blackboard.exhaustion import LimitReached
from stigmergy.blackboard.payloads.types import check_text
from stigmergy.blackboard.redaction import storable

DEFAULT_RUN = "main"
PAUSED: Reason = "waiting"
"""Why a run is closed that a person paused, and that only a person resumes."""
Late = tuple[dict[str, int], dict[str, list[Artifact[Any]]], list[tuple[Artifact[Any], set[str]]]]
"""What those that enroll are late for: subscription -> after which position it missed artifacts, subscription -> what
waits in places that changed, and the artifacts that are to be offered now, with to which subscriptions."""


class Decider(Running):
    """Decides everything that happens on one board."""

    # -- publishing -----------------------------------------------------------------------------------------------

    def publish(self, drafts: Sequence[Draft], now: float, origin: Origin = OUTSIDE) -> list[Event]:
        """Put artifacts on the board, all or none.

        Raises:
            PublishError: one of them is refused; nothing was published.
        """
        self._begin(now)
        new = self._check(drafts, origin.run or DEFAULT_RUN)
        matches = [self._match(d, origin) for d in new]
        for d, m in zip(new, matches, strict=True):
            self._publish(d, origin, m, d.run or origin.run or DEFAULT_RUN)
        return self._finish()

    def release(self, artifact: int, by: str, now: float) -> list[Event]:
        """Offer a held artifact.

        Raises:
            NotFound: it is not held.
        """
        if artifact not in self.state.held:
            raise NotFound(f"artifact {artifact} is not held, so it cannot be released.")
        self._begin(now)
        self._release(artifact, by)
        return self._finish()

    def _release(self, id: int, by: str) -> None:
        try:
            artifact = self._held_now.get(id) or self.past.artifact(id)
        except StigmergyError as error:  # its type has changed since, and events of this decision are out already
            self._emit(ev.Withdrawn(by=by, reason=f"it cannot be read: {error}"), id)
            return
        alive = self.state.alive[id]
        candidate = Candidate(
            artifact.type_name, artifact.payload, artifact.producer, artifact.tags, artifact.visibility,
            alive.ancestors,
        )  # fmt: skip
        takes, own = self.index.match(candidate, self._at, artifact.at)
        takes = [take for take in takes if not self._was_offered(id, take.place)]
        unserved = not takes and self._is_missed(artifact.type_name, artifact.payload, artifact.producer)
        self._emit(ev.Released(by=by, self_skipped=own, unserved=unserved), id)
        for take in takes:
            self._offer(take, id, artifact.run, artifact.priority, artifact.depth)

    def _was_offered(self, artifact: int, place: Place) -> bool:
        """Whether this agent was offered the artifact while it was held, to review it."""
        held = self.state.held.get(artifact)
        return held is not None and held.by == place.agent.name and self._has_had(place.agent.name, artifact)

    def _has_had(self, agent: str, artifact: int) -> bool:
        """Whether the agent took the artifact once."""
        for e in (*self.past.following(artifact), *(e for e in self._events if e.cause == artifact)):
            if isinstance(e, ev.Activated) and e.agent == agent:
                return True
            if isinstance(e, ev.Matched) and e.subscription.rpartition("/")[0] == agent:
                return True
        return False

    # -- time -----------------------------------------------------------------------------------------------------

    def wake(self, now: float) -> list[Event]:
        """Do everything that is due."""
        self._begin(now)
        while (timer := self.timers.pop(self._at)) is not None:
            self._ring(timer)
        return self._finish()

    def _ring(self, timer: Timer) -> None:
        id = timer.subject
        if timer.kind == "alarm":
            self._alarms.pop(timer.detail, None)
            self._rung[timer.detail] = timer.due
            self._emit(ev.Rang(timer="alarm", component=timer.detail))
            if timer.detail not in self.observers.faulted:
                self.observers.changed.add(timer.detail)
            return
        if timer.kind == "timeout":
            a = self.state.activations[id]
            spec = self.index.agents[a.agent]
            error = ErrorInfo("TimeoutError", f"no result after {spec.timeout:g} s")
            self.stopped.append((a.fence, a.agent))
            self._fail(a, "timeout", error, self._at - a.claimed_at, spec.retry, "", keeps_place=True)
            return
        self._emit(ev.Rang(timer=timer.kind), id)
        if timer.kind == "visible":
            self._release(id, "visibility")
        elif timer.kind == "group":
            subscription = self.index.subscriptions[timer.detail]
            place = self.state.waiting[timer.detail][id]
            while id in self.state.waiting[timer.detail]:
                if not self._fire_partly(subscription, place.scope, place.key, id):
                    self._expire(subscription, [id], "window")
        elif timer.kind in ("retry", "hold"):
            a = self.state.activations[id]
            if timer.kind == "hold":
                self._let_go(a)
            self._emit(ev.Released(by=timer.kind), id)

    def fire_at_idle(self, now: float) -> list[Event]:
        """Fire what waits "until nothing else can run"."""
        self._begin(now)
        for id, subscription in self.index.subscriptions.items():
            places = self.state.waiting.get(id)
            if not places or subscription.within != "idle":
                continue
            for scope, key in dict.fromkeys((p.scope, p.key) for p in places.values()):
                if subscription.groups > 1:
                    feed = self._complete.get((id, scope), [])
                    self._fire(subscription, scope, max(1, min(len(feed), subscription.groups)))
                else:
                    while (id, scope, key) in self.state.groups and self._fire_partly(subscription, scope, key):
                        pass
        return self._finish()

    # -- the board ------------------------------------------------------------------------------------------------

    def open(
        self, version: str, durability: str, window: int, now: float, enrolments: Sequence[Enrolment] = ()
    ) -> list[Event]:
        """Take ownership, and let agents and components take part (see `enroll`).

        After an unclean stop `window` positions are skipped, so that no id is dealt twice, and what was running then
        is looked at with suspicion. It is one decision, because what components publish when they see it is offered
        to all agents, and must not be offered again as something that they missed.
        """
        state = self.state
        clean = state.quiet
        gap = 0 if clean else window
        late = self._late(enrolments)
        self._begin(now)
        self._tx += gap
        self._emit(
            ev.Opened(epoch=state.epoch + 1, clean=clean, gap=gap, version=version, durability=durability), gap=gap
        )
        for id in sorted(state.running):
            a = state.activations[id]
            error = ErrorInfo("Crashed", "the process ended while this was running")
            self._fail(a, "crashed", error, 0.0, ONCE, "")
        for name in [name for name in self._held if name not in self.observers.components]:
            for id in self._held.pop(name):
                self._emit(ev.Released(by=name), id)
        self._enroll(enrolments, late)
        self.observers.changed.update(self._held)  # one of another version has another state
        return self._finish()

    def enroll(self, enrolments: Sequence[Enrolment], now: float) -> list[Event]:
        """Let agents and components take part; offer what was published while they were away."""
        late = self._late(enrolments)
        self._begin(now)
        self._enroll(enrolments, late)
        return self._finish()

    def _late(self, enrolments: Sequence[Enrolment]) -> Late:
        """What is to be offered to those that enroll; read before the first event, since reading may raise."""
        state = self.state
        missed: dict[str, int] = {}
        anew: dict[str, list[Artifact[Any]]] = {}
        for e in enrolments:
            for id, shape in e.shapes.items():
                subscription = self.index.subscriptions[id]
                after = state.seen.get(id, 0 if subscription.since == "start" else None)
                if id not in state.enrolled and after is not None:
                    missed[id] = after
                if state.shapes.get(id, shape) != shape:
                    anew[id] = [self.past.artifact(artifact) for artifact in sorted(state.waiting.get(id, ()))]
        types = {slot.type_name for id in missed for slot in self.index.subscriptions[id].slots}
        offered = self.past.since(types, min(missed.values()), self.state.is_erased) if missed else []
        to_offer = [(at, artifact, {id for id, after in missed.items() if at > after}) for at, artifact in offered]
        for e in enrolments:
            held = [h.id for h in state.held.values() if e.shapes and h.by == e.name]
            unseen = [id for id in held if not self._has_had(e.name, id)]
            to_offer += [(id, self.past.artifact(id), set(e.shapes)) for id in unseen]
        to_offer.sort(key=lambda offer: offer[0])
        return missed, anew, [(artifact, subscriptions) for _, artifact, subscriptions in to_offer]

    def _enroll(self, enrolments: Sequence[Enrolment], late: Late) -> None:
        missed, anew, offered = late
        for e in enrolments:
            since = min((missed[id] for id in e.shapes if id in missed), default=self.state.seq)
            self._emit(ev.Enrolled(
                name=e.name, role=e.role, fingerprint=e.fingerprint, since=since, subscriptions=e.shapes, phase=e.phase,
            ))  # fmt: skip
            for id in e.shapes:
                if id in anew:
                    self._offer_anew(id, anew[id])
                for _, scope in [feed for feed in self._complete if feed[0] == id]:  # it may ask for fewer groups now
                    self._fire(self.index.subscriptions[id], scope, self.index.subscriptions[id].groups)
        unrecorded, self.observers.unrecorded = self.observers.unrecorded, {}
        for name, error in unrecorded.items():
            self._record_fault(name, error, 0)
        for artifact, subscriptions in offered:
            self._offer_to(subscriptions, artifact)

    def _offer_anew(self, id: str, waiting: Sequence[Artifact[Any]]) -> None:
        """The shape of a subscription changed: what waits in its old places is offered to the new ones."""
        for artifact in waiting:
            self._give_up(id, artifact.id, "changed")
        for artifact in waiting:
            self._offer_to({id}, artifact, anew=True)

    def _offer_to(self, subscriptions: set[str], artifact: Artifact[Any], *, anew: bool = False) -> None:
        event = self.past.event(artifact.id)
        if not isinstance(event, ev.Published):
            return
        reviewer = event.held_by
        only = reviewer if artifact.id in self.state.held else ""
        candidate = Candidate(
            event.type, artifact.payload, event.producer, event.tags, event.visibility, event.ancestors, only
        )
        takes, _ = self.index.match(candidate, self._at, event.at)
        takes = [t for t in takes if t.place.subscription.id in subscriptions]
        if reviewer and not anew:  # who had it for review is not offered it again when it is released
            takes = [t for t in takes if t.place.agent.name != reviewer or not self._has_had(reviewer, event.seq)]
        if takes and artifact.id not in self.state.alive:
            self._recall([event], artifact.id)
        for take in takes:
            self._offer(take, artifact.id, event.run, event.priority, event.depth)

    def next_work_due(self) -> float | None:
        """The next deadline that work waits for; a component's alarm is none."""
        timer = self.timers.next_work()
        return timer.due if timer is not None else None

    def why_idle(self) -> tuple[Reason, str]:
        """Why nothing can run now, with the evidence."""
        state = self.state
        for run in state.runs.values():
            if run.closed:
                return run.closed, run.detail
        if self.parked:
            return "budget", _first_of(list(dict.fromkeys(self.parked.values())))
        if self.observers.faulted:
            return "component_failed", ", ".join(sorted(self.observers.faulted))
        if asked := self._waits_outside():
            return asked
        waiting, soonest = self.timers.work()
        if waiting:
            return "waiting", f"{waiting} for a deadline, the next in {soonest - state.at:.1f} s"
        stuck = [a for a in state.activations.values() if a.status == "blocked" or a.status == "held"]
        if stuck:
            first = stuck[0]
            why = f"work {first.blockers[0]!r}" if first.blockers else f"{first.held_by}: {first.reason}"
            return "deadlock", f"{len(stuck)} can never start; {first.agent}@{first.id} waits for {why}"
        return "idle", ""

    def _waits_outside(self) -> tuple[Reason, str] | None:
        """Whether some component waits for the world outside."""
        for c in self.observers.components.values():
            try:
                detail = storable(c.waiting(self.observers.states[c.name]) or "")
            except Exception as error:  # noqa: BLE001  user code: it is the reason why the run ends
                return "component_failed", f"{c.name}: waiting() raised {type(error).__name__}: {error}"
            if detail:
                return "waiting", detail
        return None

    def short(self) -> dict[str, str]:
        """Run -> the limits that keep open work of it from starting."""
        found: dict[str, dict[str, None]] = {}
        for id, why in self.parked.items():
            if why != "closed":
                found.setdefault(self.state.activations[id].run, {})[why] = None
        return {run: _first_of(list(reasons)) for run, reasons in found.items()}

    def idle(
        self, reason: Reason, detail: str, now: float, short: Mapping[str, str] = MappingProxyType({})
    ) -> list[Event]:
        """Announce that nothing is left to do, and which runs are short of what; components may add work."""
        self._begin(now)
        drafts = [(run, self.past.draft(LimitReached(why=why))) for run, why in short.items()]
        for run, d in drafts:
            d.run, d.key = run, f"limit/{blake2b(d.data, digest_size=12).hexdigest()}"
        new = [d for run, d in drafts if self._is_new(d, run, {}, {})]  # of any size: no limit silences its own notice
        cause = self._emit(ev.Idled(reason=reason, detail=detail, short=dict(short)))
        for d in new:
            origin = Origin("limits", cause, d.run, system=True)
            self._publish(d, origin, self._match(d, origin), d.run)
        return self._finish()

    def close_run(
        self, run: str, reason: Reason, detail: str, by: str, stop: Literal["park", "cancel"], now: float
    ) -> list[Event]:
        """Stop a run: park its open work, or cancel it."""
        self._begin(now)
        self._close(run, reason, detail, by, stop)
        return self._finish()

    def _close(self, run: str, reason: Reason, detail: str, by: str, stop: Literal["park", "cancel"]) -> None:
        if self.state.run(run).closed:
            return
        self._emit(ev.Closed(run=run, reason=reason, detail=detail, by=by, stop=stop))
        if stop == "cancel":
            for a in [a for a in self.state.activations.values() if a.run == run]:
                if a.id in self.state.activations:  # not ended with what it waited for
                    self._end(a.id, "cancelled", detail or reason)

    def resume_runs(self, now: float) -> list[Event]:
        """Let closed runs go on, but for those that were paused, and ask again about everything that was parked."""
        self._begin(now)
        for run in [r.name for r in self.state.runs.values() if r.closed not in ("", PAUSED)]:
            self._emit(ev.Resumed(run=run))
        self._unpark()
        return self._finish()

    def resume_run(self, run: str, now: float) -> list[Event]:
        """Let a run go on that was paused."""
        self._begin(now)
        if self.state.run(run).closed:
            self._emit(ev.Resumed(run=run))
            self._unpark()
        return self._finish()

    def _unpark(self) -> None:
        self.state.ready += self.parked
        self.parked = {}
        self._queue_ready()

    def leave(self, now: float) -> list[Event]:
        """Give up the board in good order: running bodies were stopped, and nothing is lost."""
        self._begin(now)
        for id in sorted(self.state.running):
            self._fail(self.state.activations[id], "interrupted", ErrorInfo("Interrupted", "the board was closed"),
                       0.0, ONCE, "")  # fmt: skip
        self._emit(ev.Closed(by="owner", reason="idle"))
        return self._finish()

    def erase(self, before: int, keep: Sequence[int], now: float) -> list[Event]:
        """Put on record that payloads are gone, and what the components know by now, since they cannot be shown again.

        Raises:
            BadComponent: the state of a component is no data, or it is not here.
        """
        books = self.observers.books()
        for name, member in self.state.roster.items():
            if member.role == "component" and name not in books:
                raise BadComponent(
                    f"component {name!r} takes part in this board and is not here, so that what it knows would be lost "
                    "with what is erased. Erase with the program that has it."
                )
        self._begin(now)
        self._emit(ev.Erased(before=before, keep=list(keep), states=books))
        return self._finish()

    # -- reactions ------------------------------------------------------------------------------------------------

    def _carry_out(self, reaction: cp.Reaction, origin: Origin) -> None:
        run = origin.run or DEFAULT_RUN
        match reaction:
            case cp.Publish():
                if type(reaction.payload) not in self.observers.components[origin.producer].publishes:
                    name = type(reaction.payload).__name__
                    raise UndeclaredOutput(f"{origin.producer!r} published {name}. Add it to its publishes = (…).")
                for text in (reaction.key, reaction.run, *reaction.tags):
                    check_text("name", text or "")
                d = self.past.draft(reaction.payload)
                d.key, d.run = reaction.key, reaction.run or run
                d.tags, d.priority = [*d.tags, *reaction.tags], reaction.priority or d.priority
                d.visibility = self._narrowed(reaction)
                for new in self._check([d]):
                    self._publish(new, origin, self._match(new, origin), new.run)
            case cp.Release():
                if reaction.id in self.state.held:
                    self._release(reaction.id, origin.producer)
                elif reaction.id in self._held.get(origin.producer, {}):
                    self._let_go(self.state.activations[reaction.id])
                    self._emit(ev.Released(by=origin.producer), reaction.id)
            case cp.Withdraw():
                if reaction.id in self.state.held:
                    self._emit(ev.Withdrawn(by=origin.producer, reason=reaction.reason), reaction.id)
            case cp.Close():
                self._close(reaction.run or run, reaction.reason, reaction.detail, origin.producer, reaction.stop)
            case cp.Cancel():
                if reaction.id in self.state.activations:
                    self._end(reaction.id, "cancelled", f"{origin.producer}: {reaction.reason}")
            case cp.Redrive():
                edits, unknown = self.edits_of(reaction.id, reaction.edited or {})
                self._try_again(reaction.id, edits, reaction.agent, origin.producer, unknown)
            case cp.Discard():
                self._discard(reaction.id, f"{origin.producer}: {reaction.reason}", origin.producer)


def _first_of(reasons: Sequence[str]) -> str:
    more = f" and {len(reasons) - 2:,} more" if len(reasons) > 2 else ""
    return "; ".join(reasons[:2]) + more
