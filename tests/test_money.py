"""What effects cost: booked once, summed exactly, and limited."""

from decimal import Decimal

import pytest

from stigmergy import Blackboard, Context, Costs, Limits, Retry
from tests.boards import A, B, Boards

pytestmark = pytest.mark.anyio


def with_a_thinker(board: Blackboard) -> Blackboard:
    @board.agent
    async def thinker(a: A, ctx: Context) -> B:
        await ctx.charge("question", cost="0.10", tokens=10)
        return B(n=a.n)

    return board


async def test_what_effects_cost_is_summed_to_the_cent_by_agent_and_in_the_report(new_board: Boards) -> None:
    board = new_board()

    @board.agent(phase="analysis")
    async def thinker(a: A, ctx: Context) -> B:
        await ctx.charge("question", cost="0.10", tokens=7)
        await ctx.charge("answer", cost=Decimal("0.20"), tokens=5)
        return B(n=a.n)

    for n in range(10):
        await board.publish(A(n=n))
    report = await board.run_until_idle()
    assert (report.cost, report.tokens) == (Decimal("3.00"), 120)
    spent = board.fold(Costs())
    assert (spent.total.money, spent.agents["thinker"].tokens, spent.phases["analysis"].money) == (
        Decimal("3.00"), 120, Decimal("3.00"),
    )  # fmt: skip


async def test_a_retry_does_not_pay_again_for_what_is_booked(new_board: Boards) -> None:
    board = new_board()

    @board.agent(retry=Retry(attempts=3, backoff=0))
    async def thinker(a: A, ctx: Context) -> B:
        await ctx.charge("question", cost="0.10")
        if ctx.attempt < 3:
            raise ValueError("not yet")
        return B()

    await board.publish(A())
    report = await board.run_until_idle()
    assert report.ok
    assert report.cost == Decimal("0.10")


@pytest.mark.parametrize("limits", [Limits(cost="0.25"), Limits(tokens=25)], ids=["cost", "tokens"])
async def test_a_spent_budget_ends_the_run_with_its_reason_and_a_larger_one_goes_on(
    new_board: Boards, limits: Limits
) -> None:
    board = with_a_thinker(new_board(limits=limits, concurrency=1))
    await board.publish_many([A(n=n) for n in range(10)])
    report = await board.run_until_idle()
    assert report.reason == "budget"
    assert "0.30 of $0.25" in report.detail or "30 of 25" in report.detail
    assert report.done == 3
    again = with_a_thinker(await new_board.reopened(board, limits=Limits(cost="10")))
    assert (await again.run_until_idle()).ok
    assert sorted(b.n for b in again.artifacts(B).payloads) == list(range(10))
