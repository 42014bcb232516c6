"""Runs bodies: on the loop, in a thread, or in a process of their own."""

import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel

from stigmergy.agents.agent import Agent, FunctionAgent
from stigmergy.agents.apart import Call, Processes
from stigmergy.agents.call import brings
from stigmergy.agents.context import Context
from stigmergy.agents.outputs import check_fan_out, declared
from stigmergy.agents.request import Request
from stigmergy.agents.threaded import ThreadContext
from stigmergy.agents.threads import Inside, enter_body, in_thread
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.briefing import Briefing, ContextProvider
from stigmergy.blackboard.core.decision import Draft
from stigmergy.blackboard.core.drafting import draft_of
from stigmergy.blackboard.core.visibility import visible
from stigmergy.blackboard.core.where import matches
from stigmergy.blackboard.definitions import AgentSpec, Output, Subscription
from stigmergy.blackboard.errors import BadSignature, NoBody, UndeclaredOutput
from stigmergy.blackboard.payloads.envelope import opened
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.shell.job import Job


@dataclass(slots=True)
class _Plan:
    """What is known of an agent before it runs, so that the hot path looks nothing up."""

    agent: Agent
    inside: Inside
    function: Callable[..., Any]
    outputs: dict[type[BaseModel], Output]
    counted: list[Output]
    """Those of which it must publish so many."""
    provider: ContextProvider | None
    simple: bool
    """Its body is async and takes payloads in the order of the inputs, and nothing else."""
    arrives: frozenset[tuple[str, ...]]
    """The types of the inputs that it takes then."""
    speculates: bool


class BodyWorker:
    """Runs the bodies of a board's agents in this process.

    Args:
        home: what tells the board from others; see `Inside`.
    """

    def __init__(
        self, agents: Sequence[Agent], types: TypeTable, provider: ContextProvider | None, home: object = None
    ) -> None:
        self._types = types
        self._home = home
        self._check: Callable[[BaseModel], object] | None = getattr(provider, "check", None)
        self._processes = Processes()
        self._plans = {agent.name: self._plan(agent, provider) for agent in agents}

    def _plan(self, agent: Agent, provider: ContextProvider | None) -> _Plan:
        means = agent.means
        parameters = means.call.parameters
        kinds = [p.kind for p in parameters]
        places = [(p.slot, p.place) for p in parameters]
        in_order = places == sorted(places) and not any(p.keyword for p in parameters)
        plain = means.is_async and means.isolate is None and not means.middleware
        wants_context = "context" in kinds or bool(means.middleware)
        function = means.function
        return _Plan(
            agent,
            Inside(agent.name, self._home),
            function if function is not None else _nobody,
            {o.model: o for o in agent.outputs},
            [o for o in agent.outputs if o.fan_out is not None],
            (means.context or provider) if wants_context or function is None else None,
            plain and set(kinds) == {"payload"} and in_order,
            frozenset(_complete(s) for s in agent.spec.subscriptions),
            agent.spec.pure and not wants_context,
        )

    def may_speculate(self, agent: AgentSpec) -> bool:
        """A pure body that asks for no context may start before its claim is durable."""
        return self._plans[agent.name].speculates

    async def perform(self, job: Job) -> list[Draft]:
        """Run one body and check what it returns."""
        plan = self._plans[job.agent.name]
        enter_body(plan.inside)
        if plan.simple:
            decode, events = self._types.decode, [job.desk.published(id) for id in job.inputs]
            if tuple([event.type for event in events]) in plan.arrives:
                payloads = [decode(event.type, event.version, event.payload) for event in events]
                return self._drafts(plan, await plan.function(*payloads), {})
        if any(parameter.kind != "context" for parameter in plan.agent.means.call.parameters):
            _check_inputs(job)
        counts: dict[str, int] = {}
        context = await self._context(job, counts)
        return self._drafts(plan, await self._run(plan, job, context), counts)

    async def context(self, job: Job) -> Context:
        """What the body of a job may know and do."""
        return await self._context(job, {})

    async def _context(self, job: Job, counts: dict[str, int]) -> Context:
        plan = self._plans[job.agent.name]
        inputs = [self._input(job, id) for id in job.inputs]
        request = Request(job, self._types, inputs, job.agent.phase)
        briefing = await self._brief(plan.provider, request, job) if plan.provider is not None else None
        draft, means = partial(self._draft, plan, counts), plan.agent.means
        threaded = not means.is_async and means.isolate != "process"  # there only middleware, on the loop, has it
        return (ThreadContext if threaded else Context)(job, inputs, request, briefing, draft)

    async def _run(self, plan: _Plan, job: Job, context: Context) -> object:
        means = plan.agent.means
        threaded = not means.is_async
        args, named = means.call.arguments(context.artifacts, job.slots, context)

        async def body() -> Any:
            if means.isolate == "process":
                return await self._processes.run(
                    Call(
                        plan.agent.name,
                        self._home if isinstance(self._home, str) else None,
                        *_importable(plan.agent),
                        args,
                        named,
                    )
                )
            if threaded:
                # It cannot be stopped: given up, it keeps its place until it has ended.
                return await in_thread(lambda: plan.function(*args, **named), lambda: job.desk.lingering(job))
            return await plan.function(*args, **named)

        if not means.middleware:
            return await body()
        call_next: Callable[[], Any] = lambda: _listed(body)  # noqa: E731
        for middleware in reversed(means.middleware):
            call_next = _around(middleware, call_next, context)
        return await call_next()

    def _input(self, job: Job, id: int) -> Artifact[Any]:
        event = job.desk.published(id)
        return opened(self._types, event)

    async def _brief(self, provider: ContextProvider, request: Request, job: Job) -> Briefing:
        """Ask the provider; whatever it gives, the agent gets only what it may see."""
        briefing = await provider.provide(request)
        shown = tuple(
            a
            for a in briefing.artifacts
            if a.id not in job.inputs and visible(a.visibility, job.agent, now=job.claimed_at, published=a.at)
        )
        return Briefing(briefing.instructions, shown, briefing.tools)

    # -- outputs --------------------------------------------------------------------------------------------------

    def _draft(
        self, plan: _Plan, counts: dict[str, int], payload: BaseModel, *, key: str | None = None,
        tags: Sequence[str] = (),
    ) -> Draft | None:  # fmt: skip
        """What is published at once; None if its filter leaves it out. It is counted in `counts`, as in `_drafts`.

        Without a key it is only checked whether it could be published, and does not count.
        """
        spec = plan.agent.spec
        output = plan.outputs.get(type(payload)) or declared(spec, payload, "gave ctx.publish")
        draft = self._as_declared(output, payload, tags, key)
        if key is not None:
            made = counts[output.type_name] = counts.get(output.type_name, 0) + 1
            check_fan_out(spec, output, made, so_far=True)
        if draft is not None:
            draft.tags[:0] = [tag for tag in output.tags if tag not in draft.tags]
        return draft

    def _drafts(self, plan: _Plan, returned: object, counts: dict[str, int]) -> list[Draft]:
        """What a body returned, checked.

        Args:
            counts: how many of each type it has published before; what a filter leaves out counts, too.
        """
        spec = plan.agent.spec
        drafts: list[Draft] = []
        payloads = (returned,) if isinstance(returned, BaseModel) else _flat(returned, spec)
        for payload in payloads:
            output = plan.outputs.get(type(payload)) or declared(spec, payload)
            if output.fan_out is not None:
                counts[output.type_name] = counts.get(output.type_name, 0) + 1
            draft = self._as_declared(output, payload, output.tags)
            if draft is not None:
                drafts.append(draft)
        for output in plan.counted:
            check_fan_out(spec, output, counts.get(output.type_name, 0))
        return drafts

    def _as_declared(
        self, output: Output, payload: BaseModel, tags: Sequence[str], key: str | None = None
    ) -> Draft | None:
        """The draft of a payload that is published as this output; None if its filter leaves it out."""
        where = output.where
        if (where.predicates or where.equals) and not matches(where, payload):
            return None
        if self._check is not None:
            self._check(payload)
        return draft_of(
            self._types, payload, key=key, tags=tags, visibility=output.visibility, review_by=output.review_by
        )


def _complete(subscription: Subscription) -> tuple[str, ...]:
    """The types of the inputs when every place is taken."""
    return tuple(slot.type_name for slot in subscription.slots for _ in range(slot.count))


def _check_inputs(job: Job) -> None:
    """Refuse inputs that nothing which the agent consumes brings: it consumed something else when it took them, or
    who took them was another agent.

    Raises:
        BadSignature: so it is.
    """
    types = [job.desk.published(id).type for id in job.inputs]
    if not any(brings(s, types, job.slots) for s in job.agent.subscriptions):
        inputs = ", ".join(f"{type_name}@{id}" for type_name, id in zip(types, job.inputs, strict=True))
        way_out = "Define it as it was and try again, or discard this activation."
        raise BadSignature(f"agent {job.agent.name!r} does not consume {inputs} any more. {way_out}")


def _flat(returned: object, spec: AgentSpec) -> Iterator[BaseModel]:
    """The payloads in what a body returned: one, none, or a sequence of them, at most nested once."""
    for item in returned if isinstance(returned, list | tuple) else (returned,):
        for payload in item if isinstance(item, list | tuple) else (item,):
            if isinstance(payload, BaseModel):
                yield payload
            elif payload is not None:
                raise UndeclaredOutput(f"{spec.name!r} returned {_no_payload(payload)}")


def _no_payload(returned: object) -> str:
    """What is wrong with it, and the way out."""
    if isinstance(returned, Artifact):
        return f"the artifact {returned.ref}. Return a payload: a new one."
    if isinstance(returned, type):
        return f"the class {returned.__name__}. Return an instance of it."
    if isinstance(returned, Coroutine):
        returned.close()
        return "a coroutine that was not awaited. Return what awaiting it gives."
    if isinstance(returned, Generator | AsyncGenerator):
        return "a generator. Return a list of what it yields."
    if isinstance(returned, list | tuple):
        return "lists in lists of lists. Return pydantic models, a list of them, or None."
    return f"<{type(returned).__name__}>. Return pydantic models, a list of them, or None."


async def _listed(body: Callable[[], Any]) -> list[BaseModel]:
    returned = await body()
    if returned is None:
        return []
    return list(returned) if isinstance(returned, list | tuple) else [returned]


def _around(middleware: Callable[..., Any], call_next: Callable[[], Any], context: Context) -> Callable[[], Any]:
    return lambda: middleware(call_next, context)


async def _nobody(*_: object) -> None:
    raise NoBody("this agent has neither a body nor a model. Give Blackboard(model=...) or .body(fn).")


def _importable(agent: Agent) -> tuple[str, str]:
    """Where another process finds the body.

    Raises:
        BadSignature: it cannot be imported from there.
    """
    function = agent.means.function
    module, qualname = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    found: object = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if found is not function and not (isinstance(found, FunctionAgent) and found.means.function is function):
        raise BadSignature(
            f'the body of "{agent.name}" cannot be imported as {module}.{qualname}, so no other process can run it. '
            "Define it at the top level of a module."
        )
    return module, qualname
