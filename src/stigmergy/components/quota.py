"""Caps on how much is done, and for how long: for each run, causal tree or agent."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from stigmergy.blackboard.component import (
    ADMIT,
    ActivationRequest,
    Admission,
    CallRequest,
    Component,
    Deny,
    Seen,
)
from stigmergy.blackboard.definitions import is_number
from stigmergy.blackboard.durations import Seconds, in_seconds
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.blackboard.events import Claimed, Completed, Ended, Event, Failed, Published, Rang

Share = Literal["run", "tree", "agent"]


@dataclass(frozen=True, slots=True)
class Used:
    """What one account has used."""

    activations: int = 0
    artifacts: int = 0
    payload_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class QuotaState:
    """What is used by account, and which open activations have started.

    Where time is capped, `began` has the log time at which each account did that has some left, oldest first, and
    `elapsed` for each other how long it had taken when its time was found to be up.
    """

    used: Mapping[str, Used] = field(default_factory=dict)
    started: frozenset[int] = frozenset()
    began: Mapping[str, float] = field(default_factory=dict)
    elapsed: Mapping[str, float] = field(default_factory=dict)


class Quota(Component[QuotaState]):
    """Starts nothing more for a run, causal tree or agent that has used up its share; nothing is lost.

    What has started goes on, others go on, and the run ends as `budget`, which a `LimitReached` says on the board;
    raise the cap and run again to go on.

    Args:
        activations: how many may start.
        artifacts: how many may be published, from outside, too.
        payload_bytes: how large these may be in sum, as JSON.
        seconds: how long bodies may have run in sum.
        elapsed: time on the clock from its beginning (the first artifact of a run or tree, the first start of an
            agent), that in which nothing ran included, after which nothing more starts: seconds, or a `timedelta`.
        per: one cap for each run, each tree that grew from an outside artifact, or each agent.

    Raises:
        DefinitionError: no cap is given, or one that is none.
    """

    version = 3
    observes: ClassVar[tuple[type[Event], ...]] = (Claimed, Completed, Ended, Failed, Published, Rang)

    def __init__(
        self, *, activations: int | None = None, artifacts: int | None = None, payload_bytes: int | None = None,
        seconds: float | None = None, elapsed: Seconds | None = None, per: Share = "run",
    ) -> None:  # fmt: skip
        caps = {"activations": activations, "artifacts": artifacts, "payload_bytes": payload_bytes, "seconds": seconds}
        for what, cap in caps.items():
            if cap is not None and not is_number(cap, whole=what != "seconds"):
                raise DefinitionError(f"Quota({what}={cap!r}) is no cap. Give a number from 0, or leave it out.")
        self._caps = {what: cap for what, cap in caps.items() if cap is not None}
        self._elapsed = None if elapsed is None else in_seconds(elapsed, "Quota(elapsed=)")
        if not self._caps and elapsed is None:
            raise DefinitionError(
                "Quota() caps nothing. Give activations=, artifacts=, payload_bytes=, seconds= or elapsed=."
            )
        self._per: Share = per
        self.name = f"quota_per_{per}"

    def start(self) -> QuotaState:
        return QuotaState()

    def step(self, state: QuotaState, seen: Seen, /) -> QuotaState:
        event, account = seen.event, self._account(seen)
        if self._elapsed is not None:
            state = self._timed(state, event, account)
        if account is None:
            return state
        used = state.used.get(account) or Used()
        match event:
            case Published() if event.system:
                return state
            case Published():
                more = replace(
                    used, artifacts=used.artifacts + 1, payload_bytes=used.payload_bytes + len(event.payload)
                )
                return _booked(state, account, more)
            case Claimed() if event.cause not in state.started:
                after = _booked(state, account, replace(used, activations=used.activations + 1))
                return replace(after, started=state.started | {event.cause})
            case Failed():
                return _booked(state, account, replace(used, seconds=used.seconds + event.seconds))
            case Completed():
                after = _booked(state, account, replace(used, seconds=used.seconds + event.seconds))
                return replace(after, started=state.started - {event.cause})
            case Ended() if event.cause in state.started:
                return replace(state, started=state.started - {event.cause})
            case _:
                return state

    def _timed(self, state: QuotaState, event: Event, account: str | None) -> QuotaState:
        """Note who begins, and whose time is up; those who began first are first in both."""
        began, elapsed, up = state.began, state.elapsed, dict[str, float]()
        for name, at in began.items():
            if self._due(at) > event.at:
                break
            up[name] = event.at - at
        if up:
            began, elapsed = {name: at for name, at in began.items() if name not in up}, {**elapsed, **up}
        begins = isinstance(event, Claimed) or (
            isinstance(event, Published) and self._per != "agent" and not event.system
        )
        if begins and account is not None and account not in began and account not in elapsed:
            began = {**began, account: event.at}
        return state if began is state.began else replace(state, began=began, elapsed=elapsed)

    def _due(self, began: float) -> float:
        return began + (self._elapsed or 0.0)

    def alarm(self, state: QuotaState, /) -> float | None:
        return next(map(self._due, state.began.values()), None)

    def admit(self, state: QuotaState, request: ActivationRequest | CallRequest, /) -> Admission:
        if isinstance(request, CallRequest) or request.id in state.started:
            return ADMIT
        account = self._of(request)
        for what, used, cap in self._reached(state, account):
            return Deny(f"{what} {round(used, 3):,.15g} of {cap:,.15g} for {self._per} {account}", park=True)
        return ADMIT

    def _reached(self, state: QuotaState, account: str) -> Iterator[tuple[str, float, float]]:
        used = state.used.get(account)
        for what, cap in self._caps.items() if used is not None else ():
            if (n := getattr(used, what)) >= cap:
                yield what, n, cap
        if self._elapsed is not None and account in state.elapsed:
            yield "elapsed", state.elapsed[account], self._elapsed

    def _account(self, seen: Seen) -> str | None:
        if isinstance(seen.event, Published):
            event = seen.event
            roots = {"run": event.run, "tree": str(event.root or event.seq), "agent": event.producer}
            return roots[self._per]
        return self._of(seen.activation) if seen.activation is not None else None

    def _of(self, request: ActivationRequest) -> str:
        return {"run": request.run, "tree": str(request.root), "agent": request.agent}[self._per]


def _booked(state: QuotaState, account: str, used: Used) -> QuotaState:
    return replace(state, used={**state.used, account: used})
