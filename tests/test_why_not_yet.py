"""Why an agent does not run: somebody has to decide, or something is spent, paused, down, or in reserve."""

import pytest

from stigmergy import Blackboard, HumanQuestion, Limits, Roster, replay
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C
from tests.troubled_boards import asking, capped, failing, halving, model

pytestmark = pytest.mark.anyio


def told(board: Blackboard, agent: str, id: int) -> tuple[bool, str, str]:
    """Whether it took it, and the only reason."""
    answer = board.why_not(agent, id)
    assert len(answer.reasons) == 1, str(answer)
    return answer.took, answer.reasons[0].kind, answer.reasons[0].text


async def test_an_open_circuit_is_told_and_that_the_reserve_waits_for_its_turn(new_board: Boards) -> None:
    board = new_board(failing(), clock=VirtualClock())
    await board.publish_many([A(n=2), A(n=1)])
    await board.run_until_idle(horizon=5)
    first, second = board.artifacts(A)
    for artifact in (first, second):
        took, kind, text = told(board, "service", artifact.id)
        assert (took, kind) == (True, "held")
        assert "is held by breaker until " in text
        assert "the circuit of service is open after 2 failures in a row" in text
        assert told(board, "reserve", artifact.id) == (
            False, "reserve", "it is in reserve, and gets only what a component hands over to it",
        )  # fmt: skip
    await board.run_until_idle(horizon=None)
    took, kind, text = told(board, "service", first.id)
    assert (took, kind, text.startswith("reserve@")) == (True, "completed", True)
    assert told(board, "reserve", first.id) == (took, kind, text)


async def test_an_open_question_is_told(new_board: Boards) -> None:
    board = new_board(asking(), clock=VirtualClock())
    artifact = await board.publish(A(n=1))
    await board.run_until_idle()
    question = board.artifacts(HumanQuestion)[0]
    took, kind, text = told(board, "deploy", artifact.id)
    assert (took, kind) == (True, "held")
    assert text.endswith(f"is held by questions: {question.ref}: Deploy 1?")


async def test_a_spent_budget_and_a_quota_are_told(new_board: Boards) -> None:
    board = new_board(capped(), clock=VirtualClock(), model=model())
    made = await board.publish_many([A(n=n) for n in range(3)])
    await board.run_until_idle()
    took, kind, text = told(board, "spend", made[-1].id)
    assert (took, kind) == (True, "budget")
    assert "budget_per_run refuses effect" in text
    assert "cost $0.40 of $0.45 per run, and it may take $0.10" in text
    last = [b.id for b in board.artifacts(B, producer="back")][-1]
    took, kind, text = told(board, "forth", last)
    assert (took, kind) == (True, "budget")
    assert "may not start: quota_per_tree: activations 3 of 3" in text


async def test_a_pause_is_told_with_its_reason(new_board: Boards) -> None:
    board = new_board(halving(), clock=VirtualClock())
    await board.pause(reason="lunch")
    artifact = await board.publish(A(n=2))
    await board.run_until_idle()
    took, kind, text = told(board, "halve", artifact.id)
    assert (took, kind) == (True, "closed")
    assert text.endswith("is parked, paused: run 'main': lunch")
    await board.resume()
    await board.run_until_idle()
    assert told(board, "halve", artifact.id)[1] == "completed"


async def test_a_dead_letter_that_was_edited_is_followed_and_its_edit_is_for_nobody_else(new_board: Boards) -> None:
    roster = halving()
    roster.agent("curious").consumes(A).body(lambda a: None)
    board = new_board(roster, clock=VirtualClock())
    artifact = await board.publish(A(n=3))
    await board.run_until_idle()
    assert told(board, "halve", artifact.id)[1] == "failed"
    [letter] = board.dead_letters()
    await board.retry(letter.id, edited={"n": 4})
    assert told(board, "halve", artifact.id)[1] == "ready"
    await board.run_until_idle()
    edit = board.artifacts(A)[-1]
    for id in (artifact.id, edit.id):
        assert told(board, "halve", id)[:2] == (True, "completed")
    assert told(board, "curious", edit.id) == (
        False, "edited", f"it stands in for {artifact.id} in what was tried again, and is for that alone",
    )  # fmt: skip


async def test_an_effect_that_a_limit_refuses_today_is_found_by_replay(new_board: Boards) -> None:
    def thinking(cost: str) -> Roster:
        roster = Roster(limits=Limits(cost=cost))
        roster.agent("thinker").description("Thinks.").consumes(C).publishes(B)
        return roster

    board = new_board(thinking("1.00"), clock=VirtualClock(), model=model())
    await board.publish(C())
    assert (await board.run_until_idle()).ok
    assert replay(board, thinking("1.00")).ok
    found = replay(board, thinking("0.05")).first
    assert found is not None
    assert (found.cause, found.expected is not None and found.expected["event"]) == ("limit", "Calling")
    assert "cost $0 of $0.05, and it may take $0.10" in found.detail
