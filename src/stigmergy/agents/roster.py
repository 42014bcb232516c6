"""Who is there: agents and components, defined without a store and without IO."""

from collections.abc import Callable, Iterable
from inspect import getdoc, signature, unwrap
from types import NoneType
from typing import Any, Final, Never, ParamSpec, TypeVar, get_args, get_origin, overload

from pydantic import BaseModel

from stigmergy.agents.agent import Agent, FunctionAgent, Isolate, Means, checked_name, isolated, limited
from stigmergy.agents.builder import AgentBuilder
from stigmergy.agents.caller import here, origin_of
from stigmergy.agents.decorated import decorated
from stigmergy.agents.subscribe import Wanted, Within, names
from stigmergy.blackboard.briefing import ContextProvider
from stigmergy.blackboard.component import Component
from stigmergy.blackboard.core.visibility import Named
from stigmergy.blackboard.core.where import did_you_mean, written_at
from stigmergy.blackboard.definitions import MAX_WAITING, AgentSpec, Ancestor, Key, Limits, Retry
from stigmergy.blackboard.durations import Seconds
from stigmergy.blackboard.errors import BadComponent, BadSignature, DefinitionError, DuplicateAgent, NotFound
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.payloads.types import type_of
from stigmergy.blackboard.text import number

P = ParamSpec("P")
R = TypeVar("R")
_LATER: Final = object()
"""The function comes when the decorator is applied."""


class Roster:
    """Agents and components that belong together; a board is made of one, and so is each test, fork and sweep.

    Args:
        model: the language model that answers for agents without a body; of a list each answers, and the best is taken.
        context: who gives agents their instructions and past artifacts.
        components: what else takes part; see `add`.
        limits: bounds of every run.
        concurrency: activations at one time, over all agents; None = 8.
    """

    def __init__(
        self,
        *,
        model: object | None = None,
        context: ContextProvider | None = None,
        components: Iterable[Component[Any]] = (),
        limits: Limits | None = None,
        concurrency: int | None = 8,
    ) -> None:
        self.model = model
        self.context = context
        at = written_at(here().place)
        if limits is not None and not isinstance(limits, Limits):
            raise DefinitionError(f'limits={limits!r} are none. Give Limits(cost="2.00", …).{at}')
        if context is not None and not callable(getattr(context, "provide", None)):
            raise DefinitionError(f"context={context!r} is no context provider: it has no provide(request).{at}")
        self.limits = limits
        self.concurrency = 8 if concurrency is None else concurrency
        if type(self.concurrency) is not int or self.concurrency < 1:
            raise DefinitionError(f"concurrency={concurrency!r}; it is a whole number from 1.{at}")
        self._agents: dict[str, Agent] = {}
        self._components: dict[str, Component[Any]] = {}
        if not isinstance(components, Iterable):
            raise BadComponent(f"components={components!r} is no list of them. Write components=[…].{at}")
        for component in components:
            self.add(component)

    def __repr__(self) -> str:
        parts = [number(len(self._agents), "agent"), number(len(self._components), "component")]
        return f"{type(self).__name__}({', '.join(parts)})"

    @property
    def agents(self) -> tuple[Agent, ...]:
        """In order of definition."""
        return tuple(self._agents.values())

    @property
    def components(self) -> tuple[Component[Any], ...]:
        """In order of definition, which is the order in which they are asked."""
        return tuple(self._components.values())

    @property
    def types(self) -> TypeTable:
        """All types that agents and components consume or publish.

        Raises:
            TypeClash: two different classes claim one name.
        """
        table = TypeTable()
        for agent in self.agents:
            user = f'agent "{agent.name}"'
            for subscription in agent.subscriptions:
                for slot in subscription.slots:
                    table.add(slot.model, user)
                if isinstance(subscription.by, Ancestor):
                    table.add(subscription.by.model, user)
            for output in agent.outputs:
                table.add(output.model, user)
        for component in self.components:
            for model in _models_of(component):
                table.add(model, f'component "{component.name}"')
        return table

    def find(self, name: str) -> Agent:
        """The agent of this name.

        Raises:
            NotFound: there is none.
        """
        found = self._agents.get(name)
        if found is None:
            raise NotFound(f"There is no agent {name!r}.{did_you_mean(str(name), self._agents)}")
        return found

    def add(self, component: Component[Any], /) -> None:
        """Let a component take part.

        Raises:
            BadComponent: it is no component, its name is taken, or it keeps state and does not say what it starts with.
            DefinitionError: its name is none.
        """
        at = written_at(here().place)
        if not isinstance(component, Component):
            raise BadComponent(
                f"{component!r} is no component. Give an instance of a class derived from Component.{at}"
            )
        checked_name(component.name, here().place, "a component")
        if component.name in self._components or component.name in self._agents:
            raise BadComponent(f"{component.name!r} is here already. Give one of the two another name.{at}")
        if type(component).start is Component.start and _keeps_state(type(component)):
            text = f"{type(component).__name__} keeps state but has no start(). Return there the state before any event"
            raise BadComponent(f"{text}, or derive from Component without [...].{at}")
        for what in ("publishes", "observes"):
            kinds = getattr(component, what)
            if kinds is not None and not (isinstance(kinds, tuple | list) and all(isinstance(k, type) for k in kinds)):
                raise BadComponent(
                    f"{component.name!r}: {what} = {kinds!r}; write a tuple of classes: (Vote, Tally).{at}"
                )
        for model in _models_of(component):
            type_of(model)
        self._components[component.name] = component

    @overload
    def agent(self, function: Callable[P, R], /) -> FunctionAgent[P, R]: ...
    @overload
    def agent(self, name: str, /) -> AgentBuilder[Never]: ...
    @overload
    def agent(
        self,
        *,
        name: str | None = None,
        model: object | None = None,
        retry: Retry | None = None,
        timeout: Seconds | None = None,
        concurrency: int | None = None,
        by: str | Callable[[Any], object] | Ancestor | None = None,
        within: Within | None = None,
        batch: int | None = None,
        max_waiting: int = MAX_WAITING,
        review_by: str | Named = "",
        self_trigger: bool = False,
        pure: bool = False,
        isolate: Isolate | None = None,
        phase: str | None = None,
        labels: str | Iterable[str] = (),
        tenant: str | None = None,
    ) -> Callable[[Callable[P, R]], FunctionAgent[P, R]]: ...
    def agent(self, what: Any = _LATER, **options: Any) -> Any:
        """Define an agent: over a typed function, with or without options, or by name to go on fluently.

        Args:
            name: the function's name unless given.
            model: what a body asks through its context, instead of the board's model.
            retry, timeout, concurrency: its limits; see `AgentBuilder.limits`.
            by, within, batch, max_waiting: how several inputs are waited for; see `AgentBuilder.consumes`.
            review_by: who reviews all that it publishes; see `AgentBuilder.publishes`.
            self_trigger: it may consume what it publishes itself.
            pure: its body has no effect outside `ctx.call`.
            isolate: "process" for a body that can be killed.
            phase: the one whose instructions it gets, and under which it is counted. It filters nothing: fluently,
                `.consumes(Work, where={"phase": "analysis"})` does.
            labels, tenant: what visibility asks for.

        Raises:
            BadSignature: the signature does not say what is consumed and published.
            DuplicateAgent: the name is taken; the same function defined again replaces the first.
        """
        if not isinstance(what, str):
            _check_options(what, options)
            define = self._definer(**options)
            return define if what is _LATER else define(what)
        origin = here()
        if options:
            text = f'agent "{what}" is defined fluently, so {next(iter(options))}= has no place here'
            raise DefinitionError(
                f"{text}. Say it as .{next(iter(options))}(…) or in .limits(…).{written_at(origin.place)}"
            )
        builder: AgentBuilder[Never] = AgentBuilder(checked_name(what, origin.place), origin, self._register)
        self._register(builder)
        return builder

    def _definer(
        self,
        *,
        name: str | None = None,
        model: object | None = None,
        retry: Retry | None = None,
        timeout: Seconds | None = None,
        concurrency: int | None = None,
        by: Key | None = None,
        within: Within | None = None,
        batch: int | None = None,
        max_waiting: int = MAX_WAITING,
        review_by: str | Named = "",
        self_trigger: bool = False,
        pure: bool = False,
        isolate: Isolate | None = None,
        phase: str | None = None,
        labels: str | Iterable[str] = (),
        tenant: str | None = None,
    ) -> Callable[[Callable[..., Any]], FunctionAgent[..., Any]]:
        """What makes an agent with these options out of a function."""

        def define(function: Callable[..., Any]) -> FunctionAgent[..., Any]:
            origin = origin_of(function)
            place = origin.place
            given = str(getattr(function, "__name__", "")) if name is None else name
            spec = AgentSpec(
                name=checked_name(given, place),
                description=(getdoc(unwrap(function)) or "").partition("\n")[0],
                pure=pure,
                self_trigger=self_trigger,
                labels=frozenset(names(labels, f'agent "{given}": labels=', place)),
                tenant=tenant,
                phase=phase,
                place=place,
            )
            spec = limited(spec, place, concurrency=concurrency, timeout=timeout, retry=retry)
            means = Means(model=model, isolate=isolated(isolate, f'agent "{given}"', place))
            wanted = Wanted((), by=by, within=within, batch=batch, max_waiting=max_waiting)
            agent = decorated(function, spec, means, origin, wanted, review_by)
            self._register(agent)
            return agent

        return define

    def _register(self, agent: Agent) -> None:
        """Take an agent in; a definition that is run again replaces itself, in its old place."""
        there = self._agents.get(agent.name)
        same = there is None or agent.origin is there.origin or agent.origin.redefines(there.origin)
        if not same or agent.name in self._components:
            first = there.origin.place if there is not None else "a component"
            way_out = "Give one of them another name, or define them on another Roster."
            raise DuplicateAgent(f'Two are called "{agent.name}": {first} and {agent.origin.place}. {way_out}')
        self._agents[agent.name] = agent


def _check_options(function: object, options: Iterable[str]) -> None:
    """Refuse what is no function, and what a decorator cannot take, in words."""
    at = written_at(here().place)
    if function is not _LATER and not callable(function):
        raise BadSignature(f"{function!r} is no function. Define an agent over one, or by its name.{at}")
    known = [name for name in signature(Roster._definer).parameters if name != "self"]
    for name in options:
        if name not in known:
            way_out = did_you_mean(name, known)
            if callable(getattr(AgentBuilder, name, None)) or name in ("where", "producer", "tags", "optional"):
                way_out = " Say it fluently: agent(name).consumes(…).publishes(…).body(fn)."
            raise DefinitionError(f"agent() takes no {name}=.{way_out}{at}")


def _models_of(component: Component[Any]) -> list[type[BaseModel]]:
    """The artifact types that a component publishes or observes."""
    observed = [kind for kind in component.observes or () if issubclass(kind, BaseModel)]
    return [*component.publishes, *observed]


def _keeps_state(kind: type[Component[Any]]) -> bool:
    """Whether it was derived from `Component[S]` with an S other than None."""
    bases = (base for cls in kind.__mro__ for base in cls.__dict__.get("__orig_bases__", ()))
    return any(get_origin(base) is Component and get_args(base)[0] not in (None, NoneType) for base in bases)
