"""Activations: claimed, completed, failed, ended, and the effects inside them."""

from collections.abc import Container, Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal

from stigmergy.blackboard import component as cp
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.core.answers import checked
from stigmergy.blackboard.core.decision import PERSON, Draft, Origin, request_of
from stigmergy.blackboard.core.offers import check_count
from stigmergy.blackboard.core.records import Activation, OpenCall, RunTotals
from stigmergy.blackboard.core.redriving import Redriving
from stigmergy.blackboard.definitions import ONCE, Limits, Retry
from stigmergy.blackboard.errors import BudgetSpent, CallRefused
from stigmergy.blackboard.events import ErrorInfo, Event

FailureKind = Literal["error", "timeout", "interrupted", "crashed", "rejected"]
CHARGE = "charge"
"""The name of effects that book what is spent already, so that no limit refuses them."""


class Running(Redriving):
    """The part of the decider that says who runs, and what came of it."""

    def attempt(self, id: int, fence: int) -> Activation:
        """The activation of an attempt that goes on.

        Raises:
            CallRefused: it has ended, or was given up.
        """
        a = self._held_by_worker(id, fence)
        if a is None:
            known = self.state.activations.get(id)
            name = f"{known.agent}@{id}" if known is not None else f"activation {id}"
            raise CallRefused(
                f"this attempt of {name} has ended or was given up: it starts and publishes nothing more."
            )
        return a

    def origin_of(self, activation: int) -> Origin:
        """What the artifacts of an open activation inherit."""
        return self._origin_of(self.state.activations[activation])

    def _origin_of(self, a: Activation) -> Origin:
        return Origin(a.agent, a.id, a.run, a.root, a.depth + 1, self._ancestors(a) if self.index.ancestors else {})

    def _ancestors(self, a: Activation) -> dict[str, int]:
        """Nearest ancestors by type, of the types that some join asks for."""
        alive = ((id, self.state.alive[id]) for id in a.inputs)
        return nearest([(id, kept.type, kept.ancestors) for id, kept in alive], self.index.ancestors)

    # -- running --------------------------------------------------------------------------------------------------

    def claim(self, now: float, worker: str = "") -> tuple[list[Event], Activation | None]:
        """Give the next activation to a worker: the events, and the activation if there is one to run."""
        self._begin(now)
        a = self._next_suspect() if self.suspects else None
        if a is None and not self.suspects:
            a = self._next()
        if a is None:
            return self._finish(), None
        self._emit(ev.Claimed(0, 0.0, 0, 0, self.state.epoch, worker, a.attempts + 1, a.suspect), a.id)
        timeout = self.index.agents[a.agent].timeout
        if timeout is not None:
            self.timers.push(self._at + timeout, "timeout", a.id, str(a.fence))
        return self._finish(), self.state.activations.get(a.id)

    def _next_suspect(self) -> Activation | None:
        """After a crash, what was running then runs alone, one after the other, so that the guilty one is known.

        Who was alone in a crash before comes last, so that a process that is killed from outside blames nobody soon.
        """
        for id in sorted(self.suspects, key=lambda i: (self.state.activations[i].crashes, i)):
            a = self.state.activations[id]
            closed = bool(self.state.run(a.run).closed)
            if self.state.running and not closed:
                return None
            self.suspects.remove(id)
            if not closed:
                self.agenda.occupy(a.agent)
                return a
            self.parked[id] = "closed"
        return None

    def _next(self) -> Activation | None:
        running = self.state.running
        if len(running) == 1 and self.state.activations[next(iter(running))].alone:
            return None
        while (id := self.agenda.take()) is not None:
            a = self.state.activations[id]
            run = self.state.runs[a.run]
            if run.closed:
                self.parked[id] = "closed"
                self.agenda.free(a.agent)
            elif why := self._short.pop(id, "") or self._too_much.get(id) or over_limit(a, run, self.limits):
                self.parked[id] = why
                self.agenda.free(a.agent)
            elif not self.observers.admitting or self._admitted(a):
                return a
        return None

    def _admitted(self, a: Activation) -> bool:
        name, answer = self._ask(request_of(a))
        if isinstance(answer, cp.Admit):
            return True
        self.agenda.free(a.agent)
        if isinstance(answer, cp.Hold):
            self._hold(a.id, name, answer.reason, self._ahead(answer.until))
            self._held.setdefault(name, {})[a.id] = None
        elif answer.park:
            self.parked[a.id] = f"{name}: {answer.reason}"
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
                return checked("admit", c.admit(self.observers.states[c.name], request), cp.Admission)
            except Exception as error:  # noqa: BLE001  user code: the component is taken out of service, on record
                self._fault(c.name, error, self.state.seq)
        return cp.Deny("the component failed, so nothing is admitted")

    def _ask_again(self, name: str) -> None:
        """Offer again what a component holds, oldest first; who is denied now is told so by everybody's next claim.
        All are asked about, as each may be held for a reason of its own. What a component holds when it breaks stays
        held."""
        held = self._held.get(name, {})
        for id in sorted(held, key=lambda i: (self.state.activations[i].at, i)):
            answer = self._admission(self.observers.components[name], request_of(self.state.activations[id]))
            if name in self.observers.faulted:
                break
            if isinstance(answer, cp.Hold):
                self._hold_on(id, name, answer)
                continue
            del held[id]
            self._emit(ev.Released(by=name), id)

    def _hold_on(self, id: int, name: str, answer: cp.Hold) -> None:
        """It is still held, now until then: without this nobody would wait for a time that was not known before."""
        due, until = self.state.activations[id].due, self._ahead(answer.until)
        if until is not None and (due is None or until > due):
            self._hold(id, name, answer.reason, until)

    def _hold(self, id: int, name: str, reason: str, until: float | None) -> None:
        self._emit(ev.Held(by=name, reason=reason, until=until), id)
        if until is not None:
            self.timers.push(until, "hold", id)

    def _ahead(self, until: float | None) -> float | None:
        """Who holds until a time that has passed would be asked for ever, and at once."""
        return until if until is not None and until > self._at else None

    def complete(
        self, id: int, fence: int, drafts: Sequence[Draft], seconds: float, now: float, retry: Retry = ONCE
    ) -> list[Event]:
        """Record that a body ended well, with its outputs: all of them or none.

        Raises:
            PublishError: an output is refused; the caller records the failure, or parks what a limit refuses.
        """
        a = self._held_by_worker(id, fence)
        if a is None:
            return []
        self._begin(now)
        check_count(a.agent, "returned", len(drafts), self.limits.fan_out)
        new = self._check(drafts, a.run)
        origin = self._origin_of(a)
        matches = [self._match(d, origin) for d in new]
        for c in self.observers.reviewing:
            verdict = self._review(c, a, drafts)
            if isinstance(verdict, cp.Reject):
                error = ErrorInfo("Rejected", f"{c.name}: {verdict.feedback}")
                self._fail(a, "rejected", error, seconds, retry if verdict.retry else ONCE, verdict.feedback)
                return self._finish()
        self._emit(ev.Completed(0, 0.0, 0, 0, len(new), seconds), id)
        self.agenda.free(a.agent)
        for d, m in zip(new, matches, strict=True):
            self._publish(d, origin, m, d.run or a.run)
        return self._finish()

    def _review(self, c: cp.Component[Any], a: Activation, drafts: Sequence[Draft]) -> cp.Verdict:
        if c.name in self.observers.faulted:
            return cp.Reject("the component failed, so nothing passes its review")
        try:
            verdict = c.review(self.observers.states[c.name], request_of(a), tuple(d.payload for d in drafts))
            return checked("review", verdict, cp.Verdict)
        except Exception as error:  # noqa: BLE001  user code: the component is taken out of service, on record
            self._fault(c.name, error, self.state.seq)
            info = ErrorInfo.of(error)
            return cp.Reject(f"review raised {info.type}: {info.message}")

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
        elif attempts < retry.attempts and error.retryable:
            retry_at = self._at + max(retry.delay(attempts, a.id), error.retry_after or 0.0)
        elif attempts < retry.attempts:
            reason = "not retryable"
        event = ev.Failed(kind=kind, error=error, seconds=seconds, retry_at=retry_at, guilty=guilty, feedback=feedback)
        unsettled = self._unsettled(a.id)
        self._emit(event, a.id)
        self._settle(unsettled, "unknown" if kind == "crashed" else "cancelled")
        if retry_at is None:
            self._end(a.id, "dead_letter", reason, error)
        elif retry_at > self._at:
            self.timers.push(retry_at, "retry", a.id)

    def park(
        self, id: int, fence: int, error: ErrorInfo, seconds: float, now: float, too_much: str = ""
    ) -> list[Event]:
        """Record that an attempt ran into a limit: it is no attempt.

        What would have cost more than is left waits for another run.

        Args:
            too_much: the limit on one attempt that its outputs exceed, and would again: it waits until the board is
                opened anew, and the limit may be another.
        """
        a = self._held_by_worker(id, fence)
        if a is not None and too_much:
            self._too_much[id] = f"{too_much} for agent {a.agent}"
        elif a is not None:
            self._short[id] = error.message
        return self.fail(id, fence, error, seconds, now, ONCE, "interrupted")

    def freed(self, agent: str) -> None:
        """A body that had been given up has really ended."""
        self.agenda.free(agent)

    def cancel(self, ids: Sequence[int], reason: str, now: float, *, waiting: Sequence[int] = ()) -> list[Event]:
        """End open activations as cancelled, and let go of artifacts that wait in places, or are held."""
        self._begin(now)
        for id in ids:
            if id in self.state.activations:
                self._end(id, "cancelled", reason)
        for artifact in waiting:
            for subscription in [name for name, places in self.state.waiting.items() if artifact in places]:
                self._give_up(subscription, artifact, "cancelled")
            if artifact in self.state.held:
                self._emit(ev.Withdrawn(by=PERSON.producer, reason=reason), artifact)
        return self._finish()

    # -- effects --------------------------------------------------------------------------------------------------

    def calling(
        self, id: int, fence: int, event: ev.Calling, now: float
    ) -> tuple[list[Event], CallRefused | cp.Hold | None]:
        """Announce an effect inside a running activation and reserve what it may cost.

        Returns:
            the events, and why the effect may not start; `Hold` = it may when another has its outcome.

        Raises:
            CallRefused: see `attempt`.
        """
        a = self.attempt(id, fence)
        self._begin(now)
        name, answer = "limits", self._affordable(a, event)
        if isinstance(answer, cp.Admit) and self.observers.admitting:
            asked = cp.CallRequest(request_of(a), event.key, event.name, event.cost, event.tokens, event.unpriced)
            name, answer = self._ask(asked)
        if not isinstance(answer, cp.Admit):
            # Not raised: a component that broke when it was asked is an event of this decision.
            if isinstance(answer, cp.Hold) and any(c.until is None for c in self.state.calls.values()):
                return self._finish(), answer
            parked = isinstance(answer, cp.Deny) and answer.park
            effect = event.name if parked else event.key  # what is parked is told to everybody; a key may quote inputs
            text = f"{name} refuses effect {effect!r} of {a.agent!r}: {answer.reason}"
            return self._finish(), BudgetSpent(text) if parked else CallRefused(text)
        seq = self._emit(event, id)
        if event.until is not None:
            self.timers.push(event.until, "sleep", seq)
        return self._finish(), None

    def _affordable(self, a: Activation, event: ev.Calling) -> cp.Admission:
        """Whether what an effect may cost fits into the limits, together with what others have reserved."""
        limits = self.limits
        if (limits.cost is None and limits.tokens is None) or event.name == CHARGE:
            return cp.ADMIT
        open_calls = [c for c in self.state.calls.values() if c.run == a.run]
        return affordable(self.state.runs[a.run], open_calls, event, limits)

    def called(self, calling: int, event: ev.Called, now: float) -> list[Event]:
        """Record the outcome of an effect."""
        if calling not in self.state.calls:
            return []
        self._begin(now)
        self._emit(event, calling)
        return self._finish()


def nearest(inputs: Iterable[tuple[int, str, dict[str, int]]], wanted: Container[str]) -> dict[str, int]:
    """The nearest ancestors by type that inputs (id, type, their own ancestors) share; where they disagree, none."""
    found: dict[str, int] = {}
    ambiguous: set[str] = set()
    for id, type_name, ancestors in inputs:
        mine = {**ancestors, **({type_name: id} if type_name in wanted else {})}
        for name, ancestor in mine.items():
            if found.setdefault(name, ancestor) != ancestor:
                ambiguous.add(name)
    return {name: id for name, id in found.items() if name not in ambiguous}


def affordable(run: RunTotals, calls: Sequence[OpenCall], event: ev.Calling, limits: Limits) -> cp.Admission:
    """Whether an effect fits: not if it exceeds what is left; later, if only what others reserved is in its way.

    Args:
        calls: the effects of the run that have no outcome yet.
    """
    if event.unpriced and limits.cost is not None:
        return cp.Deny(cp.UNPRICED)
    for what, unit, limit, spent, reserved, wanted in (
        ("cost", "$", limits.cost, Decimal(run.cost), sum((Decimal(c.cost) for c in calls), Decimal(0)), event.cost),
        ("tokens", "", limits.tokens, Decimal(run.tokens), Decimal(sum(c.tokens for c in calls)), event.tokens),
    ):
        more = Decimal(wanted)
        if limit is None or not more or spent + reserved + more <= Decimal(limit):
            continue
        if spent + more > Decimal(limit):
            return cp.Deny(
                f"{what} {unit}{spent:,} of {unit}{Decimal(limit):,}, and it may take {unit}{more:,}", park=True
            )
        return cp.Hold(f"{what} {unit}{reserved:,} of {unit}{Decimal(limit):,} are reserved by others")
    return cp.ADMIT


def over_limit(a: Activation, run: RunTotals, limits: Limits) -> str:
    """The limit that keeps an activation from starting; "" if there is none. What once started goes on."""
    if a.fence:
        return ""
    if limits.activations is not None and run.activations >= limits.activations:
        return f"activations {run.activations:,} of {limits.activations:,}"
    if limits.depth is not None and a.depth > limits.depth:
        return f"depth {a.depth:,} of {limits.depth:,}"
    if limits.seconds is not None and run.seconds >= limits.seconds:
        return f"seconds {run.seconds:.2f} of {limits.seconds:g}"
    if limits.tokens is not None and run.tokens >= limits.tokens:
        return f"tokens {run.tokens:,} of {limits.tokens:,}"
    if limits.cost is not None and Decimal(run.cost) >= Decimal(limits.cost):
        return f"cost ${run.cost} of ${limits.cost}"
    return ""
