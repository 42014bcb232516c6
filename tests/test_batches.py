"""Several artifacts at once: by size, by deadline, when nothing else can run, and across a close."""

from datetime import timedelta

import pytest

from stigmergy import Artifact, Blackboard, Retry
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, numbers

pytestmark = pytest.mark.anyio


def collect(board: Blackboard, seen: list[list[int]], batch: int, within: float | None = None) -> None:
    async def gather(many: list[A]) -> None:
        seen.append([a.n for a in many])

    board.agent("gather").consumes(A, batch=batch, within=within).body(gather)


async def test_a_batch_fires_by_size_and_the_rest_waits(new_board: Boards) -> None:
    board = new_board()
    seen: list[list[int]] = []
    collect(board, seen, 3)
    await board.publish_many([A(n=n) for n in range(7)])
    report = await board.run_until_idle()
    assert seen == [[0, 1, 2], [3, 4, 5]]
    [left] = report.left.waiting
    assert left.agent == "gather"
    assert left.lacks == ("2 A",)
    assert f"batch waiting  gather: has {left.has[0]}, lacks 2 A" in str(report)


async def test_a_typed_list_parameter_is_a_batch_of_that_size(new_board: Boards) -> None:
    board = new_board()
    seen: list[list[str]] = []

    @board.agent(batch=2)
    async def refs(many: list[Artifact[A]]) -> None:
        seen.append([a.ref for a in many])

    made = await board.publish_many([A(), A(), A()])
    await board.run_until_idle()
    assert seen == [[made[0].ref, made[1].ref]]


async def test_a_deadline_fires_what_is_there_although_the_board_was_idle_before(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    seen: list[list[int]] = []
    collect(board, seen, 10, within=5)
    await board.run_until_idle()
    await board.publish(A(n=1))
    report = await board.run_until_idle(horizon=0)
    assert (seen, report.reason) == ([], "waiting")
    report = await board.run_until_idle()
    assert (seen, report.reason) == ([[1]], "idle")


async def test_a_deadline_in_real_time_is_waited_for(new_board: Boards) -> None:
    board = new_board()
    seen: list[list[int]] = []
    collect(board, seen, 10, within=0.02)
    await board.publish_many([A(n=1), A(n=2)])
    report = await board.run_until_idle()
    assert (seen, report.reason) == ([[1, 2]], "idle")


async def test_a_deadline_that_passed_between_two_runs_fires_at_once(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    seen: list[list[int]] = []
    collect(board, seen, 10, within=timedelta(hours=1).total_seconds())
    await board.publish(A(n=1))
    clock.advance(3601)
    await board.run_until_idle(horizon=0)
    assert seen == [[1]]


async def test_size_before_deadline_flushes_once_and_never_empty(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    seen: list[list[int]] = []
    collect(board, seen, 2, within=10)
    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()
    clock.advance(100)
    await board.run_until_idle()
    assert seen == [[1, 2]]


async def test_the_deadline_starts_anew_with_the_first_of_the_next_batch(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    seen: list[list[int]] = []
    collect(board, seen, 2, within=10)
    await board.publish(A(n=1))
    clock.advance(8)
    await board.publish_many([A(n=2), A(n=3)])
    await board.run_until_idle(horizon=0)
    clock.advance(8)
    await board.run_until_idle(horizon=0)
    assert seen == [[1, 2]]
    clock.advance(2)
    await board.run_until_idle(horizon=0)
    assert seen == [[1, 2], [3]]


async def test_a_batch_that_waits_until_idle_gets_what_others_still_publish(new_board: Boards) -> None:
    board = new_board()
    seen: list[list[int]] = []

    async def step(b: B) -> list[A | B]:
        return [A(n=b.n), *([B(n=b.n + 1)] if b.n < 3 else [])]

    async def gather(many: list[A]) -> None:
        seen.append([a.n for a in many])

    board.agent("step").self_trigger().consumes(B).publishes(A, B).body(step)
    board.agent("gather").consumes(A, batch=32, within="idle").body(gather)
    await board.publish(A(n=0))
    await board.publish(B(n=1))
    report = await board.run_until_idle()
    assert seen == [[0, 1, 2, 3]]
    assert report.left.count == 0


async def test_at_idle_full_batches_go_first_and_the_remainder_follows(new_board: Boards) -> None:
    board = new_board()
    seen: list[list[int]] = []

    @board.agent(batch=3, within="idle")
    async def gather(many: list[A]) -> None:
        seen.append([a.n for a in many])

    await board.publish_many([A(n=n) for n in range(8)])
    await board.run_until_idle()
    assert seen == [[0, 1, 2], [3, 4, 5], [6, 7]]


async def test_what_an_idle_batch_publishes_is_worked_on_in_the_same_run(new_board: Boards) -> None:
    board = new_board()

    @board.agent(batch=10, within="idle")
    async def total(many: list[A]) -> B:
        return B(n=sum(a.n for a in many))

    @board.agent(batch=10, within="idle")
    async def grand_total(many: list[B]) -> C:
        return C(n=sum(b.n for b in many))

    await board.publish_many([A(n=1), A(n=2), A(n=3)])
    await board.run_until_idle()
    assert numbers(board, C) == [6]


async def test_batches_of_a_key_hold_one_value_of_it(new_board: Boards) -> None:
    board = new_board()
    seen: list[list[str]] = []

    @board.agent(batch=2, by="key", within="idle")
    async def gather(many: list[A]) -> None:
        seen.append([a.key for a in many])

    await board.publish_many([A(key=k) for k in "xyxzxy"])
    await board.run_until_idle()
    assert sorted(seen) == [["x"], ["x", "x"], ["y", "y"], ["z"]]


async def test_batches_keep_runs_apart(new_board: Boards) -> None:
    board = new_board()
    seen: list[list[int]] = []

    @board.agent(batch=2)
    async def gather(many: list[A]) -> B:
        seen.append([a.n for a in many])
        return B()

    for n, run in ((1, "one"), (2, "two"), (3, "one"), (4, "two")):
        await board.publish(A(n=n), run=run)
    await board.run_until_idle()
    assert sorted(seen) == [[1, 3], [2, 4]]
    assert sorted(b.run for b in board.artifacts(B)) == ["one", "two"]


async def test_a_partial_batch_survives_an_orderly_close(new_board: Boards) -> None:
    seen: list[list[int]] = []
    board = new_board()
    collect(board, seen, 3)
    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()

    again = await new_board.reopened(board)
    collect(again, seen, 3)
    await again.publish(A(n=3))
    await again.run_until_idle()
    assert seen == [[1, 2, 3]]


async def test_a_failed_batch_is_tried_again_with_the_same_inputs(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())
    seen: list[list[int]] = []

    @board.agent(batch=2, retry=Retry(attempts=2))
    async def gather(many: list[A]) -> B:
        seen.append([a.n for a in many])
        if len(seen) == 1:
            raise ValueError("not yet")
        return B(n=sum(a.n for a in many))

    await board.publish_many([A(n=1), A(n=2), A(n=3)])
    await board.run_until_idle()
    assert seen == [[1, 2], [1, 2]]
    assert numbers(board, B) == [3]
