"""Caps on activations, artifacts, bytes and seconds per run, tree and agent: a reason and an artifact, nothing lost."""

import asyncio
import re
from datetime import timedelta
from typing import Any

import pytest

from stigmergy import Blackboard, Context, LimitReached, Quota, Retry, replay
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.blackboard.events import Rang
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, numbers

pytestmark = pytest.mark.anyio


def growing(board: Blackboard, until: int = 20) -> Blackboard:
    """The board, with two agents that feed each other."""

    @board.agent
    async def ping(a: A) -> B | None:
        return B(n=a.n + 1, key=a.key) if a.n < until else None

    @board.agent
    async def pong(b: B) -> A:
        return A(n=b.n + 1, key=b.key)

    return board


@pytest.mark.req("S3.75")
async def test_a_causal_tree_stops_at_its_cap_and_others_go_on(new_board: Boards) -> None:
    board = growing(new_board(components=[Quota(activations=5, per="tree")]))
    endless, short = await board.publish_many([A(n=0, key="endless"), A(n=18, key="short")])
    report = await board.run_until_idle()
    assert (report.reason, report.detail) == ("budget", f"quota_per_tree: activations 5 of 5 for tree {endless.id}")
    assert [a.payload.n for a in board.artifacts(A, where={"key": "endless"})] == [0, 2, 4]
    assert [a.payload.n for a in board.artifacts(A, where={"key": "short"})] == [18, 20]
    assert board.one(LimitReached).why == report.detail
    assert (report.open, report.dead, report.skipped, short.id > 0) == (1, 0, 0, True)
    assert replay(board, board).ok


@pytest.mark.parametrize("per", ["run", "tree", "agent"])
@pytest.mark.parametrize("what", ["activations", "artifacts", "payload_bytes", "seconds"])
async def test_a_raised_cap_lets_it_go_on_with_nothing_lost(
    file_board: Boards, what: str, per: Any, ending: str
) -> None:
    caps: dict[str, Any] = {"activations": 3, "artifacts": 6, "payload_bytes": 100, "seconds": 0}
    quota = Quota(**{what: caps[what]}, per=per)
    board = growing(file_board(components=[quota]))
    await board.publish(A(n=0))
    report = await board.run_until_idle()
    made = board.artifacts(A).total + board.artifacts(B).total
    assert (report.reason, report.done) == ("budget", made - 1)  # what was finished is there
    assert (await board.run_until_idle()).reason == "budget"
    assert board.one(LimitReached).why == report.detail  # said once
    board = await file_board.after(ending, board, components=[Quota(**{what: 10_000}, per=per)])
    report = await growing(board).run_until_idle()
    assert (report.ok, report.open) == (True, 0)
    assert numbers(board, A) == list(range(0, 21, 2))


@pytest.mark.req("S3.74")
async def test_an_agent_stops_at_its_cap_and_others_go_on(new_board: Boards) -> None:
    board = new_board(components=[Quota(activations=3, per="agent")])

    @board.agent(retry=Retry(attempts=2, backoff=0))
    async def greedy(a: A) -> B:
        if a.n == 2:
            raise OSError("its second attempt is no other activation")
        return B(n=a.n)

    @board.agent(batch=10, within="idle")
    async def modest(many: list[A]) -> None: ...

    await board.publish_many([A(n=n) for n in range(10)])
    report = await board.run_until_idle()
    by_name = {a.name: a for a in report.agents}
    assert (by_name["greedy"].done, by_name["greedy"].failed, by_name["modest"].done) == (2, 1, 1)
    assert (report.reason, report.open) == ("budget", 7)


async def test_seconds_are_summed_over_attempts(new_board: Boards) -> None:
    board = new_board(components=[Quota(seconds=0.0)], clock=VirtualClock())
    growing(board)
    await board.publish(A(n=0))
    report = await board.run_until_idle()
    assert (report.reason, report.done) == ("budget", 0)


# -- time on the clock -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["run", "tree"])
async def test_time_is_up_also_when_nothing_else_happens(new_board: Boards, per: Any) -> None:
    clock = VirtualClock()
    board = growing(new_board(components=[Quota(elapsed=60, per=per)], clock=clock))
    a = await board.publish(A(n=0))
    account = f"{per} {'main' if per == 'run' else a.id}"
    clock.advance(59.0)
    await board.publish(C())
    clock.advance(16.5)
    report = await board.run_until_idle()
    assert (report.reason, report.done, report.open) == ("budget", 0, 1)
    assert report.detail == f"quota_per_{per}: elapsed 75.5 of 60 for {account}"
    clock.advance(1_000.0)
    assert (await board.run_until_idle()).detail == report.detail
    assert board.one(LimitReached).why == report.detail  # said once
    assert replay(board, board).ok
    board = growing(await new_board.reopened(board, components=[Quota(elapsed=1_100, per=per)], clock=clock))
    assert (await board.run_until_idle()).ok
    assert numbers(board, A) == list(range(0, 21, 2))


@pytest.mark.parametrize("per", ["run", "tree", "agent"])
async def test_it_rings_when_the_time_is_up_and_what_runs_goes_on(new_board: Boards, per: Any) -> None:
    clock = VirtualClock()
    board = new_board(components=[Quota(elapsed=timedelta(minutes=1), per=per)], clock=clock)
    start = clock.now()

    @board.agent(self_trigger=True)
    async def slow(a: A, ctx: Context) -> A:
        await ctx.sleep("a while", 45)
        return A(n=a.n + 1)

    await board.publish(A())
    report = await board.run_until_idle()
    assert numbers(board, A) == [0, 1, 2]
    assert (report.reason, report.open, clock.now() - start) == ("budget", 1, 90.0)
    assert report.detail.startswith(f"quota_per_{per}: elapsed 60 of 60 for {per} ")
    assert [e.at - start for e in board.events() if isinstance(e, Rang) and e.timer == "alarm"] == [60.0]
    assert replay(board, board).ok


async def test_each_tree_has_a_time_of_its_own(new_board: Boards) -> None:
    clock = VirtualClock()
    board = growing(new_board(components=[Quota(elapsed=60, per="tree")], clock=clock))
    old = await board.publish(A(n=0, key="old"))
    clock.advance(30.0)
    await board.publish(A(n=10, key="young"))
    clock.advance(40.0)
    report = await board.run_until_idle()
    assert report.detail == f"quota_per_tree: elapsed 70 of 60 for tree {old.id}"
    assert [a.payload.n for a in board.artifacts(A, where={"key": "young"})] == [10, 12, 14, 16, 18, 20]
    assert (report.open, board.artifacts(A, where={"key": "old"}).total) == (1, 1)


async def test_by_the_clock_of_the_machine_it_rings_too(new_board: Boards) -> None:
    board = new_board(components=[Quota(elapsed=0.05)])

    @board.agent(self_trigger=True)
    async def again(a: A) -> A:
        await asyncio.sleep(0.02)
        return A(n=a.n + 1)

    await board.publish(A())
    report = await board.run_until_idle(timeout=60)
    assert (report.reason, report.open) == ("budget", 1)
    said = re.fullmatch(r"quota_per_run: elapsed (\S+) of 0.05 for run main", report.detail)
    assert said is not None
    assert float(said[1]) >= 0.05


@pytest.mark.parametrize("cap", [-1, "3", float("nan"), float("inf"), True])
@pytest.mark.parametrize("what", ["activations", "artifacts", "payload_bytes", "seconds", "elapsed"])
def test_a_cap_that_is_no_number_is_refused_when_it_is_given(what: str, cap: Any) -> None:
    with pytest.raises(DefinitionError, match=r"is no cap|is no duration|Give more than zero"):
        Quota(**{what: cap})


def test_a_quota_that_caps_nothing_is_refused() -> None:
    with pytest.raises(DefinitionError, match="caps nothing"):
        Quota()
