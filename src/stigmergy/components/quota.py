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
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.blackboard.events import Claimed, Completed, Ended, Event, Failed, Idled, Opened, Published, Released

Share = Literal["run", "tree", "agent"]


@dataclass(frozen=True, slots=True)
class Used:
    """What one account has used, and the log time at which it began."""

    activations: int = 0
    artifacts: int = 0
    payload_bytes: int = 0
    seconds: float = 0.0
    began: float = 0.0


@dataclass(frozen=True, slots=True)
class QuotaState:
    """What is used by account, which open activations have started, and the log time where that is capped."""

    used: Mapping[str, Used] = field(default_factory=dict)
    started: frozenset[int] = frozenset()
    now: float = 0.0


class Quota(Component[QuotaState]):
    """Starts nothing more for a run, causal tree or agent that has used up its share; nothing is lost.

    What has started goes on, others go on, and the run ends as `budget`, which a `LimitReached` says on the board;
    raise the cap and run again to go on.

    Args:
        activations: how many may start.
        artifacts: how many may be published, from outside, too.
        payload_bytes: how large these may be in sum, as JSON.
        seconds: how long bodies may have run in sum.
        elapsed: seconds on the clock from its beginning (the first artifact of a run or tree, the first start of an
            agent), the time in which nothing ran included, after which nothing more starts.
        per: one cap for each run, each tree that grew from an outside artifact, or each agent.

    Raises:
        DefinitionError: no cap is given, or one that is none.
    """

    version = 2
    observes: ClassVar[tuple[type[Event], ...]] = (
        Claimed, Completed, Ended, Failed, Published, Released, Opened, Idled,
    )  # fmt: skip

    def __init__(
        self, *, activations: int | None = None, artifacts: int | None = None, payload_bytes: int | None = None,
        seconds: float | None = None, elapsed: float | None = None, per: Share = "run",
    ) -> None:  # fmt: skip
        caps = {"activations": activations, "artifacts": artifacts, "payload_bytes": payload_bytes, "seconds": seconds}
        for what, cap in {**caps, "elapsed": elapsed}.items():
            if cap is not None and not is_number(cap, whole=what not in ("seconds", "elapsed")):
                raise DefinitionError(f"Quota({what}={cap!r}) is no cap. Give a number from 0, or leave it out.")
        self._caps = {what: cap for what, cap in caps.items() if cap is not None}
        self._elapsed = elapsed
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
            state = replace(state, now=event.at)
        if account is None:
            return state
        used = state.used.get(account) or Used(began=event.at)
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

    def admit(self, state: QuotaState, request: ActivationRequest | CallRequest, /) -> Admission:
        if isinstance(request, CallRequest) or request.id in state.started:
            return ADMIT
        account = self._of(request)
        for what, used, cap in self._reached(state, account):
            return Deny(f"{what} {used:,.15g} of {cap:,.15g} for {self._per} {account}", park=True)
        return ADMIT

    def _reached(self, state: QuotaState, account: str) -> Iterator[tuple[str, float, float]]:
        used = state.used.get(account)
        for what, cap in self._caps.items() if used is not None else ():
            if (n := getattr(used, what)) >= cap:
                yield what, n, cap
        if self._elapsed is not None and used is not None and state.now >= used.began + self._elapsed:
            yield "elapsed", self._elapsed, self._elapsed

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
