"""What an agent is: a spec for the kernel, and beside it what runs it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import update_wrapper
from typing import Any, Generic, Literal, ParamSpec, TypeVar

from pydantic import BaseModel

from stigmergy.agents.call import NO_ARGUMENTS, CallShape
from stigmergy.agents.caller import Origin
from stigmergy.agents.prompting.prompt import Ask
from stigmergy.agents.prompting.tools import ToolSource
from stigmergy.blackboard.briefing import ContextProvider
from stigmergy.blackboard.core.fingerprints import key_name
from stigmergy.blackboard.core.where import written_at
from stigmergy.blackboard.definitions import AgentSpec, Output, Retry, Slot, Subscription
from stigmergy.blackboard.durations import Seconds, in_seconds
from stigmergy.blackboard.errors import BadSignature, DefinitionError, NoBody

P = ParamSpec("P")
R = TypeVar("R")
Isolate = Literal["thread", "process"]
CallNext = Callable[[], Awaitable[Sequence[BaseModel]]]
Middleware = Callable[[CallNext, Any], Awaitable[Sequence[BaseModel]]]
"""`async (call_next, ctx) -> outputs`, around a body; the context is `Any` so that a typed one fits."""


@dataclass(frozen=True, slots=True)
class Means:
    """What runs an agent; the worker reads it, the kernel never does.

    Attributes:
        function: the body; None = the model answers.
        call: how inputs become the body's arguments.
        is_async: whether the body is a coroutine function; if not, it runs in a thread.
        isolate: where the body runs, if that was asked for.
        model: answers when there is no body, or a list of such; None = the board's.
        context: gives instructions and past artifacts; None = the board's provider.
        ask: how the model is asked; None = as usual.
        tools: functions that the model may call, and servers of such.
        middleware: runs around the body, the first outermost.
    """

    function: Callable[..., object] | None = None
    call: CallShape = NO_ARGUMENTS
    is_async: bool = False
    isolate: Isolate | None = None
    model: object | None = None
    context: ContextProvider | None = None
    ask: Ask | None = None
    tools: tuple[Callable[..., object] | ToolSource, ...] = ()
    middleware: tuple[Middleware, ...] = ()


class Agent:
    """Someone who consumes artifacts and publishes others; a body or a language model does the work.

    Attributes:
        spec: all that the kernel needs to know.
        means: all that the worker needs beside it.
        origin: where in the code it is defined.
    """

    def __init__(self, spec: AgentSpec, means: Means, origin: Origin) -> None:
        self.spec = spec
        self.means = means
        self.origin = origin

    @property
    def name(self) -> str:
        """Unique on a board."""
        return self.spec.name

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """What it consumes; any of them is enough."""
        return self.spec.subscriptions

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What it may publish."""
        return self.spec.outputs

    def validate(self, has_model: bool) -> None:
        """Check that the agent could run.

        Args:
            has_model: whether the board has a model that answers for agents without a body.

        Raises:
            NoBody: it has neither a body nor a model.
            BadSignature: it consumes nothing, or its model has nothing to answer.
        """
        subject, at = f'agent "{self.name}"', written_at(self.origin.place)
        means = self.means
        if means.function is None and means.model is None and not has_model:
            raise NoBody(f"{subject} has neither a body nor a model. Give Blackboard(model=...) or .body(fn).{at}")
        if not self.subscriptions:
            raise BadSignature(f"{subject} consumes nothing, so it would never run. Add .consumes(T).{at}")
        if means.function is None and not self.outputs and not means.tools:
            way_out = "Add .publishes(T)."
            raise BadSignature(f"{subject} publishes nothing, so its model has nothing to answer. {way_out}{at}")

    def __repr__(self) -> str:
        consumed = [_subscription_text(s) for s in self.subscriptions]
        if len(consumed) > 1:
            consumed = [f"({text})" if " " in text else text for text in consumed]
        produced = " | ".join(output.type_name for output in self.outputs)
        return f"Agent({self.name!r}: {' | '.join(consumed) or 'nothing'} -> {produced or 'nothing'})"


class FunctionAgent(Agent, Generic[P, R]):
    """An agent whose body is a function; calling it calls that function, so that tests need no board."""

    __name__: str

    def __init__(self, spec: AgentSpec, means: Means, origin: Origin, function: Callable[P, R]) -> None:
        if means.isolate == "process" and any(p.kind == "context" for p in means.call.parameters):
            way_out = "Leave isolate= out, or let a middleware ask and call what needs the context."
            at = written_at(origin.place)
            raise BadSignature(f'agent "{spec.name}": in a process of its own a body has no context. {way_out}{at}')
        super().__init__(spec, replace(means, function=function), origin)
        update_wrapper(self, function, updated=())
        self._function = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._function(*args, **kwargs)


def checked_name(name: str, place: str = "", what: str = "an agent") -> str:
    """The name, if ids, commands and logs can show it.

    Raises:
        DefinitionError: it is empty, reserved, or has a character that ids are made of.
    """
    text = isinstance(name, str)
    odd = not text or any(c in name for c in "@:/<>") or not name.isprintable() or name != name.strip()
    if not name or name == "outside" or odd:
        rule = 'A name is not empty, not "outside", can be printed, and has none of @ : / < >'
        raise DefinitionError(f"{name!r} cannot name {what}. {rule}; give another as name=.{written_at(place)}")
    return name


def limited(
    spec: AgentSpec, place: str, *, concurrency: int | None, timeout: Seconds | None, retry: Retry | None
) -> AgentSpec:
    """The spec with these limits; None leaves one as it is.

    Raises:
        DefinitionError: a limit is no sensible value.
    """
    subject, at = f'agent "{spec.name}"', written_at(place)
    if concurrency is not None and (type(concurrency) is not int or concurrency < 1):
        raise DefinitionError(f"{subject}: concurrency={concurrency!r}; it is a whole number from 1.{at}")
    if retry is not None and not isinstance(retry, Retry):
        raise DefinitionError(f"{subject}: retry={retry!r}; write retry=Retry(attempts=3), all attempts counted.{at}")
    return replace(
        spec,
        concurrency=spec.concurrency if concurrency is None else concurrency,
        timeout=spec.timeout if timeout is None else in_seconds(timeout, f"{subject}: timeout="),
        retry=retry or spec.retry,
    )


def isolated(where: Isolate | None, subject: str, place: str) -> Isolate | None:
    """The place where a body runs.

    Raises:
        DefinitionError: there is no such place.
    """
    if where not in (None, "thread", "process"):
        raise DefinitionError(f'{subject}: isolate={where!r} is not one of "thread", "process".{written_at(place)}')
    return where


def _subscription_text(subscription: Subscription) -> str:
    parts = [" & ".join(_slot_text(slot, subscription.batch) for slot in subscription.slots)]
    if subscription.by is not None:
        parts.append(f"by {key_name(subscription.by)}")
    if subscription.within is not None:
        parts.append("within idle" if subscription.within == "idle" else f"within {subscription.within:g} s")
    if subscription.window is not None:
        parts.append(f"window {subscription.window}")
    if subscription.groups > 1:
        parts.append(f"in groups of {subscription.groups}")
    return " ".join(parts)


def _slot_text(slot: Slot, batch: bool) -> str:
    text = f"list[{slot.type_name}] of {slot.count}" if batch else slot.type_name
    text = f"{slot.count} {text}" if slot.count > 1 and not batch else text
    return f"{text}?" if slot.optional else text
