"""Who publishes faster than is consumed waits, and memory stays bounded."""

import asyncio

import pytest

from stigmergy.blackboard.errors import BoardClosed
from stigmergy.blackboard.shell import attempts, owner
from tests.boards import A, B, Boards

pytestmark = pytest.mark.anyio


async def test_publishers_of_many_artifacts_wait_for_a_slow_consumer(
    new_board: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "BACKLOG", 200)
    board = new_board(concurrency=2, durability="fast")
    total, done, most_ready, most_behind = 5_000, 0, 0, 0
    first, published = asyncio.Event(), asyncio.Event()

    @board.agent
    async def slow(a: A) -> None:
        nonlocal done, most_ready, most_behind
        first.set()
        if done == 0:
            while board._owner is not None and board._owner.decider.agenda.count < 200:
                await asyncio.sleep(0)  # whoever publishes runs into the bound at once
        done += 1
        assert board._owner is not None
        most_ready = max(most_ready, board._owner.decider.agenda.count)
        most_behind = max(most_behind, board._owner.writer.behind)

    @board.agent
    async def until_all_is_published(b: B) -> None:
        await published.wait()

    async def publish(numbers: range) -> None:
        for n in numbers:
            await board.publish(A(n=n))

    await board.publish(B())
    run = asyncio.create_task(board.run_until_idle())
    await asyncio.gather(*(publish(range(k, total, 400)) for k in range(400)))
    published.set()
    report = await run
    assert (report.ok, report.done, done) == (True, total + 1, total)
    assert most_ready <= 200 + 400  # the bound, and what each publisher passed it with
    assert most_behind <= 2 * attempts.WINDOW + 3 * 600


async def test_publishers_that_wait_are_let_in_when_the_run_is_stopped(
    new_board: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "BACKLOG", 10)
    board = new_board(concurrency=1)
    started = asyncio.Event()

    @board.agent
    async def endless(a: A) -> None:
        started.set()
        await asyncio.Event().wait()

    await board.publish_many([A(n=n) for n in range(20)])
    run = asyncio.create_task(board.run_until_idle())
    await started.wait()
    late = asyncio.create_task(board.publish(A(n=99)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not late.done()
    run.cancel()
    await asyncio.wait([run])
    assert (await late).payload == A(n=99)
    assert board.report().open == 21


async def test_publishers_that_wait_are_told_that_the_board_was_closed(
    new_board: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "BACKLOG", 10)
    board = new_board(concurrency=1)
    started = asyncio.Event()

    @board.agent
    async def endless(a: A) -> None:
        started.set()
        await asyncio.Event().wait()

    await board.publish_many([A(n=n) for n in range(20)])
    run = asyncio.create_task(board.run_until_idle())
    await started.wait()
    late = asyncio.create_task(board.publish(A(n=99)))
    for _ in range(5):
        await asyncio.sleep(0)
    await board.close()
    with pytest.raises(BoardClosed, match="nothing was"):
        await late
    await run
    assert board.artifacts(A).total == 20
