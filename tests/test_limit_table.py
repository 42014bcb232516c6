"""Every limit at every scope: it stops the work with its reason and an artifact, and loses nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from stigmergy import Blackboard, Budget, Context, LimitReached, Limits, Quota, replay
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, numbers

pytestmark = pytest.mark.anyio

LAST = 12
"""Where the work of one run ends if nothing stops it."""


def working(board: Blackboard, *, most: tuple[int, int] | None = None) -> Blackboard:
    """The board, with two agents that take turns: each step takes ten seconds, a token and a cent."""

    async def step(n: int, ctx: Context) -> None:
        await ctx.sleep("work", 10)
        await ctx.charge("paid", cost="0.01", tokens=1)

    async def ping(a: A, ctx: Context) -> B | None:
        await step(a.n, ctx)
        return B(n=a.n + 1, key="x" * 50) if a.n < LAST else None

    async def pong(b: B, ctx: Context) -> list[A]:
        await step(b.n, ctx)
        return [A(n=b.n + 1, key="x" * 50)]

    board.agent("ping").consumes(A).publishes(B).body(ping)
    board.agent("pong").consumes(B).publishes(A).body(pong)
    return board


Cap = Callable[[bool], dict[str, Any]]
"""What a board is made with; True = raised."""


def limits(low: dict[str, Any], high: dict[str, Any]) -> Cap:
    return lambda raised: {"limits": Limits(**{"tokens": None, **(high if raised else low)})}


def quota(per: str, **low: float) -> Cap:
    return lambda raised: {
        "components": [Quota(**{what: 10_000 if raised else n for what, n in low.items()}, per=per)]  # type: ignore[arg-type]
    }


def budget(per: str, **low: Any) -> Cap:
    return lambda raised: {
        "components": [Budget(**{what: type(n)(10_000) if raised else n for what, n in low.items()}, per=per)]  # type: ignore[arg-type]
    }


TABLE: dict[str, dict[str, Cap]] = {
    "activations": {
        "run": limits({"activations": 4}, {"activations": 100}),
        "tree": quota("tree", activations=4),
        "agent": quota("agent", activations=2),
    },
    "artifacts": {scope: quota(scope, artifacts=n) for scope, n in (("run", 4), ("tree", 4), ("agent", 2))},
    "bytes": {scope: quota(scope, payload_bytes=n) for scope, n in (("run", 250), ("tree", 250), ("agent", 130))},
    "depth": {"run, tree and agent": limits({"depth": 3}, {"depth": 100})},
    "money": {
        "run": limits({"cost": "0.04"}, {"cost": "100"}),
        "tree": budget("tree", cost="0.04"),
        "agent": budget("agent", cost="0.02"),
    },
    "tokens": {
        "run": limits({"tokens": 4}, {"tokens": 100}),
        "tree": budget("tree", tokens=4),
        "agent": budget("agent", tokens=2),
    },
    "time on the clock": {scope: quota(scope, elapsed=35) for scope in ("run", "tree", "agent")},
}
CELLS = [pytest.param(cap, id=f"{what} of a {scope}") for what, row in TABLE.items() for scope, cap in row.items()]


@pytest.mark.req("S3.74", "S3.75")
@pytest.mark.parametrize("cap", CELLS)
async def test_a_used_up_limit_is_a_reason_and_an_artifact_and_with_a_raised_one_it_goes_on(
    new_board: Boards, cap: Cap
) -> None:
    clock = VirtualClock()
    board = working(new_board(clock=clock, **cap(False)))
    await board.publish(A(n=0))
    report = await board.run_until_idle()
    done = report.done
    assert 1 <= done <= 5
    assert (report.reason, report.open, report.dead, report.skipped) == ("budget", 1, 0, 0)
    assert board.artifacts(A).total + board.artifacts(B).total == done + 1  # what was finished is there
    assert board.one(LimitReached).why == report.detail
    assert replay(board, board).ok
    assert (await board.run_until_idle()).done == done
    assert board.artifacts(LimitReached).total == 1
    board = working(await new_board.reopened(board, clock=clock, **cap(True)))
    report = await board.run_until_idle()
    assert (report.reason, report.open, report.done) == ("idle", 0, LAST + 1)
    assert numbers(board, A) == list(range(0, LAST + 1, 2))


@pytest.mark.req("S3.74", "S3.75")
@pytest.mark.parametrize("what", [what for what, row in TABLE.items() if "tree" in row])
async def test_a_limit_of_a_tree_leaves_other_trees_and_one_of_an_agent_other_agents_alone(
    new_board: Boards, what: str
) -> None:
    for scope, others in (("tree", A(n=LAST)), ("agent", C())):
        board = working(new_board(clock=VirtualClock(), **TABLE[what][scope](False)))
        await board.publish(A(n=0))
        done = (await board.run_until_idle()).done

        @board.agent
        async def other(c: C) -> None: ...

        await board.publish(others)
        report = await board.run_until_idle()
        assert (report.reason, report.open, report.done) == ("budget", 1, done + 1), scope


# -- what cannot wait: an output that is too large ---------------------------------------------------------------------

TOO_MUCH: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fan-out of a run and tree": ({"limits": Limits(fan_out=3)}, {"limits": Limits(fan_out=4)}),
    "bytes of one artifact": ({"limits": Limits(payload_bytes=200)}, {"limits": Limits(payload_bytes=2_000)}),
}


@pytest.mark.parametrize("what", TOO_MUCH)
async def test_an_output_that_is_too_large_is_a_dead_letter_that_names_the_limit_and_can_be_tried_again(
    new_board: Boards, what: str
) -> None:
    def giving(board: Blackboard) -> Blackboard:
        @board.agent
        async def give(a: A) -> list[B]:
            return [B(n=n, key="x" * 300 if "bytes" in what else "") for n in range(4)]

        return board

    low, high = TOO_MUCH[what]
    board = giving(new_board(**low))
    await board.publish(A())
    report = await board.run_until_idle()
    [dead] = report.left.dead_letters
    assert dead.error is not None
    assert dead.error.message.startswith("Limits(")
    assert board.artifacts(B).total == 0
    board = giving(await new_board.reopened(board, **high))
    await board.retry(dead.activation)
    assert (await board.run_until_idle()).ok
    assert numbers(board, B) == [0, 1, 2, 3]


async def test_the_fan_out_of_an_agent_is_declared_with_what_it_publishes(new_board: Boards) -> None:
    board = new_board()

    async def give(a: A) -> list[B]:
        return [B()] * a.n

    board.agent("give").consumes(A).publishes(B, fan_out=(0, 3)).body(give)
    await board.publish_many([A(n=3), A(n=4)])
    report = await board.run_until_idle()
    assert (report.done, report.dead, board.artifacts(B).total) == (1, 1, 3)
