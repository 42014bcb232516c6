"""Who is offered an artifact: by type, filter, producer, tags; once each; and what happens when a filter raises."""

from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel

from stigmergy import Artifact, Blackboard, Context
from stigmergy.blackboard.events import Activated
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, lines_for, numbers

pytestmark = pytest.mark.anyio


class Work(BaseModel):
    phase: str


class Level(Enum):
    LOW = "low"
    HIGH = "high"


class Reading(BaseModel):
    level: Level = Level.LOW
    value: int | bool | float | str | None = None


def runs(board: Blackboard) -> dict[str, int]:
    """How often each agent was activated."""
    counts: dict[str, int] = {}
    for event in board.events():
        if isinstance(event, Activated):
            counts[event.agent] = counts.get(event.agent, 0) + 1
    return counts


# -- by type -----------------------------------------------------------------------------------------------------------


async def test_one_input_gives_one_output_with_its_producer_cause_and_run(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def double(a: A) -> B:
        return B(n=2 * a.n)

    seed = await board.publish(A(n=21), run="monday")
    assert (await board.run_until_idle()).ok

    [b] = board.artifacts(B)
    assert b.payload == B(n=42)
    assert (b.producer, b.run, b.root, b.depth) == ("double", "monday", seed.id, 1)
    activation = next(e for e in board.events() if isinstance(e, Activated))
    assert b.cause == activation.seq
    assert activation.inputs == [seed.id]


async def test_two_agents_on_one_type_both_run_once(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def one(a: A) -> B:
        return B(n=1)

    @board.agent
    async def two(a: A) -> B:
        return B(n=2)

    await board.publish(A())
    await board.run_until_idle()
    assert runs(board) == {"one": 1, "two": 1}
    assert sorted(numbers(board, B)) == [1, 2]


async def test_another_type_starts_nobody_and_is_reported(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def only_a(a: A) -> None: ...

    other = await board.publish(B())
    report = await board.run_until_idle()
    assert runs(board) == {}
    assert [left.id for left in report.left.no_consumer] == [other.id]


async def test_a_subclass_is_another_type(new_board: Boards) -> None:
    class Urgent(A):
        pass

    board = new_board()

    @board.agent
    async def only_a(a: A) -> None: ...

    await board.publish(Urgent())
    report = await board.run_until_idle()
    assert runs(board) == {}
    assert [left.type for left in report.left.no_consumer] == ["Urgent"]


async def test_several_consumes_mean_or(new_board: Boards) -> None:
    board = new_board()
    seen: list[object] = []

    async def note(x: A | B) -> None:
        seen.append(x)

    board.agent("either").consumes(A).consumes(B).body(note)
    await board.publish(A(n=1))
    await board.publish(B(n=2))
    await board.run_until_idle()
    assert seen == [A(n=1), B(n=2)]


async def test_an_artifact_that_fits_two_subscriptions_of_an_agent_runs_it_once(new_board: Boards) -> None:
    board = new_board()

    async def note(a: A) -> None: ...

    board.agent("greedy").consumes(A, where=lambda a: a.n > 1).consumes(A, where=lambda a: a.n > 2).body(note)
    await board.publish(A(n=5))
    await board.run_until_idle()
    assert runs(board) == {"greedy": 1}


@pytest.mark.req("S3.16", "S3.21", "S3.62")
async def test_a_cascade_emerges_from_subscriptions_alone(new_board: Boards) -> None:
    board = new_board()

    async def a_to_b(a: A) -> B:
        return B(n=a.n + 1)

    async def b_to_c(b: B) -> C:
        return C(n=b.n + 1)

    board.agent("second").description("from B to C").consumes(B).publishes(C).body(b_to_c)
    board.agent("first").description("from A to B").consumes(A, where=lambda a: a.n > 0).publishes(B).body(a_to_b)
    await board.publish_many([A(n=0), A(n=1)])
    report = await board.run_until_idle()
    assert numbers(board, C) == [3]
    assert [line.name for line in report.agents] == ["second", "first"]


# -- by content --------------------------------------------------------------------------------------------------------


@pytest.mark.req("S3.17")
async def test_a_predicate_lets_through_only_what_it_accepts(new_board: Boards) -> None:
    board = new_board()
    seen: list[int] = []

    async def note(a: A) -> None:
        seen.append(a.n)

    board.agent("large").consumes(A, where=lambda a: a.n > 5).body(note)
    await board.publish_many([A(n=3), A(n=9)])
    await board.run_until_idle()
    assert seen == [9]


async def test_all_predicates_of_a_list_must_hold(new_board: Boards) -> None:
    board = new_board()
    seen: list[int] = []

    async def note(a: A) -> None:
        seen.append(a.n)

    board.agent("both").consumes(A, where=[{"key": "k"}, lambda a: a.n > 1, lambda a: a.n < 4]).body(note)
    await board.publish_many([A(n=n, key=key) for n in (1, 2, 4) for key in ("k", "other")])
    await board.run_until_idle()
    assert seen == [2]


@pytest.mark.req("S3.61")
async def test_equality_keys_filter_by_field(new_board: Boards) -> None:
    board = new_board()
    seen: dict[str, list[str]] = {"analyzer": [], "anyone": []}

    async def analyze(work: Work) -> None:
        seen["analyzer"].append(work.phase)

    async def take(work: Work) -> None:
        seen["anyone"].append(work.phase)

    board.agent("analyzer").consumes(Work, where={"phase": "analysis"}).body(analyze)
    board.agent("anyone").consumes(Work, where={"phase": {"analysis", "validation"}}).body(take)
    await board.publish_many([Work(phase=p) for p in ("analysis", "implementation", "validation")])
    await board.run_until_idle()
    assert seen == {"analyzer": ["analysis"], "anyone": ["analysis", "validation"]}


@pytest.mark.parametrize(
    ("wanted", "published", "fits"),
    [
        (1, True, False),
        (True, 1, False),
        (1, 1, True),
        (1, 1.0, True),
        (1, "1", False),
        (None, None, True),
        (None, 0, False),
        (0, False, False),
    ],
)
async def test_equality_is_that_of_json_values(new_board: Boards, wanted: Any, published: Any, fits: bool) -> None:
    board = new_board()
    seen: list[Reading] = []

    async def note(reading: Reading) -> None:
        seen.append(reading)

    board.agent("picky").consumes(Reading, where={"value": wanted}).body(note)
    await board.publish(Reading(value=published))
    await board.run_until_idle()
    assert len(seen) == fits


@pytest.mark.parametrize("several", [False, True], ids=["one key", "two keys"])
async def test_routing_by_equality_costs_the_same_however_many_agents_ask_for_other_values(
    new_board: Boards, several: bool
) -> None:
    costs = []
    got: list[int] = []
    for agents in (10, 1_000):
        board = new_board()
        for n in range(agents):
            where = {"n": n, "key": "k"} if several else {"n": n}
            board.agent(f"agent {n}").consumes(A, where=where).body(lambda a: got.append(a.n))
        await board.publish(A(n=3, key="k"))
        costs.append(await lines_for(board.publish(A(n=7, key="k"))))
        await board.run_until_idle()
    assert got == [3, 7] * 2
    assert costs[1] < 1.5 * costs[0]


async def test_an_enum_is_equal_to_its_member_and_its_value(new_board: Boards) -> None:
    board = new_board()
    seen: list[str] = []

    async def member(reading: Reading) -> None:
        seen.append("member")

    async def value(reading: Reading) -> None:
        seen.append("value")

    board.agent("by_member").consumes(Reading, where={"level": Level.HIGH}).body(member)
    board.agent("by_value").consumes(Reading, where={"level": "high"}).body(value)
    await board.publish_many([Reading(level=Level.LOW), Reading(level=Level.HIGH)])
    await board.run_until_idle()
    assert sorted(seen) == ["member", "value"]


async def test_a_raising_predicate_is_a_dead_letter_with_lineage(new_board: Boards) -> None:
    board = new_board()
    seen: list[int] = []

    async def note(a: A) -> None:
        seen.append(a.n)

    board.agent("brittle").consumes(A, where=lambda a: 10 // a.n > 1).body(note)
    board.agent("sound").consumes(A).body(note)
    bad = await board.publish(A(n=0))
    await board.publish(A(n=2))
    report = await board.run_until_idle()

    [dead] = report.left.dead_letters
    assert (dead.agent, dead.inputs) == ("brittle", (bad.ref,))
    assert dead.error is not None
    assert dead.error.type == "ZeroDivisionError"
    assert "brittle" in dead.error.message
    assert not report.ok
    assert sorted(seen) == [0, 2, 2]
    assert f"{dead.activation}" in str(board.why(dead.activation))


async def test_a_predicate_whose_error_has_no_message_is_a_dead_letter_all_the_same(new_board: Boards) -> None:
    class Wordless(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def broken(a: A) -> bool:
        raise Wordless

    board = new_board()

    async def never(a: A) -> None: ...

    board.agent("brittle").consumes(A, where=broken).body(never)
    await board.publish(A())
    report = await board.run_until_idle()
    assert [d.error.type for d in report.left.dead_letters if d.error] == ["Wordless"]


async def test_a_raising_predicate_of_an_output_does_not_undo_the_producer(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def produce(a: A) -> B:
        return B(n=0)

    async def never(b: B) -> None: ...

    board.agent("brittle").consumes(B, where=lambda b: 1 // b.n == 1).body(never)
    await board.publish(A())
    report = await board.run_until_idle()
    assert numbers(board, B) == [0]
    assert [d.agent for d in report.left.dead_letters] == ["brittle"]
    assert report.done == 1


# -- by producer and tags ----------------------------------------------------------------------------------------------


async def test_a_subscription_can_ask_for_producers(new_board: Boards) -> None:
    board = new_board()
    seen: dict[str, list[int]] = {"from_outside": [], "from_agent": []}

    @board.agent
    async def produce(b: B) -> A:
        return A(n=2)

    async def outside(a: A) -> None:
        seen["from_outside"].append(a.n)

    async def by_agent(a: A) -> None:
        seen["from_agent"].append(a.n)

    board.agent("from_outside").consumes(A, producer="outside").body(outside)
    board.agent("from_agent").consumes(A, producer=produce).body(by_agent)
    await board.publish(A(n=1))
    await board.publish(B())
    await board.run_until_idle()
    assert seen == {"from_outside": [1], "from_agent": [2]}


async def test_a_subscription_can_ask_for_any_of_some_tags(new_board: Boards) -> None:
    board = new_board()
    seen: list[int] = []

    async def note(a: A) -> None:
        seen.append(a.n)

    board.agent("tagged").consumes(A, tags=["red", "blue"]).body(note)
    await board.publish(A(n=1), tags=["red", "green"])
    await board.publish(A(n=2), tags=["green"])
    await board.publish(A(n=3))
    await board.publish(A(n=4), tags=["blue"])
    await board.run_until_idle()
    assert seen == [1, 4]
    assert [a.payload.n for a in board.artifacts(A, tags="green")] == [1, 2]


async def test_one_tag_may_be_given_as_a_word(new_board: Boards) -> None:
    board = new_board()
    made = await board.publish(A(), tags="red")
    assert made.tags == ("red",)


async def test_outputs_of_agents_carry_tags_and_are_matched_by_them(new_board: Boards) -> None:
    board = new_board()
    seen: list[tuple[int, tuple[str, ...]]] = []

    async def produce(a: A) -> B:
        return B(n=a.n)

    async def early(a: A, ctx: Context) -> None:
        await ctx.publish(B(n=-a.n), tags=["blue"])

    async def note(b: Artifact[B]) -> None:
        seen.append((b.payload.n, b.tags))

    board.agent("declared").consumes(A).publishes(B, tags=["red"]).body(produce)
    board.agent("untagged").consumes(A).publishes(B).body(produce)
    board.agent("early").consumes(A).publishes(B).body(early)
    board.agent("tagged").consumes(B, tags=["red", "blue"]).body(note)
    await board.publish(A(n=1))
    await board.run_until_idle()
    assert sorted(seen) == [(-1, ("blue",)), (1, ("red",))]


@pytest.mark.parametrize("kind", [list, set], ids=lambda kind: kind.__name__)
async def test_a_field_called_tags_gives_tags(new_board: Boards, kind: type[list[str]]) -> None:
    class Note(BaseModel):
        tags: kind[str] = kind()  # type: ignore[valid-type]

    board = new_board()
    seen: list[object] = []

    async def note(x: Note) -> None:
        seen.append(x.tags)

    board.agent("tagged").consumes(Note, tags="ops").body(note)
    await board.publish_many([Note(tags=kind(["ops", "b"])), Note(tags=kind(["dev"])), Note()])
    await board.run_until_idle()
    assert seen == [kind(["ops", "b"])]


# -- who published it --------------------------------------------------------------------------------------------------


async def test_an_agent_does_not_take_what_it_published_and_the_report_says_so(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def grow(a: A) -> A:
        return A(n=a.n + 1)

    await board.publish(A(n=0))
    report = await board.run_until_idle()
    assert numbers(board, A) == [0, 1]
    [left] = report.left.no_consumer
    assert left.self_skipped == ("grow",)


async def test_with_self_trigger_an_agent_goes_on_until_its_filter_stops_it(new_board: Boards) -> None:
    board = new_board()

    async def grow(a: A) -> A:
        return A(n=a.n + 1)

    board.agent("grow").self_trigger().consumes(A, where=lambda a: a.n < 5).publishes(A).body(grow)
    await board.publish(A(n=0))
    report = await board.run_until_idle()
    assert numbers(board, A) == [0, 1, 2, 3, 4, 5]
    assert report.reason == "idle"


async def test_what_two_agents_feed_each_other_is_not_suppressed(new_board: Boards) -> None:
    board = new_board()

    async def ping(a: A) -> B:
        return B(n=a.n + 1)

    async def pong(b: B) -> A:
        return A(n=b.n + 1)

    board.agent("ping").consumes(A, where=lambda a: a.n < 4).publishes(B).body(ping)
    board.agent("pong").consumes(B).publishes(A).body(pong)
    await board.publish(A(n=0))
    await board.run_until_idle()
    assert numbers(board, A) == [0, 2, 4]


# -- priority ----------------------------------------------------------------------------------------------------------


@pytest.mark.req("S3.52")
async def test_scarce_places_go_to_the_highest_priority_first(new_board: Boards) -> None:
    board = new_board(concurrency=1)
    order: list[int] = []

    @board.agent
    async def take(a: A) -> None:
        order.append(a.n)

    await board.publish(A(n=1), priority="low")
    await board.publish(A(n=2))
    await board.publish(A(n=3), priority="critical")
    await board.publish(A(n=4), priority="high")
    await board.publish(A(n=5), priority="high")
    await board.run_until_idle()
    assert order == [3, 4, 5, 2, 1]


@pytest.mark.req("S3.52")
async def test_old_work_of_low_priority_comes_before_new_critical_work(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(concurrency=1, clock=clock)
    order: list[int] = []

    @board.agent
    async def take(a: A) -> None:
        order.append(a.n)

    await board.publish(A(n=1), priority="low")
    clock.advance(2 * 3600)
    await board.publish(A(n=2), priority="critical")
    await board.publish(A(n=3), priority="critical")
    await board.run_until_idle()
    assert order == [1, 2, 3]
