"""Teams of the seeds, built of what the library has: vetoes, adapters to the world, people, live views."""

import asyncio
from contextlib import aclosing

import pytest
from pydantic import BaseModel, JsonValue

from stigmergy import (
    ACCEPT,
    Artifact,
    Blackboard,
    Completion,
    Component,
    Context,
    Implementation,
    Progress,
    Questions,
    Reject,
    Retry,
    Seen,
    Vote,
    WorkDiscovery,
    WorkflowComplete,
    ancestor,
)
from stigmergy.blackboard.component import ActivationRequest
from stigmergy.blackboard.component import Verdict as Review
from stigmergy.blackboard.events import Published
from stigmergy.components.progress import AgentProgress
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, in_the_middle, numbers

pytestmark = pytest.mark.anyio


# -- analyzer, risk manager, executor ----------------------------------------------------------------------------------


class Signal(BaseModel):
    symbol: str


class Proposal(BaseModel):
    symbol: str
    price: int


class Verdict(BaseModel):
    symbol: str
    allowed: bool
    reason: str


class Order(BaseModel):
    symbol: str
    receipt: str


class StubMarket:
    """Stands for market data and a wallet."""

    def __init__(self) -> None:
        self.orders: list[str] = []

    async def price(self, symbol: str) -> int:
        return {"SAFE": 10, "WILD": 9_000}[symbol]

    def buy(self, symbol: str, key: str) -> str:
        self.orders.append(symbol)
        return f"bought {symbol}"


def trading(board: Blackboard, market: StubMarket) -> Blackboard:
    @board.agent
    async def analyzer(signal: Signal, ctx: Context) -> Proposal:
        return Proposal(symbol=signal.symbol, price=await ctx.call("price", market.price, signal.symbol))

    @board.agent
    async def risk_manager(proposal: Proposal) -> Verdict:
        return Verdict(symbol=proposal.symbol, allowed=proposal.price < 100, reason=f"costs {proposal.price}")

    async def executor(verdict: Verdict, ctx: Context) -> Order:
        receipt = await ctx.call("buy", market.buy, verdict.symbol, ctx.idempotency_key("buy"))
        return Order(symbol=verdict.symbol, receipt=receipt)

    board.agent("executor").consumes(Verdict, where={"allowed": True}).publishes(Order).body(executor)
    return board


@pytest.mark.req("S0.39", "S0.40")
async def test_a_veto_of_the_risk_manager_keeps_the_executor_from_acting_and_is_reported(new_board: Boards) -> None:
    market = StubMarket()
    board = trading(new_board(), market)
    await board.publish_many([Signal(symbol="WILD"), Signal(symbol="SAFE")])
    report = await board.run_until_idle()
    assert market.orders == ["SAFE"]
    assert board.one(Order).receipt == "bought SAFE"
    vetoed = board.artifacts(Verdict, where={"allowed": False})
    assert [v.payload.reason for v in vetoed] == ["costs 9000"]
    assert [left.id for left in report.left.no_consumer] == [vetoed[0].id]


# -- what a discovery sets off outside ---------------------------------------------------------------------------------


@pytest.mark.req("S3.77")
async def test_an_issue_is_created_once_for_every_discovery_and_a_tracker_that_fails_stops_nobody(
    new_board: Boards,
) -> None:
    board = new_board(clock=VirtualClock())
    created: list[str] = []
    done: list[str] = []

    def create(title: str) -> int:
        if "unspeakable" in title:
            raise OSError("the tracker refuses it")
        created.append(title)
        return len(created)

    @board.agent(retry=Retry(attempts=2))
    async def tracker(item: WorkDiscovery, ctx: Context) -> None:
        await ctx.call("issue", create, item.description)
        if ctx.attempt == 1:
            raise OSError("the network broke after it was created")

    @board.agent
    async def worker(item: WorkDiscovery) -> None:
        done.append(item.description)

    def found(description: str) -> WorkDiscovery:
        return WorkDiscovery(description=description, phase="analysis", done_definition="It is done")

    await board.publish_many([found("slow"), found("unspeakable"), found("wrong")])
    report = await board.run_until_idle()
    assert sorted(created) == ["slow", "wrong"]
    assert done == ["slow", "unspeakable", "wrong"]
    assert [(dead.agent, dead.attempts) for dead in report.left.dead_letters] == [("tracker", 2)]


# -- when work is done -------------------------------------------------------------------------------------------------


class DoneMeansDone(Component[dict[int, str]]):
    """Accepts a result only if it says how the definition of its work is met, or why that is waived."""

    def start(self) -> dict[int, str]:
        return {}

    def step(self, state: dict[int, str], seen: Seen, /) -> dict[int, str]:
        work = seen.artifact.as_type(WorkDiscovery) if seen.artifact is not None else None
        return {**state, seen.event.seq: work.done_definition} if work is not None else state

    def review(self, state: dict[int, str], request: ActivationRequest, outputs: tuple[BaseModel, ...], /) -> Review:
        wanted = [state[id] for id in request.inputs if id in state]
        said = [o.metadata for o in outputs if isinstance(o, Implementation)]
        met = all(any(w == m.get("done") or m.get("waived") for m in said) for w in wanted)
        return ACCEPT if met else Reject(f"show that it is done: {wanted[0]}", retry=True)


@pytest.mark.req("S3.54")
@pytest.mark.parametrize(
    ("says", "accepted"),
    [({"done": "All tests pass"}, True), ({"waived": "no tests needed"}, True), ({"done": "Looks good"}, False)],
    ids=["done", "waived", "not done"],
)
async def test_work_is_done_when_its_definition_is_met_or_waived_and_not_before(
    new_board: Boards, says: dict[str, JsonValue], accepted: bool
) -> None:
    board = new_board(components=[DoneMeansDone(), Completion()], clock=VirtualClock())
    told: list[str] = []

    @board.agent(retry=Retry(attempts=2))
    async def implementer(work: WorkDiscovery, ctx: Context) -> Implementation:
        told.append(ctx.feedback)
        return Implementation(summary="s", files_created=["a.py"], metadata=says if ctx.attempt == 2 else {})

    await board.publish(WorkDiscovery(description="x", phase="implementation", done_definition="All tests pass"))
    report = await board.run_until_idle()
    assert told == ["", "show that it is done: All tests pass"]
    assert (report.done, report.dead, board.artifacts(Implementation).total) == (accepted, not accepted, accepted)
    assert board.artifacts(WorkflowComplete).total == accepted


# -- people ------------------------------------------------------------------------------------------------------------


@pytest.mark.req("S4.59")
@pytest.mark.parametrize("approved", [True, False])
async def test_a_run_pauses_for_an_approval_over_the_end_of_its_process_and_does_as_it_is_told(
    file_board: Boards, ending: str, approved: bool
) -> None:
    steps: list[str] = []

    def defined(board: Blackboard) -> Blackboard:
        @board.agent
        async def deploy(a: A, ctx: Context) -> B | C:
            steps.append("asked")
            if await ctx.ask("go", "Deploy?"):
                return B(n=a.n)
            return C(n=a.n)

        return board

    board = defined(file_board(components=[Questions()]))
    await board.publish(A(n=7))
    report = await board.run_until_idle()
    assert report.reason == "waiting"
    [question] = report.left.questions
    board = defined(await file_board.after(ending, board, components=[Questions()]))
    assert (await board.run_until_idle()).reason == "waiting"
    await board.answer(question.id, approved)
    assert (await board.run_until_idle()).ok
    assert (numbers(board, B), numbers(board, C)) == (([7], []) if approved else ([], [7]))


# -- while it runs -----------------------------------------------------------------------------------------------------


@pytest.mark.req("S1.40")
async def test_what_an_agent_says_is_seen_by_a_subscriber_before_the_run_ends(new_board: Boards) -> None:
    board = new_board()
    seen = asyncio.Event()

    @board.agent
    async def quick(a: Artifact[A]) -> Vote:
        return Vote(subject=a.id, option="yes", reasoning="of course")

    @board.agent
    async def thorough(a: Artifact[A]) -> Vote:
        await seen.wait()
        return Vote(subject=a.id, option="no")

    await board.publish(A())

    async def look() -> str:
        async with aclosing(board.watch()) as events:
            async for event in events:
                if isinstance(event, Published) and event.producer == "quick":
                    seen.set()
                    return board.artifacts(Vote)[0].payload.reasoning
        return ""

    looking = asyncio.create_task(look())
    report = await asyncio.wait_for(board.run_until_idle(), 30)
    assert await looking == "of course"
    assert report.done == 2


@pytest.mark.req("S2.21", "S2.37")
async def test_the_state_of_every_agent_is_known_while_it_runs_and_after_whatever_it_raised(new_board: Boards) -> None:
    board = new_board(concurrency=2)
    inside: list[int] = []
    both_inside, go_on = asyncio.Event(), asyncio.Event()

    async def body(a: A) -> None:
        inside.append(a.n)
        if len(inside) == 2:
            both_inside.set()
        await go_on.wait()
        if a.n == 1:
            raise ValueError("oh no")
        if a.n == 2:
            raise KeyboardInterrupt

    board.agent("worker").consumes(A).body(body)
    await board.publish_many([A(n=n) for n in range(4)])
    run = await in_the_middle(board, both_inside)
    assert board.fold(Progress()).agents == {"worker": AgentProgress(ready=2, running=2)}
    now = max(event.seq for event in board.events())
    go_on.set()
    await run
    assert board.fold(Progress()).agents == {"worker": AgentProgress(done=2, failed=2)}
    assert board.at(now).fold(Progress()).agents == {"worker": AgentProgress(ready=2, running=2)}


@pytest.mark.req("S4.58")
@pytest.mark.parametrize("pauses", [(10, 20, 30), (30, 20, 10), (20, 30, 10)])
async def test_work_that_fans_out_is_done_beside_each_other_and_comes_together_once(
    new_board: Boards, pauses: tuple[int, int, int]
) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    start = clock.now()
    together: list[tuple[list[int], float]] = []

    @board.agent
    async def split(a: A) -> list[B]:
        return [B(n=n) for n in range(3)]

    @board.agent
    async def part(b: B, ctx: Context) -> C:
        await ctx.sleep("work", pauses[b.n])
        return C(n=b.n)

    async def join(one: C, two: C, three: C, ctx: Context) -> None:
        together.append((sorted([one.n, two.n, three.n]), ctx.now() - start))

    board.agent("join").consumes(C, C, C, by=ancestor(A)).body(join)
    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert together == [([0, 1, 2], 30.0)]
