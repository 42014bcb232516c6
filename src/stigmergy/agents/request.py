"""What a context provider may read: as of the claim, and only what the agent may see."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.visibility import visible
from stigmergy.blackboard.core.where import matches, parse_where
from stigmergy.blackboard.definitions import AgentSpec
from stigmergy.blackboard.events import Activated, Published, Released
from stigmergy.blackboard.payloads.envelope import envelope
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.payloads.types import type_of
from stigmergy.blackboard.shell.job import Job
from stigmergy.blackboard.stores.rows import decode, event_at

M = TypeVar("M", bound=BaseModel)


class Request:
    """The reads of one attempt."""

    def __init__(self, job: Job, types: TypeTable, inputs: Sequence[Artifact[Any]], phase: str | None) -> None:
        self._job = job
        self._types = types
        self._reader = job.desk.reader()
        self.inputs = inputs
        self.phase = phase

    @property
    def agent(self) -> AgentSpec:
        """Who is to be briefed."""
        return self._job.agent

    @property
    def agent_name(self) -> str:
        """Its name."""
        return self._job.agent.name

    @property
    def run(self) -> str:
        """The run of the inputs."""
        return self._job.run

    def _shown(self, event: object) -> Artifact[Any] | None:
        """The artifact, if it was on the board at the claim and this agent may see it; fails closed."""
        if not isinstance(event, Published) or event.seq > self._job.fence or event.seq in self._job.inputs:
            return None
        if event.visibility is not None and not visible(
            event.visibility, self._job.agent, now=self._job.claimed_at, published=event.at
        ):
            return None
        if event.held_by and event.held_by != self._job.agent.name and not self._released(event.seq):
            return None
        if not event.payload:
            return None  # it was erased
        return envelope(event, self._types.decode(event.type, event.version, event.payload))

    def _released(self, artifact: int) -> bool:
        rows = self._reader.following(artifact)
        return any(row.kind == Released.__name__ and row.seq <= self._job.fence for row in rows)

    def ancestors(self, limit: int = 50) -> list[Artifact[Any]]:
        """What the inputs descend from: the nearest, oldest first."""
        found: dict[int, Artifact[Any]] = {}
        todo = deque(self._job.inputs)
        seen = set(todo)
        while todo and len(found) < limit:
            for parent in self._parents(todo.popleft()):
                if parent in seen:
                    continue
                seen.add(parent)
                todo.append(parent)
                artifact = self._shown(event_at(self._reader, parent))
                if artifact is not None:
                    found[parent] = artifact
        return [found[id] for id in sorted(found)[-limit:]]

    def _parents(self, artifact: int) -> Iterable[int]:
        event = event_at(self._reader, artifact)
        while event is not None and event.cause:
            event = event_at(self._reader, event.cause)
            if isinstance(event, Activated):
                return event.inputs
            if isinstance(event, Published):
                return (event.seq,)
        return ()

    def artifacts(
        self,
        model: type[M],
        *,
        where: Mapping[str, object] | Callable[[M], bool] | Sequence[Any] | None = None,
        limit: int = 50,
    ) -> list[Artifact[M]]:
        """The newest artifacts of that type in this run, oldest first."""
        test = parse_where(model, where, subject=f'the context of agent "{self.agent_name}"')
        return self._newest(type_of(model).name, limit, lambda a: matches(test, a.payload))

    def recent(self, limit: int = 50) -> list[Artifact[Any]]:
        """The newest artifacts of any type in this run, oldest first; what components published is left out."""
        return self._newest(None, limit, lambda a: True)

    def _newest(self, type_name: str | None, limit: int, wanted: Callable[[Artifact[Any]], bool]) -> list[Any]:
        found: list[Artifact[Any]] = []
        for row in self._reader.artifacts(type_name, self.run, until=self._job.fence, newest_first=True):
            event = decode(row)
            if type_name is None and isinstance(event, Published) and event.system:
                continue
            artifact = self._shown(event)
            if artifact is not None and wanted(artifact):
                found.append(artifact)
                if len(found) >= limit:
                    break
        return found[::-1]
