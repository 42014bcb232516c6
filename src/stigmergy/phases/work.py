"""The artifacts of a phase-based workflow: work that was discovered, and the result of each phase."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, JsonValue

from stigmergy.blackboard.errors import UnknownPhase
from stigmergy.phases.phase import unknown


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


Text = Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(_not_blank)]
"""A text that says something and is not a whole file."""


class _Payload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class WorkDiscovery(_Payload):
    """Work that somebody found to be done, in whatever phase.

    Attributes:
        phase: which phase is to do it; checked against the phases of the board when it is published.
        done_definition: how one can tell that it is done.
        discovered_by: the agent that found it; "user" from outside.
        work_id: a name for others to refer to it, chosen by its author; unique in a run.
        parent_work_id: the `work_id` of the work it came up in.
        blocking_work_ids: the `work_id`s of what must be done before this may start.
    """

    description: Text
    phase: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_not_blank)]
    priority: Literal["low", "medium", "high", "critical"] = "medium"
    done_definition: Text
    discovered_by: str = "user"
    work_id: str | None = None
    parent_work_id: str | None = None
    blocking_work_ids: list[str] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)
    metadata: dict[str, JsonValue] = Field(default_factory=dict)


class AnalysisResult(_Payload):
    """A plan, and the work it asks for. The work is published once the plan is approved."""

    plan: str
    approved: bool
    next_phase_work: list[WorkDiscovery] = Field(default_factory=list)
    metadata: dict[str, JsonValue] = Field(default_factory=dict)


class Implementation(_Payload):
    """What was built. `code_summary`, `code_files` and `test_files` are read as well, and never written."""

    summary: str = Field(validation_alias=AliasChoices("summary", "code_summary"))
    files_created: list[str] = Field(validation_alias=AliasChoices("files_created", "code_files"))
    tests_written: list[str] = Field(default_factory=list, validation_alias=AliasChoices("tests_written", "test_files"))
    discovered_issues: list[WorkDiscovery] = Field(default_factory=list)
    metadata: dict[str, JsonValue] = Field(default_factory=dict)


class ValidationResult(_Payload):
    """Whether what was built does what was asked, and what was seen on the way."""

    passed: bool
    issues: list[str] = Field(default_factory=list)
    optimizations_discovered: list[WorkDiscovery] = Field(default_factory=list)
    metadata: dict[str, JsonValue] = Field(default_factory=dict)


def work_in(payload: BaseModel) -> list[WorkDiscovery]:
    """The work listed in the fields of a result, in order, equal ones once; none if it says `approved=False`."""
    if getattr(payload, "approved", True) is False:
        return []
    found: list[WorkDiscovery] = []
    for _, value in payload:
        if isinstance(value, list | tuple):
            found.extend(item for item in value if isinstance(item, WorkDiscovery))
    return _missing(found, ())


def nested_work(outputs: Sequence[BaseModel]) -> list[BaseModel]:
    """The outputs of one activation, and the work listed in them that is not already among them.

    Work with an equal payload, or with the same `work_id`, is the same work: returning a copy beside the list
    publishes it once.
    """
    nested = [work for output in outputs for work in work_in(output)]
    return [*outputs, *_missing(nested, outputs)]


def check_phase(payload: BaseModel, phases: Iterable[str]) -> None:
    """Refuse work for a phase that nobody defined, also when it is listed in a result.

    Raises:
        UnknownPhase: naming the phase meant, if one is close.
    """
    known = list(phases)
    if isinstance(payload, WorkDiscovery) and payload.phase not in known:
        raise UnknownPhase(f"{type(payload).__name__}.phase is {unknown(payload.phase, known)}")
    for work in work_in(payload):
        if work.phase not in known:
            raise UnknownPhase(f"{type(payload).__name__} lists work whose phase is {unknown(work.phase, known)}")


def same_work(a: WorkDiscovery, b: WorkDiscovery) -> bool:
    """Whether two discoveries are one: equal, or of one name."""
    return a == b or (a.work_id is not None and a.work_id == b.work_id)


def _missing(nested: Iterable[WorkDiscovery], present: Iterable[BaseModel]) -> list[WorkDiscovery]:
    known = [work for work in present if isinstance(work, WorkDiscovery)]
    missing: list[WorkDiscovery] = []
    for work in nested:
        if not any(same_work(work, other) for other in known):
            known.append(work)
            missing.append(work)
    return missing
