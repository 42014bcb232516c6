"""What type checkers infer and refuse of a board's verbs and reads; checked by mypy, never run."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, assert_type

from pydantic import BaseModel

from stigmergy import (
    Artifact,
    Blackboard,
    Component,
    Consensus,
    Context,
    Limits,
    Retry,
    Roster,
    WorkDiscovery,
    private,
    read,
)
from stigmergy.blackboard.component import Seen
from stigmergy.blackboard.events import Event
from stigmergy.blackboard.reading.artifacts import Artifacts
from stigmergy.blackboard.reading.proof import Proof
from stigmergy.blackboard.reading.report import Report
from stigmergy.blackboard.reading.view import View


class Order(BaseModel):
    order_id: str
    n: int = 0


class Payment(BaseModel):
    order_id: str


roster = Roster(limits=Limits(cost="2.00", activations=100))
board = Blackboard("run.db", roster=roster, durability="fast")
Blackboard(Path("run.db"))
Blackboard()
Blackboard(7)  # type: ignore[arg-type]
Blackboard(store="run.db")  # type: ignore[call-arg]
Blackboard("run.db", durability="some")  # type: ignore[arg-type]
Blackboard("run.db", concurency=2)  # type: ignore[call-arg]
Limits(cost=2.0)  # type: ignore[arg-type]
Limits(cst="2.00")  # type: ignore[call-arg]
Retry(3)  # type: ignore[call-arg]


# -- writes are awaited, and give what was put in ----------------------------------------------------------------------
async def writes() -> None:
    assert_type(await board.publish(Order(order_id="1")), Artifact[Order])
    assert_type((await board.publish(Order(order_id="1"))).payload.order_id, str)
    assert_type(await board.publish_many([Order(order_id="1")]), list[Artifact[Order]])
    assert_type(await board.publish_file("seeds.jsonl", Path("more.jsonl")), list[Artifact[BaseModel]])
    await board.publish(Order(order_id="1"), key="k", tags=["a"], priority="high", visibility=private("ship"), run="r")
    await board.publish({"order_id": "1"})  # type: ignore[type-var]
    await board.publish(Order)  # type: ignore[type-var]
    await board.publish(Order(order_id="1"), Payment(order_id="1"))  # type: ignore[call-arg, arg-type]
    await board.publish(Order(order_id="1"), priority="urgent")  # type: ignore[arg-type]
    await board.publish(Order(order_id="1"), prioriy="high")  # type: ignore[call-arg]
    board.publish(Order(order_id="1"))  # type: ignore[unused-coroutine]
    (await board.publish(Order(order_id="1"))).payload.order  # type: ignore[attr-defined]  # noqa: B018


# -- runs give reports -------------------------------------------------------------------------------------------------
async def runs() -> None:
    assert_type(await board.run_until_idle(), Report)
    assert_type(await board.run_until_idle(timeout=timedelta(minutes=1), horizon=None), Report)
    assert_type(await board.run_until(Order, where={"n": 1}, count=2), Report)
    assert_type(await board.run_until(Order, where=lambda order: order.n > 1), Report)
    assert_type(await board.run_until(Order, where=[{"n": {1, 2}}, lambda order: order.n > 1]), Report)
    await board.run_until(Order, where=lambda order: order.zzz)  # type: ignore[attr-defined]
    await board.run_until("Order")  # type: ignore[arg-type]
    await board.run_until(Order, Payment)  # type: ignore[call-arg, arg-type]
    await board.run_until_idle(timeout="5 s")  # type: ignore[arg-type]
    await board.retry(33, "ship@34")
    await board.cancel(33, reason="not needed")
    await board.retry(1.5)  # type: ignore[arg-type]
    assert_type([event async for event in board.watch()], list[Event])
    async with board as same:
        assert_type(same, Blackboard)


assert_type(board.run_sync(Order(order_id="1"), Payment(order_id="1"), timeout=5), Report)
board.run_sync([Order(order_id="1")])  # type: ignore[arg-type]
report = board.run_sync()
assert_type(report.ok, bool)
assert_type(report.left.dead_letters[0].agent, str)
report.reasn  # type: ignore[attr-defined]  # noqa: B018
assert report.reason != "idel"  # type: ignore[comparison-overlap]

# -- reads are not awaited, and know their types -----------------------------------------------------------------------
assert_type(board.artifacts(), Artifacts[BaseModel])
assert_type(board.artifacts(Order), Artifacts[Order])
assert_type(board.artifacts("Order"), Artifacts[BaseModel])
assert_type(board.artifacts(Order, where=lambda order: order.n > 1, limit=5)[0].payload, Order)
assert_type(list(board.artifacts(Order).payloads), list[Order])
assert_type(board.artifacts(Order).total, int)
assert_type(board.one(Order), Order)
assert_type(board.one(Order, where={"order_id": "1"}).n, int)
assert_type(board.get(12), Artifact[BaseModel])
assert_type(board.get("Order@12").as_type(Order), Order | None)
assert_type(board.why(12), Proof)
assert_type(board.report(), Report)
assert_type(board.at(12), View)
assert_type(board.at(datetime.now(UTC)).one(Order), Order)
assert_type(read("run.db", [Order]).artifacts(Order), Artifacts[Order])
views: list[View] = [board, board.at(12), read(Path("run.db"))]
board.artifacts(Order, where=lambda order: order.zzz)  # type: ignore[attr-defined]
board.artifacts(Order, where="n > 1")  # type: ignore[arg-type]
board.artifacts(Order(order_id="1"))  # type: ignore[call-overload]
board.artifacts(Order, wher={"n": 1})  # type: ignore[call-overload]
board.one(Order).order  # type: ignore[attr-defined]  # noqa: B018
board.one(str)  # type: ignore[type-var]
board.get(1.5)  # type: ignore[arg-type]
board.at("yesterday")  # type: ignore[arg-type]
board.get(12).payload.order_id  # type: ignore[attr-defined]  # noqa: B018
board.get(12).id = 13  # type: ignore[misc]


def covariant(artifacts: Artifacts[BaseModel], artifact: Artifact[BaseModel]) -> None: ...


covariant(board.artifacts(Order), board.artifacts(Order)[0])


# -- bodies and their context ------------------------------------------------------------------------------------------
async def upload(order: Order, times: int = 1) -> int:
    return times


@board.agent(retry=Retry(attempts=3), timeout=60, phase="analysis")
async def ship(order: Order, ctx: Context) -> Payment:
    assert_type(await ctx.call("upload", upload, order, times=2), int)
    assert_type(ctx.past, tuple[Artifact[Any], ...])
    assert_type(ctx.artifacts[0].id, int)
    await ctx.call("upload", upload, "order")  # type: ignore[call-overload]
    await ctx.call("upload", upload, order, tims=2)  # type: ignore[call-arg]
    await ctx.publish(Payment(order_id="1"), key="k")
    return Payment(order_id=order.order_id)


board.agent("named").consumes(WorkDiscovery, where={"phase": "analysis"}).publishes(Order).body(
    lambda work: Order(order_id=work.description)
)
board.agent(timeuot=60)  # type: ignore[call-overload]

# -- components --------------------------------------------------------------------------------------------------------
board.add(Consensus(options=["accept", "reject"], voters=[ship, "named"], quorum=2))
board.add(ship)  # type: ignore[arg-type]


class Counting(Component[int]):
    def start(self) -> int:
        return 0

    def step(self, state: int, event: Seen, /) -> int:
        return state + 1


class Miscounting(Component[int]):
    def step(self, state: str, event: Seen, /) -> str:  # type: ignore[override]
        return state


assert_type(board.fold(Counting()), int)
