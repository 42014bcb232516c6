"""What failed, as artifacts; which link of the chain did what; rates of errors; the states of an execution."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from stigmergy import (
    Blackboard,
    Breaker,
    Escalation,
    Failures,
    Fallback,
    HumanQuestion,
    PhaseStatistics,
    Recovery,
    Retry,
    WorkDiscovery,
    WorkflowError,
    private,
    read,
    replay,
)
from stigmergy.blackboard.component import ACCEPT, ActivationRequest, Component, Reject, Verdict
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, copying, numbers

pytestmark = pytest.mark.anyio


class Refuses(Component):
    """Counts a result that says that it is none as a failure."""

    def review(self, state: None, request: ActivationRequest, outputs: Sequence[BaseModel], /) -> Verdict:
        if all(getattr(output, "success", True) for output in outputs):
            return ACCEPT
        return Reject("it says that it did not succeed", retry=True)


class Result(BaseModel):
    success: bool = True


def failing(board: Blackboard) -> Blackboard:
    """The board, with an agent that fails, one that works, and one that could stand in for the first."""

    @board.agent(retry=Retry(attempts=2, backoff=0))
    async def work(a: A) -> B:
        raise ValueError(f"{a.n} is too much")

    @board.agent
    async def spare(a: A) -> B:
        if a.n > 1:
            raise OSError("no spare part")
        return B(n=a.n)

    return copying(board, name="other")


# -- what failed, as an artifact ---------------------------------------------------------------------------------------


async def test_what_fails_for_good_is_an_artifact_and_the_other_branch_completes(new_board: Boards) -> None:
    board = new_board(components=[Failures()])
    copying(board)
    told: list[WorkflowError] = []

    @board.agent(retry=Retry(attempts=2, backoff=0))
    async def work(a: A) -> C:
        raise ValueError(f"{a.n} is too much")

    @board.agent
    async def tell(error: WorkflowError) -> None:
        told.append(error)

    seed = await board.publish(A(n=7), run="r7")
    report = await board.run_until_idle()
    [dead] = report.left.dead_letters
    expected = WorkflowError(
        agent="work", activation=dead.activation, inputs=(seed.id,), error_type="ValueError", message="7 is too much",
        attempts=2,
    )  # fmt: skip
    assert (told, numbers(board, B)) == ([expected], [7])
    [artifact] = board.artifacts(WorkflowError)
    assert (artifact.run, artifact.producer) == ("r7", "failures")
    assert replay(board, board).ok


async def test_a_failure_of_who_is_told_of_failures_is_told_as_well_and_ends(new_board: Boards) -> None:
    board = new_board(components=[Failures("work")])

    @board.agent
    async def work(a: A) -> None:
        raise ValueError("no")

    @board.agent
    async def tell(error: WorkflowError) -> None:
        raise ValueError("no")

    await board.publish(A())
    report = await board.run_until_idle()
    assert (board.artifacts(WorkflowError).total, report.dead) == (1, 2)


async def test_what_a_link_before_makes_good_is_no_error(new_board: Boards) -> None:
    board = failing(new_board(components=[Fallback({"work": "spare"}), Failures()]))
    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()
    assert [e.payload.agent for e in board.artifacts(WorkflowError)] == ["spare"]


# -- which link did what -----------------------------------------------------------------------------------------------


@pytest.mark.req("S2.40", "S3.70")
async def test_which_link_did_what_is_on_the_report_and_in_why(file_board: Boards) -> None:
    links: list[Component[Any]] = [
        Breaker("work", failures=3, recovery=30), Fallback({"work": "spare"}), Recovery(depth=1), Escalation(),
    ]  # fmt: skip
    board = failing(file_board(clock=VirtualClock(), components=links, concurrency=1))
    await board.publish_many([A(n=n) for n in (1, 2)])
    report = await board.run_until_idle()
    did = {link.name: link for link in report.chain}
    assert {name: (link.told, link.tried_again, link.taken_over) for name, link in did.items()} == {
        "breaker": (0, 0, 0), "fallback": (0, 0, 2), "recovery": (1, 0, 0),
    }  # fmt: skip
    assert did["breaker"].held > 0
    lines = str(report).splitlines()
    at = lines.index("  components")
    assert sorted(line.split() for line in lines[at + 1 : at + 4]) == [
        ["breaker", "held", "back", str(did["breaker"].held)],
        ["fallback", "handed", "over", "2"],
        ["recovery", "published", "about", "1"],
    ]
    with read(board._store.name) as view:
        assert view.report().chain == report.chain
    assert "tried again by fallback" in str(board.why(board.artifacts(B)[-1].id))
    [letter] = board.dead_letters()
    assert f"WorkDiscovery@{board.artifacts(WorkDiscovery)[0].id} by recovery" in str(board.why(letter.id))
    assert "opened again by fallback" in str(board.why(letter.repeats))
    assert replay(board, board).ok


async def test_what_a_person_did_is_counted_for_the_link_that_asked(new_board: Boards) -> None:
    board = failing(new_board(components=[Escalation()]))
    await board.publish_many([A(n=1), A(n=2), A(n=3)])
    report = await board.run_until_idle()
    for question, answer in zip(report.left.questions, ("retry", "skip", "skip"), strict=False):
        await board.answer(question.id, answer)
    report = await board.run_until_idle()
    [link] = report.chain
    assert (link.name, link.tried_again, link.given_up, link.taken_over) == ("escalation", 1, 2, 0)
    assert link.told == board.artifacts(HumanQuestion).total
    assert replay(board, board).ok


async def test_without_failures_nobody_did_anything_about_them(new_board: Boards) -> None:
    board = copying(new_board(components=[Breaker(), Escalation()]))
    await board.publish(A())
    report = await board.run_until_idle()
    assert report.chain == ()
    assert "  components" not in str(report).splitlines()


# -- rates, states -----------------------------------------------------------------------------------------------------


@pytest.mark.req("S3.70", "S4.26")
async def test_a_result_that_says_it_is_none_counts_as_a_failure_and_in_the_error_rate(new_board: Boards) -> None:
    board = new_board(components=[Refuses(), PhaseStatistics()])

    @board.agent(retry=Retry(attempts=2, backoff=0))
    async def attempt(a: A) -> Result:
        return Result(success=a.n > 1)

    await board.publish_many([A(n=n) for n in range(4)])
    report = await board.run_until_idle()
    assert (report.ok, report.done, report.dead, report.failed_attempts) == (False, 2, 2, 4)
    assert board.artifacts(Result).total == 2
    assert board.dead_letters()[0].attempts[0].kind == "rejected"
    timing = board.fold(PhaseStatistics()).agents["attempt"]
    assert (timing.count, timing.failed, timing.rejected) == (6, 4, 4)


@pytest.mark.req("S4.25")
async def test_an_execution_is_pending_running_paused_and_then_completed_or_failed(new_board: Boards) -> None:
    board = new_board()
    started, let_go = asyncio.Event(), asyncio.Event()

    @board.agent
    async def work(a: A) -> B:
        started.set()
        await let_go.wait()
        if a.n:
            raise ValueError("no")
        return B()

    def state() -> tuple[str, int, int]:
        report = board.report()
        [some] = report.left.unfinished or [None]
        return report.reason, some.ready if some else 0, some.running if some else 0

    await board.publish(A(n=0))
    assert state() == ("waiting", 1, 0)  # pending
    run = asyncio.create_task(board.run_until_idle())
    await started.wait()
    assert state() == ("waiting", 0, 1)  # running
    await board.pause()
    await board.publish(A(n=1))
    let_go.set()
    paused = await run
    assert (paused.reason, paused.detail, paused.done, paused.open) == ("waiting", "run 'main': paused", 1, 1)
    await board.resume()
    failed = await board.run_until_idle()
    assert (failed.reason, failed.ok, failed.dead) == ("idle", False, 1)
    await board.discard(board.dead_letters()[0].id, reason="never mind")
    completed = await board.run_until_idle()
    assert (completed.reason, completed.ok, completed.open) == ("idle", True, 0)


@pytest.mark.parametrize("nobody", [7, "", None])
@pytest.mark.parametrize(
    "made", [Breaker, Failures, Escalation, Recovery, private, lambda agent: Fallback({"work": agent})]
)
async def test_what_takes_agents_refuses_what_is_none_when_it_is_given(
    made: Callable[[Any], object], nobody: object
) -> None:
    with pytest.raises(DefinitionError, match="is no agent"):
        made(nobody)
