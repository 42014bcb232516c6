"""What people type by mistake when they look after a board: one clear line each, and nothing has changed."""

from typing import Any

import pytest
from pydantic import BaseModel

from stigmergy import Blackboard, Context, Questions
from stigmergy.blackboard.errors import InvalidPayload, NotAChoice, NotFound, UnknownField
from tests.boards import A, B, Boards

pytestmark = pytest.mark.anyio
HUGE = 10**30


async def troubled(board: Blackboard) -> tuple[int, int]:
    """The board, on which one agent asks and another has failed: the question, and the dead letter."""

    @board.agent
    async def asks(a: A, ctx: Context) -> None:
        await ctx.ask("go", "Go?")

    @board.agent
    async def fails(b: B) -> None:
        raise ValueError("no")

    await board.publish(A())
    await board.publish(B())
    report = await board.run_until_idle()
    return report.left.questions[0].id, report.left.dead_letters[0].activation


@pytest.mark.parametrize("value", ["yes", 1, None, {"go": True}, object(), A])
async def test_an_answer_that_cannot_be_one_is_refused(new_board: Boards, value: Any) -> None:
    board = new_board(components=[Questions()])
    question, _ = await troubled(board)
    last = board.last
    with pytest.raises((NotAChoice, InvalidPayload), match=r"^[^\n]+$"):
        await board.answer(question, value)
    assert board.last == last


@pytest.mark.parametrize("id", [0, -3, HUGE, "HumanQuestion@x", "A@{}", "HumanQuestion@99999999999999999999999"])
async def test_what_is_no_question_cannot_be_answered(new_board: Boards, id: Any) -> None:
    board = new_board(components=[Questions()])
    question, _ = await troubled(board)
    with pytest.raises(NotFound, match=r"^[^\n]+$"):
        await board.answer(id.format(question) if isinstance(id, str) else id, True)


@pytest.mark.parametrize("edited", ["n=3", 5, A, A(), {"size": 1}, {"n": 3, "size": 1}, {1: 2}])
async def test_an_edit_of_what_is_not_there_is_refused(new_board: Boards, edited: Any) -> None:
    board = new_board(components=[Questions()])
    _, dead = await troubled(board)
    with pytest.raises(UnknownField, match=r"^[^\n]+$"):
        await board.retry(dead, edited=edited)
    assert len(board.dead_letters()) == 1


@pytest.mark.parametrize("edited", [{"n": "many"}, {"n": object()}, {"n": float("nan")}])
async def test_an_edit_that_its_class_does_not_take_is_refused(new_board: Boards, edited: Any) -> None:
    board = new_board(components=[Questions()])
    _, dead = await troubled(board)
    with pytest.raises(InvalidPayload, match=r"^[^\n]+$"):
        await board.retry(dead, edited=edited)
    assert len(board.dead_letters()) == 1


async def test_ids_of_something_else_and_runs_that_are_none_are_not_found(new_board: Boards) -> None:
    board = new_board(components=[Questions()])
    question, dead = await troubled(board)
    for id in (question, 999, HUGE, f"asks@{dead}", f"B@{dead}", "fails"):
        for verb in (board.retry(id), board.discard(id, reason="no"), board.retry(dead, id)):
            with pytest.raises(NotFound, match=r"^[^\n]+$"):
                await verb
    for verb in (board.cancel(HUGE), board.cancel(f"B@{question}")):
        with pytest.raises(NotFound, match=r"^[^\n]+$"):
            await verb
    last = board.last
    for verb in (board.cancel(run="mian"), board.pause(run="mian"), board.resume(run="mian")):
        with pytest.raises(NotFound, match=r"^there is no run 'mian'\. Did you mean 'main'\?$"):
            await verb
    with pytest.raises(NotFound, match=r"^there is no run ''\."):
        await board.pause(run="")
    with pytest.raises(InvalidPayload):
        await board.pause(run=5)  # type: ignore[arg-type]
    assert board.last == last
    assert len(board.dead_letters()) == 1


async def test_what_is_done_twice_changes_nothing_more(new_board: Boards) -> None:
    board = new_board(components=[Questions()])
    _, dead = await troubled(board)
    await board.pause()
    await board.pause(reason="again")
    assert (await board.run_until_idle()).detail == "run 'main': paused"
    await board.resume()
    await board.resume()
    await board.cancel(f"fails@{dead}")
    assert board.report().cancelled == 0  # it had ended before
    await board.discard(dead, dead, reason="no")
    for verb in (board.retry(dead), board.discard(dead, reason="no")):
        with pytest.raises(NotFound, match="already"):
            await verb
    assert (await board.run_until_idle()).ok


@pytest.mark.parametrize("reason", ["", " \n"])
async def test_a_reason_that_says_nothing_is_refused(new_board: Boards, reason: str) -> None:
    board = new_board(components=[Questions()])
    _, dead = await troubled(board)
    last = board.last
    for verb in (board.discard(dead, reason=reason), board.cancel(dead, reason=reason), board.pause(reason=reason)):
        with pytest.raises(InvalidPayload, match=r"says nothing\. Say why"):
            await verb
    assert board.last == last


async def test_a_run_may_be_paused_before_it_begins(new_board: Boards) -> None:
    board = new_board(run="night")
    board.agent("do").consumes(A).body(lambda a: None)
    await board.pause()
    await board.publish(A())
    assert (await board.run_until_idle()).detail == "run 'night': paused"
    await board.resume(run="night")
    assert (await board.run_until_idle()).done == 1


class NoType:
    """Nothing that can be checked."""


@pytest.mark.parametrize(
    "asked",
    [{"within": -1}, {"within": "soon"}, {"default": True}, {"within": 5, "default": "perhaps"}, {"answer": 5},
     {"answer": NoType}],
)  # fmt: skip
async def test_a_question_that_makes_no_sense_is_a_dead_letter_of_one_line(
    new_board: Boards, asked: dict[str, Any]
) -> None:
    board = new_board(components=[Questions()])

    @board.agent
    async def asks(a: A, ctx: Context) -> None:
        await ctx.ask("go", "Go?", **asked)

    await board.publish(A())
    [dead] = (await board.run_until_idle()).left.dead_letters
    assert dead.error is not None
    assert dead.error.message.startswith("ctx.ask(")
    assert "\n" not in dead.error.message


async def test_a_refused_answer_is_named_where_the_question_is_asked_again(new_board: Boards) -> None:
    class Decision(BaseModel):
        go: bool

    board = new_board(components=[Questions()])

    @board.agent
    async def asks(a: A, ctx: Context) -> None:
        await ctx.ask("go", "Go?", answer=Decision)

    await board.publish(A())
    report = await board.run_until_idle()
    await board.answer(report.left.questions[0].id, [1])
    [again] = (await board.run_until_idle()).left.questions
    assert again.what.startswith("Go? (the answer before was none: it: Input should be")
