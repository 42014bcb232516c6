"""What happens to what fails: retry, fallback, recovery work, a person, dead letter, in the order of the components."""

import asyncio
from typing import Any

import pytest

from stigmergy import (
    Blackboard,
    Breaker,
    Context,
    Escalation,
    Fallback,
    HumanAnswer,
    HumanQuestion,
    Questions,
    Recovery,
    Remedy,
    Retry,
    WorkDiscovery,
    replay,
)
from stigmergy.blackboard.component import Component
from stigmergy.blackboard.errors import BadComponent, InvalidPayload, NotAChoice, NotFound, UnknownField
from stigmergy.blackboard.events import Ended, Held
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, copying, numbers

pytestmark = pytest.mark.anyio


def failing(
    board: Blackboard, ran: list[str] | None = None, *, backup: bool = False, concurrency: int | None = None
) -> Blackboard:
    """The board, with an agent that fails at odd numbers; its backup fails at multiples of three, if there is one."""
    noted = ran if ran is not None else []

    @board.agent(retry=Retry(attempts=2, backoff=1), concurrency=concurrency)
    async def work(a: A) -> B:
        noted.append(f"work {a.n}")
        if a.n % 2:
            raise ValueError(f"{a.n} is odd")
        return B(n=a.n)

    if backup:

        @board.agent
        async def spare(a: A) -> B:
            noted.append(f"spare {a.n}")
            if a.n % 3 == 0:
                raise ValueError(f"{a.n} is divisible by three")
            return B(n=a.n)

    return board


# -- fallback ----------------------------------------------------------------------------------------------------------


@pytest.mark.req("S4.22")
async def test_a_fallback_agent_gets_what_the_other_failed_at_and_nothing_else(new_board: Boards) -> None:
    ran: list[str] = []
    board = new_board(clock=VirtualClock(), components=[Fallback({"work": "spare"})])
    failing(board, ran, backup=True)
    got: list[int] = []

    @board.agent
    async def after(b: B) -> None:
        got.append(b.n)

    await board.publish_many([A(n=n) for n in (1, 2)])
    report = await board.run_until_idle()
    assert ran == ["work 1", "work 2", "work 1", "spare 1"]
    assert (report.ok, report.dead, report.activations, sorted(got)) == (True, 0, 4, [1, 2])
    assert replay(board, board).ok


async def test_what_the_fallback_fails_at_is_a_dead_letter_of_the_fallback(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock(), components=[Fallback({"work": "spare"})])
    failing(board, backup=True)
    await board.publish(A(n=3))
    report = await board.run_until_idle()
    [letter] = board.dead_letters()
    assert (letter.agent, report.dead, letter.repeats > 0) == ("spare", 1, True)
    assert [a.payload for a in letter.inputs] == [A(n=3)]


async def test_an_agent_in_reserve_is_offered_nothing_after_a_restart_either(file_board: Boards, ending: str) -> None:
    clock, ran = VirtualClock(), list[str]()

    def components() -> list[Component[Any]]:
        return [Fallback({"work": "spare"})]

    board = failing(file_board(clock=clock, components=components()), ran, backup=True)
    await board.publish(A(n=1))
    await board.run_until_idle(horizon=0)
    board = await file_board.after(ending, board, clock=clock, components=components())
    failing(board, ran, backup=True)
    await board.publish(A(n=2))
    assert (await board.run_until_idle()).ok
    assert sorted(ran) == ["spare 1", "work 1", "work 1", "work 2"]


async def test_a_fallback_that_cannot_take_over_is_refused(new_board: Boards) -> None:
    board = copying(new_board(components=[Fallback({"copy": "spare"})]))
    with pytest.raises(BadComponent, match="'spare'"):
        await board.publish(A())

    @board.agent
    async def spare(c: C) -> B:
        return B()

    with pytest.raises(BadComponent, match="same types"):
        await board.publish(A())


# -- recovery ----------------------------------------------------------------------------------------------------------


def analysing(board: Blackboard, seen: list[WorkDiscovery]) -> Blackboard:
    """The board, with an agent that takes work of analysis, and fails at that, too."""

    @board.agent
    async def analyse(work: WorkDiscovery) -> A:
        seen.append(work)
        return A(n=2 * len(seen) + 1)

    return board


@pytest.mark.req("S3.37", "S3.38")
async def test_recovery_publishes_critical_work_about_the_failure_and_nests_only_so_deep(new_board: Boards) -> None:
    seen: list[WorkDiscovery] = []
    board = new_board(clock=VirtualClock(), components=[Recovery(depth=2)])
    analysing(failing(board), seen)
    await board.publish(A(n=1))
    report = await board.run_until_idle()
    assert [work.metadata["recovery"] for work in seen] == [1, 2]
    first = seen[0]
    assert (first.phase, first.priority, first.discovered_by) == ("analysis", "critical", "recovery")
    assert first.description.startswith("work@")
    assert "ValueError: 1 is odd" in first.description
    assert first.done_definition
    assert report.dead == 3  # the third is too deep
    assert replay(board, board).ok


@pytest.mark.req("S3.38")
async def test_work_that_a_component_or_an_agent_finds_is_missed_also_where_no_agent_takes_work(
    new_board: Boards,
) -> None:
    board = new_board(components=[Recovery()])

    async def finds(a: A) -> WorkDiscovery | B:
        if a.n:
            raise ValueError("never mind")
        return WorkDiscovery(description="Deploy it", phase="deployment", done_definition="It runs")

    async def ends(c: C) -> B:
        return B(n=c.n)

    board.agent("finder").consumes(A).publishes(WorkDiscovery, B).body(finds)
    board.agent("ender").consumes(C).publishes(B).body(ends)
    await board.publish_many([A(n=0), A(n=1), C(n=2)])
    report = await board.run_until_idle()
    assert {orphan.phase for orphan in report.left.no_consumer} == {"deployment", "analysis"}  # and no B


async def test_recovery_rests_between_two_failures_of_one_agent(new_board: Boards) -> None:
    clock = VirtualClock()
    board = failing(new_board(clock=clock, components=[Recovery(cooldown=100)]))
    for _ in range(4):
        await board.publish(A(n=1))
        await board.run_until_idle()
        clock.jump(clock.now() + 60)
    assert board.artifacts(WorkDiscovery).total == 2  # at 1 s and at 123 s


# -- a person ----------------------------------------------------------------------------------------------------------


@pytest.mark.req("S2.43", "S2.48", "S2.51")
async def test_a_person_mends_the_input_while_everything_else_goes_on(new_board: Boards) -> None:
    board = failing(new_board(clock=VirtualClock(), components=[Escalation()]))
    await board.publish_many([A(n=n) for n in (1, 2, 4)])
    report = await board.run_until_idle()
    assert (report.reason, numbers(board, B), report.dead) == ("waiting", [2, 4], 1)
    [question] = report.left.questions
    assert (question.choices, question.by) == (("retry", "skip", "abort"), "escalation")
    assert "ValueError: 1 is odd" in question.what
    await board.answer(question.id, Remedy(then="retry", edited={"n": 6}))
    report = await board.run_until_idle()
    assert (report.ok, report.reason, numbers(board, B)) == (True, "idle", [2, 4, 6])
    assert replay(board, board).ok


async def test_an_escalation_alone_keeps_the_questions_of_agents_too(new_board: Boards) -> None:
    board = new_board(components=[Escalation()])

    @board.agent
    async def deploy(a: A, ctx: Context) -> B:
        return B(n=await ctx.ask("go", "Deploy?"))

    await board.publish(A())
    assert (await board.run_until_idle()).reason == "waiting"
    await board.answer(board.artifacts(HumanQuestion)[0].id, True)
    assert (await board.run_until_idle()).ok
    assert numbers(board, B) == [1]


async def test_an_agent_that_answers_mends_what_failed_in_the_same_run(new_board: Boards) -> None:
    board = failing(new_board(components=[Escalation()], clock=VirtualClock()))

    @board.agent
    async def boss(question: HumanQuestion, ctx: Context) -> HumanAnswer:
        return HumanAnswer(question=ctx.artifacts[0].id, value={"then": "retry", "edited": {"n": 4}})

    await board.publish(A(n=1))
    report = await board.run_until_idle()
    assert (report.reason, report.dead, numbers(board, B)) == ("idle", 0, [4])
    assert board.artifacts(HumanQuestion).total == 1
    assert replay(board, board).ok


async def test_nonsense_is_asked_for_again_in_few_words_however_often_it_comes(new_board: Boards) -> None:
    board = failing(new_board(components=[Escalation()], clock=VirtualClock()))

    @board.agent
    async def confused(question: HumanQuestion, ctx: Context) -> HumanAnswer | None:
        return HumanAnswer(question=ctx.artifacts[0].id, value=question.what) if ctx.artifacts[0].id < 500 else None

    await board.publish(A(n=1))
    assert (await board.run_until_idle()).reason == "waiting"
    questions = board.artifacts(HumanQuestion).payloads
    assert len(questions) > 20
    assert max(len(question.what) for question in questions) < 300


async def test_what_fails_again_is_asked_about_again(new_board: Boards) -> None:
    board = failing(new_board(clock=VirtualClock(), components=[Escalation()]))
    await board.publish(A(n=1))
    for _ in range(3):
        report = await board.run_until_idle()
        [question] = report.left.questions
        await board.answer(question.id, "retry")
    assert board.artifacts(HumanQuestion).total == 3
    assert report.dead == 1


async def test_a_default_counts_in_the_first_run_after_its_deadline_and_no_run_waits_for_it(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock, components=[Escalation(within=10, default="skip")])

    @board.agent
    async def work(a: A) -> None:
        raise LookupError

    await board.publish(A())
    began = clock.now()
    report = await board.run_until_idle(horizon=None)
    assert (report.reason, clock.now()) == ("waiting", began)
    assert report.left.questions[0].what.endswith(" failed: LookupError. What now?")
    clock.jump(began + 11)
    assert (await board.run_until_idle()).skipped == 1


@pytest.mark.req("S2.49")
async def test_a_person_skips_it(new_board: Boards) -> None:
    board = failing(new_board(clock=VirtualClock(), components=[Escalation()]))
    await board.publish(A(n=1))
    [question] = (await board.run_until_idle()).left.questions
    await board.answer(question.id, "skip")
    report = await board.run_until_idle()
    assert (report.ok, report.dead, report.skipped) == (True, 0, 1)


@pytest.mark.req("S2.50")
async def test_a_person_aborts_the_run_and_what_runs_is_cancelled(new_board: Boards) -> None:
    board = failing(new_board(components=[Escalation("work")], clock=VirtualClock()))
    started, stopped = asyncio.Event(), asyncio.Event()

    @board.agent
    async def endless(c: C) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    await board.publish(A(n=1))
    await board.run_until_idle()
    await board.publish_many([C(), C()])
    run = asyncio.create_task(board.run_until_idle())
    [question] = board.artifacts(HumanQuestion)
    await started.wait()
    await board.answer(question.id, "abort")
    report = await run
    assert stopped.is_set()
    assert (report.reason, report.cancelled, report.dead, report.open, report.ok) == ("cancelled", 2, 1, 0, False)


@pytest.mark.parametrize(
    "value",
    [
        {"then": "retry", "edit": {}},
        {"retry": 1},
        {"then": "again"},
        {"then": "retry", "edited": [1]},
        {"then": "retry", "edited": {"size": 2}},
        {"then": "retry", "edited": {"n": 2, "size": 2}},
        {"then": "retry", "edited": {"n": "many"}},
    ],
)
async def test_a_remedy_that_cannot_be_one_is_refused_in_one_line_and_nothing_has_changed(
    new_board: Boards, value: Any
) -> None:
    board = failing(new_board(clock=VirtualClock(), components=[Escalation()]))
    await board.publish(A(n=1))
    [question] = (await board.run_until_idle()).left.questions
    last = board.last
    with pytest.raises((NotAChoice, UnknownField, InvalidPayload), match=r"^[^\n]+$"):
        await board.answer(question.id, value)
    assert board.last == last
    await board.answer(question.id, "skip")
    assert (await board.run_until_idle()).ok


async def test_a_remedy_for_what_was_seen_to_meanwhile_is_refused(new_board: Boards) -> None:
    board = failing(new_board(clock=VirtualClock(), components=[Escalation()]))
    await board.publish(A(n=1))
    [question] = (await board.run_until_idle()).left.questions
    await board.discard(question.about, reason="never mind")
    with pytest.raises(NotFound, match="discarded"):
        await board.answer(question.id, "retry")


async def test_a_remedy_given_twice_is_given_once(new_board: Boards) -> None:
    board = failing(new_board(clock=VirtualClock(), components=[Escalation()]))
    await board.publish(A(n=1))
    [question] = (await board.run_until_idle()).left.questions
    remedy = Remedy(then="retry", edited={"n": 4})
    first = await board.answer(question.id, remedy)
    assert (await board.run_until_idle()).ok
    assert (await board.answer(question.id, remedy)).id == first.id
    assert numbers(board, B) == [4]


@pytest.mark.parametrize("edited", [{"size": 4}, {"n": 4, "size": 4}])
async def test_an_agent_that_edits_what_is_not_there_starts_no_body_and_is_asked_again(
    new_board: Boards, edited: dict[str, Any]
) -> None:
    board = new_board(components=[Escalation()], clock=VirtualClock())
    attempts = []

    @board.agent
    async def work(a: A) -> B:
        attempts.append(a.n)
        raise ValueError("no")

    @board.agent
    async def boss(question: HumanQuestion, ctx: Context) -> HumanAnswer:
        value = {"then": "retry", "edited": edited} if "no input" not in question.what else "skip"
        return HumanAnswer(question=ctx.artifacts[0].id, value=value)

    await board.publish(A(n=1))
    report = await board.run_until_idle()
    assert (attempts, report.reason, report.skipped) == ([1], "idle", 1)
    assert "no input has a field 'size'" in board.artifacts(HumanQuestion)[-1].payload.what
    assert replay(board, board).ok


async def test_nobody_answers_in_time_and_the_default_is_done(new_board: Boards) -> None:
    clock = VirtualClock()
    board = failing(new_board(clock=clock, components=[Escalation(within=100, default="skip")]))
    await board.publish(A(n=1))
    assert (await board.run_until_idle()).reason == "waiting"
    clock.jump(clock.now() + 200)
    await board.publish(A(n=2))
    report = await board.run_until_idle()
    assert (report.ok, report.skipped, board.one(HumanAnswer).by) == (True, 1, "deadline")
    assert replay(board, board).ok


@pytest.mark.req("S2.51")
async def test_an_escalation_survives_restarts_and_an_answer_given_in_between(file_board: Boards, ending: str) -> None:
    clock = VirtualClock()
    board = failing(file_board(clock=clock, components=[Escalation()]))
    await board.publish(A(n=1))
    [question] = (await board.run_until_idle()).left.questions
    bare = await file_board.after(ending, board, clock=clock)
    await bare.answer(question.id, Remedy(then="retry", edited={"n": 8}))
    board = failing(await file_board.after(ending, bare, clock=clock, components=[Escalation()]))
    report = await board.run_until_idle()
    assert (report.ok, numbers(board, B)) == (True, [8])
    board = failing(await file_board.after(ending, board, clock=clock, components=[Escalation()]))
    assert (await board.run_until_idle()).ok
    assert numbers(board, B) == [8]  # once


async def test_what_is_retried_by_hand_is_asked_about_no_more(new_board: Boards) -> None:
    board = failing(new_board(clock=VirtualClock(), components=[Escalation()]))
    await board.publish(A(n=1))
    await board.run_until_idle()
    await board.retry(board.dead_letters()[0].id, edited={"n": 2})
    report = await board.run_until_idle()
    assert (report.ok, report.left.questions) == (True, ())


# -- all of it ---------------------------------------------------------------------------------------------------------


@pytest.mark.req("S2.40")
async def test_the_whole_chain_in_its_order(new_board: Boards) -> None:
    clock, ran, analysed = VirtualClock(), list[str](), list[WorkDiscovery]()
    chain: list[Component[Any]] = [
        Breaker("work", failures=4, recovery=30),
        Fallback({"work": "spare"}),
        Recovery("spare", depth=1),
        Escalation(),
        Questions(),
    ]
    board = failing(new_board(clock=clock, components=chain), ran, backup=True, concurrency=1)
    analysing(board, analysed)
    await board.publish(A(n=1))  # two attempts, then the spare does it
    assert (await board.run_until_idle()).ok
    assert ran == ["work 1", "work 1", "spare 1"]
    await board.publish(A(n=3))  # the spare fails too: recovery makes A(n=3) again, and that is a person's
    report = await board.run_until_idle()
    assert [w.metadata["agent"] for w in analysed] == ["spare"]
    assert ran[3:6] == ["work 3", "work 3", "spare 3"]
    assert ran[6:] == ["work 3", "work 3", "spare 3"]  # the last two calls of work after the circuit had opened
    assert {e.by for e in board.events() if isinstance(e, Held)} == {"breaker"}
    [question] = report.left.questions
    await board.answer(question.id, {"then": "retry", "edited": {"n": 4}})
    report = await board.run_until_idle()
    assert sorted(numbers(board, B)) == [1, 4]
    assert (report.dead, report.reason) == (1, "idle")  # the one that recovery work was done about
    assert {e.outcome for e in board.events() if isinstance(e, Ended)} == {"dead_letter"}
    assert replay(board, board).ok
