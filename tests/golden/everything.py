"""A team to which nearly everything happens that a log can say; its boards are kept, with this file as it was then.

What it does depends on its inputs alone, so that every later version of the library has to decide it the same way.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from stigmergy import (
    ADMIT,
    Component,
    Consensus,
    Context,
    Costs,
    Deny,
    Hold,
    Limits,
    Progress,
    Publish,
    Retry,
    Roster,
    Seen,
    Vote,
    WorkDiscovery,
    ancestor,
)


class Order(BaseModel):
    n: int
    key: str


class Stock(BaseModel):
    key: str


class Gift(BaseModel):
    key: str


class Bill(BaseModel):
    n: int
    number: str


class Parcel(BaseModel):
    ns: list[int]


class Draft(BaseModel):
    n: int


class Note(BaseModel):
    text: str


class Alarm(BaseModel):
    count: int


class Guard(Component[int]):
    """Counts orders, says so, denies one activation and holds another until there are five."""

    publishes = (Alarm,)
    observes = (Order,)

    def start(self) -> int:
        return 0

    def step(self, state: int, seen: Seen, /) -> int:
        return state + 1

    def react(self, state: int, seen: Seen, /) -> Iterable[Any]:
        if state == 5:
            yield Publish(Alarm(count=state), key="five")

    def admit(self, state: int, request: Any, /) -> Any:
        if getattr(request, "agent", "") != "watch":
            return ADMIT
        if request.priority == "low":
            return Deny("low is not watched")
        return Hold("five orders first") if state < 5 else ADMIT


roster = Roster(
    components=[Progress(), Costs(), Guard(), Consensus(options=["yes", "no"], voters=["ann", "bob", "cy"], quorum=2)],
    limits=Limits(activations=500), concurrency=4,
)  # fmt: skip


def number(n: int) -> str:
    return f"bill {n}"


@roster.agent(retry=Retry(attempts=3, backoff=2.0))
async def bill(order: Order, ctx: Context) -> Bill | Draft | None:
    """Effects, retries, sleeps, costs, publishing on the way, a dead letter."""
    if order.n == 2 and ctx.attempt < 3:
        raise ValueError("not yet")
    made: str = await ctx.call("number", number, order.n)
    await ctx.charge("fee", cost="0.015", tokens=100)
    if order.n == 3:
        raise ValueError("never")
    if order.n == 1:
        await ctx.sleep("wait", 30)
        await ctx.publish(Draft(n=order.n), key="draft")
    return Bill(n=order.n, number=made)


@roster.agent(by="key", within=60)
async def pack(order: Order, stock: Stock, gift: Gift | None) -> Parcel:
    """A join with an optional input and a deadline."""
    return Parcel(ns=[order.n])


@roster.agent(batch=3, within="idle")
async def count(bills: list[Bill]) -> Note:
    """A batch, the last of them not full."""
    return Note(text=f"{len(bills)} bills")


@roster.agent
async def watch(order: Order) -> None:
    """Held and denied by a component."""


async def gather(parcel: Parcel, draft: Draft) -> Note:
    """Fork and join: what descends from one order."""
    return Note(text=f"{parcel.ns} {draft.n}")


async def approve(note: Note) -> list[Draft]:
    return [Draft(n=-1)] if note.text == "3 bills" else []


@roster.agent
async def ann(draft: Draft, ctx: Context) -> Vote:
    return Vote(subject=ctx.artifacts[0].id, option="yes")


@roster.agent
async def bob(draft: Draft, ctx: Context) -> Vote:
    return Vote(subject=ctx.artifacts[0].id, option="yes" if draft.n > 0 else "no")


@roster.agent
async def cy(draft: Draft, ctx: Context) -> Vote:
    if draft.n < 0:
        raise RuntimeError("no opinion")
    return Vote(subject=ctx.artifacts[0].id, abstain=True)


@roster.agent
async def worker(work: WorkDiscovery) -> None:
    """Work that waits for other work."""
    if work.work_id == "broken":
        raise RuntimeError("broken")


roster.agent("gather").consumes(Parcel, Draft, by=ancestor(Order)).publishes(Note).body(gather)
roster.agent("approve").consumes(Note, where=[{"text": "3 bills"}, lambda n: "bills" in n.text]).publishes(Draft).body(
    approve
)
