"""Waiting for several artifacts: joins, counts, keys, windows, optional inputs, groups."""

from collections.abc import Callable

import pytest
from pydantic import BaseModel

from stigmergy import Artifact, Context, ancestor, private
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, numbers

pytestmark = pytest.mark.anyio


class Pair(BaseModel):
    a: int
    b: int


async def pair(a: A, b: B) -> Pair:
    return Pair(a=a.n, b=b.n)


# -- and --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["ab", "ba"])
async def test_a_join_waits_for_all_its_types_and_gets_them_in_declared_order(new_board: Boards, order: str) -> None:
    board = new_board()
    board.agent(pair)
    payloads = {"a": A(n=1), "b": B(n=2)}

    first = await board.publish(payloads[order[0]])
    report = await board.run_until_idle()
    assert board.artifacts(Pair).total == 0
    assert report.reason == "idle"
    [left] = report.left.waiting
    assert left.has == (first.ref,)
    assert left.lacks == ("B" if order == "ab" else "A",)

    await board.publish(payloads[order[1]])
    report = await board.run_until_idle()
    assert board.one(Pair) == Pair(a=1, b=2)
    assert report.left.waiting == ()


async def test_the_context_lists_the_inputs_in_declared_order_too(new_board: Boards) -> None:
    board = new_board()
    seen: list[list[str]] = []

    async def both(c: C, a: A, ctx: Context) -> None:
        seen.append([x.type_name for x in ctx.artifacts])

    board.agent(both)
    await board.publish(A())
    await board.publish(C())
    await board.run_until_idle()
    assert seen == [["C", "A"]]


async def test_two_complete_pairs_are_two_activations_without_carry_over(new_board: Boards) -> None:
    board = new_board()
    board.agent(pair)
    for payload in (A(n=1), B(n=1), A(n=2), B(n=2)):
        await board.publish(payload)
        await board.run_until_idle()
    assert board.artifacts(Pair).payloads == [Pair(a=1, b=1), Pair(a=2, b=2)]


@pytest.mark.parametrize("order", ["aabb", "abab", "bbaa", "baab", "abba"])
async def test_surplus_waits_for_its_partner_and_is_never_lost(new_board: Boards, order: str) -> None:
    board = new_board()
    board.agent(pair)
    counts = {"a": 0, "b": 0}
    for letter in order:
        counts[letter] += 1
        await board.publish(A(n=counts["a"]) if letter == "a" else B(n=counts["b"]))
    await board.run_until_idle()
    assert board.artifacts(Pair).payloads == [Pair(a=1, b=1), Pair(a=2, b=2)]


async def test_what_is_left_over_is_listed_and_used_by_the_next_run(new_board: Boards) -> None:
    board = new_board()
    board.agent(pair)
    _, *rest = await board.publish_many([A(n=1), A(n=2), A(n=3)])
    await board.publish(B(n=1))
    report = await board.run_until_idle()
    assert [w.has for w in report.left.waiting] == [tuple(a.ref for a in rest)]
    await board.publish_many([B(n=2), B(n=3)])
    report = await board.run_until_idle()
    assert [p.a for p in board.artifacts(Pair).payloads] == [1, 2, 3]
    assert report.left.count == 0


async def test_runs_are_not_mixed(new_board: Boards) -> None:
    board = new_board()
    board.agent(pair)
    await board.publish(A(n=1), run="one")
    await board.publish(B(n=2), run="two")
    report = await board.run_until_idle()
    assert board.artifacts(Pair).total == 0
    assert len(report.left.waiting) == 2

    await board.publish(B(n=1), run="one")
    await board.run_until_idle()
    [made] = board.artifacts(Pair)
    assert (made.payload, made.run) == (Pair(a=1, b=1), "one")


async def test_a_join_over_the_whole_board_mixes_runs_when_asked(new_board: Boards) -> None:
    board = new_board()
    board.agent("pair").consumes(A, B, scope="board").publishes(Pair).body(pair)
    await board.publish(B(n=2), run="two")
    await board.publish(A(n=1), run="one")
    await board.run_until_idle()
    [made] = board.artifacts(Pair)
    assert (made.payload, made.run) == (Pair(a=1, b=2), "one")


# -- counts -----------------------------------------------------------------------------------------------------------


async def test_a_type_listed_three_times_is_waited_for_three_times(new_board: Boards) -> None:
    board = new_board()
    seen: list[tuple[int, int, int]] = []

    async def three(first: A, second: A, third: A) -> None:
        seen.append((first.n, second.n, third.n))

    board.agent("three").consumes(A, A, A).body(three)
    await board.publish_many([A(n=1), A(n=2)])
    report = await board.run_until_idle()
    assert seen == []
    assert report.left.waiting[0].lacks == ("1 A",)
    await board.publish(A(n=3))
    await board.run_until_idle()
    assert seen == [(1, 2, 3)]


async def test_counts_and_types_must_both_be_met(new_board: Boards) -> None:
    board = new_board()
    seen: list[tuple[int, int, int]] = []

    async def gate(first: A, second: A, b: B) -> None:
        seen.append((first.n, second.n, b.n))

    board.agent("gate").consumes(A, A, B).body(gate)
    await board.publish(B(n=9))
    await board.run_until_idle()
    await board.publish(A(n=1))
    await board.run_until_idle()
    assert seen == []
    await board.publish(A(n=2))
    await board.run_until_idle()
    assert seen == [(1, 2, 9)]


# -- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["key", lambda x: x.key], ids=["field", "function"])
async def test_pairs_share_the_key(new_board: Boards, by: str | Callable[[A | B], object]) -> None:
    board = new_board()
    seen: list[tuple[str, str]] = []

    async def note(a: A, b: B) -> None:
        seen.append((a.key, b.key))

    board.agent("pair").consumes(A, B, by=by).body(note)
    await board.publish_many([A(key="k1"), A(key="k2")])
    await board.publish_many([B(key="k2"), B(key="k1")])
    await board.run_until_idle()
    assert sorted(seen) == [("k1", "k1"), ("k2", "k2")]


async def test_a_key_that_raises_is_a_dead_letter_and_does_not_disturb_the_rest(new_board: Boards) -> None:
    board = new_board()

    def by_length(x: A | B) -> int:
        if not x.key:
            raise ValueError("no key at all")
        return len(x.key)

    board.agent("pair").consumes(A, B, by=by_length).publishes(Pair).body(pair)
    bad = await board.publish(A(n=0))
    await board.publish_many([A(n=1, key="x")])
    await board.publish(B(n=1, key="y"))
    report = await board.run_until_idle()
    assert board.one(Pair) == Pair(a=1, b=1)
    [dead] = report.left.dead_letters
    assert dead.inputs == (bad.ref,)
    assert dead.error is not None
    assert "no key at all" in dead.error.message


async def test_keys_are_equal_as_json_values(new_board: Boards) -> None:
    class Left(BaseModel):
        id: int | bool | str

    class Right(BaseModel):
        id: int | bool | str

    board = new_board()
    seen: list[tuple[object, object]] = []

    async def note(left: Left, right: Right) -> None:
        seen.append((left.id, right.id))

    board.agent("pair").consumes(Left, Right, by="id").body(note)
    await board.publish_many([Left(id=1), Left(id=True), Left(id="1")])
    await board.publish_many([Right(id=True), Right(id="1")])
    await board.run_until_idle()
    assert seen == [(True, True), ("1", "1")]


async def test_what_descends_from_one_artifact_is_joined_by_that_ancestor(new_board: Boards) -> None:
    class Topic(BaseModel):
        name: str

    class Draft(BaseModel):
        topic: str

    class Facts(BaseModel):
        topic: str

    class Article(BaseModel):
        topic: str
        facts: str

    board = new_board()

    @board.agent
    async def write(topic: Topic) -> Draft:
        return Draft(topic=topic.name)

    @board.agent
    async def start_research(topic: Topic) -> A:
        return A(key=topic.name)

    @board.agent
    async def research(a: A) -> Facts:
        return Facts(topic=a.key)

    @board.agent(by=ancestor(Topic))
    async def publish(draft: Draft, facts: Facts) -> Article:
        return Article(topic=draft.topic, facts=facts.topic)

    names = [f"t{i}" for i in range(10)]
    await board.publish_many([Topic(name=n) for n in names])
    await board.run_until_idle()
    articles = board.artifacts(Article).payloads
    assert sorted(a.topic for a in articles) == names
    assert all(a.topic == a.facts for a in articles)


async def test_the_ancestor_itself_may_be_one_of_the_inputs(new_board: Boards) -> None:
    board = new_board()
    seen: list[tuple[int, int]] = []

    @board.agent
    async def answer(a: A) -> B:
        return B(n=10 * a.n)

    async def compare(a: A, b: B) -> None:
        seen.append((a.n, b.n))

    board.agent("compare").consumes(A, B, by=ancestor(A)).body(compare)
    await board.publish_many([A(n=1), A(n=2), A(n=3)])
    await board.run_until_idle()
    assert sorted(seen) == [(1, 10), (2, 20), (3, 30)]


async def test_without_such_an_ancestor_there_is_no_key(new_board: Boards) -> None:
    board = new_board()
    board.agent("pair").consumes(A, B, by=ancestor(C)).publishes(Pair).body(pair)
    await board.publish(A())
    report = await board.run_until_idle()
    [dead] = report.left.dead_letters
    assert dead.error is not None
    assert "ancestor of type C" in dead.error.message


# -- windows ----------------------------------------------------------------------------------------------------------


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


# -- what enters a group ----------------------------------------------------------------------------------------------


async def test_what_fails_the_filter_never_enters_a_group(new_board: Boards) -> None:
    board = new_board()
    board.agent("pair").consumes(A, B, where=lambda x: x.n > 0).publishes(Pair).body(pair)
    await board.publish(A(n=0))
    await board.publish(B(n=5))
    await board.run_until_idle()
    assert board.artifacts(Pair).total == 0
    await board.publish(A(n=1))
    await board.run_until_idle()
    assert board.one(Pair) == Pair(a=1, b=5)


async def test_what_the_agent_may_not_see_never_enters_a_group(new_board: Boards) -> None:
    board = new_board()
    board.agent(pair)
    await board.publish(A(n=1), visibility=private("somebody"))
    await board.publish(B(n=2))
    await board.run_until_idle()
    assert board.artifacts(Pair).total == 0
    await board.publish(A(n=3), visibility=private("pair"))
    await board.run_until_idle()
    assert board.one(Pair) == Pair(a=3, b=2)


async def test_two_agents_with_the_same_join_each_get_every_pair(new_board: Boards) -> None:
    board = new_board()
    seen: list[str] = []

    async def one(a: A, b: B) -> None:
        seen.append("one")

    async def two(a: A, b: B) -> None:
        seen.append("two")

    board.agent(one)
    board.agent(two)
    await board.publish(A())
    await board.publish(B())
    await board.run_until_idle()
    assert sorted(seen) == ["one", "two"]


async def test_a_join_takes_the_highest_priority_of_its_inputs(new_board: Boards) -> None:
    board = new_board(concurrency=1)
    order: list[int] = []

    async def single(c: C) -> None:
        order.append(0)

    async def both(a: A, b: B) -> None:
        order.append(a.n)

    board.agent(single)
    board.agent(both)
    await board.publish(C())
    await board.publish(A(n=1), priority="critical")
    await board.publish(B(n=1), priority="low")
    await board.run_until_idle()
    assert order == [1, 0]


# -- optional inputs --------------------------------------------------------------------------------------------------


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


# -- groups -----------------------------------------------------------------------------------------------------------


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
