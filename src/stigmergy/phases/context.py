"""What an agent of a phase is told before it works."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.briefing import Briefing, ContextRequest
from stigmergy.blackboard.definitions import AgentSpec, is_number
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.blackboard.payloads.types import type_of
from stigmergy.phases.phase import PHASES, PhaseDefinition, PhaseInstructions, phase_of, resolve
from stigmergy.phases.work import check_phase


class PhaseContextProvider:
    """Briefs every agent with the instructions of its phase, the purposes of the others, and a bounded history.

    Args:
        phases: the phases by name; `PHASES | {"deployment": …}` adds one.
        limit: how many past artifacts at most. What the inputs descend from goes first, then the newest.
        artifacts: only past artifacts of these types; None = of any type.

    Raises:
        DefinitionError: a phase stands under another name than its own, or the limit or a type is none.
    """

    def __init__(
        self,
        phases: Mapping[str, PhaseDefinition] = PHASES,
        *,
        limit: int = 1000,
        artifacts: Sequence[type[BaseModel]] | None = None,
    ) -> None:
        if not isinstance(phases, Mapping) or not all(isinstance(p, PhaseDefinition) for p in phases.values()):
            raise DefinitionError('phases are given by name: PHASES | {"deployment": PhaseDefinition(…)}.')
        for name, phase in phases.items():
            if name != phase.name:
                raise DefinitionError(f'phase "{phase.name}" stands under the key "{name}". Give both the same name.')
        if not is_number(limit, whole=True):
            raise DefinitionError(f"PhaseContextProvider cannot show {limit!r} artifacts. Give a whole number from 0.")
        if artifacts is not None and not isinstance(artifacts, Sequence):
            raise DefinitionError(f"artifacts={artifacts!r}: give a list of types, or None for all.")
        for model in artifacts or ():
            type_of(model)
        self.phases: Mapping[str, PhaseDefinition] = dict(phases)
        self._limit = limit
        self._types = tuple(artifacts) if artifacts is not None else None

    def check(self, payload: BaseModel) -> None:
        """Refuse work for a phase that is not defined here.

        Raises:
            UnknownPhase: naming the phase meant, if one is close.
        """
        check_phase(payload, self.phases)

    def phase_of(self, agent: AgentSpec) -> str | None:
        """The phase an agent works in: for instructions and, recorded when it is enrolled, for statistics.

        Raises:
            DefinitionError: it is configured for a phase that is not defined here.
        """
        return phase_of(agent, self.phases)

    async def provide(self, request: ContextRequest, /) -> Briefing:
        """The instructions of the agent's phase first (none if it has no phase), then the past, oldest first."""
        phase = resolve(request.agent_name, request.agent.subscriptions, request.phase, self.phases)
        instructions = () if phase is None else (self.instructions(phase),)
        tools = None if phase is None else self.phases[phase].tools
        return Briefing(instructions, tuple(self._history(request)), tools)

    def instructions(self, phase: str) -> PhaseInstructions:
        """What agents of this phase are told."""
        own = self.phases[phase]
        others = [f"- {other.name}: {other.description}" for other in self.phases.values() if other.name != phase]
        notes = [own.additional_notes] if own.additional_notes else []
        if others:
            notes.append("\n".join(["The other phases, for which you may create work as well:", *others]))
        return PhaseInstructions(
            phase_name=own.name,
            description=own.description,
            done_definitions=own.done_definitions,
            additional_notes="\n\n".join(notes),
            expected_outputs=own.expected_outputs,
        )

    def _history(self, request: ContextRequest) -> list[Artifact[Any]]:
        if self._limit == 0:
            return []
        ancestors = request.ancestors(self._limit)
        if self._types is None:
            newest = request.recent(self._limit)
        else:
            ancestors = [a for a in ancestors if any(a.as_type(model) is not None for model in self._types)]
            newest = [a for model in self._types for a in request.artifacts(model, limit=self._limit)]
        kept = {a.id: a for a in ancestors[-self._limit :]}
        inputs = {a.id for a in request.inputs}
        for artifact in sorted(newest, key=lambda a: a.id, reverse=True):
            if len(kept) >= self._limit:
                break
            if artifact.id not in inputs:
                kept.setdefault(artifact.id, artifact)
        return [kept[id_] for id_ in sorted(kept)]
