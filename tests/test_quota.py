"""Caps on activations, artifacts, bytes and seconds per run, tree and agent: a reason and an artifact, nothing lost."""

from typing import Any

import pytest

from stigmergy import Blackboard, LimitReached, Quota, Retry, replay
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, numbers

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


@pytest.mark.parametrize("cap", [-1, "3", float("nan"), float("inf"), True])
@pytest.mark.parametrize("what", ["activations", "artifacts", "payload_bytes", "seconds", "elapsed"])
def test_a_cap_that_is_no_number_is_refused_when_it_is_given(what: str, cap: Any) -> None:
    with pytest.raises(DefinitionError, match="is no cap"):
        Quota(**{what: cap})


def test_a_quota_that_caps_nothing_is_refused() -> None:
    with pytest.raises(DefinitionError, match="caps nothing"):
        Quota()
