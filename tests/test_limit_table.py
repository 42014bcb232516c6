"""Every limit at every scope: it stops the work with its reason and an artifact, and loses nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from stigmergy import Blackboard, Budget, Context, LimitReached, Limits, Quota, Retry, replay
from stigmergy.blackboard.errors import PayloadTooLarge, PublishError
from stigmergy.models import Scripted
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


# -- the limits of one attempt -----------------------------------------------------------------------------------------

Way = Callable[[list[B], Context], Awaitable[list[B] | None]]


async def returned(outputs: list[B], ctx: Context) -> list[B]:
    return outputs


async def at_once(outputs: list[B], ctx: Context) -> None:
    for b in outputs:
        await ctx.publish(b)


async def together(outputs: list[B], ctx: Context) -> None:
    await asyncio.gather(*(ctx.publish(b) for b in outputs))


async def made_light_of(outputs: list[B], ctx: Context) -> None:
    for b in outputs:
        with suppress(PublishError):
            await ctx.publish(b)


async def turned_into_another_error(outputs: list[B], ctx: Context) -> None:
    try:
        await at_once(outputs, ctx)
    except PublishError:
        raise ValueError("no more than that it is too much") from None


WAYS: list[Way] = [returned, at_once, together, made_light_of, turned_into_another_error]
TOO_MUCH: dict[str, tuple[str, Limits, Limits]] = {
    "fan-out": ("fan_out 4 of 3", Limits(fan_out=3), Limits(fan_out=4)),
    "bytes of one artifact": ("payload_bytes 66 of 50", Limits(payload_bytes=50), Limits(payload_bytes=66)),
}


def giving(board: Blackboard, way: Way, paid: list[int], ran: list[int]) -> Blackboard:
    """The board, with an agent that pays for what it gives: four artifacts, of which the last but one is the largest.

    What it is given beside is too little to be refused.
    """

    async def buy(n: int) -> int:
        paid.append(n)
        return n

    async def give(a: A, ctx: Context) -> list[B] | None:
        ran.append(a.n)
        if a.n:
            return [B(n=-a.n)]
        await ctx.call("buy", buy, 4)
        return await way([B(n=n, key="x" * (50 if n == 2 else 0)) for n in range(4)], ctx)

    board.agent("give").limits(retry=Retry(attempts=3, backoff=0)).consumes(A).publishes(B).body(give)
    return board


@pytest.mark.req("S3.74", "S3.75")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("what", TOO_MUCH)
async def test_outputs_beyond_a_limit_are_a_reason_and_an_artifact_and_with_a_raised_one_they_are_there(
    new_board: Boards, what: str, way: Way
) -> None:
    said, low, high = TOO_MUCH[what]
    paid: list[int] = []
    ran: list[int] = []
    board = giving(new_board(limits=low), way, paid, ran)
    await board.publish(A())
    await board.publish(A(n=7))
    report = await board.run_until_idle()
    assert (report.reason, report.detail) == ("budget", f"{said} for agent give")
    assert (report.open, report.done, report.dead, report.failed_attempts) == (1, 1, 0, 0)
    assert board.one(LimitReached).why == report.detail
    assert set(numbers(board, B)) < {-7, 0, 1, 2, 3}
    assert replay(board, board).ok
    assert (await board.run_until_idle()).detail == report.detail
    assert board.artifacts(LimitReached).total == 1
    assert (paid, sorted(ran)) == ([4], [0, 7])  # the same limit would refuse the same again
    board = giving(await new_board.reopened(board, limits=high), way, paid, ran)
    report = await board.run_until_idle()
    assert (report.ok, report.reason, report.open, report.done) == (True, "idle", 0, 2)
    assert sorted(numbers(board, B)) == [-7, 0, 1, 2, 3]
    assert (paid, sorted(ran)) == ([4], [0, 0, 7])
    assert replay(board, board).ok


@pytest.mark.parametrize("what", TOO_MUCH)
async def test_outputs_beyond_a_limit_wait_over_a_restart_of_any_kind(
    file_board: Boards, what: str, ending: str
) -> None:
    said, low, high = TOO_MUCH[what]
    paid: list[int] = []
    board = giving(file_board(limits=low), at_once, paid, [])
    await board.publish(A(), run="mine")
    assert (await board.run_until_idle()).reason == "budget"
    board = giving(await file_board.after(ending, board, limits=low), at_once, paid, [])
    report = await board.run_until_idle()
    assert (report.reason, report.detail, report.open) == ("budget", f"{said} for agent give", 1)
    assert [notice.run for notice in board.artifacts(LimitReached)] == ["mine"]
    board = giving(await file_board.after(ending, board, limits=high), at_once, paid, [])
    assert (await board.run_until_idle()).ok
    assert (numbers(board, B), paid) == ([0, 1, 2, 3], [4])


async def test_what_a_model_answers_beyond_a_limit_is_not_asked_for_again(new_board: Boards) -> None:
    def thinking(board: Blackboard) -> Blackboard:
        board.agent("thinker").description("Thinks.").consumes(A).publishes(B)
        return board

    model = Scripted([[B(n=0), B(n=1)]], cost="0.25")
    board = thinking(new_board(model=model, limits=Limits(fan_out=1)))
    await board.publish(A())
    assert (await board.run_until_idle()).detail == "fan_out 2 of 1 for agent thinker"
    board = thinking(await new_board.reopened(board, model=model, limits=Limits(fan_out=2)))
    report = await board.run_until_idle()
    assert (report.ok, numbers(board, B), report.cost) == (True, [0, 1], Decimal("0.25"))


async def test_a_limit_of_bytes_does_not_refuse_the_notice_that_it_is_reached(new_board: Boards) -> None:
    board = giving(new_board(limits=Limits(payload_bytes=20)), returned, [], [])
    await board.publish(A())
    report = await board.run_until_idle()
    assert (report.reason, board.one(LimitReached).why) == ("budget", "payload_bytes 66 of 20 for agent give")


async def test_what_waits_for_a_higher_limit_says_so_and_can_be_cancelled(new_board: Boards) -> None:
    board = giving(new_board(limits=Limits(fan_out=3)), returned, [], [])
    a = await board.publish(A())
    report = await board.run_until_idle()
    [why] = board.why_not("give", a).reasons
    assert why.kind == "budget"
    assert why.text.endswith(
        "was stopped and runs again when the board is opened anew: Limits(fan_out=3): 'give' returned 4 outputs. "
        "Publish fewer, or raise it."
    )
    assert "--limit fan_out=…" in str(report) or new_board.kind == "memory"
    await board.cancel(report.left.unfinished[0].oldest)
    assert (await board.run_until_idle()).reason == "idle"
    assert board.artifacts(B).total == 0


async def test_an_error_of_the_same_name_that_is_not_of_this_board_is_a_failure(new_board: Boards) -> None:
    board, other = new_board(), new_board(limits=Limits(payload_bytes=50))

    @board.agent
    async def elsewhere(a: A) -> None:
        await other.publish(B(key="x" * 100))

    await board.publish(A())
    report = await board.run_until_idle()
    assert (report.reason, report.open, report.dead) == ("idle", 0, 1)
    assert board.artifacts(LimitReached).total == 0


async def test_a_payload_from_outside_beyond_a_limit_is_refused(new_board: Boards) -> None:
    board = giving(new_board(limits=Limits(payload_bytes=50)), returned, [], [])
    with pytest.raises(PayloadTooLarge, match="payload_bytes=50"):
        await board.publish(A(key="x" * 100))
    assert (await board.run_until_idle()).reason == "idle"
    assert board.artifacts().total == 0


async def test_the_fan_out_of_an_agent_is_declared_with_what_it_publishes(new_board: Boards) -> None:
    board = new_board()

    async def give(a: A) -> list[B]:
        return [B()] * a.n

    board.agent("give").consumes(A).publishes(B, fan_out=(0, 3)).body(give)
    await board.publish_many([A(n=3), A(n=4)])
    report = await board.run_until_idle()
    assert (report.done, report.dead, board.artifacts(B).total) == (1, 1, 3)
