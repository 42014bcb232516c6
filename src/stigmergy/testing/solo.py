"""One agent alone, a body called by hand, and the envelope it asks for."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic_core import to_json

from stigmergy.agents.agent import Agent
from stigmergy.agents.context import Context
from stigmergy.agents.request import Request
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.briefing import Briefing, ContextRequest
from stigmergy.blackboard.clock import VirtualClock
from stigmergy.blackboard.decision import Draft
from stigmergy.blackboard.definitions import AgentSpec
from stigmergy.blackboard.desk import LocalDesk, Shell
from stigmergy.blackboard.drafting import draft_of
from stigmergy.blackboard.errors import DefinitionError, NotFound
from stigmergy.blackboard.events import Called, Calling, Priority, Published, Visibility
from stigmergy.blackboard.job import Job
from stigmergy.blackboard.report import Report
from stigmergy.blackboard.stores.base import Reader
from stigmergy.blackboard.stores.memory import MemoryStore
from stigmergy.blackboard.types import TypeTable
from stigmergy.board import Blackboard
from stigmergy.loop import in_a_loop

M = TypeVar("M", bound=BaseModel)
Given = BaseModel | Artifact[Any]
Recorded = Mapping[str, object]
"""Results of effects by key, as if an earlier attempt had recorded them."""
NOON = VirtualClock().now()


def artifact(
    payload: M, /, *, id: int = 1, producer: str = "outside", cause: int = 0, root: int | None = None,
    run: str = "main", key: str | None = None, tags: Sequence[str] = (), priority: Priority | None = None,
    visibility: Visibility | None = None, at: float = NOON, depth: int = 0,
) -> Artifact[M]:  # fmt: skip
    """The envelope of a payload as a board would make it.

    Args:
        root: its own id unless given.
        priority: as on a board: by default what the payload's field says, or "medium".
        at: seconds since the epoch.

    Raises:
        NotRoundTrippable: the payload does not come back from JSON as it was.
    """
    d = draft_of(TypeTable(), payload, key=key, tags=tags, priority=priority, visibility=visibility, run=run)
    made: Artifact[Any] = Artifact(
        id, d.payload, d.type, d.version, producer, cause, id if root is None else root, run, tuple(d.tags),
        d.priority or "medium", visibility, at, key, depth, d.phase,
    )  # fmt: skip
    return made


def _envelopes(given: Sequence[Given], first: int, step: int) -> tuple[Artifact[Any], ...]:
    """What is given as payloads gets ids from `first`."""
    return tuple(
        item if isinstance(item, Artifact) else artifact(item, id=first + i * step) for i, item in enumerate(given)
    )


# -- a body called by hand ----------------------------------------------------------------------------------------


class SoloContext(Context):
    """A context without a board: for calling a body by hand.

    Attributes:
        published: what the body published through it, in order.
    """

    published: list[BaseModel]


def context(
    agent_name: str = "agent", *, inputs: Sequence[Given] = (), past: Sequence[Given] = (),
    instructions: Sequence[BaseModel] = (), recorded: Recorded | None = None, phase: str | None = None,
    attempt: int = 1, feedback: str = "",
) -> SoloContext:  # fmt: skip
    """A context to call a body with.

    Args:
        inputs, past: payloads, or envelopes where their ids or producers matter (see `artifact`).
        instructions: as a context provider would give them.
        recorded: results of `ctx.call` by key: those effects are not executed. Others are. `ctx.sleep` does not wait.
    """
    spec = AgentSpec(name=agent_name, phase=phase)
    envelopes = _envelopes(inputs, 1, 1)
    desk = _HandDesk(envelopes, recorded or {})
    ids = [a.id for a in envelopes]
    job = Job(1_000_000, 1_000_000, attempt, spec, f"{agent_name}/0", ids, [], "main", feedback, NOON, 0, desk)
    types = TypeTable()

    def drafting(payload: BaseModel, **options: Any) -> Draft:
        return draft_of(types, payload, **options)

    made = SoloContext(
        job, envelopes, Request(job, types, envelopes, phase), Briefing(tuple(instructions), _envelopes(past, -1, -1)),
        drafting, threaded=False,
    )  # fmt: skip
    made.published = desk.published_payloads
    return made


class _HandDesk:
    """Answers a body that no board runs."""

    def __init__(self, inputs: Sequence[Artifact[Any]], recorded: Recorded) -> None:
        self._recorded = recorded
        self._reader = MemoryStore().reader()
        self._last = 1_000_000
        self.published_payloads: list[BaseModel] = []

    def now(self) -> float:
        return NOON

    def published(self, id: int) -> Published:
        raise NotFound(f"there is no artifact {id}: this context has no board. Use trial() where a body needs one.")

    def reader(self) -> Reader:
        return self._reader

    def chain(self, job: Job) -> list[int]:
        return [job.id]

    def recorded(self, job: Job) -> dict[str, tuple[Calling, Called | None]]:
        return {key: _record(key, value) for key, value in self._recorded.items()}

    async def calling(self, job: Job, event: Calling) -> int:
        return self._next()

    async def called(self, job: Job, calling: int, event: Called) -> None:
        return None

    async def sleep(self, job: Job, calling: int) -> None:
        return None

    async def publish_from(self, job: Job, drafts: Sequence[Draft]) -> list[int]:
        self.published_payloads += [draft.payload for draft in drafts]
        return [self._next() for _ in drafts]

    def watched(self, type_name: str) -> bool:
        return True

    def lingering(self, job: Job) -> Any:
        raise NotImplementedError  # bodies called by hand run where they are called

    def _next(self) -> int:
        self._last += 1
        return self._last


class _AnyDigest(str):
    """The digest of whatever arguments: a test says what an effect gave, not what it was asked."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def _record(key: str, value: object) -> tuple[Calling, Called]:
    payload = to_json(value, by_alias=True, inf_nan_mode="strings", bytes_mode="base64")
    return Calling(key=key, name="recorded", digest=_AnyDigest()), Called(key=key, payload=payload)


# -- one agent on a board of its own ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trial:
    """What one agent alone made of its inputs: what it published, in order, and the report of the run."""

    outputs: tuple[BaseModel, ...]
    report: Report


def trial(
    agent: Agent, /, *inputs: BaseModel, past: Sequence[Given] = (), instructions: Sequence[BaseModel] = (),
    recorded: Recorded | None = None,
) -> Trial:  # fmt: skip
    """Run one agent alone, on a board in memory with a virtual clock: matching, retries, limits and output checks too.

    Args:
        inputs: published together, from outside.
        past, instructions: what its context is to hold; unless given, what its own context provider says.
        recorded: results of `ctx.call` by key: those effects are not executed.
    """
    told = Briefing(tuple(instructions), _envelopes(past, -1, -1))
    alone = copy.copy(agent)
    if told.artifacts or told.instructions:
        alone.means = replace(agent.means, context=_Told(told))

    async def run() -> Trial:
        board = Blackboard(clock=VirtualClock())
        board._register(alone)
        owner = await board._open()
        owner.desk = _RecordedDesk(owner, recorded or {})
        await board.publish_many(inputs)
        report = await board.run_until_idle(horizon=None)
        outputs = tuple(a.payload for a in board.artifacts(producer=alone, held=True))
        await board.close()
        return Trial(outputs, report)

    return in_a_loop(run)


class _Told:
    """A context provider that says what a test says."""

    def __init__(self, briefing: Briefing) -> None:
        self._briefing = briefing

    async def provide(self, request: ContextRequest, /) -> Briefing:
        twice = {a.id for a in self._briefing.artifacts} & {a.id for a in request.inputs}
        if twice:
            raise DefinitionError(
                f"past= holds id {twice.pop()}, which an input has here. Give it another id, or none."
            )
        return self._briefing


class _RecordedDesk(LocalDesk):
    """The desk of the trial's board, with effects that are recorded already."""

    def __init__(self, owner: Shell, recorded: Recorded) -> None:
        super().__init__(owner)
        self._records = {key: _record(key, value) for key, value in recorded.items()}

    def recorded(self, job: Job) -> dict[str, tuple[Calling, Called | None]]:
        """What the test says, and what earlier attempts here recorded."""
        return {**self._records, **super().recorded(job)}
