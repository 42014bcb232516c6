"""What type checkers infer and refuse; checked by mypy, never run."""

from typing import Any, Never, assert_type

from pydantic import BaseModel

from stigmergy.agents.agent import Agent, FunctionAgent
from stigmergy.agents.builder import AgentBuilder
from stigmergy.agents.roster import Roster
from stigmergy.agents.signature import ContextMark
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.visibility import private


class Order(BaseModel):
    order_id: str
    n: int = 0


class Payment(BaseModel):
    order_id: str
    paid: bool = True


class Shipment(BaseModel):
    order_id: str


class Context(ContextMark):
    agent_name: str


roster = Roster()
named = roster.agent("ship")
assert_type(named, AgentBuilder[Never])


@roster.agent
async def packer(order: Order) -> Shipment:
    return Shipment(order_id=order.order_id)


@roster.agent(name="checker", timeout=60, by="order_id")
def check(order: Order, payment: Payment, ctx: Context) -> list[Shipment]:
    return []


assert_type(check(Order(order_id="1"), Payment(order_id="1"), Context()), list[Shipment])
packed = packer(Payment(order_id="1"))  # type: ignore[arg-type]
roster.agent(retry=3)  # type: ignore[call-overload]
agents: list[Agent] = [named, packer, check]
private(named, packer, "checker")

# -- what a body gets follows from what is consumed ----------------------------------------------------------------
one = named.consumes(Order, where=lambda order: order.n > 1).publishes(Shipment)
assert_type(one, AgentBuilder[Shipment, Order])
assert_type(named.consumes(Order).consumes(Payment), AgentBuilder[Never, Order | Payment])
assert_type(named.consumes(Order, batch=32, within="idle"), AgentBuilder[Never, list[Order]])
assert_type(named.consumes(Order, Payment, by="order_id"), AgentBuilder[Never, Order, Payment])
assert_type(named.consumes(Order, Order, Payment), AgentBuilder[Never, Order, Order, Payment])
assert_type(
    named.consumes(Order, Payment, Shipment, Order, within=60), AgentBuilder[Never, Order, Payment, Shipment, Order]
)
assert_type(named.consumes(Order, Payment, groups=2), AgentBuilder[Never, list[tuple[Order, Payment]]])
assert_type(
    named.description("x").limits(timeout=1).consumes(Order).publishes(Shipment, Payment),
    AgentBuilder[Shipment | Payment, Order],
)
named.consumes(Order, where=[{"n": {1, 2}}, lambda order: order.n > 1])
named.consumes(Order, where=lambda order: order.zzz)  # type: ignore[attr-defined]
named.consumes(Order, within=1)  # type: ignore[call-overload]
named.consumes(Order, Payment, by=lambda x: x.paid)  # type: ignore[union-attr]
named.consumes(Order, max_waiting=5)  # type: ignore[call-overload]
named.consumes(Order, batch=2, max_waiting=5)
named.consumes(Order, Payment, max_waiting=5)
named.publishes(Shipment, fan_out=(1, 3), where=lambda shipment: shipment.order_id != "")
named.publishes(Shipment, review_by=named)
named.publishes(Shipment, Payment, review_by="reviewer")  # type: ignore[call-overload]


# -- and a body must fit ---------------------------------------------------------------------------------------------
async def payload(order: Order) -> Shipment | None:
    return None


async def with_context(order: Order, ctx: Context) -> list[Shipment]:
    return []


def envelope(order: Artifact[Order]) -> Shipment | None:
    return None


async def envelope_with_context(order: Artifact[Order], ctx: Context) -> Shipment | None:
    return None


async def only_context(ctx: Context) -> list[Shipment]:
    return []


async def wrong_input(payment: Payment) -> Shipment | None:
    return None


async def wrong_output(order: Order) -> Payment | None:
    return None


async def pair(order: Order, payment: Payment | None) -> Shipment | None:
    return None


assert_type(one.body(payload), FunctionAgent[..., Any])
one.body(with_context)
one.body(envelope)
one.body(envelope_with_context)
one.body(only_context)
one.body(lambda order: Shipment(order_id=order.order_id))
one.body(wrong_input)  # type: ignore[arg-type]
one.body(wrong_output)  # type: ignore[arg-type]
one.body(pair)  # type: ignore[arg-type]
named.consumes(Order, Payment, optional=[Payment]).publishes(Shipment).body(pair)
named.consumes(Order).consumes(Payment).publishes(Shipment).body(payload)  # type: ignore[arg-type]
named.consumes(Order, batch=3).publishes(Shipment).body(lambda orders: [Shipment(order_id=o.order_id) for o in orders])


@named.consumes(Order).publishes(Shipment).body
async def decorated(order: Order) -> Shipment | None:
    return None


named()  # type: ignore[operator]

# -- mixed shapes fit a model, or a body that takes the context alone ---------------------------------------
mixed = named.consumes(Order).consumes(Order, Payment, by="order_id").publishes(Shipment)
assert_type(mixed, AgentBuilder[Shipment, *tuple[Any, ...]])
mixed.body(only_context)
