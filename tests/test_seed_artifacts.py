"""The artifacts of the phased workflow, published, consumed and read back, and what is counted of them."""

import json

import pytest
from pydantic import BaseModel, ValidationError

from stigmergy import (
    PHASES,
    AnalysisResult,
    Blackboard,
    Context,
    Costs,
    Implementation,
    PhaseContextProvider,
    PhaseDefinition,
    PhaseInstructions,
    PhaseStatistics,
    Progress,
    StigmergyError,
    ValidationResult,
    WorkDiscovery,
)
from tests.boards import Boards

pytestmark = pytest.mark.anyio


def work(**fields: object) -> WorkDiscovery:
    return WorkDiscovery.model_validate(
        {"description": "Build it", "phase": "analysis", "done_definition": "A plan exists", **fields}
    )


@pytest.mark.req("S3.6", "S3.7", "S3.60")
async def test_a_discovery_has_the_defaults_of_the_seed_and_shares_none(new_board: Boards) -> None:
    board = new_board()
    first, second = await board.publish(work()), await board.publish(work(description="Another"))
    for artifact in (first, second):
        payload = artifact.payload
        assert (payload.priority, payload.discovered_by) == ("medium", "user")
        assert (payload.parent_work_id, payload.blocking_work_ids, payload.tags, payload.metadata) == (None, [], [], {})
    first.payload.tags.append("mine")
    assert second.payload.tags == []
    assert [a.payload.tags for a in board.artifacts(WorkDiscovery)] == [[], []], "the board has a copy of its own"
    for missing in ("description", "phase", "done_definition"):
        fields = {"description": "x", "phase": "analysis", "done_definition": "y"}
        del fields[missing]
        with pytest.raises(ValidationError, match=missing):
            WorkDiscovery.model_validate(fields)
    with pytest.raises(ValidationError, match="priority"):
        work(priority="urgent")


@pytest.mark.req("S3.9", "S3.10", "S3.11")
async def test_results_are_read_back_by_their_canonical_names_however_they_were_written(new_board: Boards) -> None:
    board = new_board()
    seeds = [
        AnalysisResult(plan="A plan", approved=True, next_phase_work=[work(phase="implementation")], metadata={"n": 1}),
        Implementation.model_validate({"code_summary": "Done", "code_files": ["a.py"], "test_files": ["test_a.py"]}),
        ValidationResult(passed=False, issues=["slow"], optimizations_discovered=[work()]),
    ]
    for seed in seeds:
        await board.publish(seed)
    assert [a.payload for a in board.artifacts()] == seeds
    stored = {a.type_name: json.loads(a.payload.model_dump_json()) for a in board.artifacts()}
    assert set(stored["AnalysisResult"]) == {"plan", "approved", "next_phase_work", "metadata"}
    built = stored["Implementation"]
    assert set(built) == {"summary", "files_created", "tests_written", "discovered_issues", "metadata"}
    assert (built["summary"], built["files_created"], built["tests_written"]) == ("Done", ["a.py"], ["test_a.py"])
    assert set(stored["ValidationResult"]) == {"passed", "issues", "optimizations_discovered", "metadata"}


@pytest.mark.req("S3.72")
@pytest.mark.parametrize("bad", [{"description": ""}, {"description": "x" * 10_001}, {"phase": "  "}], ids=str)
async def test_a_discovery_that_says_nothing_or_too_much_is_refused_where_it_is_made(bad: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=next(iter(bad))):
        work(**bad)


@pytest.mark.req("S3.72")
async def test_a_discovery_for_an_unknown_phase_is_refused_and_the_board_stays_as_it_was(new_board: Boards) -> None:
    board = new_board(context=PhaseContextProvider(PHASES))
    with pytest.raises(StigmergyError, match="Did you mean 'analysis'"):
        await board.publish(work(phase="analisys"))
    await board.publish(work())
    assert board.artifacts().total == 1


def staffed(board: Blackboard, told: dict[str, tuple[BaseModel, ...]]) -> None:
    """An agent for every way in which an agent's phase is known, and one of which nothing is known."""

    def note(ctx: Context) -> None:
        told[ctx.agent_name] = ctx.instructions

    board.agent("somebody").consumes(WorkDiscovery, where={"phase": "validation"}).body(note)
    board.agent("someone").phase("implementation").consumes(WorkDiscovery).body(note)
    board.agent("analyzer").consumes(WorkDiscovery).body(note)
    board.agent("nobody").consumes(WorkDiscovery).body(note)


@pytest.mark.req("S3.4", "S3.5", "S3.13", "S3.27", "S3.28")
async def test_an_agents_phase_comes_from_its_subscriptions_its_configuration_or_its_name(new_board: Boards) -> None:
    told: dict[str, tuple[BaseModel, ...]] = {}
    board = new_board(context=PhaseContextProvider(PHASES))
    staffed(board, told)
    await board.publish(work(phase="validation"))
    assert (await board.run_until_idle()).ok
    phases = {}
    for name, given in told.items():
        first = given[0] if given else None
        assert first is None or isinstance(first, PhaseInstructions)
        phases[name] = first.phase_name if first is not None else None
    assert phases == {
        "somebody": "validation", "someone": "implementation", "analyzer": "analysis", "nobody": None,
    }  # fmt: skip
    instructions = told["someone"][0]
    assert isinstance(instructions, PhaseInstructions)
    definition = PHASES["implementation"]
    assert instructions.description == definition.description
    assert instructions.done_definitions == definition.done_definitions
    assert instructions.expected_outputs == definition.expected_outputs


async def test_an_agent_is_counted_in_the_phase_whose_instructions_it_gets(new_board: Boards) -> None:
    told: list[object] = []
    board = new_board(context=PhaseContextProvider(PHASES))

    def note(ctx: Context) -> None:
        told.append(ctx.instructions[0])

    board.agent("worker").phase("validation").consumes(WorkDiscovery, where={"phase": "analysis"}).body(note)
    board.agent("other").phase("validation").consumes(WorkDiscovery).body(note)
    await board.publish(work())
    report = await board.run_until_idle()
    assert {i.phase_name for i in told if isinstance(i, PhaseInstructions)} == {"analysis", "validation"}
    assert {line.name: line.phase for line in report.agents} == {"worker": "analysis", "other": "validation"}
    phases = board.fold(PhaseStatistics()).work.phases
    assert (phases["analysis"].completed, phases["validation"].completed) == (1, 1)


async def test_an_agent_of_an_unknown_phase_is_refused_before_anything_is_published(new_board: Boards) -> None:
    board = new_board(context=PhaseContextProvider(PHASES))
    board.agent("worker").phase("analysys").consumes(WorkDiscovery).body(lambda work: None)
    for _ in range(2):
        with pytest.raises(StigmergyError, match=r'agent "worker" .* Did you mean \'analysis\'\?'):
            await board.publish(work())
    assert board.artifacts().total == 0


@pytest.mark.req("S3.31")
async def test_agents_are_told_who_they_are_and_where_bugs_and_optimisations_go(new_board: Boards) -> None:
    told: dict[str, tuple[BaseModel, ...]] = {}
    board = new_board(context=PhaseContextProvider(PHASES))
    staffed(board, told)
    await board.publish(work(phase="validation"))
    await board.run_until_idle()
    for name, who in (("somebody", "VALIDATION"), ("someone", "IMPLEMENTATION"), ("analyzer", "ANALYSIS")):
        instructions = told[name][0]
        assert isinstance(instructions, PhaseInstructions)
        assert (
            f"YOU ARE AN {who} AGENT" in instructions.additional_notes
            or f"A {who} AGENT" in instructions.additional_notes
        )
    validation = told["somebody"][0]
    assert isinstance(validation, PhaseInstructions)
    assert '"analysis"' in validation.additional_notes
    assert '"implementation"' in validation.additional_notes


@pytest.mark.req("S3.34", "S3.53", "S3.68", "S3.69")
async def test_any_view_can_fold_statistics_costs_and_progress_out_of_the_log(new_board: Boards) -> None:
    board = new_board(context=PhaseContextProvider(PHASES))

    @board.agent(phase="analysis")
    async def analyzer(plan: WorkDiscovery) -> AnalysisResult | None:
        return AnalysisResult(plan="A plan", approved=True) if plan.phase == "analysis" else None

    @board.agent
    async def implementer(plan: AnalysisResult) -> Implementation:
        return Implementation(summary="Done", files_created=["a.py"])

    @board.agent
    async def validator(built: Implementation) -> ValidationResult:
        return ValidationResult(passed=True)

    seed = await board.publish(work(work_id="w1"))
    assert (await board.run_until_idle()).ok
    statistics = board.fold(PhaseStatistics(PHASES))
    assert {agent: timing.count for agent, timing in statistics.agents.items()} == {
        "analyzer": 1, "implementer": 1, "validator": 1,
    }  # fmt: skip
    assert all(timing.p95 >= 0 and timing.mean >= 0 for timing in statistics.agents.values())
    assert statistics.transitions
    phases = statistics.work.phases
    assert set(phases) >= set(PHASES)
    assert phases["analysis"].completed == 1
    assert all(counts.active == counts.pending == 0 for counts in phases.values())
    assert board.fold(Costs()).total.attempts == 3
    assert board.fold(Progress()).agents["validator"].done == 1
    before = board.at(seed.id)
    assert before.fold(Costs()).total.attempts == 0
    tree = str(board.why(board.artifacts(ValidationResult)[0].id))
    assert [name in tree for name in ("Implementation@", "AnalysisResult@", f"WorkDiscovery@{seed.id}")] == [True] * 3


@pytest.mark.req("S3.4")
def test_a_phase_definition_says_what_when_and_what_comes_of_it() -> None:
    assert set(PhaseDefinition.model_fields) == {
        "name", "description", "done_definitions", "additional_notes", "expected_outputs", "tools",
    }  # fmt: skip
    with pytest.raises(ValidationError, match="description"):
        PhaseDefinition.model_validate({"name": "x", "done_definitions": [], "expected_outputs": []})
