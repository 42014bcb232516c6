"""Waiting for several artifacts: joins, counts, keys, and what enters a group."""

from collections.abc import Callable

import pytest
from pydantic import BaseModel

from stigmergy import Context, ancestor, private
from tests.boards import A, B, Boards, C

pytestmark = pytest.mark.anyio


class Pair(BaseModel):
    a: int
    b: int


async def pair(a: A, b: B) -> Pair:
    return Pair(a=a.n, b=b.n)


# -- and ---------------------------------------------------------------------------------------------------------------


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


# -- counts ------------------------------------------------------------------------------------------------------------


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


# -- keys --------------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("key", [object(), "\ud800", {1, object()}], ids=["object", "surrogate", "set of objects"])
async def test_a_key_that_is_no_data_is_a_dead_letter(new_board: Boards, key: object) -> None:
    board = new_board()
    board.agent("pair").consumes(A, B, by=lambda x: key).publishes(Pair).body(pair)
    await board.publish(A())
    report = await board.run_until_idle()
    assert report.dead == 1
    assert (await (await new_board.reopened(board)).run_until_idle()).dead == 1


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


# -- what enters a group -----------------------------------------------------------------------------------------------


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


# -- too many ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decorated", [False, True])
async def test_beyond_max_waiting_the_oldest_expires_and_the_report_says_so(new_board: Boards, decorated: bool) -> None:
    board = new_board()
    if decorated:
        board.agent(by="key", max_waiting=2)(pair)
    else:
        board.agent("pair").consumes(A, B, by="key", max_waiting=2).publishes(Pair).body(pair)
    await board.publish_many([A(n=n, key=str(n)) for n in range(4)])
    await board.publish_many([B(n=n, key=str(n)) for n in (0, 3)])
    report = await board.run_until_idle()
    assert board.artifacts(Pair).payloads == [Pair(a=3, b=3)]
    [aside] = report.put_aside
    assert (aside.outcome, aside.count, aside.subject) == ("expired", 3, "pair")
    assert "the oldest inputs, as too many waited" in str(report)
