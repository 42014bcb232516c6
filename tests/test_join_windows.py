"""Joins with a deadline or a window, with optional inputs, and several complete sets at a time."""

import pytest
from pydantic import BaseModel

from stigmergy import Artifact, Blackboard, Context
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, lines_for, numbers

pytestmark = pytest.mark.anyio


class Pair(BaseModel):
    a: int
    b: int


async def pair(a: A, b: B) -> Pair:
    return Pair(a=a.n, b=b.n)


# -- windows -----------------------------------------------------------------------------------------------------------


async def test_a_group_that_passes_its_window_never_fires_and_a_later_pair_with_its_key_does(
    new_board: Boards,
) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    board.agent("pair").consumes(A, B, by="key", within=30).publishes(Pair).body(pair)
    await board.publish(A(n=1, key="k"))
    report = await board.run_until_idle()
    assert board.artifacts(Pair).total == 0
    assert [aside.outcome for aside in report.put_aside] == ["expired"]

    await board.publish(B(n=2, key="k"))
    clock.advance(10)
    await board.publish(A(n=2, key="k"))
    await board.run_until_idle()
    assert board.artifacts(Pair).payloads == [Pair(a=2, b=2)]


async def test_a_window_beyond_the_horizon_is_waited_for_in_a_later_run(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    board.agent("pair").consumes(A, B, within=3600).publishes(Pair).body(pair)
    await board.publish(A(n=1))
    report = await board.run_until_idle()
    assert report.reason == "waiting"
    await board.publish(B(n=1))
    assert (await board.run_until_idle()).reason == "idle"
    assert board.one(Pair) == Pair(a=1, b=1)


async def test_a_count_window_lets_go_of_what_is_too_far_behind(new_board: Boards) -> None:
    board = new_board()
    board.agent("pair").consumes(A, B, by="key", window=2).publishes(Pair).body(pair)
    await board.publish(A(n=1, key="old"))
    await board.publish_many([A(n=2, key="x"), A(n=3, key="y"), A(n=4, key="z")])
    await board.publish_many([B(n=1, key="old"), B(n=4, key="z")])
    report = await board.run_until_idle()
    assert board.artifacts(Pair).payloads == [Pair(a=4, b=4)]
    assert sum(aside.count for aside in report.put_aside if aside.outcome == "expired") >= 1


async def test_the_traffic_of_others_does_not_count_for_a_window(new_board: Boards) -> None:
    board = new_board()
    board.agent("pair").consumes(A, B, by="key", window=1).publishes(Pair).body(pair)

    async def other(a: A, c: C) -> None: ...

    board.agent("other").consumes(A, C, where=lambda x: x.n > 100, by="key", window=1).body(other)
    await board.publish(A(n=1, key="k"))
    await board.publish_many([C(n=1, key="k") for _ in range(20)])
    await board.publish_many([C(n=n, key="k") for n in range(200, 220)])
    await board.publish(B(n=1, key="k"))
    await board.run_until_idle()
    assert board.one(Pair) == Pair(a=1, b=1)


# -- optional inputs ---------------------------------------------------------------------------------------------------


async def test_an_optional_input_is_taken_if_it_comes_in_time_and_none_otherwise(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    seen: list[tuple[int, int | None]] = []

    @board.agent(by="key", within=10)
    async def ship(order: A, gift: B | None) -> None:
        seen.append((order.n, gift.n if gift is not None else None))

    await board.publish(A(n=1, key="with"))
    await board.publish(B(n=7, key="with"))
    await board.publish(A(n=2, key="without"))
    await board.run_until_idle()
    assert seen == [(1, 7), (2, None)]


async def test_an_optional_input_alone_expires(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())
    seen: list[int] = []

    @board.agent(by="key", within=10)
    async def ship(order: A, gift: B | None) -> None:
        seen.append(order.n)

    await board.publish(B(n=7, key="k"))
    report = await board.run_until_idle()
    assert seen == []
    assert [aside.outcome for aside in report.put_aside] == ["expired"]


async def test_a_join_that_waits_until_idle_fires_without_its_optional_input(new_board: Boards) -> None:
    board = new_board()
    seen: list[tuple[int, int | None]] = []

    @board.agent
    async def slow_gift(c: C) -> B:
        return B(n=7)

    async def ship(order: A, gift: B | None) -> None:
        seen.append((order.n, gift.n if gift is not None else None))

    board.agent("ship").consumes(A, B, within="idle", optional=[B]).body(ship)
    await board.publish(A(n=1))
    await board.publish(C())
    await board.run_until_idle()
    await board.publish(A(n=2))
    await board.run_until_idle()
    assert seen == [(1, 7), (2, None)]


# -- groups ------------------------------------------------------------------------------------------------------------


async def test_a_batch_of_joined_pairs_waits_for_so_many_complete_pairs(new_board: Boards) -> None:
    board = new_board()
    seen: list[list[tuple[int, int]]] = []

    async def two_pairs(pairs: list[tuple[A, B]]) -> None:
        seen.append([(a.n, b.n) for a, b in pairs])

    board.agent("two_pairs").consumes(A, B, by="key", groups=2).body(two_pairs)
    await board.publish_many([A(n=n, key=f"k{n}") for n in (1, 2, 3)])
    await board.publish_many([B(n=n, key=f"k{n}") for n in (3, 1, 2)])
    report = await board.run_until_idle()
    assert seen == [[(3, 3), (1, 1)]]
    assert len(report.left.waiting) == 1
    await board.publish(A(n=4, key="k4"))
    await board.publish(B(n=4, key="k4"))
    await board.run_until_idle()
    assert seen[1:] == [[(2, 2), (4, 4)]]


async def test_groups_of_one_key_fire_in_the_order_in_which_they_were_complete(new_board: Boards) -> None:
    board = new_board()
    seen: list[list[tuple[int, int]]] = []

    async def two_pairs(pairs: list[tuple[A, B]]) -> None:
        seen.append([(a.n, b.n) for a, b in pairs])

    board.agent("two_pairs").consumes(A, B, groups=2).body(two_pairs)
    await board.publish_many([A(n=1), A(n=2), A(n=3), A(n=4)])
    await board.publish_many([B(n=1), B(n=2), B(n=3), B(n=4)])
    await board.run_until_idle()
    assert seen == [[(1, 1), (2, 2)], [(3, 3), (4, 4)]]


async def test_groups_that_are_too_few_fire_when_nothing_else_can_run(new_board: Boards) -> None:
    board = new_board()
    seen: list[list[int]] = []

    async def two_pairs(pairs: list[tuple[A, B]]) -> None:
        seen.append([a.n for a, _ in pairs])

    board.agent("two_pairs").consumes(A, B, by="key", groups=2, within="idle").body(two_pairs)
    *_, last = await board.publish_many([A(n=n, key=f"k{n}") for n in (1, 2, 3, 4)])
    await board.publish_many([B(n=n, key=f"k{n}") for n in (1, 2, 3)])
    report = await board.run_until_idle()
    assert seen == [[1, 2], [3]]
    assert [left.has for left in report.left.waiting] == [(last.ref,)]


async def test_groups_that_are_too_few_fire_at_their_deadline_and_incomplete_ones_expire(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())
    seen: list[list[int]] = []

    async def two_pairs(pairs: list[tuple[A, B]]) -> None:
        seen.append([a.n for a, _ in pairs])

    board.agent("two_pairs").consumes(A, B, by="key", groups=2, within=10).body(two_pairs)
    await board.publish_many([A(n=1, key="k1"), A(n=2, key="k2")])
    await board.publish(B(n=1, key="k1"))
    report = await board.run_until_idle()
    assert seen == [[1]]
    assert [(aside.outcome, aside.count) for aside in report.put_aside] == [("expired", 1)]
    assert report.left.count == 0


async def test_a_body_may_take_envelopes_of_joined_artifacts(new_board: Boards) -> None:
    board = new_board()
    seen: list[tuple[str, int, str]] = []

    async def both(a: Artifact[A], b: B, ctx: Context) -> None:
        seen.append((a.ref, b.n, ctx.agent_name))

    board.agent(both)
    first = await board.publish(A())
    await board.publish(B(n=2))
    await board.run_until_idle()
    assert seen == [(first.ref, 2, "both")]


async def test_outputs_of_a_join_descend_from_all_its_inputs(new_board: Boards) -> None:
    board = new_board()
    board.agent(pair)
    a = await board.publish(A(n=1))
    b = await board.publish(B(n=1))
    await board.run_until_idle()
    [made] = board.artifacts(Pair)
    proof = str(board.why(made.id))
    assert a.ref in proof
    assert b.ref in proof
    assert numbers(board, A) == [1]


# -- the price of a match ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [None, 1_000])
async def test_a_match_costs_the_same_however_many_groups_wait(window: int | None) -> None:
    costs = []
    for waiting in (5, 400):
        board = Blackboard()
        board.agent("pair").consumes(A, B, by="key", window=window).publishes(Pair).body(pair)
        for i in range(waiting):
            await board.publish(A(key=f"other {i}"), run=f"run {i % 40}")
        await board.publish(A(n=1, key="k"))
        costs.append(await lines_for(board.publish(B(n=1, key="k"))))
        await board.close()
    assert costs[1] <= costs[0] + 5
