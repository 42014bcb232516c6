"""What a board has spent, and on what."""

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import ClassVar

from stigmergy.blackboard.component import ActivationRequest, Component, Seen
from stigmergy.blackboard.events import Called, Calling, Claimed, Completed, Ended, Enrolled, Event, Failed
from stigmergy.components.worklog import without


@dataclass(frozen=True, slots=True)
class Spent:
    """Sums: attempts and their seconds, failed ones included, and tokens and money of their effects.

    Attributes:
        unanswered: effects that were asked for and whose outcome never came; they are booked at their estimate.
        unpriced: effects that were paid for and whose price nobody knows: they are in no cost.
    """

    attempts: int = 0
    failed: int = 0
    seconds: float = 0.0
    tokens: int = 0
    cost: str = "0"
    unanswered: int = 0
    unpriced: int = 0

    @property
    def money(self) -> Decimal:
        """The cost in dollars, exact."""
        return Decimal(self.cost)


@dataclass(frozen=True, slots=True)
class Payer:
    """To whose account an effect goes."""

    agent: str = ""
    phase: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class CostState:
    """What was spent: in all, by agent, by phase ("" = none), by run, by effect (what was called: a model, by its
    name); who is running, and what is being called."""

    total: Spent = field(default_factory=Spent)
    agents: dict[str, Spent] = field(default_factory=dict)
    phases: dict[str, Spent] = field(default_factory=dict)
    runs: dict[str, Spent] = field(default_factory=dict)
    effects: dict[str, Spent] = field(default_factory=dict)
    phase_of: dict[str, str] = field(default_factory=dict)
    calling: dict[int, str] = field(default_factory=dict)
    running: dict[int, Payer] = field(default_factory=dict)


class Costs(Component[CostState]):
    """Adds up seconds, tokens and money by agent, by phase, by run and by effect, from the log alone.

    Failed attempts and failed effects count: they were paid for.
    """

    observes: ClassVar[tuple[type[Event], ...]] = (Enrolled, Claimed, Calling, Called, Failed, Completed, Ended)

    def start(self) -> CostState:
        return CostState()

    def step(self, state: CostState, seen: Seen, /) -> CostState:
        event, activation = seen.event, seen.activation
        match event:
            case Enrolled(role="agent", name=name, phase=phase):
                return replace(state, phase_of={**state.phase_of, name: phase or ""})
            case Claimed(cause=id_) if activation is not None:
                return replace(state, running={**state.running, id_: _payer(state, activation)})
            case Calling() if event.cost != "0" or event.tokens or event.unpriced:
                return replace(state, calling={**state.calling, event.seq: event.name})
            case Called(activation=id_):
                payer = state.running.get(id_) or (_payer(state, activation) if activation else Payer())
                return _called(state, payer, event)
            case Completed(cause=id_, seconds=seconds):
                spent = _spend(state, state.running.get(id_, Payer()), Spent(attempts=1, seconds=seconds))
                return replace(spent, running=without(state.running, id_))
            case Failed(cause=id_, seconds=seconds, kind=kind):
                tried = kind != "interrupted"  # an orderly stop is nobody's attempt
                return _spend(state, state.running.get(id_, Payer()), Spent(tried, tried, seconds))
            case Ended(cause=id_) if id_ in state.running:
                return replace(state, running=without(state.running, id_))
            case _:
                return state


def _payer(state: CostState, activation: ActivationRequest) -> Payer:
    phase = state.phase_of.get(activation.agent) or activation.phase or ""
    return Payer(activation.agent, phase, activation.run)


def _spend(state: CostState, payer: Payer, spent: Spent) -> CostState:
    return replace(
        state,
        total=_sum(state.total, spent),
        agents=_book(state.agents, payer.agent, spent),
        phases=_book(state.phases, payer.phase, spent),
        runs=_book(state.runs, payer.run, spent),
    )


def _called(state: CostState, payer: Payer, event: Called) -> CostState:
    """Book an effect, also under its own name if it cost anything."""
    name = state.calling.get(event.cause, "")
    state = replace(state, calling=without(state.calling, event.cause))
    if event.cost == "0" and not event.tokens and not event.unpriced:
        return state
    unanswered = event.outcome in ("unknown", "cancelled")
    spent = Spent(tokens=event.tokens, cost=event.cost, unanswered=unanswered, unpriced=event.unpriced)
    return replace(_spend(state, payer, spent), effects=_book(state.effects, name, spent))


def _book(accounts: dict[str, Spent], name: str, spent: Spent) -> dict[str, Spent]:
    return {**accounts, name: _sum(accounts.get(name, Spent()), spent)}


def _sum(a: Spent, b: Spent) -> Spent:
    return Spent(
        a.attempts + b.attempts,
        a.failed + b.failed,
        a.seconds + b.seconds,
        a.tokens + b.tokens,
        str(Decimal(a.cost) + Decimal(b.cost)),
        a.unanswered + b.unanswered,
        a.unpriced + b.unpriced,
    )
