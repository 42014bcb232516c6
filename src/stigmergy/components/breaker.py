"""A circuit breaker: an agent that keeps failing is left alone for a while, then tried with one activation."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from stigmergy.blackboard.component import (
    ADMIT,
    ActivationRequest,
    Admission,
    CallRequest,
    Component,
    Hold,
    Seen,
)
from stigmergy.blackboard.core.visibility import Named, name_of
from stigmergy.blackboard.definitions import is_number
from stigmergy.blackboard.durations import Seconds, in_seconds
from stigmergy.blackboard.errors import BadComponent
from stigmergy.blackboard.events import Claimed, Completed, Ended, Event, Failed, Held, Rang, Released


@dataclass(frozen=True, slots=True)
class Circuit:
    """How it stands with one agent.

    Attributes:
        failures: failed attempts in a row.
        successes: activations that completed while it is half open.
        until: log time when an open one becomes half open.
        probe: the one activation that a half-open one lets through; 0 = none yet.
        opened: how often it was opened.
    """

    status: Literal["closed", "open", "half_open"] = "closed"
    failures: int = 0
    successes: int = 0
    until: float = 0.0
    probe: int = 0
    opened: int = 0


@dataclass(frozen=True, slots=True)
class Circuits:
    """The circuits of the agents that have ever failed."""

    agents: Mapping[str, Circuit] = field(default_factory=dict)


class Breaker(Component[Circuits]):
    """Keeps an agent from being called while it fails again and again.

    Closed, it lets everything through and counts attempts that fail in a row. Open, it holds every activation of the
    agent for `recovery` seconds. Half open, it lets one through at a time: after `successes` that completed it is
    closed, and after one that failed open again. Each agent has a circuit of its own.

    Args:
        agents: which agents it is for; none = all.
        failures: in a row that open it.
        recovery: seconds that it stays open.
        successes: that close it.
        name: for a board with several.
    """

    observes: ClassVar[tuple[type[Event], ...]] = (Failed, Completed, Ended, Claimed, Released, Held, Rang)

    def __init__(
        self, *agents: str | Named, failures: int = 5, recovery: Seconds = 60.0, successes: int = 1,
        name: str = "breaker",
    ) -> None:  # fmt: skip
        for what, count in (("failures", failures), ("successes", successes)):
            if not is_number(count, whole=True) or count < 1:
                raise BadComponent(f"Breaker({what}={count!r}): a whole number from 1.")
        self._agents = frozenset(map(name_of, agents))
        self._failures = failures
        self._recovery = in_seconds(recovery, "recovery=")
        self._successes = successes
        self._name = name

    @property
    def name(self) -> str:  # several may be on one board
        return self._name

    def start(self) -> Circuits:
        return Circuits()

    def step(self, state: Circuits, seen: Seen, /) -> Circuits:
        if isinstance(seen.event, Rang):
            return self._rang(state, seen.event)
        a = seen.activation
        if a is None or (self._agents and a.agent not in self._agents):
            return state
        before = state.agents.get(a.agent, Circuit())
        after = self._after(before, seen.event, a.id)
        return state if after is before else Circuits({**state.agents, a.agent: after})

    def _rang(self, state: Circuits, event: Rang) -> Circuits:
        if event.component != self.name:
            return state
        half = {
            agent: replace(c, status="half_open", successes=0, probe=0)
            for agent, c in state.agents.items()
            if c.status == "open" and c.until <= event.at
        }
        return Circuits({**state.agents, **half})

    def _after(self, c: Circuit, event: Event, activation: int) -> Circuit:
        probing = c.status == "half_open" and c.probe == activation
        match event:
            case Failed(kind="error" | "timeout"):
                failures = c.failures + 1
                if probing or (c.status == "closed" and failures >= self._failures):
                    until = event.at + self._recovery
                    return Circuit("open", failures, until=until, opened=c.opened + 1)
                return replace(c, failures=failures) if c.status == "closed" else c
            case Completed() if probing:
                if c.successes + 1 >= self._successes:
                    return Circuit(opened=c.opened)
                return replace(c, successes=c.successes + 1, probe=0)
            case Completed() if c.status == "closed" and c.failures:
                return replace(c, failures=0)
            case Failed() | Ended() | Held() if probing:  # it says nothing about the agent; another is tried
                return replace(c, probe=0)
            case Claimed() | Released() if c.status == "half_open" and not c.probe:
                return replace(c, probe=activation)
            case _:
                return c

    def admit(self, state: Circuits, request: ActivationRequest | CallRequest, /) -> Admission:
        if isinstance(request, CallRequest):
            return ADMIT
        c = state.agents.get(request.agent)
        if c is None or c.status == "closed":
            return ADMIT
        if c.status == "open":
            return Hold(f"the circuit of {request.agent} is open after {c.failures} failures in a row", c.until)
        if c.probe in (0, request.id):
            return ADMIT
        return Hold(f"the circuit of {request.agent} is half open: one is tried")

    def alarm(self, state: Circuits, /) -> float | None:
        return min((c.until for c in state.agents.values() if c.status == "open"), default=None)
