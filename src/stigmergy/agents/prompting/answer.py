"""The body of an agent that a language model answers for: asked, read, asked again, and only then believed.

Each reply is journaled under its own key with what it cost, before it is used: "model/1", "model/2", …; where several
conversations are held, the second has "model-2/1", …. After a crash, an orderly stop, a timeout or a failure of the
provider the conversation goes on with the replies on record, though the prompt of now may differ from theirs; it begins
anew only when its outputs were refused.
"""

import asyncio
import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, JsonValue, TypeAdapter

from stigmergy.agents.agent import Agent
from stigmergy.agents.call import CallShape, Parameter
from stigmergy.agents.context import FREE, Context, Price
from stigmergy.agents.models.errors import BadReply, ModelError
from stigmergy.agents.models.model import Message, Model, Reply, Request, ToolCall
from stigmergy.agents.models.resolve import as_models
from stigmergy.agents.prompting.best import best, scores, why_none
from stigmergy.agents.prompting.contract import Contract
from stigmergy.agents.prompting.prompt import CHARACTERS, Ask, PromptParts
from stigmergy.agents.prompting.servers import Servers
from stigmergy.agents.prompting.tokens import Audience
from stigmergy.agents.prompting.tools import Tool, ToolResult, ToolSource, allowed, distinct, tools_of
from stigmergy.blackboard.core.where import written_at
from stigmergy.blackboard.errors import DefinitionError, PublishError
from stigmergy.blackboard.events import Failed

_REPLY = TypeAdapter(Reply)
NOBODY = Audience()


def answered(agent: Agent, model: object | None, servers: Servers, audience: Audience = NOBODY) -> Agent:
    """The agent, with a model as its body if it has none of its own.

    Args:
        model: the board's, or a list of them; the agent's own goes before it.
        servers: where its tools of servers are open.
        audience: who watches what the model writes.

    Raises:
        BadModel: what answers is no model.
        DefinitionError: there is a score, and nothing to choose from.
    """
    own = agent.means.model if agent.means.model is not None else model
    if agent.means.function is not None or own is None:
        return agent
    twin = copy.copy(agent)
    twin.means = replace(
        agent.means, function=Answer(agent, as_models(own), servers, audience), is_async=True, isolate=None,
        call=CallShape((Parameter("ctx", "context"),)),
    )  # fmt: skip
    return twin


def asking(agent: Agent) -> "Answer":
    """The body of an agent that a model answers for.

    Raises:
        DefinitionError: it has another.
    """
    body = agent.means.function
    if not isinstance(body, Answer):
        raise DefinitionError(f'agent "{agent.name}" has a body of its own, so no model is asked.')
    return body


class Answer:
    """A body: it asks a model, or several, and gives what the model publishes.

    Attributes:
        models: who is asked, one for each conversation.
    """

    def __init__(self, agent: Agent, models: Sequence[Model], servers: Servers, audience: Audience) -> None:
        self._servers = servers
        self._audience = audience
        self.ask = agent.means.ask or Ask()
        self.models = tuple(models) * self.ask.best_of
        self._contract = Contract(agent.outputs)
        self._schema = self._contract.schema()
        self._subject = f'agent "{agent.name}"'
        if self.ask.score is not None and len(self.models) == 1:
            way_out = "Say of how many, Ask(best_of=3, score=…), or give several models, .model([…])."
            at = written_at(agent.origin.place)
            raise DefinitionError(f"{self._subject}: Ask(score=…) has nothing to choose from. {way_out}{at}")
        self._sources = [tool for tool in agent.means.tools if isinstance(tool, ToolSource)]
        self._tools = tools_of([t for t in agent.means.tools if not isinstance(t, ToolSource)], self._subject)

    async def opening(self, ctx: Context) -> Request:
        """What the model is asked first; without any effect, so that it can be seen before it is sent."""
        return self._first(ctx, await self._toolbox(ctx))

    async def _toolbox(self, ctx: Context) -> tuple[Tool, ...]:
        """The tools that may be called in this activation."""
        found = list(self._tools)
        for source in self._sources:
            found += await self._servers.tools(source)
        return allowed(distinct(found, self._subject), ctx.tools)

    def _first(self, ctx: Context, tools: Sequence[Tool], candidate: int = 0) -> Request:
        """The first request of a conversation; they are counted from 0."""
        parts = PromptParts(
            agent=ctx.agent_name, description=ctx.description, phase=ctx.phase, instructions=ctx.instructions,
            inputs=ctx.artifacts, past=tuple(ctx.past), contract=self._contract.text(),
            feedback=last_refusal(ctx.failures(), ctx.feedback)[1], tokens=self.ask.context_tokens,
        )  # fmt: skip
        ask = self.ask
        seed = None if ask.seed is None else ask.seed + candidate
        return Request(
            model=self.models[candidate].name, messages=tuple(ask.prompt(parts)), output=self._schema,
            tools=tuple(tool.spec for tool in tools),
            temperature=ask.temperature, max_tokens=ask.max_tokens, seed=seed, options=ask.options,
        )  # fmt: skip

    async def __call__(self, ctx: Context) -> Sequence[BaseModel]:
        """Ask until there are outputs that may be published.

        Raises:
            ModelError: the provider failed, or (`BadReply`) no reply within the limits could be used.
        """
        return await self._chosen(ctx, await self._toolbox(ctx))

    async def _chosen(self, ctx: Context, tools: Sequence[Tool]) -> Sequence[BaseModel]:
        """The outputs of the only conversation, or the best of several; which is on record before it is used.

        All go on at once and are waited for, since they are paid for. Those that come to nothing are left out, unless
        none is left; where the way to the model was barred (no money is left, say), nothing is chosen.
        """
        talks = [_Talk(ctx, model, self._audience, i) for i, model in enumerate(self.models)]
        if len(talks) == 1:
            return await self._talk(ctx, tools, talks[0])
        failures: list[Exception] = []

        async def attempted(talk: _Talk) -> Sequence[BaseModel] | None:
            try:
                return await self._talk(ctx, tools, talk)
            except Exception as error:  # noqa: BLE001  raised below, when the others have ended
                failures.append(error)
                return None

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(attempted(talk)) for talk in talks]
        found = [task.result() for task in tasks]
        useless = [error for error in failures if isinstance(error, ModelError)]
        if len(useless) < len(failures):
            raise next(error for error in failures if not isinstance(error, ModelError))
        if len(useless) == len(talks):
            raise why_none(useless)

        def rank() -> list[float | None]:
            return scores(found, ctx.artifacts, self.ask.score)

        return best(found, await ctx.call(f"{talks[0].key}/best of {len(talks)}", rank))

    async def _talk(self, ctx: Context, tools: Sequence[Tool], talk: "_Talk") -> Sequence[BaseModel]:
        """One conversation, until there are outputs that may be published."""
        request = self._first(ctx, tools, talk.number)
        useless = rounds = 0
        while True:
            reply = await talk.next(request)
            if reply.finish == "refused":
                raise BadReply(f"{talk.model.name} refuses to answer {ctx.agent_name!r}: {reply.text[:500]}")
            said = Message(role="assistant", text=reply.text, tool_calls=reply.tool_calls)
            if reply.tool_calls:
                rounds += 1
                more = rounds <= self.ask.rounds
                problems: tuple[str, ...] = () if more else ("it calls tools again",)
                answers = [await self._tool(ctx, f"{talk.key}/tool/{i}", c, tools if more else None)
                           for i, c in enumerate(reply.tool_calls, 1)]  # fmt: skip
            else:
                outputs, problems = await self._read(ctx, f"{talk.key}/repaired", reply)
                if not problems:
                    return outputs
                answers = [Message(role="user", text=_again(problems))]
            useless += bool(problems)
            if useless >= self.ask.replies:
                raise BadReply(
                    f"{talk.model.name} gave {ctx.agent_name!r} no usable reply in {useless}. The last: "
                    f"{'; '.join(problems)}."
                )
            request = request.model_copy(update={"messages": (*request.messages, said, *answers)})

    async def _read(self, ctx: Context, key: str, reply: Reply) -> tuple[Sequence[BaseModel], tuple[str, ...]]:
        """The outputs in a reply, and what is wrong with it; JSON that had to be repaired is journaled as read."""
        whole = reply.finish != "length"
        parsed = self._contract.read(reply.text, repair=whole)
        if parsed.problems:
            cut = () if whole else ("it was cut off for its length; be shorter",)
            return (), parsed.problems + cut
        if parsed.repaired is not None:
            repaired = parsed.repaired

            async def repair() -> JsonValue:
                return repaired

            await ctx.call(key, repair)
        problems = []
        for i, output in enumerate(parsed.outputs):
            try:
                ctx.check(output)
            except PublishError as error:
                problems.append(f"outputs[{i}]: {error}")
        return parsed.outputs, tuple(problems)

    async def _tool(self, ctx: Context, key: str, call: ToolCall, tools: Sequence[Tool] | None) -> Message:
        """What a tool says, or why it is not run; tools None = none is run any more."""
        if tools is None:
            result = ToolResult(text="No more tools may be called. Answer with what you know.", failed=True)
        elif tool := next((tool for tool in tools if tool.name == call.name), None):
            result = await ctx.call(key, tool.run, call.arguments)
        else:
            names = ", ".join(tool.name for tool in tools) or "none"
            result = ToolResult(text=f"There is no tool {call.name!r} for you. You may call: {names}.", failed=True)
        room = self.ask.tool_tokens * CHARACTERS
        left = len(result.text) - room
        text = result.text if left <= 0 else f"{result.text[:room]} … {left:,} characters left out"
        return Message(role="tool", text=f"Error: {text}" if result.failed else text, tool_call=call.id)


@dataclass(slots=True)
class _Talk:
    """The replies of one conversation, on record or bought now.

    Attributes:
        number: which of several conversations it is, from 0.
        count: the number of the last reply.
    """

    ctx: Context
    model: Model
    audience: Audience
    number: int
    count: int = 0
    _after: int = -1

    def __post_init__(self) -> None:
        self._after, _ = last_refusal(self.ctx.failures(), self.ctx.feedback)
        recorded = self.ctx.recorded()
        while (key := self._key(self.count + 1)) in recorded and recorded[key][0].seq <= self._after:
            self.count += 1

    def _key(self, count: int) -> str:
        return f"model-{self.number + 1}/{count}" if self.number else f"model/{count}"

    @property
    def key(self) -> str:
        """Under which the last reply is on record."""
        return self._key(self.count)

    async def next(self, request: Request) -> Reply:
        """The next reply, from the record if it is there."""
        self.count += 1
        key = self.key
        calling, called = self.ctx.recorded().get(key, (None, None))
        if called is not None and called.outcome == "done" and calling is not None and calling.seq > self._after:
            return _REPLY.validate_json(called.payload)
        estimate = self.model.estimate(request)
        most = Price(estimate.cost, estimate.tokens, known=False)

        def price(result: Reply | Exception) -> Price:
            if isinstance(result, Reply):
                return Price(most.cost if result.cost is None else result.cost, result.usage.tokens)
            return most if not isinstance(result, ModelError) or result.charged else FREE

        async def run() -> Reply:
            return await self.model.complete(request, self.audience.of(self.ctx, key))

        return await self.ctx.bought(key, self.model.name, run, _REPLY, request=request, estimate=most, price=price)


def last_refusal(failures: Iterable[Failed], feedback: str) -> tuple[int, str]:
    """Where on the log outputs of earlier attempts were last refused, and why; (-1, feedback) if they never were."""
    at, why = -1, feedback
    for failed in failures:
        if refused(failed):
            at, why = failed.seq, failed.feedback or (failed.error.message if failed.error is not None else "")
    return at, why


def refused(failed: Failed) -> bool:
    """Whether it was the outputs that failed, and not the way to them; under a higher limit they are as good as any."""
    kind = failed.error.type if failed.error is not None and failed.kind == "error" else ""
    return failed.kind == "rejected" or kind in _REFUSALS


def _family(error: type[Exception]) -> set[str]:
    return {error.__name__}.union(*map(_family, error.__subclasses__()))


_REFUSALS = _family(PublishError) | {BadReply.__name__}


def _again(problems: Sequence[str]) -> str:
    listed = "\n".join(f"- {problem}" for problem in problems)
    return f"Your reply cannot be used:\n{listed}\nAnswer again, with the whole JSON object."
