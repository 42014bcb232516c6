"""Questions to people: asked once, answered once, and nobody keeps a place while waiting."""

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import pytest
from pydantic import BaseModel

from stigmergy import Blackboard, Context, HumanAnswer, HumanQuestion, Questions, Retry, Roster, replay
from stigmergy.blackboard.errors import BadSignature, KeyReused, NotAChoice, NotFound
from stigmergy.blackboard.events import Activated
from stigmergy.testing import VirtualClock, context
from tests.boards import A, B, Boards, C, copying, numbers

pytestmark = pytest.mark.anyio


class Decision(BaseModel):
    go: bool
    reason: str = ""


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def deploying(board: Blackboard, ran: list[str] | None = None, **ask: object) -> Blackboard:
    """The board, with an agent that builds, asks, and deploys."""
    done = ran if ran is not None else []

    async def build() -> str:
        done.append("build")
        return "built"

    @board.agent
    async def deploy(a: A, ctx: Context) -> B | None:
        await ctx.call("build", build)
        done.append("ask")
        go = await ctx.ask("go", f"Deploy {a.n}?", **ask)  # type: ignore[call-overload]
        done.append(f"told {go!r}")
        return B(n=a.n) if go else None

    return board


def asked(board: Blackboard) -> list[int]:
    return [a.id for a in board.artifacts(HumanQuestion)]


@pytest.mark.req("S2.51")
async def test_a_question_suspends_who_asks_frees_the_place_and_ends_the_run_as_waiting(new_board: Boards) -> None:
    ran: list[str] = []
    board = copying(deploying(new_board(components=[Questions()], concurrency=1), ran), name="unrelated")
    await board.publish_many([A(n=1), A(n=2), A(n=3)])
    report = await board.run_until_idle()
    assert report.reason == "waiting"
    assert numbers(board, B) == [1, 2, 3]  # of the other agent, though every place was asked for
    assert [q.what for q in report.left.questions] == ["Deploy 1?", "Deploy 2?", "Deploy 3?"]
    assert (report.left.held, report.dead, report.ok, report.failed_attempts) == ((), 0, True, 0)
    first = asked(board)[0]
    assert f"HumanQuestion@{first}" in report.detail
    assert f"HumanQuestion@{first} by deploy: Deploy 1? (true, false)" in str(report)
    assert f"answer({first}, True)" in str(report) or f"answer {board._store.name} {first} true" in str(report)


async def test_an_answer_resumes_the_body_and_recorded_effects_are_not_executed_again(new_board: Boards) -> None:
    ran: list[str] = []
    board = deploying(new_board(components=[Questions()]), ran)
    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()
    yes, no = asked(board)
    await board.answer(yes, True)
    await board.answer(f"HumanQuestion@{no}", False)
    report = await board.run_until_idle()
    assert (report.reason, report.done, report.open) == ("idle", 2, 0)
    assert numbers(board, B) == [1]
    assert "failed" not in str(board.why(board.artifacts(B)[0].id))
    assert sorted(ran) == sorted(["build", "build", "ask", "ask", "ask", "ask", "told True", "told False"])
    assert replay(board, board).ok


async def test_questions_are_answered_in_any_order(new_board: Boards) -> None:
    board = deploying(new_board(components=[Questions()]))
    await board.publish_many([A(n=n) for n in range(4)])
    await board.run_until_idle()
    for done, n in enumerate((2, 3, 0, 1), 1):
        await board.answer(asked(board)[n], True)
        report = await board.run_until_idle()
        assert (report.done, len(report.left.questions), report.left.held) == (done, 4 - done, ())
    assert sorted(numbers(board, B)) == [0, 1, 2, 3]
    assert replay(board, board).ok


async def test_an_answer_that_comes_while_the_board_runs_is_taken_at_once(new_board: Boards) -> None:
    board = deploying(new_board(components=[Questions()]))
    waits = asyncio.Event()

    @board.agent
    async def busy(c: C) -> None:
        await waits.wait()

    await board.publish_many([A(n=1)])
    await board.publish(C())
    run = asyncio.create_task(board.run_until_idle())
    while not asked(board):
        await asyncio.sleep(0)
    await board.answer(asked(board)[0], True)
    while not numbers(board, B):
        await asyncio.sleep(0)
    waits.set()
    assert (await run).ok


@pytest.mark.req("S2.51")
async def test_a_question_and_its_answer_survive_the_end_of_the_process(file_board: Boards, ending: str) -> None:
    ran: list[str] = []
    board = deploying(file_board(components=[Questions()]), ran)
    await board.publish(A(n=4))
    await board.run_until_idle()
    [question] = asked(board)
    board = deploying(await file_board.after(ending, board, components=[Questions()]), ran)
    assert (await board.run_until_idle()).reason == "waiting"
    assert asked(board) == [question]
    # Answered where nobody knows the agents, as the command line does, and resumed by yet another process.
    bare = await file_board.after(ending, board)
    await bare.answer(question, True)
    board = deploying(await file_board.after(ending, bare, components=[Questions()]), ran)
    report = await board.run_until_idle()
    assert (report.ok, report.reason, numbers(board, B)) == (True, "idle", [4])
    assert ran.count("build") == 1


async def test_answers_are_models_and_one_that_does_not_fit_is_asked_for_again(new_board: Boards) -> None:
    board = new_board(components=[Questions()])
    told: list[Decision] = []

    @board.agent
    async def deploy(a: A, ctx: Context) -> None:
        told.append(await ctx.ask("go", "Deploy?", answer=Decision))

    await board.publish(A())
    await board.run_until_idle()
    await board.answer(asked(board)[0], {"go": "perhaps"})
    report = await board.run_until_idle()
    assert report.reason == "waiting"
    again = board.artifacts(HumanQuestion)[1]
    assert again.payload.refused.startswith("go: ")
    await board.answer(again.id, Decision(go=True, reason="tested"))
    assert (await board.run_until_idle()).reason == "idle"
    assert told == [Decision(go=True, reason="tested")]


async def test_one_of_a_few_choices_is_checked_when_it_is_given(new_board: Boards) -> None:
    board = new_board(components=[Questions()])

    @board.agent
    async def choose(a: A, ctx: Context) -> B:
        return B(key=await ctx.ask("colour", "Which?", answer=Colour))

    await board.publish(A())
    await board.run_until_idle()
    [question] = asked(board)
    with pytest.raises(NotAChoice, match="Choose one of red, blue"):
        await board.answer(question, "green")
    await board.answer(question, "blue")
    await board.answer(question, "blue")  # once more is the same answer
    with pytest.raises(KeyReused, match="answered already"):
        await board.answer(question, "red")
    await board.run_until_idle()
    assert board.one(B).key == "blue"
    assert board.artifacts(HumanAnswer).total == 1


async def test_when_the_deadline_passes_the_default_counts(new_board: Boards) -> None:
    clock = VirtualClock()
    board = deploying(new_board(components=[Questions()], clock=clock), within=3_600, default=True)
    await board.publish(A(n=7))
    assert (await board.run_until_idle()).reason == "waiting"  # an hour is beyond the horizon
    report = await board.run_until_idle(horizon=None)
    assert (report.reason, numbers(board, B)) == ("idle", [7])
    assert board.one(HumanAnswer).by == "deadline"
    assert replay(board, board).ok
    with pytest.raises(KeyReused):
        await board.answer(asked(board)[0], False)


async def test_without_a_default_who_asked_is_told_that_nobody_answered(new_board: Boards) -> None:
    board = deploying(new_board(components=[Questions()], clock=VirtualClock()), within=10)
    await board.publish(A())
    report = await board.run_until_idle()
    assert [d.error.type for d in report.left.dead_letters if d.error] == ["NotAnswered"]


async def test_what_nobody_answered_in_time_is_asked_again_when_it_is_tried_again(
    file_board: Boards, ending: str
) -> None:
    clock, paid = VirtualClock(), list[int]()

    def team(board: Blackboard) -> Blackboard:
        async def pay(n: int) -> int:
            paid.append(n)
            return n

        @board.agent
        async def buy(a: A, ctx: Context) -> B:
            n = await ctx.call("pay", pay, a.n)
            return B(n=n if await ctx.ask("go", "Keep it?", within=3_600) else 0)

        return board

    options: dict[str, Any] = {"components": [Questions()], "clock": clock}
    board = team(file_board(**options))
    await board.publish(A(n=7))
    report = await board.run_until_idle(horizon=None)
    assert [d.error.type for d in report.left.dead_letters if d.error] == ["NotAnswered"]
    board = team(await file_board.after(ending, board, **options))
    await board.retry(report.left.dead_letters[0].activation)
    assert (await board.run_until_idle()).reason == "waiting"
    first, again = asked(board)
    with pytest.raises(KeyReused, match="its time is over"):
        await board.answer(first, True)
    await board.answer(again, True)
    assert (await board.run_until_idle()).ok
    assert (numbers(board, B), paid) == ([7], [7])


async def test_a_question_about_something_that_ended_wants_no_answer(new_board: Boards) -> None:
    board = deploying(new_board(components=[Questions()]))
    await board.publish(A())
    await board.run_until_idle()
    await board.cancel(next(e.seq for e in board.events() if isinstance(e, Activated)))
    with pytest.raises(NotFound, match="nobody waits"):
        await board.answer(asked(board)[0], True)
    report = await board.run_until_idle()
    assert (report.reason, report.left.questions, report.cancelled) == ("idle", (), 1)


async def test_what_a_dead_letter_was_told_is_not_asked_again_when_it_is_tried_again(new_board: Boards) -> None:
    board = new_board(components=[Questions()])
    broken = [True]

    @board.agent
    async def deploy(a: A, ctx: Context) -> B:
        if not await ctx.ask("go", "Deploy?"):
            raise AssertionError
        if broken.pop():
            raise OSError("no network")
        return B()

    await board.publish(A())
    await board.run_until_idle()
    await board.answer(asked(board)[0], True)
    report = await board.run_until_idle()
    assert report.dead == 1
    broken.append(False)
    await board.retry(report.left.dead_letters[0].activation)
    assert (await board.run_until_idle()).ok
    assert len(asked(board)) == 1


async def test_two_questions_at_once_are_both_asked_and_no_except_stops_the_unwinding(new_board: Boards) -> None:
    board = new_board(components=[Questions()])

    @board.agent(retry=Retry(attempts=2))
    async def both(a: A, ctx: Context) -> B:
        try:
            async with asyncio.TaskGroup() as group:
                one = group.create_task(ctx.ask("one", "One?"))
                two = group.create_task(ctx.ask("two", "Two?"))
        except Exception as error:
            raise AssertionError from error
        return B(n=one.result() + two.result())

    await board.publish(A())
    report = await board.run_until_idle()
    while report.left.questions:
        for question in report.left.questions:
            await board.answer(question.id, True)
        report = await board.run_until_idle()
    assert (numbers(board, B), report.failed_attempts) == ([2], 0)


async def test_an_agent_may_answer(new_board: Boards) -> None:
    board = deploying(new_board(components=[Questions()]))

    @board.agent
    async def boss(question: HumanQuestion, ctx: Context) -> HumanAnswer:
        return HumanAnswer(question=ctx.artifacts[0].id, value=True)

    await board.publish(A(n=5))
    report = await board.run_until_idle()
    assert (report.reason, numbers(board, B)) == ("idle", [5])
    assert [a.payload.by for a in board.artifacts(HumanAnswer)] == ["", "boss"]  # what was said, and what counts


async def test_without_the_component_asking_is_refused_with_the_way_out(new_board: Boards) -> None:
    board = deploying(new_board())
    await board.publish(A())
    report = await board.run_until_idle()
    [dead] = report.left.dead_letters
    assert dead.error is not None
    assert "components=[Questions()]" in dead.error.message


async def test_a_body_called_by_hand_is_told_what_the_test_says() -> None:
    ctx = context(recorded={"go": Decision(go=True)})
    assert await ctx.ask("go", "Deploy?", answer=Decision) == Decision(go=True)


# -- where the body is a process of its own ----------------------------------------------------------------------------


def doubled(a: A) -> B:
    return B(n=2 * a.n)


async def asks(a: A, ctx: Context) -> B:
    return B(n=await ctx.ask("go", "Go?"))


async def first_asked(call_next: Any, ctx: Context) -> Sequence[BaseModel]:
    allowed = await ctx.ask("go", f"Run {ctx.artifacts[0].payload.n} elsewhere?")
    outputs: Sequence[BaseModel] = await call_next() if allowed else ()
    return outputs


apart = Roster(components=[Questions()])
apart.agent("apart").isolate("process").around(first_asked).consumes(A).publishes(B).body(doubled)


def test_a_body_in_a_process_of_its_own_that_wants_a_context_is_refused_where_it_is_defined() -> None:
    told = (
        r'^agent "asks": in a process of its own a body has no context\. Leave isolate= out, or let a middleware ask '
        r"and call what needs the context\.[^\n]*$"
    )
    with pytest.raises(BadSignature, match=told):
        Roster().agent(isolate="process")(asks)
    with pytest.raises(BadSignature, match=told):
        Roster().agent("asks").isolate("process").consumes(A).publishes(B).body(asks)


async def test_a_middleware_asks_for_a_body_in_a_process_of_its_own(new_board: Boards) -> None:
    board = new_board(apart)
    await board.publish_many([A(n=1), A(n=2)])
    assert (await board.run_until_idle()).reason == "waiting"
    yes, no = asked(board)
    await board.answer(yes, True)
    await board.answer(no, False)
    report = await board.run_until_idle()
    assert (report.reason, report.done, numbers(board, B)) == ("idle", 2, [2])


# -- answers that come too late ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("default", [True, None])
async def test_an_answer_after_the_deadline_has_counted_is_refused_also_after_a_restart(
    file_board: Boards, ending: str, default: bool | None
) -> None:
    clock = VirtualClock()
    board = deploying(file_board(components=[Questions()], clock=clock), within=10, default=default)
    await board.publish(A(n=1))
    report = await board.run_until_idle()
    assert (report.dead, numbers(board, B)) == ((0, [1]) if default else (1, []))
    [question] = asked(board)
    for _ in range(2):
        said = "was answered already, by deadline: True" if default else "its time is over"
        with pytest.raises(KeyReused, match=rf"^HumanQuestion@{question}:? {said}\. [^\n]*$"):
            await board.answer(question, False)
        assert board.one(HumanAnswer).by == "deadline"
        options: dict[str, Any] = {"components": [Questions()], "clock": clock}
        board = deploying(await file_board.after(ending, board, **options), within=10, default=default)
        assert (await board.run_until_idle()).reason == "idle"
    assert numbers(board, B) == ([1] if default else [])


async def test_an_answer_that_comes_before_anybody_noticed_that_the_deadline_passed_counts(
    file_board: Boards, ending: str
) -> None:
    clock = VirtualClock()
    options: dict[str, Any] = {"components": [Questions()], "clock": clock}
    board = deploying(file_board(**options), within=3_600, default=False)
    await board.publish(A(n=1))
    assert (await board.run_until_idle()).reason == "waiting"
    [question] = asked(board)
    board = deploying(await file_board.after(ending, board, **options), within=3_600, default=False)
    clock.jump(clock.now() + 5_000)
    await board.answer(question, True)
    assert (await board.run_until_idle()).reason == "idle"
    assert (board.one(HumanAnswer).by, numbers(board, B)) == ("person", [1])
