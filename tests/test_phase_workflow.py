"""The three-phase workflow, wired: a board, agents whose bodies are functions, the phases and the components."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from stigmergy import (
    PHASES,
    AnalysisResult,
    Artifact,
    Blackboard,
    Briefing,
    Completion,
    Component,
    Context,
    ContextRequest,
    Implementation,
    Metrics,
    NestedWork,
    PhaseContextProvider,
    PhaseDefinition,
    PhaseInstructions,
    Report,
    Retry,
    ValidationResult,
    WorkDiscovery,
    WorkflowComplete,
    WorkflowMetrics,
    private,
)
from stigmergy.blackboard.errors import BlockingCycle, UnknownPhase, UnknownWork
from stigmergy.blackboard.events import Activated, Completed, Published
from stigmergy.components import every_phase
from tests.boards import Boards

CACHING = "Caching could speed up all routes"


def work(description: str, phase: str = "analysis", **more: str | list[str]) -> WorkDiscovery:
    fields = {"description": description, "phase": phase, "done_definition": "It is done", **more}
    return WorkDiscovery.model_validate(fields)


SEED = work("Build authentication")


def board_with(new_board: Boards, *, context: PhaseContextProvider | None = None) -> Blackboard:
    """A board with an analyzer, an implementer and a validator that do what the work says.

    "Build authentication" is split in three; whoever validates the login sees that caching would help.
    """
    everything: list[Component[Any]] = [NestedWork(), Completion(every_phase(PHASES)), Metrics()]
    board = new_board(context=context, components=everything)

    @(
        board.agent("analyzer")
        .phase("analysis")
        .consumes(WorkDiscovery, where={"phase": "analysis"})
        .publishes(AnalysisResult)
        .body
    )
    async def analyze(item: WorkDiscovery) -> AnalysisResult:
        parts = ["Login", "Tokens", "Sessions"] if item == SEED else [f"Do: {item.description}"]
        plan = [work(part, "implementation") for part in parts]
        return AnalysisResult(plan=item.description, approved=True, next_phase_work=plan)

    @(
        board.agent("implementer")
        .phase("implementation")
        .consumes(WorkDiscovery, where={"phase": "implementation"})
        .publishes(Implementation)
        .body
    )
    async def implement(item: WorkDiscovery) -> Implementation:
        return Implementation(summary=item.description, files_created=["code.py"], tests_written=["test_code.py"])

    @(
        board.agent("validator")
        .phase("validation")
        .consumes(WorkDiscovery, where={"phase": "validation"})
        .consumes(Implementation)
        .publishes(ValidationResult, WorkDiscovery)
        .body
    )
    async def validate(item: WorkDiscovery | Implementation) -> list[ValidationResult | WorkDiscovery]:
        found = [work(CACHING)] if isinstance(item, Implementation) and item.summary == "Login" else []
        return [ValidationResult(passed=True, optimizations_discovered=found), *found]

    return board


def parents(board: Blackboard) -> dict[int, tuple[int, ...]]:
    """Artifact -> the artifacts that it follows from, read from the log alone."""
    inputs = {e.seq: tuple(e.inputs) for e in board.events() if isinstance(e, Activated)}
    published = [e for e in board.events() if isinstance(e, Published)]
    return {e.seq: inputs.get(e.cause, (e.cause,) if e.cause else ()) for e in published}


def line_of(board: Blackboard, id_: int) -> list[str]:
    """What an artifact descends from, root first."""
    up, line = parents(board), [id_]
    while up[line[-1]]:
        line.append(up[line[-1]][0])
    return [board.get(i).type_name for i in reversed(line)]


# -- the workflow -----------------------------------------------------------------------------------------------------


@pytest.mark.req("S3.21", "S3.2", "S3.63")
def test_a_workflow_emerges_from_subscriptions_alone_and_branches_where_something_is_found(new_board: Boards) -> None:
    board = board_with(new_board)
    report = board.run_sync(SEED)
    assert report.reason == "idle"
    assert report.ok
    found = board.artifacts(WorkDiscovery, where={"description": CACHING})
    assert [a.producer for a in found] == ["validator"]
    assert line_of(board, found[0].id) == [
        "WorkDiscovery", "AnalysisResult", "WorkDiscovery", "Implementation", "WorkDiscovery",
    ]  # fmt: skip


@pytest.mark.req("S3.3", "S3.64")
def test_one_seed_becomes_three_parts_and_a_branch_of_its_own_and_ends_complete(new_board: Boards) -> None:
    board = board_with(new_board)
    board.run_sync(SEED)
    built = [a.payload.summary for a in board.artifacts(Implementation)]
    assert sorted(built) == [f"Do: {CACHING}", "Login", "Sessions", "Tokens"]
    assert board.artifacts(AnalysisResult).total == 2
    assert board.artifacts(ValidationResult).total == 4
    branch = board.artifacts(ValidationResult)[-1]
    assert line_of(board, branch.id) == [
        "WorkDiscovery", "AnalysisResult", "WorkDiscovery", "Implementation", "WorkDiscovery",
        "AnalysisResult", "WorkDiscovery", "Implementation", "ValidationResult",
    ]  # fmt: skip
    assert board.artifacts(WorkflowComplete).total == 1


@pytest.mark.req("S3.1")
@pytest.mark.parametrize(("phase", "steps"), [("validation", 1), ("implementation", 2), ("analysis", 3)])
def test_work_can_enter_any_phase_first(new_board: Boards, phase: str, steps: int) -> None:
    board = board_with(new_board)
    report = board.run_sync(work("Fix the login", phase))
    assert report.ok
    assert report.done == steps
    assert board.artifacts(ValidationResult).total == 1


@pytest.mark.req("S3.12")
@pytest.mark.parametrize("returned_first", [True, False])
def test_work_that_is_listed_and_returned_is_on_the_board_once(new_board: Boards, returned_first: bool) -> None:
    board = new_board(components=[NestedWork()])
    both, only_listed = work("Both"), work("Listed only")

    @board.agent("validator").consumes(Implementation).publishes(ValidationResult, WorkDiscovery).body
    async def validate(built: Implementation) -> Sequence[ValidationResult | WorkDiscovery]:
        result = ValidationResult(passed=True, optimizations_discovered=[both, only_listed])
        return [both, result] if returned_first else [result, both]

    board.run_sync(Implementation(summary="s", files_created=[]))
    discoveries = board.artifacts(WorkDiscovery)
    assert sorted(a.payload.description for a in discoveries) == ["Both", "Listed only"]
    made_up = next(a for a in discoveries if a.payload == only_listed)
    assert made_up.cause == board.artifacts(ValidationResult)[0].id
    assert made_up.depth == board.artifacts(ValidationResult)[0].depth


@pytest.mark.req("S3.18")
def test_a_plan_that_is_not_approved_stops_its_branch_and_is_reported(new_board: Boards) -> None:
    board = new_board(components=[NestedWork()])

    @board.agent("analyzer").consumes(WorkDiscovery).publishes(AnalysisResult).body
    async def analyze(item: WorkDiscovery) -> AnalysisResult:
        return AnalysisResult(plan="Rather not", approved=False, next_phase_work=[work("Login", "implementation")])

    @(board.agent("implementer").consumes(AnalysisResult, where={"approved": True}).publishes(Implementation).body)
    async def implement(plan: AnalysisResult) -> Implementation:
        return Implementation(summary=plan.plan, files_created=[])

    report = board.run_sync(SEED)
    assert board.artifacts(Implementation).total == 0
    assert board.artifacts(WorkDiscovery).total == 1
    assert [o.id for o in report.left.no_consumer] == [board.artifacts(AnalysisResult)[0].id]


@pytest.mark.req("S3.22")
def test_every_phase_has_a_consumer_and_work_of_a_phase_without_one_is_reported(new_board: Boards) -> None:
    phases = PHASES | {"deployment": deployment()}
    board = board_with(new_board, context=PhaseContextProvider(phases))

    report = board.run_sync(*(work("x", phase) for phase in PHASES), work("Ship it", "deployment"))
    assert '(phase "deployment")' in str(report)
    orphans = [o.id for o in report.left.no_consumer]
    assert [board.get(id_).payload for id_ in orphans] == [work("Ship it", "deployment")]
    assert board.artifacts(WorkflowComplete).total == 0


def deployment() -> PhaseDefinition:
    return PhaseDefinition(
        name="deployment",
        description="Bring it to its users",
        done_definitions=["It runs"],
        additional_notes="YOU ARE A DEPLOYMENT AGENT",
        expected_outputs=["A release"],
    )


@pytest.mark.req("S3.76")
def test_a_phase_of_ones_own_needs_a_definition_and_an_agent_and_nothing_else(new_board: Boards) -> None:
    class Release(BaseModel):
        version: str

    told: list[BaseModel] = []
    board = new_board(context=PhaseContextProvider(PHASES | {"deployment": deployment()}), components=[Completion()])

    @board.agent("shipper").consumes(WorkDiscovery, where={"phase": "deployment"}).publishes(Release).body
    async def ship(item: WorkDiscovery, ctx: Context) -> Release:
        told.extend(ctx.instructions)
        return Release(version="1.0")

    board.run_sync(work("Ship it", "deployment"))
    assert [i.phase_name for i in told if isinstance(i, PhaseInstructions)] == ["deployment"]
    assert board.one(Release).version == "1.0"
    assert board.artifacts(WorkflowComplete).total == 1


# -- completion and metrics -------------------------------------------------------------------------------------------


@pytest.mark.req("S3.14", "S3.35", "S3.36")
def test_completion_is_published_once_and_only_when_every_phase_has_done_its_part(new_board: Boards) -> None:
    board = board_with(new_board)

    async def main() -> None:
        await board.publish(work("Fix the login", "implementation"))
        await board.run_until_idle()
        assert board.artifacts(WorkflowComplete).total == 0
        await board.publish(SEED)
        await board.run_until_idle()
        assert board.artifacts(WorkflowComplete).total == 1
        await board.run_until_idle()
        await board.publish(work("More"))
        await board.run_until_idle()
        assert board.artifacts(WorkflowComplete).total == 1

    asyncio.run(main())
    complete = board.one(WorkflowComplete)
    assert sorted(complete.phases_completed) == ["analysis", "implementation", "validation"]
    events = list(board.events())
    published = next(e.seq for e in events if isinstance(e, Published) and e.type == "WorkflowComplete")
    assert complete.total_work_items == sum(isinstance(e, Completed) for e in events if e.seq < published)
    assert complete.failed_work_items == 0


@pytest.mark.req("S3.15", "S3.39", "S3.40", "S3.41")
def test_metrics_equal_a_recount_of_the_log_and_never_lead_to_metrics(new_board: Boards) -> None:
    board = board_with(new_board)

    async def main() -> list[Report]:
        await board.publish(SEED)
        await board.publish(work("Later", blocking_work_ids=["never"]))
        return [await board.run_until_idle() for _ in range(3)]

    asyncio.run(main())
    (metrics,) = board.artifacts(WorkflowMetrics).payloads
    assert metrics.total_discoveries == board.artifacts(WorkDiscovery).total
    assert metrics.completed_work == sum(isinstance(e, Completed) for e in board.events())
    assert metrics.active_phases == ["analysis"]
    assert metrics.blocked_work == len(metrics.blocked_by) == 1
    assert metrics.blocked_by == ["never"]
    assert board.artifacts(WorkflowComplete).total == 0


@pytest.mark.req("S3.51")
def test_blocked_work_starts_when_what_it_waits_for_is_done(new_board: Boards) -> None:
    board = new_board(components=[Metrics(every=1)])
    order: list[str] = []

    @board.agent("analyzer").consumes(WorkDiscovery).publishes(AnalysisResult).body
    async def analyze(item: WorkDiscovery) -> AnalysisResult:
        order.append(item.description)
        return AnalysisResult(plan=item.description, approved=True)

    board.run_sync(
        work("third", blocking_work_ids=["w1", "w2"]), work("first", work_id="w1"), work("second", work_id="w2")
    )
    assert order == ["first", "second", "third"]
    waiting = [m.blocked_by for m in board.artifacts(WorkflowMetrics).payloads]
    assert ["w1", "w2"] in waiting
    assert waiting[-1] == []


@pytest.mark.req("S3.51")
def test_work_whose_blocker_fails_ends_with_it_and_a_circle_is_refused(new_board: Boards) -> None:
    board = new_board()

    @board.agent("analyzer").consumes(WorkDiscovery).publishes(AnalysisResult).body
    async def analyze(item: WorkDiscovery) -> AnalysisResult:
        raise RuntimeError("cannot be understood")

    with pytest.raises(BlockingCycle, match=r"a -> b -> a|b -> a -> b"):
        board.run_sync(work("x", work_id="a", blocking_work_ids=["b"]), work("y", work_id="b", blocking_work_ids=["a"]))
    report = board.run_sync(work("first", work_id="w1"), work("second", blocking_work_ids=["w1"]))
    assert (report.dead, report.blocker_failed) == (1, 1)


@pytest.mark.req("S3.8")
def test_a_parent_must_exist(new_board: Boards) -> None:
    board = new_board()
    board.run_sync(work("Parent", work_id="w1"), work("Child", parent_work_id="w1"))
    with pytest.raises(UnknownWork, match="'w2'"):
        board.run_sync(work("Orphan", parent_work_id="w2"))
    assert board.artifacts().total == 2


# -- instructions -----------------------------------------------------------------------------------------------------


class Brief(BaseModel):
    agent: str
    phase: str | None
    notes: str
    past: list[str]


@pytest.mark.req("S3.26", "S3.28")
def test_every_activation_is_told_the_instructions_of_its_phase_first(new_board: Boards) -> None:
    asked: list[str] = []

    class Counting(PhaseContextProvider):
        async def provide(self, request: ContextRequest, /) -> Briefing:
            asked.append(request.agent_name)
            return await super().provide(request)

    board = new_board(context=Counting(PHASES))

    def briefed(ctx: Context) -> Brief:
        told = ctx.instructions[0] if ctx.instructions else None
        phase, notes = (told.phase_name, told.additional_notes) if isinstance(told, PhaseInstructions) else (None, "")
        return Brief(agent=ctx.agent_name, phase=phase, notes=notes, past=[a.ref for a in ctx.past])

    @board.agent("planner").consumes(WorkDiscovery, where={"phase": "analysis"}).publishes(AnalysisResult, Brief).body
    async def plan(item: WorkDiscovery, ctx: Context) -> Sequence[AnalysisResult | Brief]:
        return [AnalysisResult(plan="p", approved=True), briefed(ctx)]

    @board.agent("builder").consumes(AnalysisResult).publishes(Implementation, Brief).body
    async def build(item: AnalysisResult, ctx: Context) -> Sequence[Implementation | Brief]:
        return [Implementation(summary="s", files_created=[]), briefed(ctx)]

    @board.agent("logger").consumes(WorkDiscovery).publishes(Brief).body
    async def log(item: WorkDiscovery, ctx: Context) -> Brief:
        return briefed(ctx)

    board.run_sync(SEED)
    assert sorted(asked) == ["builder", "logger", "planner"]
    told = {b.agent: b for b in board.artifacts(Brief).payloads}
    assert (told["planner"].phase, told["builder"].phase, told["logger"].phase) == ("analysis", "implementation", None)
    assert told["planner"].notes.startswith("YOU ARE AN ANALYSIS AGENT")
    assert 'create a work discovery of phase "analysis"' in told["builder"].notes
    assert f"- validation: {PHASES['validation'].description}" in told["builder"].notes
    assert board.artifacts(WorkDiscovery)[0].ref in told["builder"].past


@pytest.mark.req("S3.29")
def test_history_is_bounded_and_in_log_order(new_board: Boards) -> None:
    board = new_board(context=PhaseContextProvider(PHASES, limit=4))
    seen: list[list[int]] = []

    @board.agent("validator").consumes(Implementation).publishes(ValidationResult).body
    async def validate(built: Implementation, ctx: Context) -> ValidationResult:
        seen.append([a.id for a in ctx.past])
        return ValidationResult(passed=True)

    board.run_sync(*(work(f"w{i}") for i in range(9)), Implementation(summary="s", files_created=[]))
    ids = [a.id for a in board.artifacts(WorkDiscovery)]
    assert seen == [ids[-4:]]


@pytest.mark.req("S3.30")
def test_an_agent_may_have_a_context_provider_of_its_own(new_board: Boards) -> None:
    class Terse:
        async def provide(self, request: ContextRequest, /) -> Briefing:
            return Briefing((SEED,), ())

    board = new_board(context=PhaseContextProvider(PHASES))
    told: dict[str, list[str]] = {}

    def note(ctx: Context) -> None:
        told[ctx.agent_name] = [type(i).__name__ for i in ctx.instructions]

    @board.agent("analyzer").consumes(WorkDiscovery).publishes(AnalysisResult).body
    async def analyze(item: WorkDiscovery, ctx: Context) -> None:
        note(ctx)

    @board.agent("other_analyzer").consumes(WorkDiscovery).publishes(AnalysisResult).context(Terse()).body
    async def analyze_tersely(item: WorkDiscovery, ctx: Context) -> None:
        note(ctx)

    board.run_sync(SEED)
    assert told == {"analyzer": ["PhaseInstructions"], "other_analyzer": ["WorkDiscovery"]}


@pytest.mark.req("S3.32")
@pytest.mark.parametrize("leaks", [False, True])
def test_no_provider_can_show_what_an_agent_may_not_see(new_board: Boards, leaks: bool) -> None:
    smuggled: list[Artifact[WorkDiscovery]] = []
    seen: list[str] = []

    class Leaky(PhaseContextProvider):
        async def provide(self, request: ContextRequest, /) -> Briefing:
            briefing = await super().provide(request)
            return Briefing(briefing.instructions, (*briefing.artifacts, *smuggled))

    board = new_board(context=Leaky(PHASES) if leaks else PhaseContextProvider(PHASES))

    @board.agent("validator").consumes(Implementation).publishes(ValidationResult).body
    async def validate(built: Implementation, ctx: Context) -> None:
        seen.extend(a.payload.description for a in ctx.past)

    async def main() -> None:
        smuggled.append(await board.publish(work("Secret"), visibility=private("auditor")))
        await board.publish(work("Open"))
        await board.publish(Implementation(summary="s", files_created=[]))
        await board.run_until_idle()

    asyncio.run(main())
    assert seen == ["Open"]


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "item", [work("x", "analysys"), AnalysisResult(plan="p", approved=True, next_phase_work=[work("x", "analysys")])]
)
def test_work_for_an_unknown_phase_is_refused_and_nothing_is_published(new_board: Boards, item: BaseModel) -> None:
    board = board_with(new_board, context=PhaseContextProvider(PHASES))
    with pytest.raises(UnknownPhase, match="Did you mean 'analysis'"):
        board.run_sync(SEED, item)
    assert board.artifacts().total == 0
    for wrong in ({"description": ""}, {"description": "x" * 10_001}):
        with pytest.raises(ValidationError):
            WorkDiscovery.model_validate(SEED.model_dump() | wrong)


def test_an_agent_that_lists_work_under_an_unknown_parent_is_told_and_tries_again(new_board: Boards) -> None:
    board = new_board(components=[NestedWork()])
    feedback: list[str] = []

    @(
        board.agent("validator")
        .consumes(Implementation)
        .publishes(ValidationResult)
        .limits(retry=Retry(attempts=2, backoff=0.0))
        .body
    )
    async def validate(built: Implementation, ctx: Context) -> ValidationResult:
        feedback.append(ctx.feedback)
        parent = {"parent_work_id": "made-up"} if ctx.attempt == 1 else {}
        return ValidationResult(passed=True, optimizations_discovered=[work("Cache", **parent)])

    report = board.run_sync(Implementation(summary="s", files_created=[]))
    assert report.ok
    assert "has parent_work_id 'made-up', and this run has no such work" in feedback[1]
    assert board.one(WorkDiscovery).description == "Cache"


def test_an_agent_that_returns_work_for_an_unknown_phase_fails(new_board: Boards) -> None:
    board = new_board(context=PhaseContextProvider(PHASES), components=[NestedWork()])

    @board.agent("validator").consumes(Implementation).publishes(ValidationResult, WorkDiscovery).body
    async def validate(built: Implementation) -> ValidationResult | WorkDiscovery:
        wrong = work("x", "analysys")
        return wrong if built.summary == "returned" else ValidationResult(passed=True, optimizations_discovered=[wrong])

    report = board.run_sync(*(Implementation(summary=s, files_created=[]) for s in ("returned", "listed")))
    assert [d.error.type for d in report.left.dead_letters if d.error] == ["UnknownPhase", "UnknownPhase"]
    assert board.artifacts(WorkDiscovery).total == 0
