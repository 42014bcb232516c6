"""A body called by hand: a context without a board, and what the agent makes of it."""

import copy
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
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
from stigmergy.blackboard.core.decision import Draft
from stigmergy.blackboard.core.drafting import draft_of
from stigmergy.blackboard.definitions import AgentSpec
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.shell.job import Job
from stigmergy.loop import in_a_loop
from stigmergy.testing.desk import ACTIVATION, HandDesk, Recorded
from stigmergy.testing.envelopes import NOON, Given, envelopes

R = TypeVar("R")


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
    attempt: int = 1, feedback: str = "", run: str = "main", activation: int = ACTIVATION, repeats: int = 0,
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
