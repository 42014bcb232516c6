"""Defining an agent by saying, one call after another, what it consumes and publishes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeAlias, TypeVar, TypeVarTuple, Unpack, overload

from pydantic import BaseModel

from stigmergy.agents.agent import Agent, FunctionAgent, Isolate, Means, Middleware, isolated, limited
from stigmergy.agents.call import call_shape
from stigmergy.agents.caller import Origin, caller, here, origin_of
from stigmergy.agents.outputs import Publishing, output, plain_outputs
from stigmergy.agents.prompting.prompt import Ask
from stigmergy.agents.prompting.tools import ToolSource
from stigmergy.agents.signature import ContextMark, Models, read_signature
from stigmergy.agents.subscribe import (
    Batching,
    Grouping,
    Joining,
    Producers,
    Reading,
    Wanted,
    Within,
    names,
    subscription,
)
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.briefing import ContextProvider
from stigmergy.blackboard.core.visibility import Named
from stigmergy.blackboard.core.where import Filter, written_at
from stigmergy.blackboard.definitions import MAX_WAITING, AgentSpec, Key, Output, Retry
from stigmergy.blackboard.durations import Seconds
from stigmergy.blackboard.errors import BadSignature, DefinitionError, NoBody
from stigmergy.blackboard.events import Visibility
from stigmergy.blackboard.payloads.types import type_of

T = TypeVar("T")
A = TypeVar("A", bound=BaseModel)
B = TypeVar("B", bound=BaseModel)
C = TypeVar("C", bound=BaseModel)
D = TypeVar("D", bound=BaseModel)
X = TypeVar("X")
Y = TypeVar("Y")
Ctx = TypeVar("Ctx", bound=ContextMark)
Out = TypeVar("Out")
In = TypeVarTuple("In")
Reply: TypeAlias = T | Sequence[T] | Awaitable[T | Sequence[T] | None] | None
"""What a body may return: one artifact, several, or nothing."""


class AgentBuilder(Agent, Generic[Out, *In]):
    """An agent in the making; it takes part as it is, and without `.body()` the model answers.

    `Out` is what it publishes and `In` what its body gets, so that type checkers can refuse a body that does not fit.
    """

    def __init__(self, name: str, origin: Origin, register: Callable[[Agent], None]) -> None:
        super().__init__(AgentSpec(name, place=origin.place), Means(), origin)
        self._register = register
        self._declared: tuple[tuple[type[BaseModel], ...], ...] = ()
        self._made: FunctionAgent[..., Any] | None = None

    def description(self, text: str) -> Self:
        """What the agent is for; a model is told so."""
        return self._with(replace(self.spec, description=text))

    def phase(self, name: str) -> Self:
        """The phase it serves, for instructions and statistics."""
        return self._with(replace(self.spec, phase=name))

    def labels(self, *labels: str) -> Self:
        """Labels it carries; `labelled(…)` artifacts ask for them."""
        return self._with(
            replace(self.spec, labels=self.spec.labels | set(names(labels, f"{self._subject}: labels=", here().place)))
        )

    def tenant(self, name: str) -> Self:
        """The tenant it belongs to; `tenant(…)` artifacts ask for it."""
        return self._with(replace(self.spec, tenant=name))

    def pure(self) -> Self:
        """Its body has no effect outside `ctx.call`, so it may start before its claim is durable."""
        return self._with(replace(self.spec, pure=True))

    def self_trigger(self) -> Self:
        """It may consume what it publishes itself."""
        return self._with(replace(self.spec, self_trigger=True))

    def limits(
        self, *, concurrency: int | None = None, timeout: Seconds | None = None, retry: Retry | None = None
    ) -> Self:
        """Bounds of this agent alone.

        Args:
            concurrency: activations at one time.
            timeout: seconds, or a `timedelta`, per attempt.
            retry: how failed attempts are repeated; without it there is one attempt.
        """
        place = here().place
        return self._with(limited(self.spec, place, concurrency=concurrency, timeout=timeout, retry=retry))

    def model(self, model: object | None = None, *, ask: Ask | None = None) -> Self:
        """The language model that answers for this agent, instead of the board's, and how it is asked.

        Args:
            model: a name, an instance, or a list of them: each then answers, and the best answer is published.
            ask: how; also what the best is (`score`). Without a score the answer that came most often is.
        """
        return self._with(means=replace(
            self.means, model=self.means.model if model is None else model, ask=ask or self.means.ask,
        ))  # fmt: skip

    def context(self, provider: ContextProvider) -> Self:
        """Who gives it instructions and past artifacts, instead of the board's provider."""
        return self._with(means=replace(self.means, context=provider))

    def tools(self, *tools: Callable[..., object] | ToolSource) -> Self:
        """Functions that its model may call, or servers of such (`McpServer`); again = adds."""
        return self._with(means=replace(self.means, tools=self.means.tools + tools))

    def around(self, *middleware: Middleware) -> Self:
        """Middleware around its body, the first outermost; again = inside of these."""
        return self._with(means=replace(self.means, middleware=self.means.middleware + middleware))

    def isolate(self, where: Isolate) -> Self:
        """Where its body runs: "process" can be killed at a timeout; a plain function runs in a thread anyway."""
        return self._with(means=replace(self.means, isolate=isolated(where, self._subject, here().place)))

    @overload
    def consumes(self: AgentBuilder[Out], a: type[A], /, **options: Unpack[Reading[A]]) -> AgentBuilder[Out, A]: ...
    @overload
    def consumes(
        self: AgentBuilder[Out], a: type[A], /, **options: Unpack[Batching[A]]
    ) -> AgentBuilder[Out, list[A]]: ...
    @overload
    def consumes(
        self: AgentBuilder[Out], a: type[A], b: type[B], /, **options: Unpack[Joining[A | B]]
    ) -> AgentBuilder[Out, A, B]: ...
    @overload
    def consumes(
        self: AgentBuilder[Out], a: type[A], b: type[B], c: type[C], /, **options: Unpack[Joining[A | B | C]]
    ) -> AgentBuilder[Out, A, B, C]: ...
    @overload
    def consumes(
        self: AgentBuilder[Out], a: type[A], b: type[B], c: type[C], d: type[D], /,
        **options: Unpack[Joining[A | B | C | D]],
    ) -> AgentBuilder[Out, A, B, C, D]: ...  # fmt: skip
    @overload
    def consumes(
        self: AgentBuilder[Out], a: type[A], b: type[B], /, **options: Unpack[Grouping[A | B]]
    ) -> AgentBuilder[Out, list[tuple[A, B]]]: ...
    @overload
    def consumes(
        self: AgentBuilder[Out], a: type[A], b: type[B], c: type[C], /, **options: Unpack[Grouping[A | B | C]]
    ) -> AgentBuilder[Out, list[tuple[A, B, C]]]: ...
    @overload
    def consumes(
        self: AgentBuilder[Out, X], a: type[A], /, **options: Unpack[Reading[A]]
    ) -> AgentBuilder[Out, X | A]: ...
    @overload
    def consumes(
        self: AgentBuilder[Out, X, Y], a: type[A], b: type[B], /, **options: Unpack[Joining[A | B]]
    ) -> AgentBuilder[Out, X | A, Y | B]: ...
    # Other mixtures bring different arguments: a model or a body that takes the context alone can use them.
    @overload
    def consumes(self, a: type[A], /, **options: Unpack[Reading[A]]) -> AgentBuilder[Out, *tuple[Any, ...]]: ...
    @overload
    def consumes(self, a: type[A], /, **options: Unpack[Batching[A]]) -> AgentBuilder[Out, *tuple[Any, ...]]: ...
    @overload
    def consumes(
        self, a: type[A], b: type[B], /, **options: Unpack[Joining[A | B]]
    ) -> AgentBuilder[Out, *tuple[Any, ...]]: ...
    def consumes(
        self,
        *types: type[BaseModel],
        where: Filter[Any] | None = None,
        producer: Producers | None = None,
        tags: str | Iterable[str] = (),
        since: Literal["now", "start"] = "now",
        batch: int | None = None,
        by: Key | None = None,
        within: Within | None = None,
        window: int | None = None,
        groups: int = 1,
        max_waiting: int = MAX_WAITING,
        scope: Literal["run", "board"] = "run",
        optional: Collection[type[BaseModel]] = (),
    ) -> Any:
        """Take artifacts of one type, or wait for several types; again = or.

        Args:
            types: the inputs, in the order in which the body gets them; a type listed twice is waited for twice.
            where: only what passes: a mapping of field values (indexed), a predicate, or a list of both.
            producer: only artifacts by these agents; "outside" = published from outside.
            tags: only artifacts with at least one of these tags.
            since: "start" also offers what was published before the agent was first enrolled.
            batch: the body gets a list of so many; fewer when `within` passes.
            by: what must be equal among the inputs: a field name, a function of the payload, or `ancestor(T)`.
            within: seconds, or a `timedelta`, that an artifact waits for the rest; "idle" = until nothing else can run.
            window: expire an artifact when more than this many later ones have entered.
            groups: the body gets a list of so many complete sets, as tuples.
            max_waiting: how many artifacts may wait here; when one more comes, the oldest expires, as the report says.
            scope: "run" keeps runs apart; "board" mixes them.
            optional: of these types, none need be there when `within` passes; the body gets None.

        Raises:
            UnknownField, BadFilter, BadType, DefinitionError: it cannot work as written.
        """
        wanted = Wanted(
            types, where, producer, tags, since, batch, by, within, window, groups, max_waiting, scope, optional
        )
        made = subscription(wanted, f"{self.name}/{len(self.subscriptions)}", self._subject, here().place)
        self._with(replace(self.spec, subscriptions=(*self.subscriptions, made)))
        self._declared += (types,)
        return self

    @overload
    def publishes(self, a: type[A], /, **options: Unpack[Publishing[A]]) -> AgentBuilder[Out | A, *In]: ...
    @overload
    def publishes(self, a: type[A], b: type[B], /) -> AgentBuilder[Out | A | B, *In]: ...
    @overload
    def publishes(self, a: type[A], b: type[B], c: type[C], /) -> AgentBuilder[Out | A | B | C, *In]: ...
    @overload
    def publishes(
        self, a: type[A], b: type[B], c: type[C], d: type[D], /
    ) -> AgentBuilder[Out | A | B | C | D, *In]: ...
    def publishes(
        self,
        *types: type[BaseModel],
        visibility: Visibility | None = None,
        tags: str | Iterable[str] = (),
        fan_out: int | tuple[int, int] | None = None,
        where: Filter[Any] | None = None,
        review_by: str | Named = "",
    ) -> Any:
        """Allow these types as outputs; again = adds. Options need exactly one type.

        Args:
            visibility: who may see it: `private(…)`, `labelled(…)`, `tenant(…)`, `after(…)`.
            tags: every such artifact gets these.
            fan_out: how many of this type one activation must publish, or (least, most).
            where: outputs that do not pass are left out.
            review_by: held until a component releases it; only this agent, or component, is offered it before.

        Raises:
            UnknownField, BadFilter, BadType, DefinitionError: it cannot work as written.
        """
        place = here().place
        optioned = visibility is not None or tags or fan_out is not None or where is not None or review_by
        if len(types) != 1 and optioned:
            text = f"{self._subject}: options of .publishes() need exactly one type. Write one call per type."
            raise DefinitionError(text + written_at(place))
        made = tuple(
            output(model, visibility, tags, fan_out, where, review_by, subject=self._subject, place=place)
            for model in types
        )
        declared = [each.type_name for each in (*self.outputs, *made)]
        twice = next((name for name in declared if declared.count(name) > 1), None)
        if twice:
            raise DefinitionError(f"{self._subject} publishes {twice} twice. Say it once.{written_at(place)}")
        return self._with(replace(self.spec, outputs=(*self.outputs, *made)))

    @overload
    def body(self, function: Callable[[Unpack[In]], Reply[Out]], /) -> FunctionAgent[..., Any]: ...
    @overload
    def body(self, function: Callable[[Unpack[In], Ctx], Reply[Out]], /) -> FunctionAgent[..., Any]: ...
    @overload
    def body(self, function: Callable[[Ctx], Reply[Out]], /) -> FunctionAgent[..., Any]: ...
    @overload
    def body(
        self: AgentBuilder[Out, A], function: Callable[[Artifact[A]], Reply[Out]], /
    ) -> FunctionAgent[..., Any]: ...
    @overload
    def body(
        self: AgentBuilder[Out, A], function: Callable[[Artifact[A], Ctx], Reply[Out]], /
    ) -> FunctionAgent[..., Any]: ...
    def body(self, function: Callable[..., Any], /) -> FunctionAgent[..., Any]:
        """The function that does the work; it is checked against what is consumed and published.

        It gets the inputs in their order, then, if it asks for it, the context; or the context alone. Without any
        `.publishes()` the return annotation says what it publishes.

        Raises:
            BadSignature: the function does not fit, naming the parameter and what arrives there.
        """
        place = origin_of(function).place
        self._open(function)
        signature = read_signature(function, subject=self._subject, place=place, names=caller().f_locals)
        call = call_shape(signature, self.subscriptions, self._declared, subject=self._subject, place=place)
        means = replace(self.means, call=call, is_async=signature.is_async)
        spec = replace(self.spec, outputs=self._returned(signature.outputs, place))
        self._made = FunctionAgent(spec, means, self.origin, function)
        self._register(self._made)
        return self._made

    def _returned(self, models: Models | None, place: str) -> tuple[Output, ...]:
        """What is published: as declared, or else as annotated; an annotation must not promise more."""
        if models is None or BaseModel in models:
            return self.outputs
        if not self.outputs:
            return plain_outputs(models)
        extra = [model.__name__ for model in models if self.spec.output(type_of(model).name) is None]
        if extra:
            declared = " | ".join(each.type_name for each in self.outputs)
            text = f"{self._subject}: its body returns {extra[0]}, but it publishes {declared}. Add it to .publishes()."
            raise BadSignature(text + written_at(place))
        return self.outputs

    def _with(self, spec: AgentSpec | None = None, means: Means | None = None) -> Self:
        self._open(None)
        self.spec = spec or self.spec
        self.means = means or self.means
        return self

    def _open(self, function: Callable[..., Any] | None) -> None:
        """Refuse what would be lost: options after the body, or another body; the same one may be defined again."""
        made = self._made and self._made.means.function
        if made is None or (function is not None and _same(made, function)):
            return
        text = f"{self._subject} already has its body. Say everything else before .body(), and give one body only."
        raise DefinitionError(text + written_at(here().place))

    @property
    def _subject(self) -> str:
        return f'agent "{self.name}"'

    if not TYPE_CHECKING:  # so that type checkers refuse the call as well

        def __call__(self, *args, **kwargs):
            text = f"{self._subject} has no body yet, so there is nothing to call"
            way_out = f'Write .body(fn), or @agent(name="{self.name}") over the function.'
            raise NoBody(f"{text}. {way_out}{written_at(here().place)}")


def _same(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether these are two versions of one function, as a notebook cell makes when it is run again."""
    first, second = origin_of(one), origin_of(other)
    return (first.module, first.qualname) == (second.module, second.qualname)
