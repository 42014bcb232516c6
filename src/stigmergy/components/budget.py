"""Caps on what effects may cost: reserved before, settled after, so that no two together go over."""

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import ClassVar, Literal

from stigmergy.blackboard.component import (
    ADMIT,
    UNPRICED,
    ActivationRequest,
    Admission,
    CallRequest,
    Component,
    Deny,
    Hold,
    Seen,
)
from stigmergy.blackboard.core.running import CHARGE
from stigmergy.blackboard.definitions import is_money, is_number
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.blackboard.events import Called, Calling, Claimed, Completed, Ended, Enrolled, Event
from stigmergy.components.worklog import without

Per = Literal["run", "tree", "agent", "phase", "effect"]


@dataclass(frozen=True, slots=True)
class Amount:
    """Dollars, exact, and tokens."""

    cost: str = "0"
    tokens: int = 0

    def plus(self, other: "Amount") -> "Amount":
        """The sum."""
        return Amount(str(Decimal(self.cost) + Decimal(other.cost)), self.tokens + other.tokens)


NOTHING = Amount()


@dataclass(frozen=True, slots=True)
class Reserved:
    """What an effect that has no outcome yet may take, and from which account."""

    account: str
    agent: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class BudgetState:
    """What is spent by account, what of it by the agent that has a reserve, what is reserved by open effects, who books
    what it has spent (`ctx.charge`), and which activations of those have started."""

    spent: dict[str, Amount] = field(default_factory=dict)
    favoured: dict[str, Amount] = field(default_factory=dict)
    reserved: dict[int, Reserved] = field(default_factory=dict)
    phase_of: dict[str, str] = field(default_factory=dict)
    charging: frozenset[str] = frozenset()
    started: frozenset[int] = frozenset()


class Budget(Component[BudgetState]):
    """Refuses effects that would cost more than is left; who is refused stays open, and the run ends as `budget`.

    What is announced counts as spent until its outcome says what it took, so the cap holds however many ask at once:
    it is exceeded only by what an effect takes beyond its own estimate. Raise the cap and run again to go on. An effect
    that only what others reserve keeps out waits for them. Who books what it has spent already (`ctx.charge`) starts
    no more when nothing is left.

    Args:
        cost: dollars: text or Decimal, never a float.
        tokens: of language models.
        per: one cap for each run, each causal tree, each agent, each phase, or each effect (a model, by its name).
        reserve_for: an agent for which `reserve` (dollars) is kept, say to sum up when everything else is spent.

    Raises:
        DefinitionError: no cap is given, or one that is none.
    """

    version = 2
    observes: ClassVar[tuple[type[Event], ...]] = (Enrolled, Claimed, Calling, Called, Completed, Ended)

    def __init__(
        self, *, cost: Decimal | str | None = None, tokens: int | None = None, per: Per = "run",
        reserve_for: str = "", reserve: Decimal | str = "0",
    ) -> None:  # fmt: skip
        for name, value in (("cost", cost), ("reserve", reserve)):
            if isinstance(value, float):
                raise DefinitionError(f'Budget({name}={value}): a float is not exact. Write {name}="{value}".')
            if value is not None and not is_money(value):
                raise DefinitionError(
                    f"Budget({name}={value!r}) is no amount. Give dollars as text or Decimal, from 0."
                )
        if tokens is not None and not is_number(tokens, whole=True):
            raise DefinitionError(f"Budget(tokens={tokens!r}) is no cap. Give a whole number from 0, or leave it out.")
        if cost is None and tokens is None:
            raise DefinitionError("Budget() caps nothing. Give cost= in dollars, or tokens=.")
        if bool(reserve_for) != bool(Decimal(reserve)) or (reserve_for and cost is None):
            raise DefinitionError(
                "Budget: reserve_for= names an agent, and reserve= its part of cost=. Give all three."
            )
        self._cost = None if cost is None else Decimal(cost)
        self._tokens = tokens
        self._per: Per = per
        self._reserve_for, self._reserve = reserve_for, Decimal(reserve)
        self.name = f"budget_per_{per}"

    def start(self) -> BudgetState:
        return BudgetState()

    def step(self, state: BudgetState, seen: Seen, /) -> BudgetState:
        event = seen.event
        match event:
            case Enrolled(role="agent", name=name, phase=phase):
                return replace(state, phase_of={**state.phase_of, name: phase or ""})
            case Claimed() if seen.activation is not None and seen.activation.agent in state.charging:
                return replace(state, started=state.started | {event.cause})
            case Completed() | Ended() if event.cause in state.started:
                return replace(state, started=state.started - {event.cause})
            case Calling(name=name) if seen.activation is not None and (event.cost != "0" or event.tokens):
                account = self._account(state, seen.activation, event.name)
                entry = Reserved(account, seen.activation.agent, Amount(event.cost, event.tokens))
                state = replace(state, reserved={**state.reserved, event.seq: entry})
                return state if name != CHARGE else replace(
                    state, charging=state.charging | {seen.activation.agent},
                    started=state.started | {seen.activation.id},
                )  # fmt: skip
            case Called():
                return self._settled(state, event, seen.activation)
            case _:
                return state

    def _settled(self, state: BudgetState, event: Called, activation: ActivationRequest | None) -> BudgetState:
        entry = state.reserved.get(event.cause)
        if entry is None and activation is not None:  # nothing was reserved for it, but it may have cost all the same
            entry = Reserved(self._account(state, activation, ""), activation.agent, NOTHING)
        took = Amount(event.cost, event.tokens)
        if entry is None or (entry.amount == NOTHING and took == NOTHING):
            return state
        spent, favoured = state.spent, state.favoured
        spent = {**spent, entry.account: spent.get(entry.account, NOTHING).plus(took)}
        if entry.agent == self._reserve_for:
            favoured = {**favoured, entry.account: favoured.get(entry.account, NOTHING).plus(took)}
        return replace(state, spent=spent, favoured=favoured, reserved=without(state.reserved, event.cause))

    def _account(self, state: BudgetState, activation: ActivationRequest, effect: str) -> str:
        match self._per:
            case "run":
                return activation.run
            case "tree":
                return str(activation.root)
            case "agent":
                return activation.agent
            case "phase":
                return state.phase_of.get(activation.agent) or activation.phase or ""
            case "effect":
                return effect

    def admit(self, state: BudgetState, request: ActivationRequest | CallRequest, /) -> Admission:
        if isinstance(request, ActivationRequest):
            return self._start(state, request)
        if request.name == CHARGE:
            return ADMIT
        account = self._account(state, request.activation, request.name)
        spent = state.spent.get(account, NOTHING)
        others = [entry for entry in state.reserved.values() if entry.account == account]
        short = self._unaffordable(state, request, account, others)
        if short is not None:
            return short
        wanted = request.tokens
        if self._tokens is not None and wanted:
            room = self._tokens - spent.tokens - wanted
            if room < sum(entry.amount.tokens for entry in others):
                return self._refusal(room < 0, f"tokens {spent.tokens:,} of {self._tokens:,}", f"{wanted:,}")
        return ADMIT

    def _start(self, state: BudgetState, request: ActivationRequest) -> Admission:
        """What is only booked cannot be refused, so who books starts no more when nothing is left."""
        if request.agent not in state.charging or request.id in state.started:
            return ADMIT
        spent = state.spent.get(self._account(state, request, CHARGE), NOTHING)
        if self._cost is not None and Decimal(spent.cost) >= self._cost:
            return Deny(f"cost ${spent.cost} of ${self._cost} per {self._per}", park=True)
        if self._tokens is not None and spent.tokens >= self._tokens:
            return Deny(f"tokens {spent.tokens:,} of {self._tokens:,} per {self._per}", park=True)
        return ADMIT

    def _unaffordable(
        self, state: BudgetState, request: CallRequest, account: str, others: list[Reserved]
    ) -> Deny | Hold | None:
        """Why there is no money for an effect.

        Args:
            others: those of the same account that have no outcome yet.
        """
        if self._cost is not None and request.unpriced:
            return Deny(UNPRICED)
        more = Decimal(request.cost)
        if self._cost is None or not more:
            return None
        spent = Decimal(state.spent.get(account, NOTHING).cost)
        kept = kept_now = Decimal(0)
        if self._reserve_for and request.activation.agent != self._reserve_for:
            kept = max(kept, self._reserve - Decimal(state.favoured.get(account, NOTHING).cost))
            asked = sum((Decimal(e.amount.cost) for e in others if e.agent == self._reserve_for), Decimal(0))
            kept_now = max(kept_now, kept - asked)
        room = self._cost - spent - more
        if room - kept_now >= sum((Decimal(e.amount.cost) for e in others), Decimal(0)):
            return None
        kept_text = f" with ${kept} kept for {self._reserve_for}" if kept else ""
        return self._refusal(room < kept, f"cost ${spent} of ${self._cost}{kept_text}", f"${more}")

    def _refusal(self, final: bool, spent: str, more: str) -> Deny | Hold:
        text = f"{spent} per {self._per}, and it may take {more}"
        return Deny(text, park=True) if final else Hold(f"{text}; others have reserved the rest")
