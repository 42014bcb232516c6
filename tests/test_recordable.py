"""What users give and cannot be recorded is refused where it is given, so that no file becomes unreadable."""

import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stigmergy import Blackboard, Context, HumanQuestion, Questions, Roster, StigmergyError
from stigmergy.blackboard.events import ErrorInfo, Failed
from stigmergy.blackboard.stores.encoding import plainly
from tests.boards import A, B, Boards

pytestmark = pytest.mark.anyio

NO_TEXT = [5, 1.5, None, b"x", ["a", 3], True, "half \ud800", "nul \0"]
NO_COUNT = [1.5, None, -1, math.nan, math.inf, "", "x", True, ["a"]]
NO_MONEY = [*NO_COUNT, "nan", "-1"]

EFFECTS: dict[str, tuple[Callable[[Context, Any], Awaitable[object]], list[Any]]] = {
    "call": (lambda ctx, v: ctx.call(v, str, "x"), NO_TEXT),
    "sleep": (lambda ctx, v: ctx.sleep(v, 0.001), NO_TEXT),
    "ask": (lambda ctx, v: ctx.ask(v, "Go?"), NO_TEXT),
    "charge": (lambda ctx, v: ctx.charge(v, tokens=1), NO_TEXT),
    "tokens": (lambda ctx, v: ctx.charge("k", tokens=v), NO_COUNT),
    "cost": (lambda ctx, v: ctx.charge("k", cost=v), NO_MONEY),
}


async def assert_readable(boards: Boards, board: Blackboard) -> None:
    """Another process could go on with it."""
    again = await boards.reopened(board)
    await again.publish(A(n=2))
    assert list(again.events())
    assert str(again.report())


@pytest.mark.parametrize(
    ("verb", "value"), [(verb, v) for verb, (_, values) in EFFECTS.items() for v in values], ids=repr
)
async def test_an_effect_that_cannot_be_recorded_fails_its_body_alone(
    file_board: Boards, verb: str, value: Any
) -> None:
    board = file_board(components=[Questions()])

    @board.agent
    async def act(a: A, ctx: Context) -> None:
        await EFFECTS[verb][0](ctx, value)

    await board.publish(A())
    report = await board.run_until_idle()
    [left] = report.left.dead_letters
    assert left.error is not None
    assert left.error.type in ("InvalidPayload", "DefinitionError")
    await assert_readable(file_board, board)


@pytest.mark.parametrize("value", [5, 1.5, b"x", ["a", 3], True, "half \ud800"], ids=repr)
@pytest.mark.parametrize("what", ["phase", "tenant", "labels", "description"])
async def test_a_definition_that_cannot_be_recorded_is_refused(what: str, value: Any) -> None:
    with pytest.raises(StigmergyError):
        getattr(Roster().agent("x"), what)(value)


@pytest.mark.parametrize("value", [5.0, b"x", {1: "a"}, True, object], ids=repr)
@pytest.mark.parametrize("option", ["producer", "tags", "batch", "max_waiting"])
async def test_an_option_of_what_is_consumed_that_makes_no_sense_is_refused(option: str, value: Any) -> None:
    types = (A,) if option == "batch" else (A, B)
    with pytest.raises(StigmergyError):
        Roster().agent("x").consumes(*types, **{option: value})


@pytest.mark.parametrize("value", [1.5, b"x", {1: 2}, True, (1,), (2, 1), object], ids=repr)
@pytest.mark.parametrize("option", ["fan_out", "review_by", "tags", "visibility"])
async def test_an_option_of_what_is_published_that_makes_no_sense_is_refused(option: str, value: Any) -> None:
    with pytest.raises(StigmergyError):
        Roster().agent("x").consumes(A).publishes(B, **{option: value})


@pytest.mark.parametrize("value", [5, object, "half \ud800"], ids=repr)
@pytest.mark.parametrize("verb", ["cancel", "pause", "paused run", "resume", "discard", "edit", "edited", "answer"])
async def test_what_people_say_and_cannot_be_recorded_is_refused(file_board: Boards, verb: str, value: Any) -> None:
    board = file_board(components=[Questions()])

    @board.agent
    async def fail(b: B) -> None:
        raise ZeroDivisionError

    @board.agent
    async def ask(a: A, ctx: Context) -> None:
        await ctx.ask("go", "Go?")

    await board.publish_many([A(), B()])
    await board.run_until_idle()
    dead, question = board.dead_letters()[0].id, board.artifacts(HumanQuestion)[0].id
    verbs: dict[str, Callable[[], Awaitable[object]]] = {
        "cancel": lambda: board.cancel(run="main", reason=value),
        "pause": lambda: board.pause(reason=value),
        "paused run": lambda: board.pause(run=value),
        "resume": lambda: board.resume(run=value),
        "discard": lambda: board.discard(dead, reason=value),
        "edit": lambda: board.retry(dead, edited={"key": value}),
        "edited": lambda: board.retry(dead, edited=value),
        "answer": lambda: board.answer(question, value),
    }
    with pytest.raises(StigmergyError):
        await verbs[verb]()
    await board.run_until_idle()
    await assert_readable(file_board, board)


@pytest.mark.parametrize("id", [10**30, -1, True, "A@" + "9" * 30, 1.5], ids=str)
async def test_what_can_be_no_id_is_refused(new_board: Boards, id: Any) -> None:
    board = new_board()
    await board.publish(A())
    for verb in (board.retry(id), board.cancel(id), board.discard(id, reason="no"), board.answer(id, value := True)):
        with pytest.raises(StigmergyError, match="no id"):
            await verb
    assert value
    with pytest.raises(StigmergyError, match="no id"):
        board.get(id)


def test_what_could_not_be_read_again_is_not_written() -> None:
    event = Failed(kind="error", error=ErrorInfo("E", "m"), feedback="")
    assert plainly(event)
    event.feedback = 7  # type: ignore[assignment]
    with pytest.raises(ValueError, match="feedback"):
        plainly(event)
