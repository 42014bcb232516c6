"""A body called by hand: a context without a board, and what the agent makes of it."""

import copy
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel

from stigmergy.agents.agent import Agent
from stigmergy.agents.context import Context
from stigmergy.agents.models.model import Request as ModelRequest
from stigmergy.agents.models.model import ToolSpec
from stigmergy.agents.models.scripted import Scripted
from stigmergy.agents.prompting.answer import answered, asking
from stigmergy.agents.prompting.servers import Servers
from stigmergy.agents.prompting.tools import ListTools, Tool, ToolResult, ToolSource
from stigmergy.agents.request import Request
from stigmergy.agents.worker import BodyWorker
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.briefing import Briefing, ContextRequest
from stigmergy.blackboard.clock import VirtualClock
from stigmergy.blackboard.core.decision import Draft
from stigmergy.blackboard.core.drafting import draft_of
from stigmergy.blackboard.definitions import AgentSpec
from stigmergy.blackboard.errors import CallChanged, DefinitionError, NotFound
from stigmergy.blackboard.events import Called, Calling, Published
from stigmergy.blackboard.payloads.roundtrip import lossless_json
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.payloads.types import type_of
from stigmergy.blackboard.shell.job import Job
from stigmergy.blackboard.stores.base import Reader
from stigmergy.blackboard.stores.memory import MemoryStore
from stigmergy.loop import in_a_loop
from stigmergy.testing.envelopes import Given, envelopes

R = TypeVar("R")
NOON = VirtualClock().now()
_ACTIVATION = 1_000_000


@dataclass(frozen=True, slots=True)
class Effect:
    """What a recorded effect gave, and a digest of the arguments that it was given.

    Attributes:
        result: what `ctx.call` returns; an exception is raised instead.
        digest: as in `Calling.digest`; other arguments raise `CallChanged`.
    """

    result: object
    digest: str


Recorded = Mapping[str, object]
"""By key what effects gave, as if an earlier attempt had recorded it: results, exceptions to raise, or `Effect`s."""


class SoloContext(Context):
    """A context without a board: for calling a body by hand.

    Attributes:
        published: what the body published through it, in order.
        called: the keys of its effects, sleeps and charges, in order.
        served: what stands for the tools of servers; None = the servers are started.
    """

    published: list[BaseModel]
    called: list[str]
    served: tuple[str, ...] | None


def context(
    agent_name: str = "agent", *, inputs: Sequence[Given] = (), past: Sequence[Given] = (),
    instructions: Sequence[BaseModel] = (), recorded: Recorded | None = None, phase: str | None = None,
    attempt: int = 1, feedback: str = "", run: str = "main", activation: int = _ACTIVATION, repeats: int = 0,
    now: float = NOON, slots: Sequence[int] = (), tools: Sequence[str] | None = None,
    served: Sequence[str] | None = None, strict: bool = False,
) -> SoloContext:  # fmt: skip
    """A context to call a body with.

    Args:
        inputs, past: payloads, or envelopes where their ids or producers matter (see `artifact`).
        instructions: as a context provider would give them.
        recorded: what `ctx.call` gives, by key: those effects are not executed. Others are. `ctx.sleep` does not wait.
        activation, repeats: its id, and that of the first dead letter it repeats: idempotency keys are made of them.
        now: log time in seconds since the epoch.
        slots: as in `Activated.slots`, for `perform`; the inputs of each type unless given.
        tools: names of the tools that its model may call, as a context provider would give them; None = all it has.
        served: names of the tools that its servers (`McpServer`) have; then no server is started, and what these tools
            give is recorded.
        strict: effects that are not recorded are refused.
    """
    spec = AgentSpec(name=agent_name, phase=phase)
    given = envelopes(inputs, 1, 1)
    desk = HandDesk(given, recorded or {}, repeats=repeats, now=now, strict=strict)
    ids = [a.id for a in given]
    job = Job(activation, activation, attempt, spec, f"{agent_name}/0", ids, list(slots), run, feedback, now, 0, desk)
    types = TypeTable()

    def drafting(payload: BaseModel, **options: Any) -> Draft:
        return draft_of(types, payload, **options)

    made = SoloContext(
        job, given, Request(job, types, given, phase),
        Briefing(tuple(instructions), envelopes(past, -1, -1), None if tools is None else tuple(tools)),
        drafting,
    )  # fmt: skip
    made.published, made.called = desk.payloads, desk.called_keys
    made.served = None if served is None else tuple(served)
    return made


def perform(agent: Agent, ctx: SoloContext, /, *, model: object | None = None) -> list[BaseModel]:
    """Run the body of an agent once, on the inputs of a context, in this process: what it would publish at its end.

    The body gets its arguments as on a board, its middleware runs, and its outputs are checked and filtered.

    Args:
        model: answers if the agent has neither a body nor a model of its own; what is recorded goes before it.

    Raises:
        DefinitionError: the inputs are none that the agent consumes together.
        BaseException: what the body raises.
    """

    async def run(alone: Agent, worker: BodyWorker, job: Job) -> list[BaseModel]:
        return [draft.payload for draft in await worker.perform(job)]

    return _with_body(agent, ctx, model, run)


def prompt(agent: Agent, ctx: SoloContext, /, *, model: object | None = None) -> ModelRequest:
    """What the model of an agent would be asked first about the inputs of a context; nothing is sent.

    Args:
        model: as in `perform`; only its name matters.

    Raises:
        DefinitionError: the agent has a body of its own, or the inputs are none that it consumes together.
    """

    async def ask(alone: Agent, worker: BodyWorker, job: Job) -> ModelRequest:
        return await asking(alone).opening(await worker.context(job))

    return _with_body(agent, ctx, model, ask)


def _with_body(
    agent: Agent,
    ctx: SoloContext,
    model: object | None,
    use: Callable[[Agent, BodyWorker, Job], Coroutine[Any, Any, R]],
) -> R:
    """Do something with what would run the body on a board."""
    servers, tools = Servers(), agent.means.tools
    if ctx.served is not None:
        tools = (*(tool for tool in tools if not isinstance(tool, ToolSource)), _Served(ctx.served))
    whole = copy.copy(agent)
    whole.means = replace(agent.means, context=None, isolate=None, tools=tools)
    alone = answered(whole, model if model is not None else Scripted([], name="(no model)"), servers)
    job = replace(ctx._job, agent=agent.spec, slots=ctx._job.slots or implied_slots(agent, ctx.artifacts))
    types = TypeTable()
    for a in ctx.artifacts:
        types.add(type(a.payload))
    worker = BodyWorker([alone], types, Told(Briefing(ctx.instructions, ctx.past, ctx.tools)))

    async def run() -> R:
        try:
            return await use(alone, worker, job)
        finally:
            await servers.close()

    return in_a_loop(run)


class _Served:
    """Stands for servers of tools of which only the names are known."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    @asynccontextmanager
    async def open_tools(self) -> AsyncIterator[ListTools]:
        """There is nothing to open."""
        yield self._tools

    async def _tools(self) -> list[Tool]:
        async def run(text: str) -> ToolResult:
            return ToolResult(text="No server is started here. Give recorded= what its tools gave.", failed=True)

        return [Tool(ToolSpec(name=name, description="", parameters={}), run) for name in self._names]


def implied_slots(agent: Agent, inputs: Sequence[Artifact[Any]]) -> list[int]:
    """How many of the inputs each slot holds, in the first subscription that takes them all.

    Raises:
        DefinitionError: there is none.
    """
    names = [a.type_name for a in inputs]
    for subscription in agent.subscriptions:
        counts = [names.count(slot.type_name) for slot in subscription.slots]
        if sum(counts) == len(names) and all(
            count <= slot.count * subscription.groups for count, slot in zip(counts, subscription.slots, strict=True)
        ):
            return [] if subscription.single else counts
    consumed = " | ".join(" & ".join(slot.type_name for slot in s.slots) for s in agent.subscriptions) or "nothing"
    raise DefinitionError(f"agent {agent.name!r} does not take {' & '.join(names) or 'nothing'}; it takes {consumed}.")


class Told:
    """A context provider that says what a test says."""

    def __init__(self, briefing: Briefing) -> None:
        self._briefing = briefing

    async def provide(self, request: ContextRequest, /) -> Briefing:
        """The same for everybody."""
        twice = {a.id for a in self._briefing.artifacts} & {a.id for a in request.inputs}
        if twice:
            raise DefinitionError(
                f"past= holds id {twice.pop()}, which an input has here. Give it another id, or none."
            )
        return self._briefing


# -- effects ----------------------------------------------------------------------------------------------------------


class _AnyDigest(str):
    """The digest of whatever arguments: a test may leave out what an effect was asked."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


ANY = _AnyDigest()


def records(recorded: Recorded) -> dict[str, tuple[Calling, Called | None]]:
    """Recorded results as an earlier attempt would have left them; those that are raised are left out."""
    found: dict[str, tuple[Calling, Called | None]] = {}
    for key, value in recorded.items():
        result, digest = (value.result, value.digest) if isinstance(value, Effect) else (value, ANY)
        if not isinstance(result, BaseException):
            payload = lossless_json(result)
            found[key] = Calling(key=key, name="recorded", digest=digest), Called(key=key, payload=payload)
    return found


def raised(recorded: Recorded, event: Calling, agent: str) -> BaseException | None:
    """What an announced effect raises instead of being executed.

    Raises:
        CallChanged: it is announced with other arguments.
    """
    value = recorded.get(event.key)
    result, digest = (value.result, value.digest) if isinstance(value, Effect) else (value, ANY)
    if digest != event.digest:
        raise CallChanged(f'call "{event.key}" of {agent!r} was recorded with other arguments.')
    return result if isinstance(result, BaseException) else None


class _Asked(dict[str, tuple[Calling, Called | None]]):
    """Records that note who asks for them."""

    def __init__(self, records: Mapping[str, tuple[Calling, Called | None]], called: list[str]) -> None:
        super().__init__(records)
        self._called = called

    def get(self, key: str, default: Any = None, /) -> Any:
        self._called.append(key)
        return super().get(key, default)


class HandDesk:
    """Answers a body that no board runs."""

    def __init__(
        self, inputs: Sequence[Artifact[Any]], recorded: Recorded, *, reader: Reader | None = None, repeats: int = 0,
        now: float = NOON, strict: bool = False,
    ) -> None:  # fmt: skip
        self._inputs = {a.id: a for a in inputs}
        self._recorded = recorded
        self._reader = reader or MemoryStore().reader()
        self._repeats = repeats
        self._now = now
        self._strict = strict
        self._last = _ACTIVATION
        self.payloads: list[BaseModel] = []
        self.called_keys: list[str] = []

    def now(self) -> float:
        """The time of the test."""
        return self._now

    def published(self, id: int) -> Published:
        """The event of an input, made of its envelope."""
        a = self._inputs.get(id)
        if a is None:
            raise NotFound(f"there is no artifact {id}: this context has no board. Use trial() where a body needs one.")
        kind = type_of(type(a.payload))
        return Published(
            seq=id, at=a.at, cause=a.cause, type=kind.name, version=kind.version, run=a.run, producer=a.producer,
            key=a.key, tags=list(a.tags), priority=a.priority, visibility=a.visibility, root=a.root, depth=a.depth,
            phase=a.phase, payload=kind.encode(a.payload)[1],
        )  # fmt: skip

    def reader(self) -> Reader:
        """An empty log, unless there is one."""
        return self._reader

    def chain(self, job: Job) -> list[int]:
        """The activation, and the first of those that it repeats."""
        return [job.id, self._repeats] if self._repeats else [job.id]

    def recorded(self, job: Job) -> dict[str, tuple[Calling, Called | None]]:
        """What the test says; whoever looks something up there is noted."""
        return _Asked(records(self._recorded), self.called_keys)

    async def calling(self, job: Job, event: Calling) -> int:
        """An effect is about to be executed."""
        error = raised(self._recorded, event, job.agent.name)
        if error is not None:
            raise error
        if self._strict:
            raise AssertionError(f'call "{event.key}" of {job.agent.name!r} is not recorded, so it is not executed.')
        self._last += 1
        return self._last

    async def called(self, job: Job, calling: int, event: Called) -> None:
        """Nothing is kept."""

    async def sleep(self, job: Job, calling: int) -> None:
        """Nobody waits."""

    async def publish_from(self, job: Job, drafts: Sequence[Draft]) -> list[int]:
        """Kept for the test to look at."""
        self.payloads += [draft.payload for draft in drafts]
        self._last += len(drafts)
        return list(range(self._last - len(drafts) + 1, self._last + 1))

    def watched(self, type_name: str) -> bool:
        return True

    def lingering(self, job: Job) -> Any:
        """Bodies called by hand run where they are called."""
        raise NotImplementedError
