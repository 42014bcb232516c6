"""What bodies give back: declared or refused, all of it or none of it, and nobody's to change afterwards."""

from typing import Any

import pytest
from pydantic import BaseModel

from stigmergy import Artifact, Blackboard, Context, Report, private
from stigmergy.blackboard.events import Completed, Published
from tests.boards import A, B, Boards, C, numbers

pytestmark = pytest.mark.anyio


class Box(BaseModel):
    items: list[int] = []
    nested: dict[str, list[int]] = {}


def dead_letter(report: Report) -> tuple[str, str]:
    """Type and message of the only dead letter's error."""
    [dead] = report.left.dead_letters
    assert dead.error is not None
    return dead.error.type, dead.error.message


# -- declared ----------------------------------------------------------------------------------------------------------


@pytest.mark.req("S3.20")
async def test_an_undeclared_output_is_refused_with_what_may_be_published(new_board: Boards) -> None:
    board = new_board()

    async def smuggle(a: A) -> Any:
        return [B(n=1), C(n=2)]

    board.agent("smuggler").consumes(A).publishes(B).body(smuggle)
    await board.publish(A())
    report = await board.run_until_idle()
    kind, message = dead_letter(report)
    assert kind == "UndeclaredOutput"
    assert "'smuggler' returned C but publishes B" in message
    assert board.artifacts(B).total == board.artifacts(C).total == 0


@pytest.mark.parametrize("garbage", [3, "text", {"n": 1}, B, object()], ids=lambda value: type(value).__name__)
async def test_what_is_no_model_is_refused(new_board: Boards, garbage: Any) -> None:
    board = new_board()

    async def babble(a: A) -> Any:
        return garbage

    board.agent("babbler").consumes(A).publishes(B).body(babble)
    await board.publish(A())
    kind, message = dead_letter(await board.run_until_idle())
    assert kind == "UndeclaredOutput"
    assert "returned" in message and "Return " in message
    assert board.artifacts().total == 1


async def test_garbage_among_good_outputs_publishes_nothing(new_board: Boards) -> None:
    board = new_board()

    async def babble(a: A) -> Any:
        return [B(n=1), B(n=2), None, 7]

    board.agent("babbler").consumes(A).publishes(B).body(babble)
    await board.publish(A())
    await board.run_until_idle()
    assert board.artifacts(B).total == 0


async def test_returning_the_input_artifact_is_refused(new_board: Boards) -> None:
    board = new_board()

    async def echo(a: Artifact[A]) -> Any:
        return a

    board.agent("echo").consumes(A).publishes(A).body(echo)
    await board.publish(A())
    kind, message = dead_letter(await board.run_until_idle())
    assert kind == "UndeclaredOutput"
    assert "Return a payload" in message


async def test_returning_an_input_payload_publishes_a_new_artifact_and_leaves_the_input_as_it_was(
    new_board: Boards,
) -> None:
    board = new_board()

    async def echo(a: A) -> A:
        return a

    board.agent("echo").consumes(A).publishes(A).body(echo)
    seed = await board.publish(A(n=1))
    await board.run_until_idle()
    first, second = board.artifacts(A)
    assert (first.id, first.producer) == (seed.id, "outside")
    assert (second.payload, second.producer) == (A(n=1), "echo")


async def test_an_output_that_would_not_survive_the_log_is_refused_by_its_field(new_board: Boards) -> None:
    class Holder(BaseModel):
        value: Any = None

    board = new_board()

    @board.agent
    async def hold(a: A) -> Holder:
        return Holder(value={1, 2, 3})

    await board.publish(A())
    kind, message = dead_letter(await board.run_until_idle())
    assert kind == "NotRoundTrippable"
    assert "value" in message
    assert board.artifacts(Holder).total == 0


# -- all or none -------------------------------------------------------------------------------------------------------


@pytest.mark.req("S3.19")
async def test_outputs_and_completion_are_one_decision(new_board: Boards) -> None:
    board = new_board()

    async def fan_out(a: A, ctx: Context) -> list[B | C]:
        assert [x.payload for x in ctx.artifacts] == [a]
        assert ctx.agent_name == "fan_out"
        return [B(n=1), C(n=2), B(n=3)]

    board.agent(fan_out)
    await board.publish(A())
    await board.run_until_idle()
    completed = next(e for e in board.events() if isinstance(e, Completed))
    together = [e for e in board.events() if e.tx == completed.tx]
    assert [e.type for e in together if isinstance(e, Published)] == ["B", "C", "B"]
    assert completed.outputs == 3


async def test_an_activation_may_publish_nothing(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def maybe(a: A) -> B | None:
        return B(n=a.n) if a.n > 1 else None

    @board.agent
    async def several(a: A) -> list[C]:
        return []

    await board.publish_many([A(n=1), A(n=2)])
    report = await board.run_until_idle()
    assert numbers(board, B) == [2]
    assert report.done == 4
    assert report.ok


async def test_a_body_that_raises_after_its_work_publishes_nothing(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def late_failure(a: A) -> list[B]:
        made = [B(n=1), B(n=2)]
        if made:
            raise RuntimeError("at the last moment")
        return made

    await board.publish(A())
    report = await board.run_until_idle()
    assert dead_letter(report) == ("RuntimeError", "at the last moment")
    assert board.artifacts(B).total == 0


# -- how many ----------------------------------------------------------------------------------------------------------


def spread(board: Blackboard, fan_out: int | tuple[int, int]) -> None:
    async def publish_so_many(a: A) -> list[B]:
        return [B(n=n) for n in range(a.n)]

    board.agent("spread").consumes(A).publishes(B, fan_out=fan_out).body(publish_so_many)


async def test_a_fixed_fan_out_is_met_exactly(new_board: Boards) -> None:
    board = new_board()
    spread(board, 3)
    await board.publish(A(n=3))
    assert (await board.run_until_idle()).ok
    assert numbers(board, B) == [0, 1, 2]


@pytest.mark.parametrize("given", [0, 2, 4])
async def test_another_number_than_the_fixed_fan_out_publishes_nothing_and_names_all_three(
    new_board: Boards, given: int
) -> None:
    board = new_board()
    spread(board, 3)
    await board.publish(A(n=given))
    kind, message = dead_letter(await board.run_until_idle())
    assert kind == "WrongFanOut"
    assert message == f"'spread' made {given} B, but its fan_out is 3."
    assert board.artifacts(B).total == 0


@pytest.mark.parametrize(("given", "fits"), [(0, False), (1, True), (2, True), (4, True), (5, False)])
async def test_a_fan_out_range_is_kept_at_both_ends(new_board: Boards, given: int, fits: bool) -> None:
    board = new_board()
    spread(board, (1, 4))
    await board.publish(A(n=given))
    report = await board.run_until_idle()
    assert board.artifacts(B).total == (given if fits else 0)
    if not fits:
        assert dead_letter(report) == ("WrongFanOut", f"'spread' made {given} B, but its fan_out is 1 to 4.")


async def test_outputs_that_do_not_pass_their_filter_are_left_out(new_board: Boards) -> None:
    board = new_board()

    async def score(a: A) -> list[B]:
        return [B(n=n) for n in range(a.n)]

    board.agent("score").consumes(A).publishes(B, where=lambda b: b.n >= 3).body(score)
    await board.publish(A(n=5))
    assert (await board.run_until_idle()).ok
    assert numbers(board, B) == [3, 4]
    await board.publish(A(n=2))
    report = await board.run_until_idle()
    assert report.ok
    assert board.artifacts(B).total == 2


async def test_a_filter_of_outputs_that_raises_is_the_failure_of_the_activation(new_board: Boards) -> None:
    board = new_board()

    async def score(a: A) -> list[B]:
        return [B(n=1), B(n=0)]

    board.agent("score").consumes(A).publishes(B, where=lambda b: 1 / b.n > 0).body(score)
    await board.publish(A())
    kind, _ = dead_letter(await board.run_until_idle())
    assert kind == "ZeroDivisionError"
    assert board.artifacts(B).total == 0


async def test_declared_visibility_goes_with_every_output(new_board: Boards) -> None:
    board = new_board()
    seen: list[str] = []

    async def tell(a: A) -> B:
        return B()

    async def friend(b: B) -> None:
        seen.append("friend")

    async def stranger(b: B) -> None:
        seen.append("stranger")

    board.agent("teller").consumes(A).publishes(B, visibility=private("friend")).body(tell)
    board.agent(friend)
    board.agent(stranger)
    await board.publish(A())
    await board.run_until_idle()
    assert seen == ["friend"]


# -- before the end ----------------------------------------------------------------------------------------------------


@pytest.mark.req("S3.20")
async def test_what_is_published_at_once_is_declared_as_well(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def smuggler(a: A, ctx: Context) -> B | None:
        await ctx.publish(C(n=2))
        return B(n=1)

    await board.publish(A())
    kind, message = dead_letter(await board.run_until_idle())
    assert kind == "UndeclaredOutput"
    assert "'smuggler' gave ctx.publish C but publishes B." in message
    assert board.artifacts().total == 1


async def test_what_is_published_at_once_is_hidden_tagged_and_filtered_as_declared(new_board: Boards) -> None:
    board = new_board()
    seen: list[tuple[str, int, tuple[str, ...]]] = []
    ids: list[int] = []

    async def tell(a: A, ctx: Context) -> None:
        ids.extend([await ctx.publish(B(n=0)), await ctx.publish(B(n=1), tags="mine")])
        await ctx.publish(C(n=2))

    async def friend(b: Artifact[B]) -> None:
        seen.append(("friend", b.payload.n, b.tags))

    async def stranger(x: B | C) -> None:
        seen.append(("stranger", x.n, ()))

    async def reviewer(c: C) -> None:
        seen.append(("reviewer", c.n, ()))

    teller = board.agent("teller").consumes(A)
    hidden = teller.publishes(B, visibility=private("friend"), tags=["ours"], where=lambda b: b.n > 0)
    hidden.publishes(C, review_by="reviewer").body(tell)
    for body in (friend, stranger, reviewer):
        board.agent(body)
    await board.publish(A())
    assert (await board.run_until_idle()).dead == 0
    assert sorted(seen) == [("friend", 1, ("ours", "mine")), ("reviewer", 2, ())]
    assert ids == [0, board.artifacts(B)[0].id]


@pytest.mark.parametrize(("at_once", "returned", "fits"), [(1, 2, True), (3, 0, True), (1, 1, False), (2, 2, False)])
async def test_a_fan_out_counts_what_is_published_at_once(
    new_board: Boards, at_once: int, returned: int, fits: bool
) -> None:
    board = new_board()

    async def publish(a: A, ctx: Context) -> list[B]:
        for n in range(at_once):
            await ctx.publish(B(n=n))
        return [B(n=n) for n in range(returned)]

    board.agent("spread").consumes(A).publishes(B, fan_out=3).body(publish)
    await board.publish(A())
    report = await board.run_until_idle()
    assert report.ok == fits
    assert board.artifacts(B).total == (3 if fits else at_once)
    if not fits:
        assert dead_letter(report)[1] == f"'spread' made {at_once + returned} B, but its fan_out is 3."


@pytest.mark.parametrize("at_once", [0, 1, 2])
async def test_a_fan_out_also_counts_what_the_filter_leaves_out_however_it_is_published(
    new_board: Boards, at_once: int
) -> None:
    board = new_board()

    async def publish(a: A, ctx: Context) -> list[B]:
        ids = [await ctx.publish(B(n=n)) for n in range(at_once)]
        assert ids[:1] in ([], [0])
        return [B(n=n) for n in range(at_once, 2)]

    board.agent("spread").consumes(A).publishes(B, fan_out=2, where=lambda b: b.n > 0).body(publish)
    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert numbers(board, B) == [1]


async def test_more_at_once_than_the_fan_out_is_refused_at_once(new_board: Boards) -> None:
    board = new_board()

    async def publish(a: A, ctx: Context) -> None:
        for n in range(4):
            await ctx.publish(B(n=n))

    board.agent("spread").consumes(A).publishes(B, fan_out=(0, 2)).body(publish)
    await board.publish(A())
    assert dead_letter(await board.run_until_idle())[1] == "'spread' made 3 B, but its fan_out is 0 to 2."
    assert numbers(board, B) == [0, 1]


# -- nobody's to change ------------------------------------------------------------------------------------------------


async def test_changing_an_input_changes_neither_the_log_nor_what_others_get(new_board: Boards) -> None:
    board = new_board()
    seen: list[Box] = []

    @board.agent
    async def vandal(box: Box) -> None:
        box.items.append(666)
        box.nested["x"].append(666)

    @board.agent
    async def vandal_of_envelopes(box: Artifact[Box]) -> None:
        box.payload.items.clear()

    @board.agent
    async def honest(box: Box) -> None:
        seen.append(box)

    untouched = Box(items=[1], nested={"x": [2]})
    mine = untouched.model_copy(deep=True)
    made = await board.publish(mine)
    await board.run_until_idle()
    assert seen == [untouched]
    assert board.get(made.id).payload == untouched
    assert mine == untouched


async def test_what_the_publisher_changes_afterwards_is_not_published(new_board: Boards) -> None:
    board = new_board()
    kept: list[Box] = []
    seen: list[list[int]] = []

    @board.agent
    async def make(a: A) -> Box:
        box = Box(items=[1])
        kept.append(box)
        return box

    @board.agent
    async def look(box: Box) -> None:
        kept[0].items.append(666)
        seen.append(box.items)

    mine = Box(items=[0])
    await board.publish(mine)
    mine.items.append(666)
    await board.publish(A())
    kept.append(mine)
    await board.run_until_idle()
    assert sorted(seen) == [[0], [1]]


async def test_a_predicate_that_changes_the_payload_does_not_change_the_board(new_board: Boards) -> None:
    board = new_board()
    seen: list[list[int]] = []

    def meddle(box: Box) -> bool:
        box.items.append(666)
        return True

    async def look(box: Box) -> None:
        seen.append(box.items)

    board.agent("meddler").consumes(Box, where=meddle).body(look)
    made = await board.publish(Box(items=[1]))
    await board.run_until_idle()
    assert seen == [[1]]
    assert board.get(made.id).payload == Box(items=[1])
