"""Cancelling a run, a causal tree or an activation; pausing a run and going on with it."""

import asyncio

import pytest

from stigmergy import Blackboard, Limits, after, read, replay
from stigmergy.blackboard.errors import NotFound
from stigmergy.blackboard.events import Ended
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, copying, numbers

pytestmark = pytest.mark.anyio


def waiting(board: Blackboard, let_go: asyncio.Event, started: list[int]) -> Blackboard:
    """The board: A makes B at once, and B makes C when it is let go."""
    copying(board)

    @board.agent
    async def slow(b: B) -> C:
        started.append(b.n)
        await let_go.wait()
        return C(n=b.n)

    return board


async def running(board: Blackboard, started: list[int], count: int) -> asyncio.Task[object]:
    run: asyncio.Task[object] = asyncio.create_task(board.run_until_idle())
    while len(started) < count:
        await asyncio.sleep(0)
    return run


async def test_a_causal_tree_is_cancelled_and_the_others_go_on(new_board: Boards) -> None:
    let_go, started = asyncio.Event(), list[int]()
    board = waiting(new_board(), let_go, started)
    _, two, _ = await board.publish_many([A(n=1), A(n=2), A(n=3)])
    run = await running(board, started, 3)
    await board.cancel(two.ref, reason="a typing error")
    let_go.set()
    await run
    report = board.report()
    assert (sorted(numbers(board, C)), report.cancelled, report.open) == ([1, 3], 1, 0)
    assert [aside.reason for aside in report.put_aside] == ["a typing error"]
    assert replay(board, board).ok


async def test_a_run_is_cancelled_and_the_others_go_on(new_board: Boards) -> None:
    let_go, started = asyncio.Event(), list[int]()
    board = waiting(new_board(), let_go, started)
    for n, run_ in enumerate(("x", "x", "y")):
        await board.publish(A(n=n), run=run_)
    run = await running(board, started, 3)
    await board.cancel(run="x")
    let_go.set()
    await run
    assert numbers(board, C) == [2]
    assert board.report().cancelled == 2


async def test_what_is_delayed_or_held_for_review_is_cancelled_with_its_tree(new_board: Boards) -> None:
    clock = VirtualClock()
    board = copying(new_board(clock=clock))
    later = await board.publish(A(n=1), visibility=after(60))
    held = await board.publish(A(n=2), review_by="nobody")
    await board.publish(A(n=3), visibility=after(60))
    await board.cancel(later.id, held.id, reason="never mind")
    report = await board.run_until_idle(horizon=None)
    assert (numbers(board, B), report.reason) == ([3], "idle")
    assert [(a.outcome, a.reason, a.count) for a in report.put_aside] == [("withdrawn", "never mind", 2)]
    assert replay(board, board).ok


@pytest.mark.parametrize("which", ["tree", "run"])
async def test_a_cancelled_tree_leaves_no_half_filled_join_and_the_others_keep_theirs(
    new_board: Boards, which: str
) -> None:
    board = copying(new_board())
    joined: list[tuple[int, int]] = []

    async def join(b: B, c: C) -> None:
        joined.append((b.n, c.n))

    board.agent("join").consumes(B, C, by="key", scope="board").body(join)
    two = await board.publish(A(n=2, key="x"), run="two")
    three = await board.publish(A(n=3, key="y"), run="three")
    await board.run_until_idle()
    if which == "tree":
        await board.cancel(two.ref, reason="a typing error")
    else:
        await board.cancel(run="two")
    report = board.report()
    assert [w.has for w in report.left.waiting] == [(board.artifacts(B)[1].ref,)]
    assert [(a.outcome, a.reason) for a in report.put_aside] == [("expired", "inputs whose work was cancelled")]
    told = str(board.why_not("join", board.artifacts(B)[0].id))
    assert "its place was given up, as its work was cancelled" in told
    await board.publish_many([C(n=2, key="x"), C(n=3, key="y")])
    await board.run_until_idle()
    assert (joined, three.id > two.id) == ([(3, 3)], True)
    assert replay(board, board).ok


async def test_what_does_not_exist_cannot_be_cancelled(new_board: Boards) -> None:
    board = copying(new_board())
    await board.publish(A())
    with pytest.raises(NotFound):
        await board.cancel(99)


async def test_a_paused_run_starts_nothing_more_and_goes_on_when_it_is_resumed(new_board: Boards) -> None:
    let_go, started = asyncio.Event(), list[int]()
    board = waiting(new_board(concurrency=1), let_go, started)
    await board.publish_many([A(n=1), A(n=2)])
    await board.publish(A(n=3), run="other")
    run = await running(board, started, 1)
    await board.pause()
    let_go.set()
    await run  # what ran has ended well, and so has the other run
    report = board.report()
    assert (report.reason, report.detail) == ("waiting", "run 'main': paused")
    assert (len(started), sorted(numbers(board, C))) == (2, [1, 3])
    assert (await board.run_until_idle()).reason == "waiting"
    assert len(started) == 2
    await board.resume()
    report = await board.run_until_idle()
    assert (report.reason, report.ok, sorted(numbers(board, C))) == ("idle", True, [1, 2, 3])
    assert replay(board, board).ok


async def test_a_pause_survives_the_end_of_the_process(file_board: Boards, ending: str) -> None:
    board = copying(file_board())
    await board.publish(A(n=1))
    await board.pause()
    board = copying(await file_board.after(ending, board))
    assert (await board.run_until_idle()).reason == "waiting"
    assert numbers(board, B) == []
    await board.resume()
    assert (await board.run_until_idle()).ok
    assert numbers(board, B) == [1]


async def test_a_run_resumed_while_the_board_runs_goes_on_at_once(new_board: Boards) -> None:
    let_go, started = asyncio.Event(), list[int]()
    board = waiting(new_board(), let_go, started)
    await board.publish(A(n=1), run="paused")
    await board.pause(run="paused")
    await board.publish(A(n=2))
    run = await running(board, started, 1)
    await board.resume(run="paused")
    while len(started) < 2:
        await asyncio.sleep(0)
    let_go.set()
    await run
    assert sorted(numbers(board, C)) == [1, 2]


async def test_cancelled_twice_in_the_same_instant_a_run_leaves_a_board_that_resumes(file_board: Boards) -> None:
    let_go, started = asyncio.Event(), list[int]()
    board = waiting(file_board(), let_go, started)
    await board.publish_many([A(n=n) for n in range(20)])
    run = await running(board, started, 3)
    run.cancel()
    await asyncio.sleep(0)
    run.cancel()
    await asyncio.wait([run])
    with read(board._store.name) as view:
        assert not any(isinstance(e, Ended) for e in view.events())
    board = file_board.crashed(board)
    let_go.set()
    waiting(board, let_go, [])
    report = await board.run_until_idle()
    assert (report.ok, sorted(numbers(board, C))) == (True, list(range(20)))


@pytest.mark.req("S2.58", "S3.73")
async def test_the_worst_case_is_bounded_by_the_timeout_of_the_run_and_nothing_is_lost(new_board: Boards) -> None:
    let_go, started = asyncio.Event(), list[int]()
    board = waiting(new_board(limits=Limits(activations=1_000)), let_go, started)
    await board.publish(A(n=1))
    report = await board.run_until_idle(timeout=0.05)
    assert (report.reason, report.open) == ("timeout", 1)
    let_go.set()
    assert (await board.run_until_idle()).ok
    assert numbers(board, C) == [1]
