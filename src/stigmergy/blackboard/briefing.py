"""What an agent is told beside its inputs: instructions and past artifacts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.definitions import AgentSpec

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Briefing:
    """What a context provider gives: instructions first, then past artifacts, oldest first.

    Attributes:
        tools: names of the tools that the agent's model may call; None = all that the agent has.
    """

    instructions: tuple[BaseModel, ...] = ()
    artifacts: tuple[Artifact[Any], ...] = ()
    tools: tuple[str, ...] | None = None


class ContextRequest(Protocol):
    """What a context provider may ask. All reads are as of the claim and already filtered by visibility."""

    @property
    def agent(self) -> AgentSpec: ...
    @property
    def agent_name(self) -> str: ...
    @property
    def phase(self) -> str | None:
        """The phase of the agent's configuration (`.phase("…")`), if it has one."""
        ...

    @property
    def run(self) -> str: ...
    @property
    def inputs(self) -> Sequence[Artifact[Any]]: ...

    def ancestors(self, limit: int = 50) -> list[Artifact[Any]]:
        """The artifacts that the inputs descend from, nearest `limit`, oldest first, never the inputs themselves."""
        ...

    def artifacts(
        self,
        model: type[M],
        *,
        where: Mapping[str, object] | Callable[[M], bool] | Sequence[Any] | None = None,
        limit: int = 50,
    ) -> list[Artifact[M]]:
        """The newest `limit` artifacts of that type in this run, oldest first."""
        ...

    def recent(self, limit: int = 50) -> list[Artifact[Any]]:
        """The newest `limit` artifacts of any type in this run, oldest first, never the inputs themselves."""
        ...


class ContextProvider(Protocol):
    """Anything with this method can brief agents.

    A provider may also have `check(payload)`, which raises for payloads that must not be published, and
    `phase_of(spec)`, which says what phase an agent serves; if it gives None, the agent's configuration counts.
    """

    async def provide(self, request: ContextRequest, /) -> Briefing: ...
