"""Limits stop a run with its reason, lose nothing, and can be raised."""

import asyncio

import pytest

from stigmergy import (
    LimitReached,
    Limits,
    Roster,
    replay,
)
from stigmergy.blackboard.errors import (
    PayloadTooLarge,
)
from stigmergy.blackboard.events import (
    Claimed,
)
from tests.boards import A, B, Boards, numbers

pytestmark = pytest.mark.anyio


def chain() -> Roster:
    roster = Roster()

    async def grow(a: A) -> A | None:
        return A(n=a.n + 1) if a.n < 20 else None

    roster.agent("grow").self_trigger().consumes(A).publishes(A).body(grow)
    return roster


@pytest.mark.req("S3.74", "S3.75")
async def test_agents_that_feed_each_other_stop_at_the_limit_and_say_so(new_board: Boards) -> None:
    roster = Roster(limits=Limits(activations=10))

    @roster.agent
    async def ping(a: A) -> B:
        return B(n=a.n + 1)

    @roster.agent
    async def pong(b: B) -> A:
        return A(n=b.n + 1)

    board = new_board(roster)
    await board.publish(A(n=0))
    report = await board.run_until_idle()
    assert (report.reason, report.ok) == ("budget", False)
    assert report.detail == "activations 10 of 10"
    assert report.done == 10
    assert board.one(LimitReached).why == report.detail  # and so does the board
    assert report.open == 1
    assert sum(isinstance(e, Claimed) for e in board.events()) == 10


@pytest.mark.parametrize(
    ("limits", "done"), [(Limits(activations=5), 5), (Limits(depth=5), 6)], ids=["activations", "depth"]
)
async def test_a_raised_limit_lets_the_run_go_on_with_nothing_lost(
    new_board: Boards, limits: Limits, done: int
) -> None:
    board = new_board(chain(), limits=limits)
    await board.publish(A(n=0))
    report = await board.run_until_idle()
    assert (report.reason, report.done) == ("budget", done)
    assert (await board.run_until_idle()).done == done, "running again changes nothing"
    assert board.artifacts(LimitReached).total == 1
    assert replay(board, board).ok

    board = await new_board.reopened(board, chain(), limits=Limits(activations=1_000, depth=1_000))
    report = await board.run_until_idle()
    assert (report.reason, report.open) == ("idle", 0)
    assert numbers(board, A) == list(range(21))


async def test_a_limit_of_seconds_stops_the_run_when_they_are_spent(new_board: Boards) -> None:
    board = new_board(concurrency=1, limits=Limits(seconds=0.01))

    @board.agent
    async def slow(a: A) -> None:
        await asyncio.sleep(0.02)

    await board.publish_many([A(n=1), A(n=2)])
    report = await board.run_until_idle()
    assert (report.reason, report.done, report.open) == ("budget", 1, 1)
    assert report.detail.startswith("seconds 0.") and report.detail.endswith(" of 0.01")


async def test_a_limit_counts_each_run_for_itself(new_board: Boards) -> None:
    board = new_board(chain(), limits=Limits(activations=5))
    await board.publish(A(n=0), run="endless")
    await board.publish(A(n=18), run="short")
    report = await board.run_until_idle()
    assert report.reason == "budget"
    assert [a.payload.n for a in board.artifacts(A, run="endless")] == [0, 1, 2, 3, 4, 5]
    assert [a.payload.n for a in board.artifacts(A, run="short")] == [18, 19, 20]
    assert [a.run for a in board.artifacts(LimitReached)] == ["endless"]


async def test_an_agent_is_told_what_limits_keep_from_starting(new_board: Boards) -> None:
    board = new_board(chain(), limits=Limits(depth=5))
    told: list[str] = []

    @board.agent
    async def tell(reached: LimitReached) -> None:
        told.append(reached.why)

    await board.publish(A(n=0))
    report = await board.run_until_idle()
    assert (report.reason, told) == ("budget", ["depth 6 of 5"])
    assert replay(board, board).ok


async def test_a_payload_over_the_limit_is_refused_before_anything_is_published(new_board: Boards) -> None:
    board = new_board(limits=Limits(payload_bytes=1_000))

    @board.agent
    async def blow_up(a: A) -> list[B]:
        return [B(n=1), B(key="x" * 2_000)]

    with pytest.raises(PayloadTooLarge, match=r"^Limits\(payload_bytes=1_000\): A has 2,\d+ bytes as JSON\. [^\n]+$"):
        await board.publish_many([A(n=1), A(key="x" * 2_000)])
    assert board.artifacts().total == 0

    await board.publish(A(n=1))
    report = await board.run_until_idle()
    assert report.detail.startswith("payload_bytes 2,0")
    assert report.detail.endswith(" of 1,000 for agent blow_up")
    assert (report.open, report.dead, board.artifacts(B).total) == (1, 0, 0)


async def test_more_outputs_than_the_limit_are_refused_as_a_whole(new_board: Boards) -> None:
    board = new_board(limits=Limits(fan_out=10))

    async def flood(a: A) -> list[B]:
        return [B(n=n) for n in range(a.n)]

    board.agent(flood)
    await board.publish_many([A(n=10), A(n=11), A(n=100_000)])
    report = await board.run_until_idle()
    assert board.artifacts(B).total == 10
    assert (report.reason, report.ok) == ("budget", False)
    assert report.detail == "fan_out 11 of 10 for agent flood; fan_out 100,000 of 10 for agent flood"

    board = await new_board.reopened(board, limits=Limits(fan_out=11))
    board.agent(flood)
    report = await board.run_until_idle()
    assert (report.detail, report.open) == ("fan_out 100,000 of 11 for agent flood", 1)
    assert board.artifacts(B).total == 21
