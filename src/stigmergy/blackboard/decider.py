"""The decider: turns intentions into events. Pure: its clock, its randomness and its look-ups come from outside.

Every public method is one decision: it returns the events that were applied to the state, to be appended as one.
A method that raises has decided nothing. An empty list means that nothing had to be done (a late worker, say).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from stigmergy.blackboard import component as cp
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.decision import OUTSIDE, Draft, Origin, request_of
from stigmergy.blackboard.definitions import ONCE, Retry
from stigmergy.blackboard.errors import CallRefused, NotFound, StigmergyError, WrongFanOut
from stigmergy.blackboard.events import ErrorInfo, Event, Reason
from stigmergy.blackboard.matching import Candidate, Place
from stigmergy.blackboard.offers import Offers
from stigmergy.blackboard.state import Activation
from stigmergy.blackboard.timers import Timer

FailureKind = Literal["error", "timeout", "interrupted", "crashed", "rejected"]
DEFAULT_RUN = "main"
Late = tuple[dict[str, int], dict[str, list[Artifact[Any]]], list[tuple[int, Artifact[Any]]]]
"""What those that enroll are late for: subscription -> after which position it missed artifacts, subscription -> what
waits in places that changed, and the artifacts offered since, with where."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """An agent or component that takes part from now on."""

    name: str
    role: Literal["agent", "component"]
    fingerprint: str
    shapes: dict[str, str]
    phase: str | None = None


class Decider(Offers):
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

    def origin_of(self, activation: int) -> Origin:
        """What the artifacts of an open activation inherit."""
        a = self.state.activations[activation]
        return Origin(a.agent, a.id, a.run, a.root, a.depth + 1, self._ancestors(a))

    def _ancestors(self, a: Activation) -> dict[str, int]:
        """Nearest ancestors by type, of the types that some join asks for; where inputs disagree there is none."""
        if not self.index.ancestors:
            return {}
        found: dict[str, int] = {}
        ambiguous: set[str] = set()
        for id in a.inputs:
            alive = self.state.alive[id]
            mine = {**alive.ancestors, **({alive.type: id} if alive.type in self.index.ancestors else {})}
            for type_name, ancestor in mine.items():
                if found.setdefault(type_name, ancestor) != ancestor:
                    ambiguous.add(type_name)
        return {t: i for t, i in found.items() if t not in ambiguous}

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
        unserved = not takes and (artifact.type_name in self.index.types or artifact.producer == "outside")
        self._emit(ev.Released(by=by, self_skipped=own, unserved=unserved), id)
        for take in takes:
            self._offer(take, id, artifact.run, artifact.priority, artifact.depth)

    def _was_offered(self, artifact: int, place: Place) -> bool:
        """Whether this agent reviewed the artifact while it was held."""
        held = self.state.held.get(artifact)
        return held is not None and held.by == place.agent.name

    # -- running --------------------------------------------------------------------------------------------------

    def claim(self, now: float, worker: str = "") -> tuple[list[Event], Activation | None]:
        """Give the next activation to a worker: the events, and the activation if there is one to run."""
        self._begin(now)
        claimed = self._next_suspect()
        if claimed is None and not self.suspects:
            claimed = self._next()
        if claimed is not None:
            a = self.state.activations[claimed]
            alone = a.suspect
            self._emit(
                ev.Claimed(epoch=self.state.epoch, worker=worker, attempt=a.attempts + 1, alone=alone), claimed
            )
            timeout = self.index.agents[a.agent].timeout
            if timeout is not None:
                self.timers.push(self._at + timeout, "timeout", a.id, str(a.fence))
        events = self._finish()
        return events, self.state.activations.get(claimed) if claimed is not None else None

    def _next_suspect(self) -> int | None:
        """After a crash, what was running then runs alone, one after the other, so that the guilty one is known.

        Who was alone in a crash before comes last, so that a process that is killed from outside blames nobody soon.
        """
        if self.state.running:
            return None
        for id in sorted(self.suspects, key=lambda i: (self.state.activations[i].crashes, i)):
            a = self.state.activations[id]
            self.suspects.remove(id)
            if not self.state.run(a.run).closed:
                self.agenda.occupy(a.agent)
                return id
            self.parked[id] = "closed"
        return None

    def _next(self) -> int | None:
        running = self.state.running
        if len(running) == 1 and self.state.activations[next(iter(running))].alone:
            return None
        while (id := self.agenda.take()) is not None:
            a = self.state.activations[id]
            if self.state.run(a.run).closed:
                self.parked[id] = "closed"
                self.agenda.free(a.agent)
            elif why := self._over(a):
                self.parked[id] = why
                self.agenda.free(a.agent)
            elif not self.observers.admitting or self._admitted(a):
                return id
        return None

    def _over(self, a: Activation) -> str:
        """The limit that keeps an activation from starting; "" if there is none. What once started goes on."""
        run, limits = self.state.run(a.run), self.limits
        if a.fence:
            return ""
        if limits.activations is not None and run.activations >= limits.activations:
            return f"activations {run.activations:,} of {limits.activations:,}"
        if limits.depth is not None and a.depth > limits.depth:
            return f"depth {a.depth:,} of {limits.depth:,}"
        if limits.seconds is not None and run.seconds >= limits.seconds:
            return f"seconds {run.seconds:.1f} of {limits.seconds:.1f}"
        if limits.tokens is not None and run.tokens >= limits.tokens:
            return f"tokens {run.tokens:,} of {limits.tokens:,}"
        if limits.cost is not None and Decimal(run.cost) >= Decimal(limits.cost):
            return f"cost ${run.cost} of ${limits.cost}"
        return ""

    def _admitted(self, a: Activation) -> bool:
        name, answer = self._ask(request_of(a))
        if isinstance(answer, cp.Admit):
            return True
        self.agenda.free(a.agent)
        if isinstance(answer, cp.Hold):
            self._emit(ev.Held(by=name, reason=answer.reason, until=answer.until), a.id)
            self._held.setdefault(name, {})[a.id] = None
            if answer.until is not None:
                self.timers.push(answer.until, "hold", a.id)
        else:
            self._emit(ev.Ended(outcome="skipped", reason=f"{name}: {answer.reason}"), a.id)
        return False

    def _ask(self, request: cp.ActivationRequest | cp.CallRequest) -> tuple[str, cp.Admission]:
        """The first component that does not admit, and its answer. One that raised denies everything: fail closed."""
        for c in self.observers.admitting:
            answer = self._admission(c, request)
            if not isinstance(answer, cp.Admit):
                return c.name, answer
        return "", cp.ADMIT

    def _admission(self, c: cp.Component[Any], request: cp.ActivationRequest | cp.CallRequest) -> cp.Admission:
        if c.name not in self.observers.faulted:
            try:
                answer = c.admit(self.observers.states[c.name], request)
                if not isinstance(answer, cp.Admission):
                    raise TypeError(f"admit() returned {answer!r}, not ADMIT, Hold or Deny")
                return answer
            except Exception as error:  # noqa: BLE001  user code: the component is taken out of service, on record
                self._fault(c.name, error, self.state.seq)
        return cp.Deny("the component failed, so nothing is admitted")

    def _ask_again(self, name: str) -> None:
        """Offer again what a component holds, oldest first, until it holds one again; who is denied now is told so
        by everybody's next claim. What a component holds when it breaks stays held."""
        held = self._held.get(name, {})
        for id in sorted(held, key=lambda i: (self.state.activations[i].at, i)):
            answer = self._admission(self.observers.components[name], request_of(self.state.activations[id]))
            if isinstance(answer, cp.Hold) or name in self.observers.faulted:
                break
            del held[id]
            self._emit(ev.Released(by=name), id)

    def complete(
        self, id: int, fence: int, drafts: Sequence[Draft], seconds: float, now: float, retry: Retry = ONCE
    ) -> list[Event]:
        """Record that a body ended well, with its outputs: all of them or none.

        Raises:
            PublishError: an output is refused; the caller records the failure.
        """
        a = self._held_by_worker(id, fence)
        if a is None:
            return []
        self._begin(now)
        limit = self.limits.fan_out
        if limit is not None and len(drafts) > limit:
            raise WrongFanOut(f"{a.agent!r} returned {len(drafts):,} outputs; the limit is {limit:,} per activation.")
        new = self._check(drafts, a.run)
        origin = self.origin_of(id)
        matches = [self._match(d, origin) for d in new]
        for c in self.observers.reviewing:
            verdict = self._review(c, a, drafts)
            if isinstance(verdict, cp.Reject):
                error = ErrorInfo("Rejected", f"{c.name}: {verdict.feedback}")
                self._fail(a, "rejected", error, seconds, retry if verdict.retry else ONCE, verdict.feedback)
                return self._finish()
        self._emit(ev.Completed(outputs=len(new), seconds=seconds), id)
        self.agenda.free(a.agent)
        for d, m in zip(new, matches, strict=True):
            self._publish(d, origin, m, d.run or a.run)
        return self._finish()

    def _review(self, c: cp.Component[Any], a: Activation, drafts: Sequence[Draft]) -> cp.Verdict:
        if c.name in self.observers.faulted:
            return cp.Reject("the component failed, so nothing passes its review")
        try:
            verdict = c.review(self.observers.states[c.name], request_of(a), tuple(d.payload for d in drafts))
            if not isinstance(verdict, cp.Verdict):
                raise TypeError(f"review() returned {verdict!r}, not ACCEPT or Reject")
            return verdict
        except Exception as error:  # noqa: BLE001  user code: the component is taken out of service, on record
            self._fault(c.name, error, self.state.seq)
            return cp.Reject(f"review raised {type(error).__name__}: {error}")

    def _held_by_worker(self, id: int, fence: int) -> Activation | None:
        a = self.state.activations.get(id)
        return a if a is not None and a.status == "running" and a.fence == fence else None

    def fail(
        self, id: int, fence: int, error: ErrorInfo, seconds: float, now: float, retry: Retry = ONCE,
        kind: FailureKind = "error", *, keeps_place: bool = False,
    ) -> list[Event]:  # fmt: skip
        """Record that an attempt ended badly: it is repeated later, or it is a dead letter.

        Args:
            keeps_place: the body cannot be stopped and still runs; `freed` is called when it has ended.
        """
        a = self._held_by_worker(id, fence)
        if a is None:
            return []
        self._begin(now)
        self._fail(a, kind, error, seconds, retry, "", keeps_place=keeps_place)
        return self._finish()

    def _fail(
        self, a: Activation, kind: FailureKind, error: ErrorInfo, seconds: float, retry: Retry, feedback: str,
        *, keeps_place: bool = False,
    ) -> None:  # fmt: skip
        attempts = a.attempts + 1
        guilty = kind == "crashed" and a.alone
        if not keeps_place:
            self.agenda.free(a.agent)
        retry_at: float | None = None
        reason = f"{attempts} attempts" if attempts > 1 else ""
        if kind in ("interrupted", "crashed"):
            retry_at = self._at
            spec = self.index.agents.get(a.agent)
            if guilty and spec is not None and a.crashes + 1 >= spec.max_crashes:
                retry_at, reason = None, "kills_process"
        elif attempts < retry.attempts:
            retry_at = self._at + retry.delay(attempts)
        event = ev.Failed(
            kind=kind, error=error, seconds=seconds, retry_at=retry_at, guilty=guilty, feedback=feedback
        )
        self._emit(event, a.id)
        if retry_at is None:
            self._end(a.id, "dead_letter", reason, error)
        elif retry_at > self._at:
            self.timers.push(retry_at, "retry", a.id)

    def freed(self, agent: str) -> None:
        """A body that had been given up has really ended."""
        self.agenda.free(agent)

    def cancel(self, ids: Sequence[int], reason: str, now: float) -> list[Event]:
        """End open activations as cancelled."""
        self._begin(now)
        for id in ids:
            if id in self.state.activations:
                self._end(id, "cancelled", reason)
        return self._finish()

    def redrive(self, id: int, now: float) -> list[Event]:
        """Try a dead letter again, with the same inputs.

        Raises:
            NotFound: there is no such activation, or its agent is not here.
        """
        self._begin(now)
        self._redrive(id)
        return self._finish()

    def _redrive(self, id: int) -> None:
        now = {e.seq: e for e in self._events}
        old = now.get(id) or self.past.event(id)
        follows = [*self.past.following(id), *(e for e in self._events if e.cause == id)]
        ended = next((e for e in follows if isinstance(e, ev.Ended)), None)
        if not isinstance(old, ev.Activated) or ended is None or ended.outcome == "skipped":
            raise NotFound(f"{id} is no activation that failed. `show --dead-letters` lists what can be tried again.")
        if any(isinstance(e, ev.Redriven) for e in follows):
            raise NotFound(f"{id} was tried again already. Look at what became of that with `why {id}`.")
        found = [now.get(i) or self.past.event(i) for i in old.inputs]
        self._emit(ev.Redriven(outcome=ended.outcome), id)
        self._recall([p for p in found if isinstance(p, ev.Published)], id)
        self._activated(
            ev.Activated(
                agent=old.agent, subscription=old.subscription, inputs=old.inputs, slots=old.slots,
                key=old.key, scope=old.scope, run=old.run, priority=old.priority, depth=old.depth,
                blockers=self._blockers(old.inputs), redriven=id,
            ),
            old.inputs[-1],
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

    # -- effects --------------------------------------------------------------------------------------------------

    def calling(self, id: int, fence: int, event: ev.Calling, now: float) -> tuple[list[Event], str]:
        """Announce an effect inside a running activation and reserve what it may cost.

        Returns:
            the events, and why a component does not admit the effect; "" = it may start.

        Raises:
            CallRefused: the activation is no longer this worker's.
        """
        a = self._held_by_worker(id, fence)
        if a is None:
            raise CallRefused(f"activation {id} is no longer this worker's; its effects are not started.")
        self._begin(now)
        if self.observers.admitting:
            request = cp.CallRequest(request_of(a), event.key, event.name, event.cost, event.tokens)
            name, answer = self._ask(request)
            if not isinstance(answer, cp.Admit):
                # Not raised: a component that broke when it was asked is an event of this decision.
                return self._finish(), f"{name} refuses effect {event.key!r} of {a.agent!r}: {answer.reason}"
        seq = self._emit(event, id)
        if event.until is not None:
            self.timers.push(event.until, "sleep", seq)
        return self._finish(), ""

    def called(self, calling: int, event: ev.Called, now: float) -> list[Event]:
        """Record the outcome of an effect."""
        if calling not in self.state.calls:
            return []
        self._begin(now)
        self._emit(event, calling)
        return self._finish()

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
            self._emit(ev.Rang(timer="alarm", component=timer.detail))
            if timer.detail not in self.observers.faulted:
                self.observers.changed.add(timer.detail)
            return
        if timer.kind == "timeout":
            a = self.state.activations[id]
            spec = self.index.agents[a.agent]
            error = ErrorInfo("TimeoutError", f"no result after {spec.timeout:g} s")
            self.stopped.append((id, a.agent))
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
            if a.agent not in self.index.agents:
                self.agenda.occupy(a.agent)
            error = ErrorInfo("Crashed", "the process ended while this was running")
            self._fail(a, "crashed", error, 0.0, ONCE, "")
        for name in [name for name in self._held if name not in self.observers.components]:
            for id in self._held.pop(name):
                self._emit(ev.Released(by=name), id)
        self._enroll(enrolments, late)
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
        return missed, anew, self.past.since(types, min(missed.values())) if missed else []

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
        for position, artifact in offered:
            self._offer_to({id for id, after in missed.items() if position > after}, artifact)

    def _offer_anew(self, id: str, waiting: Sequence[Artifact[Any]]) -> None:
        """The shape of a subscription changed: what waits in its old places is offered to the new ones."""
        for artifact in waiting:
            place = self.state.waiting[id][artifact.id]
            self._emit(
                ev.Expired(
                    subscription=id, artifacts=[artifact.id], key=place.key, scope=place.scope, reason="changed"
                ),
                artifact.id,
            )
            self._note_complete(self.index.subscriptions[id], place.scope, place.key)
        for artifact in waiting:
            self._offer_to({id}, artifact)

    def _offer_to(self, subscriptions: set[str], artifact: Artifact[Any]) -> None:
        event = self.past.event(artifact.id)
        if not isinstance(event, ev.Published) or artifact.id in self.state.held:
            return
        candidate = Candidate(
            event.type, artifact.payload, event.producer, event.tags, event.visibility, event.ancestors
        )
        takes, _ = self.index.match(candidate, self._at, event.at)
        takes = [t for t in takes if t.place.subscription.id in subscriptions]
        if takes and artifact.id not in self.state.alive:
            self._recall([event], artifact.id)
        for take in takes:
            self._offer(take, artifact.id, event.run, event.priority, event.depth)

    def next_work_due(self) -> float | None:
        """The next deadline that work waits for; a component's alarm is none."""
        work = self.timers.work()
        return work[0].due if work else None

    def why_idle(self) -> tuple[Reason, str]:
        """Why nothing can run now, with the evidence."""
        state = self.state
        for run in state.runs.values():
            if run.closed:
                return run.closed, run.detail
        if self.parked:
            return "budget", next(iter(self.parked.values()))
        if self.observers.faulted:
            return "component_failed", ", ".join(sorted(self.observers.faulted))
        due = self.timers.work()
        if due:
            return "waiting", f"{len(due)} for a deadline, the next in {due[0].due - state.at:.1f} s"
        stuck = [a for a in state.activations.values() if a.status == "blocked" or a.status == "held"]
        if stuck:
            first = stuck[0]
            why = f"work {first.blockers[0]!r}" if first.blockers else f"{first.held_by}: {first.reason}"
            return "deadlock", f"{len(stuck)} can never start; {first.agent}@{first.id} waits for {why}"
        return "idle", ""

    def idle(self, reason: Reason, detail: str, now: float) -> list[Event]:
        """Announce that nothing is left to do; components may add work."""
        self._begin(now)
        self._emit(ev.Idled(reason=reason, detail=detail))
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
        """Let closed runs go on, and ask again about everything that was parked."""
        self._begin(now)
        for run in [r.name for r in self.state.runs.values() if r.closed]:
            self._emit(ev.Resumed(run=run))
        self.state.ready += self.parked
        self.parked = {}
        self._queue_ready()
        return self._finish()

    def leave(self, now: float) -> list[Event]:
        """Give up the board in good order: running bodies were stopped, and nothing is lost."""
        self._begin(now)
        for id in sorted(self.state.running):
            self._fail(self.state.activations[id], "interrupted", ErrorInfo("Interrupted", "the board was closed"),
                       0.0, ONCE, "")  # fmt: skip
        self._emit(ev.Closed(by="owner", reason="idle"))
        return self._finish()

    # -- reactions ------------------------------------------------------------------------------------------------

    def _carry_out(self, reaction: cp.Reaction, origin: Origin) -> None:
        run = origin.run or DEFAULT_RUN
        match reaction:
            case cp.Publish():
                d = self.past.draft(reaction.payload)
                d.key, d.run = reaction.key, reaction.run or run
                d.tags, d.priority = [*d.tags, *reaction.tags], reaction.priority or d.priority
                d.visibility = reaction.visibility
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
                self._redrive(reaction.id)
            case _:
                raise TypeError(f"react() gave {reaction!r}, which is no reaction")
