"""Phases, the artifacts of work, and what agents are told. Folded by hand; the wired workflow is elsewhere."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel, ValidationError

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.briefing import Briefing
from stigmergy.blackboard.component import ACCEPT, ActivationRequest, Publish, Reject
from stigmergy.blackboard.definitions import AgentSpec, Slot, Subscription, Where
from stigmergy.blackboard.errors import DefinitionError, UnknownPhase
from stigmergy.blackboard.events import Completed, Released, Visibility, Withdrawn
from stigmergy.phases import (
    PHASES,
    AnalysisResult,
    Implementation,
    NestedWork,
    PhaseContextProvider,
    PhaseDefinition,
    PhaseInstructions,
    ValidationResult,
    WorkDiscovery,
    check_phase,
    nested_work,
    phase_of,
)
from tests.hand_made import HandMadeLog

M = TypeVar("M", bound=BaseModel)
DEPLOYMENT = PhaseDefinition(
    name="deployment", description="Bring it to its users", done_definitions=["It runs"], expected_outputs=["A release"]
)


def work(description: str = "Cache the routes", phase: str = "analysis", **more: Any) -> WorkDiscovery:
    return WorkDiscovery(description=description, phase=phase, done_definition="A plan exists", **more)


# -- definitions ------------------------------------------------------------------------------------------------------


def test_the_default_phases_are_complete_definitions_under_their_own_names() -> None:
    assert list(PHASES) == ["analysis", "implementation", "validation"]
    for name, phase in PHASES.items():
        assert phase.name == name
        assert re.match(rf"YOU ARE AN? {name.upper()} AGENT\n", phase.additional_notes)
        assert len(phase.done_definitions) == 3
        assert phase.expected_outputs


def test_a_further_phase_needs_only_its_definition() -> None:
    phases = PHASES | {"deployment": DEPLOYMENT}
    assert list(phases) == ["analysis", "implementation", "validation", "deployment"]
    check_phase(work(phase="deployment"), phases)
    assert phase_of(AgentSpec("deployer"), phases) == "deployment"
    assert "deployment" not in PHASES


def test_the_default_phases_cannot_be_changed_for_everybody() -> None:
    with pytest.raises(TypeError):
        PHASES["deployment"] = DEPLOYMENT  # type: ignore[index]


@pytest.mark.parametrize(
    ("phases", "options", "complaint"),
    [
        ([DEPLOYMENT], {}, "given by name"),
        ({"deployment": "Bring it to its users"}, {}, "given by name"),
        (PHASES, {"limit": -1}, "cannot show -1 artifacts"),
        (PHASES, {"limit": "5"}, "cannot show '5' artifacts"),
        (PHASES, {"limit": None}, "cannot show None artifacts"),
        (PHASES, {"artifacts": ValidationResult}, "give a list of types"),
        (PHASES, {"artifacts": ["ValidationResult"]}, "no artifact type"),
    ],
)
def test_a_provider_that_cannot_work_is_refused_in_words(phases: Any, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DefinitionError, match=complaint):
        PhaseContextProvider(phases, **options)


@pytest.mark.parametrize("name", ["", " ", "x" * 201])
def test_a_phase_has_a_name_that_work_can_name(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        PhaseDefinition(name=name, description="d", done_definitions=[], expected_outputs=[])


def test_a_phase_under_a_foreign_name_is_refused() -> None:
    with pytest.raises(DefinitionError, match='phase "deployment" stands under the key "release"'):
        PhaseContextProvider({"release": DEPLOYMENT})


# -- artifacts --------------------------------------------------------------------------------------------------------


def test_work_has_the_defaults_of_somebody_who_only_describes_it() -> None:
    item = WorkDiscovery(description="Build authentication", phase="analysis", done_definition="A plan exists")
    assert item.priority == "medium"
    assert item.discovered_by == "user"
    assert (item.work_id, item.parent_work_id) == (None, None)
    assert (item.blocking_work_ids, item.tags, item.metadata) == ([], [], {})


def test_defaults_are_not_shared_between_discoveries() -> None:
    first, second = work(), work()
    first.tags.append("ops")
    first.metadata["seen"] = True
    first.blocking_work_ids.append("w1")
    assert (second.tags, second.metadata, second.blocking_work_ids) == ([], {}, [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"description": ""},
        {"description": " \n"},
        {"description": "x" * 10_001},
        {"phase": ""},
        {"phase": " "},
        {"done_definition": ""},
        {"priority": "urgent"},
        {"priorty": "high"},
    ],
)
def test_unusable_work_is_refused(wrong: dict[str, str]) -> None:
    good = {"description": "Build it", "phase": "analysis", "done_definition": "It is built"}
    WorkDiscovery.model_validate(good)
    with pytest.raises(ValidationError):
        WorkDiscovery.model_validate(good | wrong)


@pytest.mark.parametrize(
    "names",
    [
        ("summary", "files_created", "tests_written"),
        ("summary", "code_files", "test_files"),
        ("code_summary", "files_created", "test_files"),
    ],
)
def test_an_implementation_is_read_under_all_its_names_and_written_under_one(names: tuple[str, str, str]) -> None:
    given = dict(zip(names, ("OAuth login", ["auth.py"], ["test_auth.py"]), strict=True))
    implementation = Implementation.model_validate(given)
    assert implementation.summary == "OAuth login"
    assert implementation.files_created == ["auth.py"]
    assert implementation.tests_written == ["test_auth.py"]
    assert {"summary", "files_created", "tests_written"} <= implementation.model_dump(by_alias=True).keys()
    assert not implementation.model_dump(by_alias=True).keys() & {"code_summary", "code_files", "test_files"}
    assert list(Implementation.model_json_schema()["properties"])[:3] == ["summary", "files_created", "tests_written"]


def test_one_thing_under_two_names_is_refused() -> None:
    with pytest.raises(ValidationError, match="code_summary"):
        Implementation.model_validate({"summary": "a", "code_summary": "b", "files_created": []})


@pytest.mark.parametrize(
    "payload",
    [
        work(work_id="w1", blocking_work_ids=["w0"], metadata={"n": [1, None, {"deep": 0.5}]}),
        AnalysisResult(plan="", approved=True, next_phase_work=[work(phase="implementation")]),
        Implementation(summary="s", files_created=["a.py"], discovered_issues=[work()]),
        ValidationResult(passed=False, issues=["slow"], optimizations_discovered=[work()]),
    ],
    ids=lambda p: type(p).__name__,
)
def test_every_artifact_comes_back_from_json_as_it_was(payload: BaseModel) -> None:
    again = type(payload).model_validate_json(payload.model_dump_json(by_alias=True))
    assert again == payload
    assert again.model_dump_json(by_alias=True) == payload.model_dump_json(by_alias=True)


def test_work_for_an_unknown_phase_is_refused_with_the_phase_that_was_meant() -> None:
    with pytest.raises(UnknownPhase, match=r"'analysys', which is not defined\. Did you mean 'analysis'\?"):
        check_phase(work(phase="analysys"), PHASES)
    with pytest.raises(UnknownPhase, match="use analysis, implementation, validation"):
        check_phase(work(phase="deployment"), PHASES)
    with pytest.raises(UnknownPhase, match="AnalysisResult lists work"):
        check_phase(AnalysisResult(plan="p", approved=True, next_phase_work=[work(phase="deployment")]), PHASES)


def test_a_phase_field_of_another_type_is_nobodys_business() -> None:
    class Moon(BaseModel):
        phase: str

    check_phase(Moon(phase="full"), PHASES)


# -- the phase of an agent --------------------------------------------------------------------------------------------


def consumer(name: str, *slots: Slot, phase: str | None = None) -> AgentSpec:
    subscriptions = tuple(Subscription(f"{name}/{i}", (slot,)) for i, slot in enumerate(slots))
    return AgentSpec(name, subscriptions=subscriptions, phase=phase)


def work_in_phase(*phases: str) -> Slot:
    return Slot("WorkDiscovery", WorkDiscovery, where=Where((("phase", phases),)))


@pytest.mark.parametrize(
    ("agent", "phase"),
    [
        (consumer("worker", work_in_phase("validation")), "validation"),
        (consumer("worker", Slot("AnalysisResult", AnalysisResult)), "implementation"),
        (consumer("worker", Slot("Implementation", Implementation)), "validation"),
        (consumer("worker", work_in_phase("implementation"), Slot("AnalysisResult", AnalysisResult)), "implementation"),
        (consumer("validator", work_in_phase("analysis"), phase="validation"), "analysis"),
        (consumer("worker", work_in_phase("analysis", "validation"), phase="validation"), "validation"),
        (consumer("worker", work_in_phase("analysis", "validation"), Slot("AnalysisResult", AnalysisResult)), None),
        (consumer("validator", phase="analysis"), "analysis"),
        (consumer("analyzer"), "analysis"),
        (consumer("code_analysis"), "analysis"),
        (consumer("Implementer-2"), "implementation"),
        (consumer("validator"), "validation"),
        (consumer("worker"), None),
        (consumer("worker", Slot("WorkDiscovery", WorkDiscovery)), None),
        (consumer("analysis_validator"), None),
    ],
)
def test_subscriptions_decide_the_phase_then_configuration_then_the_name(agent: AgentSpec, phase: str | None) -> None:
    assert phase_of(agent, PHASES) == phase
    assert PhaseContextProvider(PHASES).phase_of(agent) == phase


def test_a_short_phase_name_is_not_found_inside_other_words() -> None:
    phases = {"test": DEPLOYMENT.model_copy(update={"name": "test"})}
    assert phase_of(AgentSpec("tester"), phases) == "test"
    assert phase_of(AgentSpec("latest_news"), phases) is None


def test_a_configured_phase_that_does_not_exist_is_an_error_of_the_definition() -> None:
    with pytest.raises(DefinitionError, match=r'agent "worker" .* Did you mean \'analysis\'\?'):
        phase_of(consumer("worker", phase="analysys"), PHASES)


# -- what agents are told ---------------------------------------------------------------------------------------------


@dataclass
class Asked:
    """A request over a few artifacts."""

    agent: AgentSpec
    past: list[Artifact[Any]] = field(default_factory=list)
    descent: list[Artifact[Any]] = field(default_factory=list)
    inputs: Sequence[Artifact[Any]] = ()
    run: str = "main"

    @property
    def agent_name(self) -> str:
        return self.agent.name

    @property
    def phase(self) -> str | None:
        return self.agent.phase

    def ancestors(self, limit: int = 50) -> list[Artifact[Any]]:
        return self.descent[-limit:]

    def artifacts(
        self,
        model: type[M],
        *,
        where: Mapping[str, object] | Callable[[M], bool] | Sequence[Any] | None = None,
        limit: int = 50,
    ) -> list[Artifact[M]]:
        return [a for a in self.past if isinstance(a.payload, model)][-limit:]

    def recent(self, limit: int = 50) -> list[Artifact[Any]]:
        return self.past[-limit:]


def artifact(id_: int, payload: BaseModel | None = None) -> Artifact[Any]:
    payload = payload or work(f"work {id_}")
    return Artifact(id_, payload, type(payload).__name__, 1, "outside", 0, id_, "main", (), "medium", None, 0.0)


async def brief(provider: PhaseContextProvider, request: Asked) -> Briefing:
    return await provider.provide(request)


@pytest.mark.anyio
async def test_an_agent_gets_the_instructions_of_its_phase_and_the_purposes_of_the_others() -> None:
    briefing = await brief(PhaseContextProvider(PHASES), Asked(consumer("validator")))
    (told,) = briefing.instructions
    assert isinstance(told, PhaseInstructions)
    assert told.phase_name == "validation"
    assert told.done_definitions == PHASES["validation"].done_definitions
    assert told.expected_outputs == PHASES["validation"].expected_outputs
    assert "YOU ARE A VALIDATION AGENT" in told.additional_notes
    assert 'Bugs: create a work discovery of phase "implementation"' in told.additional_notes
    assert f"- analysis: {PHASES['analysis'].description}" in told.additional_notes
    assert "- validation:" not in told.additional_notes


@pytest.mark.anyio
async def test_an_agent_without_a_phase_gets_no_instructions_but_its_history() -> None:
    briefing = await brief(PhaseContextProvider(PHASES), Asked(AgentSpec("worker"), past=[artifact(1)]))
    assert briefing.instructions == ()
    assert [a.id for a in briefing.artifacts] == [1]


@pytest.mark.anyio
async def test_history_is_bounded_oldest_first_and_keeps_what_the_inputs_descend_from() -> None:
    past = [artifact(i) for i in range(10, 30)]
    request = Asked(AgentSpec("worker"), past=past, descent=[artifact(2), artifact(12)], inputs=[artifact(29)])
    ids = [a.id for a in (await brief(PhaseContextProvider(PHASES, limit=5), request)).artifacts]
    assert ids == [2, 12, 26, 27, 28]
    assert (await brief(PhaseContextProvider(PHASES, limit=0), request)).artifacts == ()
    assert [a.id for a in (await brief(PhaseContextProvider(PHASES), request)).artifacts] == [2, *range(10, 29)]


@pytest.mark.anyio
async def test_history_can_be_narrowed_to_some_types() -> None:
    result = artifact(11, ValidationResult(passed=True))
    request = Asked(AgentSpec("worker"), past=[artifact(10), result, artifact(12)], descent=[artifact(3)])
    briefing = await brief(PhaseContextProvider(PHASES, artifacts=[ValidationResult]), request)
    assert [a.id for a in briefing.artifacts] == [11]


# -- work inside results ----------------------------------------------------------------------------------------------

CACHE, LIMIT, OTHER = work("Cache"), work("Limit rates"), work("Other", phase="validation")


def test_listed_work_is_added_to_the_outputs_once() -> None:
    result = ValidationResult(passed=True, optimizations_discovered=[CACHE, LIMIT, CACHE])
    assert nested_work([result]) == [result, CACHE, LIMIT]
    assert nested_work([LIMIT, result]) == [LIMIT, result, CACHE]
    assert nested_work([result, CACHE, LIMIT, OTHER]) == [result, CACHE, LIMIT, OTHER]
    assert nested_work([OTHER]) == [OTHER]


def test_work_of_one_name_is_one_work() -> None:
    listed, returned = work("Cache", work_id="w1"), work("Cache", work_id="w1", discovered_by="validator")
    result = ValidationResult(passed=True, optimizations_discovered=[listed])
    assert nested_work([result, returned]) == [result, returned]


def test_a_plan_that_is_not_approved_creates_no_work() -> None:
    plan = AnalysisResult(plan="p", approved=False, next_phase_work=[OTHER])
    assert nested_work([plan]) == [plan]


@pytest.mark.parametrize("returned", [(), (CACHE,), (CACHE, LIMIT), (OTHER,), (OTHER, LIMIT)])
def test_listed_work_is_published_once_in_whatever_order_it_is_returned(returned: tuple[WorkDiscovery, ...]) -> None:
    result = ValidationResult(passed=True, optimizations_discovered=[CACHE, LIMIT])
    for outputs in permutations([result, *returned]):
        log = HandMadeLog(NestedWork())
        seed = log.publish(Implementation(summary="s", files_created=[]))
        activation = log.activate("validator", seed)
        log.claim(activation)
        made_up = log.complete(activation, *outputs)
        assert made_up == [w for w in (CACHE, LIMIT) if w not in returned]


def test_work_published_while_the_agent_ran_is_not_published_again() -> None:
    result = ValidationResult(passed=True, optimizations_discovered=[CACHE, LIMIT])
    for early, late in (((CACHE,), (result,)), ((result,), (CACHE,)), ((result, CACHE), ()), ((), (CACHE, result))):
        log = HandMadeLog(NestedWork())
        activation = log.activate("validator", log.publish(OTHER))
        for payload in early:
            log.publish(payload, "validator", activation)
        assert log.published == []
        assert log.complete(activation, *late) == [LIMIT]


def test_work_listed_in_a_result_that_outlives_its_activation_is_published() -> None:
    log = HandMadeLog(NestedWork())
    activation = log.activate("validator", log.publish(OTHER))
    log.publish(ValidationResult(passed=False, optimizations_discovered=[CACHE]), "validator", activation)
    assert log.end(activation) == [CACHE]


def test_a_result_from_outside_publishes_its_work_at_once() -> None:
    log = HandMadeLog(NestedWork())
    log.publish(ValidationResult(passed=True, optimizations_discovered=[CACHE, LIMIT]))
    assert log.published == [CACHE, LIMIT]


def test_a_held_result_publishes_its_work_when_it_is_released_and_never_when_it_is_withdrawn() -> None:
    result = ValidationResult(passed=True, optimizations_discovered=[CACHE, LIMIT])
    for returned in (False, True):
        log = HandMadeLog(NestedWork())
        ids = []
        for _ in range(2):
            activation = log.activate("validator", log.publish(OTHER))
            log.begin()
            log.observe(Completed(outputs=1 + returned), activation)
            ids.append(log.put(result, "validator", activation, held_by="reviewer"))
            if returned:
                log.put(CACHE, "validator", activation)
            assert log.finish() == []
        assert log.one(Released(by="reviewer"), ids[0]) == ([LIMIT] if returned else [CACHE, LIMIT])
        assert log.one(Withdrawn(by="reviewer"), ids[1]) == []
        assert log.one(Released(by="reviewer"), ids[1]) == []


def test_who_may_not_see_a_result_may_not_see_its_work() -> None:
    log = HandMadeLog(NestedWork())
    result = ValidationResult(passed=True, optimizations_discovered=[CACHE])
    log.begin()
    log.put(result, visibility=Visibility(agents=["auditor"], after=5.0))
    log.put(result, visibility=Visibility(after=5.0))
    log.finish()
    assert [r.visibility for r in log.reactions if isinstance(r, Publish)] == [Visibility(agents=["auditor"]), None]


def test_nothing_is_remembered_of_activations_that_are_over() -> None:
    log = HandMadeLog(NestedWork())
    for _ in range(5):
        activation = log.activate("validator", log.publish(OTHER))
        log.complete(activation, ValidationResult(passed=True, optimizations_discovered=[CACHE]))
    log.publish(OTHER)
    assert (log.state.open, log.state.held, log.state.due) == ({}, {}, {})


@pytest.mark.parametrize(
    ("listed", "complaint"),
    [
        (work(work_id="old"), "already used"),
        (work(parent_work_id="nowhere"), "no such work"),
        (work(work_id="a", blocking_work_ids=["b"]), "waits for itself"),
    ],
)
def test_an_agent_that_lists_impossible_work_is_told_so(listed: WorkDiscovery, complaint: str) -> None:
    component = NestedWork()
    log = HandMadeLog(component)
    log.publish(work(work_id="old"))
    log.publish(work(work_id="b", blocking_work_ids=["a"]))
    request = ActivationRequest(9, "validator", "main", "medium", 0, (1,), 1, None, 0.0)
    verdict = component.review(log.state, request, (ValidationResult(passed=True, optimizations_discovered=[listed]),))
    assert isinstance(verdict, Reject)
    assert verdict.retry
    assert complaint in verdict.feedback
    fine = work(work_id="new", parent_work_id="old", blocking_work_ids=["old", "later"])
    outputs = (ValidationResult(passed=True, optimizations_discovered=[fine]), fine)
    assert component.review(log.state, request, outputs) == ACCEPT
    assert component.review(log.state, request, outputs[:1]) == ACCEPT
