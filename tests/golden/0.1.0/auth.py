"""A workflow that branches itself: nobody planned the caching. Run it: `python -m examples.auth`.

One seed asks for an authentication system. An analyzer splits it into three parts, which are built and validated in
parallel. One validation discovers that caching would speed up every route: new analysis work, out of which grow an
implementation and a validation of their own. The bodies here are scripted.
"""

from stigmergy import (
    PHASES,
    AnalysisResult,
    Blackboard,
    Implementation,
    PhaseContextProvider,
    Roster,
    ValidationResult,
    WorkDiscovery,
)

SEED = WorkDiscovery(
    description="Build an authentication system with OAuth and JWT",
    phase="analysis",
    done_definition="There is a plan for every part of it",
    work_id="auth",
)
PARTS = {
    "auth": ["OAuth login", "JWT sessions", "Role checks"],
    "caching": ["Token cache for all routes"],
}
CACHING = WorkDiscovery(
    description="Caching verified tokens could speed up all API routes",
    phase="analysis",
    priority="high",
    done_definition="There is a plan for a cache, or a reason against it",
    discovered_by="validator",
    work_id="caching",
    parent_work_id="auth",
)

roster = Roster(context=PhaseContextProvider(PHASES))


def analyze(work: WorkDiscovery) -> list[AnalysisResult | WorkDiscovery]:
    """A plan, and one piece of work for each of its parts."""
    parts = PARTS[str(work.work_id)]
    tasks = [
        WorkDiscovery(
            description=f"Implement: {part}",
            phase="implementation",
            done_definition="It is written, and its tests pass",
            discovered_by="analyzer",
            parent_work_id=work.work_id,
        )
        for part in parts
    ]
    return [AnalysisResult(plan=f"Build in parallel: {', '.join(parts)}", approved=True), *tasks]


async def implement(work: WorkDiscovery) -> Implementation:
    """The part that the task names."""
    part = work.description.removeprefix("Implement: ")
    name = part.lower().replace(" ", "_")
    return Implementation(summary=part, files_created=[f"{name}.py"], tests_written=[f"test_{name}.py"])


async def validate(built: Implementation) -> list[ValidationResult | WorkDiscovery]:
    """Whether it works, and what was noticed on the way."""
    result = ValidationResult(passed=True, metadata={"checked": built.summary})
    noticed = [CACHING] if built.summary == "JWT sessions" else []
    return [result, *noticed]


(
    roster.agent("analyzer")
    .phase("analysis")
    .description("Understands work and splits it into parts")
    .consumes(WorkDiscovery, where={"phase": "analysis"})
    .publishes(AnalysisResult, WorkDiscovery)
    .body(analyze)
)
(
    roster.agent("implementer")
    .phase("implementation")
    .description("Builds one part")
    .consumes(WorkDiscovery, where={"phase": "implementation"})
    .publishes(Implementation)
    .body(implement)
)
(
    roster.agent("validator")
    .phase("validation")
    .description("Checks what was built, and looks further")
    .consumes(Implementation)
    .publishes(ValidationResult, WorkDiscovery)
    .body(validate)
)

if __name__ == "__main__":
    board = Blackboard(roster=roster)
    print(board.run_sync(SEED))
    print()
    print(board.why(board.artifacts(ValidationResult)[-1].id))
