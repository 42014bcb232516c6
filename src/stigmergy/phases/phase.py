"""Phases: categories of work, not steps. A phase is a small value; nothing else is needed to add one."""

import difflib
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field

from stigmergy.blackboard.definitions import AgentSpec, Subscription
from stigmergy.blackboard.errors import DefinitionError


class PhaseDefinition(BaseModel):
    """What a category of work is for, and when work of it is done.

    Attributes:
        name: what work names in its `phase`, and the key in a mapping of phases.
        description: the purpose in one sentence; agents of the other phases are told it too.
        done_definitions: what must hold before work of this phase counts as done.
        additional_notes: instructions for the agents of this phase.
        expected_outputs: what the phase leaves on the board.
        tools: names of the tools that models of this phase may call; None = all that their agents have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200, pattern=r"\S")
    description: str
    done_definitions: list[str]
    additional_notes: str = ""
    expected_outputs: list[str]
    tools: tuple[str, ...] | None = None


class PhaseInstructions(BaseModel):
    """What an agent is told of the phase it works in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phase_name: str
    description: str
    done_definitions: list[str]
    additional_notes: str = ""
    expected_outputs: list[str] = []


_ANALYSIS = """\
YOU ARE AN ANALYSIS AGENT

1. Read the work you were given until you could explain it to somebody else.
2. Split it into parts that can be built independently of each other.
3. Write a plan that somebody who has not read the work could follow.
4. Create one work discovery of phase "implementation" for every part.

If you come across something worth improving, or a problem that is not part of this work, do not solve it here:
create a work discovery of phase "analysis", so that it is investigated for itself."""

_IMPLEMENTATION = """\
YOU ARE AN IMPLEMENTATION AGENT

1. Read the plan carefully before you change anything.
2. Build what the plan says.
3. Write tests that would fail without your change.
4. Create a work discovery of phase "validation" for what you built.

If you come across an issue while building, do not work around it: create a work discovery of phase "analysis",
so that its cause is investigated."""

_VALIDATION = """\
YOU ARE A VALIDATION AGENT

1. Run all the tests, and those that are missing.
2. Check the result against what the work asked for, not against what was built.
3. Write down every issue with what it takes to see it.
4. Look for improvements that reach beyond this work.

Bugs: create a work discovery of phase "implementation", so that they are fixed.
Optimisations and improvements: create a work discovery of phase "analysis", so that they are investigated."""

PHASES: MappingProxyType[str, PhaseDefinition] = MappingProxyType(
    {
        phase.name: phase
        for phase in (
            PhaseDefinition(
                name="analysis",
                description="Understand problems and make plans for solving them",
                done_definitions=[
                    "The problem is understood and written down",
                    "There is an implementation plan",
                    "Implementation work has been created",
                ],
                additional_notes=_ANALYSIS,
                expected_outputs=["Analysis document", "Implementation plan", "Work discoveries"],
            ),
            PhaseDefinition(
                name="implementation",
                description="Build solutions that follow a plan",
                done_definitions=[
                    "The code is written",
                    "Tests are written and pass",
                    "Validation work has been created",
                ],
                additional_notes=_IMPLEMENTATION,
                expected_outputs=["Code files", "Test files", "Validation work discovery"],
            ),
            PhaseDefinition(
                name="validation",
                description="Test solutions and verify that they do what was asked",
                done_definitions=[
                    "All tests pass",
                    "There is a validation report",
                    "Issues are written down, if there are any",
                ],
                additional_notes=_VALIDATION,
                expected_outputs=["Test results", "Validation report", "Work discoveries"],
            ),
        )
    }
)
"""Analysis, implementation, validation. Another phase needs a definition and nothing else:
`PHASES | {"deployment": PhaseDefinition(name="deployment", …)}`."""

_FOLLOWS = {"AnalysisResult": "implementation", "Implementation": "validation"}
"""Who consumes this type, and not only work discoveries, works in this phase."""


def phase_of(agent: AgentSpec, phases: Mapping[str, PhaseDefinition]) -> str | None:
    """The phase an agent works in, or None if nothing says so.

    Its subscriptions decide (`where={"phase": "analysis"}`, or the results of the phase before), then its own
    configuration, then its name ("analyzer" works in "analysis").

    Raises:
        DefinitionError: it is configured for a phase that is not among `phases`.
    """
    return resolve(agent.name, agent.subscriptions, agent.phase, phases)


def resolve(
    name: str,
    subscriptions: Iterable[Subscription],
    configured: str | None,
    phases: Mapping[str, PhaseDefinition],
) -> str | None:
    """`phase_of`, for a configuration that does not stand in the agent's spec."""
    if configured is not None and configured not in phases:
        raise DefinitionError(f'agent "{name}" is configured for phase {unknown(configured, phases)}')
    return _by_subscriptions(tuple(subscriptions), phases) or configured or _by_name(name, phases)


def unknown(phase: str, phases: Iterable[str]) -> str:
    """The rest of a sentence about a phase that is not defined: the fact and the way out."""
    known = list(phases)
    close = difflib.get_close_matches(phase, known, n=1)
    way_out = f"Did you mean {close[0]!r}?" if close else f"Add a PhaseDefinition for it, or use {', '.join(known)}."
    return f"{phase!r}, which is not defined. {way_out}"


def _by_subscriptions(subscriptions: tuple[Subscription, ...], phases: Mapping[str, PhaseDefinition]) -> str | None:
    slots = [slot for subscription in subscriptions for slot in subscription.slots]
    named = {
        str(value) for slot in slots for field, values in slot.where.equals if field == "phase" for value in values
    } & phases.keys()
    followed = {_FOLLOWS[slot.type_name] for slot in slots if slot.type_name in _FOLLOWS} & phases.keys()
    if len(named) == 1:
        return named.pop()
    return followed.pop() if not named and len(followed) == 1 else None


def _by_name(name: str, phases: Mapping[str, PhaseDefinition]) -> str | None:
    lowered = name.lower()
    words = re.findall(r"[a-z]+", lowered)
    found = []
    for phase in phases:
        stem = phase.lower()[:5]  # "analy" is in both "analysis" and "analyzer"
        if stem in lowered if len(stem) == 5 else any(word.startswith(stem) for word in words):
            found.append(phase)
    return found[0] if len(found) == 1 else None
