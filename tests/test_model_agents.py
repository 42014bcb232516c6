"""Agents that a language model answers for: asked, read, asked again, and never published unchecked."""

import json
import re
from decimal import Decimal

import pytest
from pydantic import BaseModel

from stigmergy import (
    PHASES,
    AnalysisResult,
    Blackboard,
    Costs,
    Implementation,
    PhaseContextProvider,
    Retry,
    Roster,
    ValidationResult,
    WorkDiscovery,
)
from stigmergy.agents.models.errors import BadModel, BadReply, RateLimited
from stigmergy.agents.models.model import Reply, Request
from stigmergy.agents.prompting.prompt import Ask
from stigmergy.blackboard.errors import NoBody
from stigmergy.blackboard.events import Called, Calling, Failed
from stigmergy.models import Scripted
from stigmergy.testing import VirtualClock, outputs
from tests.boards import A, B, Boards, C, numbers

pytestmark = pytest.mark.anyio


def with_thinker(board: Blackboard, **limits: object) -> Blackboard:
    board.agent("thinker").description("Thinks.").limits(**limits).consumes(A).publishes(B)  # type: ignore[arg-type]
    return board


def effects(board: Blackboard) -> list[tuple[str, str]]:
    return [(e.key, e.outcome) for e in board.events() if isinstance(e, Called)]


# -- one answer --------------------------------------------------------------------------------------------------------


@pytest.mark.req("S3.84")
async def test_an_agent_without_a_body_is_answered_by_the_boards_model(new_board: Boards) -> None:
    model = Scripted([B(n=7)], cost="0.25", tokens=9)
    board = with_thinker(new_board(model=model))
    await board.publish(A(n=1))
    report = await board.run_until_idle()
    assert report.ok
    assert numbers(board, B) == [7]
    assert board.artifacts(B)[0].producer == "thinker"
    assert (report.cost, report.tokens) == (Decimal("0.25"), 9)
    assert effects(board) == [("model/1", "done")]
    assert [(e.name, e.cost, e.tokens) for e in board.events() if isinstance(e, Calling)] == [("scripted", "0.25", 9)]


async def test_the_agents_own_model_goes_before_the_boards(new_board: Boards) -> None:
    board = new_board(model=Scripted([]))
    board.agent("thinker").model(Scripted([B(n=2)]), ask=Ask(temperature=0.5)).consumes(A).publishes(B)
    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert numbers(board, B) == [2]


async def test_without_body_and_model_the_first_verb_says_what_is_missing(new_board: Boards) -> None:
    with pytest.raises(
        NoBody, match=r'^agent "thinker" has neither a body nor a model\. Give Blackboard\(model=\.\.\.\)'
    ):
        await with_thinker(new_board()).publish(A())
    with pytest.raises(BadModel, match="is no model"):
        await with_thinker(new_board(model=object())).publish(A())


async def test_a_model_may_publish_several_types_or_nothing(new_board: Boards) -> None:
    board = new_board(model=Scripted([[B(n=1), C(n=2), B(n=3)], outputs()]), concurrency=1)
    board.agent("thinker").consumes(A).publishes(B, C)
    await board.publish_many([A(n=1), A(n=2)])
    assert (await board.run_until_idle()).ok
    assert (numbers(board, B), numbers(board, C)) == ([1, 3], [2])


# -- what is told ------------------------------------------------------------------------------------------------------


async def test_the_prompt_says_instructions_first_and_shows_artifacts_as_fenced_data(new_board: Boards) -> None:
    model = Scripted([outputs()])
    board = new_board(model=model, context=PhaseContextProvider(PHASES), concurrency=1)
    board.agent("analyzer").description("Plans.").consumes(WorkDiscovery, where={"phase": "analysis"}).publishes(
        AnalysisResult, fan_out=(0, 1)
    ).publishes(WorkDiscovery)
    await board.publish(WorkDiscovery(description="Login", phase="analysis", done_definition="A plan"))
    await board.run_until_idle()
    system, user = model.texts()
    assert system.startswith("Phase name: analysis\nDescription: Understand problems")
    assert system.index("Done definitions:\n- The problem is understood") < system.index(
        'You are the agent "analyzer". Plans.'
    )
    assert (
        system.index("Plans.") < system.index("- AnalysisResult, 0 to 1:") < system.index("- WorkDiscovery, any number")
    )
    first, mark, data, end = user.split("\n")
    assert (first, mark[:6], end) == ("Your input:", "<data ", mark.replace("<data", "</data"))
    shown = json.loads(data)
    assert re.fullmatch(r"WorkDiscovery@\d+", shown["id"])
    assert (shown["by"], shown["payload"]["description"]) == ("outside", "Login")
    request = model.asked[0]
    assert request.output is not None
    schema = json.dumps(request.output.json_schema)
    assert '"type": {"type": "string", "enum": ["AnalysisResult"]}' in schema
    assert "default" not in schema


@pytest.mark.req("S3.66")
async def test_older_context_that_does_not_fit_is_left_out_and_said_to_be(new_board: Boards) -> None:
    model = Scripted(lambda r: outputs())
    board = new_board(model=model, context=PhaseContextProvider(limit=100))
    board.agent("thinker").model(ask=Ask(context_tokens=100)).consumes(A).publishes(B)
    await board.publish_many([C(n=n) for n in range(30)])
    await board.publish(A(n=5))
    await board.run_until_idle()
    user = model.texts()[1]
    shown = [json.loads(text)["payload"]["n"] for text in user.split("\n") if text.startswith('{"id":"C@')]
    assert shown == list(range(30 - len(shown), 30))
    assert 0 < len(shown) < 10
    assert f"… {30 - len(shown)} older artifacts left out" in user
    assert len(user) < 100 * 4 + 250


async def test_an_input_that_does_not_fit_is_cut_and_said_to_be(new_board: Boards) -> None:
    model = Scripted([outputs()])
    board = new_board(model=model)
    board.agent("thinker").model(ask=Ask(context_tokens=50)).consumes(A).publishes(B)
    await board.publish(A(key="x" * 1_000))
    await board.run_until_idle()
    assert " characters left out" in model.texts()[1]


# -- what is answered --------------------------------------------------------------------------------------------------

GOOD = outputs(B(n=1))
WRONG = {
    "a type it does not publish": (outputs(A(n=1)), "outputs[0].type: 'A' is not one of B"),
    "a wrong field": (
        '{"outputs": [{"type": "B", "payload": {"n": "many"}}]}',
        "outputs[0].payload.n: Input should be",
    ),
    "no outputs": ('{"answer": 1}', 'the reply has no list "outputs"'),
    "no payload": ('{"outputs": [{"type": "B"}]}', "outputs[0]: it is not"),
    "no JSON": ("I would rather talk.", "the reply is no JSON object"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_reply_that_does_not_fit_is_asked_for_again_with_what_is_wrong(new_board: Boards, wrong: str) -> None:
    text, problem = WRONG[wrong]
    model = Scripted([text, GOOD], cost="0.10")
    board = with_thinker(new_board(model=model))
    await board.publish(A())
    report = await board.run_until_idle()
    assert report.ok
    assert numbers(board, B) == [1]
    assert model.texts()[-2] == text
    assert f"- {problem}" in model.texts()[-1]
    assert report.cost == Decimal("0.20")
    assert effects(board) == [("model/1", "done"), ("model/2", "done")]


async def test_broken_json_is_repaired_on_record(new_board: Boards) -> None:
    broken = "Here it is:\n" + GOOD[:-1].replace('"n": 1', "'n': 1")
    board = with_thinker(new_board(model=Scripted([broken])))
    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert numbers(board, B) == [1]
    [_, repaired] = [e for e in board.events() if isinstance(e, Called)]
    assert repaired.key == "model/1/repaired"
    assert json.loads(repaired.payload)["outputs"][0]["type"] == "B"


async def test_json_in_a_fence_is_read_without_repair(new_board: Boards) -> None:
    board = with_thinker(new_board(model=Scripted([f"Sure.\n```json\n{GOOD}\n```\nDone."])))
    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert effects(board) == [("model/1", "done")]


async def test_a_reply_that_was_cut_off_is_not_repaired(new_board: Boards) -> None:
    cut = Reply(text=outputs(B(n=1), B(n=2))[:-12], finish="length")
    model = Scripted([cut, GOOD])
    board = with_thinker(new_board(model=model))
    await board.publish(A())
    await board.run_until_idle()
    assert "cut off for its length" in model.texts()[-1]
    assert numbers(board, B) == [1]


async def test_a_declared_number_of_outputs_is_asked_for(new_board: Boards) -> None:
    model = Scripted([outputs(), [B(n=1), B(n=2)]])
    board = new_board(model=model)
    board.agent("thinker").consumes(A).publishes(B, fan_out=2)
    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert "0 of type B; exactly 2 is wanted" in model.texts()[-1]


async def test_work_for_an_unknown_phase_is_asked_for_again(new_board: Boards) -> None:
    def work(phase: str) -> WorkDiscovery:
        return WorkDiscovery(description="x", phase=phase, done_definition="y")

    model = Scripted([work("deployment"), work("analysis")])
    board = new_board(model=model, context=PhaseContextProvider(PHASES))
    board.agent("thinker").consumes(A).publishes(WorkDiscovery)
    await board.publish(A())
    await board.run_until_idle()
    assert "'deployment', which is not defined" in model.texts()[1 + 2]
    assert [w.phase for w in board.artifacts(WorkDiscovery).payloads] == ["analysis"]


async def test_after_so_many_useless_replies_the_attempt_fails_and_the_next_one_starts_anew(new_board: Boards) -> None:
    model = Scripted(["no", "never", GOOD])
    board = new_board(model=model, clock=VirtualClock())
    board.agent("thinker").model(ask=Ask(replies=2)).limits(retry=Retry(attempts=2)).consumes(A).publishes(B)
    await board.publish(A())
    assert (await board.run_until_idle()).ok
    [failed] = [e for e in board.events() if isinstance(e, Failed)]
    assert failed.error is not None
    assert (failed.error.type, "no usable reply in 2" in failed.error.message) == (BadReply.__name__, True)
    assert [len(request.messages) for request in model.asked] == [2, 4, 2]
    assert "Your last outputs were refused" in model.texts()[1]
    assert [key for key, _ in effects(board)] == ["model/1", "model/2", "model/3"]


async def test_a_refusal_fails_the_attempt_at_once(new_board: Boards) -> None:
    model = Scripted([Reply(text="I cannot help with that.", finish="refused")])
    board = with_thinker(new_board(model=model))
    await board.publish(A())
    [dead] = (await board.run_until_idle()).left.dead_letters
    assert dead.error is not None
    assert dead.error.message == "scripted refuses to answer 'thinker': I cannot help with that."


async def test_when_the_provider_failed_a_retry_goes_on_with_the_replies_it_has(new_board: Boards) -> None:
    model = Scripted(["no", RateLimited("slowly"), GOOD], cost="0.10")
    board = with_thinker(new_board(model=model, clock=VirtualClock()), retry=Retry(attempts=2))
    await board.publish(A())
    report = await board.run_until_idle()
    assert report.ok
    assert [len(request.messages) for request in model.asked] == [2, 4, 4]
    assert report.cost == Decimal("0.20"), "a refused request costs nothing, and what is bought is not bought again"
    assert effects(board) == [("model/1", "done"), ("model/2", "failed"), ("model/2", "done")]


async def test_a_dead_letter_that_is_tried_again_is_asked_anew(new_board: Boards) -> None:
    model = Scripted(["no", "no", "no", GOOD])
    board = with_thinker(new_board(model=model))
    await board.publish(A())
    [dead] = (await board.run_until_idle()).left.dead_letters
    await board.retry(dead.activation)
    assert (await board.run_until_idle()).ok
    assert [key for key, _ in effects(board)] == ["model/1", "model/2", "model/3", "model/4"]


# -- the seed's workflow -----------------------------------------------------------------------------------------------


def workflow() -> Roster:
    roster = Roster(context=PhaseContextProvider(PHASES))
    roster.agent("analyzer").description("Analyzes problems and creates plans").consumes(
        WorkDiscovery, where={"phase": "analysis"}
    ).publishes(AnalysisResult)
    roster.agent("implementer").description("Implements plans").consumes(
        AnalysisResult, where={"approved": True}
    ).publishes(Implementation)
    roster.agent("validator").description("Validates and discovers").consumes(Implementation).publishes(
        ValidationResult, WorkDiscovery
    )
    return roster


def answer(request: Request) -> list[BaseModel]:
    """A model that plays all three, and discovers one optimisation."""
    system, user = request.messages[0].text, request.messages[1].text
    if 'the agent "analyzer"' in system:
        return [AnalysisResult(plan="Cache" if "Caching" in user.split("besides")[0] else "Build", approved=True)]
    if 'the agent "implementer"' in system:
        return [Implementation(summary="done", files_created=["a.py"])]
    found = WorkDiscovery(description="Caching could help", phase="analysis", done_definition="A plan")
    again = '"description":"Caching' in user
    return [ValidationResult(passed=True, issues=[]), *([] if again else [found])]


async def test_the_three_phase_workflow_is_answered_by_a_model_and_branches(new_board: Boards) -> None:
    model = Scripted(answer, cost="0.01")
    board = new_board(workflow(), model=model)
    await board.publish(WorkDiscovery(description="Build authentication", phase="analysis", done_definition="A plan"))
    report = await board.run_until_idle()
    assert report.ok
    assert (report.done, report.cost) == (6, Decimal("0.06"))
    assert [a.payload.plan for a in board.artifacts(AnalysisResult)] == ["Build", "Cache"]
    assert board.artifacts(ValidationResult).total == 2
    spent = board.fold(Costs())
    assert {name: s.money for name, s in spent.phases.items() if s.tokens or s.money} == {
        "analysis": Decimal("0.02"), "implementation": Decimal("0.02"), "validation": Decimal("0.02"),
    }  # fmt: skip
    assert spent.effects["scripted"].money == Decimal("0.06")
