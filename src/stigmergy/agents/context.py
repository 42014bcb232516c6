"""What a body may know and do beside its inputs."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from hashlib import blake2b
from time import perf_counter
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, cast, get_type_hints, overload
from weakref import WeakKeyDictionary

from pydantic import BaseModel, JsonValue, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from stigmergy.agents.asking import Asking
from stigmergy.agents.request import Request
from stigmergy.agents.signature import ContextMark
from stigmergy.agents.threads import in_thread
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.briefing import Briefing
from stigmergy.blackboard.core.decision import Draft
from stigmergy.blackboard.core.running import CHARGE
from stigmergy.blackboard.definitions import is_money, is_number
from stigmergy.blackboard.durations import Seconds, in_seconds
from stigmergy.blackboard.errors import (
    CallChanged,
    DefinitionError,
    DuplicateCall,
    KeyReused,
    NotJournalable,
    PayloadErased,
)
from stigmergy.blackboard.events import Called, Calling, ErrorInfo, Failed
from stigmergy.blackboard.payloads.roundtrip import lossless_json
from stigmergy.blackboard.payloads.types import check_text
from stigmergy.blackboard.shell.job import Job
from stigmergy.blackboard.stores.rows import decode
from stigmergy.blackboard.text import problems

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
I = TypeVar("I", bound=BaseModel)  # noqa: E741  the instructions' type

Drafting = Callable[..., Draft | None]

_ANYTHING: TypeAdapter[Any] = TypeAdapter(JsonValue)
_DECODERS: WeakKeyDictionary[FunctionType, TypeAdapter[Any]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Price:
    """What an effect takes, or may take at most; `known` is False where that is an estimate.

    Attributes:
        cost: dollars; None = nobody knows, and nothing is booked.
    """

    cost: Decimal | None = Decimal(0)
    tokens: int = 0
    known: bool = True

    @property
    def booked(self) -> str:
        """The dollars as the log has them."""
        return str(self.cost or Decimal(0))


FREE = Price()


class Context(ContextMark):
    """Given to a body that has a parameter of this type.

    Attributes:
        artifacts: the envelopes of the inputs, in declared order.
        instructions: what the context provider wants the agent to know, the most important first.
        tools: names of the tools that its model may call now; None = all it has.
        attempt: 1 for the first attempt.
        feedback: why the outputs of the last attempt were refused; "" if they were not.
    """

    def __init__(
        self, job: Job, inputs: Sequence[Artifact[Any]], request: Request, briefing: Briefing | None,
        drafting: Drafting,
    ) -> None:  # fmt: skip
        self._job = job
        self._request = request
        self._briefing = briefing
        self._drafting = drafting
        self._used: set[str] = set()
        self._published = 0
        self.artifacts: tuple[Artifact[Any], ...] = tuple(inputs)
        self.agent_name = job.agent.name
        self.description = job.agent.description
        self.attempt = job.attempt
        self.feedback = job.feedback
        self.run = job.run
        self.activation = job.id
        self.phase = request.phase
        self.instructions: tuple[BaseModel, ...] = briefing.instructions if briefing is not None else ()
        self.tools: tuple[str, ...] | None = briefing.tools if briefing is not None else None

    def __repr__(self) -> str:
        inputs = ", ".join(artifact.ref for artifact in self.artifacts)
        return f"Context({self.agent_name}@{self.activation} on {inputs}, attempt {self.attempt})"

    @cached_property
    def past(self) -> tuple[Artifact[Any], ...]:
        """Past artifacts as of the claim: what the context provider chose, or else the ancestors of the inputs."""
        if self._briefing is not None:
            return self._briefing.artifacts
        return tuple(self._request.ancestors())

    def now(self) -> float:
        """The log time of the claim, in seconds since the epoch: the same in every replay."""
        return self._job.claimed_at

    def idempotency_key(self, key: str) -> str:
        """A key that is the same in every attempt, also of a dead letter tried again, for providers that take one."""
        return f"stigmergy-{self.run}-{self._job.desk.chain(self._job)[-1]}-{key}"

    @overload
    async def call(self, key: str, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def call(self, key: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def call(self, key: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """A journaled effect: once its record is durable it is never executed again, whatever dies.

        An effect that dies before its record may be executed again. The result is read back from its record also the
        first time, by the return annotation of `fn`; without one it may be a JSON value only.

        Args:
            key: unique among the effects of this body.
            fn: sync (then it runs in a thread) or async; its arguments follow.

        Raises:
            DuplicateCall: the key was used before in this attempt.
            CallChanged: an earlier attempt recorded this key with other arguments, or a result of another type.
            NotJournalable: the result is neither JSON nor a model.
        """
        digest = self._announce(key, args, kwargs)
        name = getattr(fn, "__qualname__", type(fn).__name__)
        decoder = _decoder(fn)
        recorded = self._job.desk.recorded(self._job).get(key)
        if recorded is not None:
            if recorded[0].digest != digest:
                raise CallChanged(
                    f'call "{key}" of {self.agent_name!r} was recorded with other arguments. Use a new key, or make '
                    "the arguments depend on the inputs alone."
                )
            if recorded[1] is not None and recorded[1].outcome == "done":
                return self._as_recorded(key, recorded[1].payload, decoder)

        async def run() -> Any:
            if inspect.iscoroutinefunction(fn):
                return await fn(*args, **kwargs)
            result = await in_thread(lambda: fn(*args, **kwargs))
            return await result if inspect.isawaitable(result) else result

        return await self._execute(Calling(key=key, name=name, digest=digest), run, decoder)

    def _as_recorded(self, key: str, payload: bytes, decoder: TypeAdapter[R]) -> R:
        if not payload:
            raise PayloadErased(
                f'what call "{key}" of {self.agent_name!r} replied was erased, and it is not done again. Use a new key '
                "if it is to be."
            )
        try:
            return decoder.validate_json(payload)
        except ValidationError as error:
            raise CallChanged(
                f'call "{key}" of {self.agent_name!r} was recorded with a result that its return annotation of now '
                f"does not take: {problems(error)}. Use a new key, or an annotation that takes both."
            ) from error

    def recorded(self) -> dict[str, tuple[Calling, Called | None]]:
        """The effects that attempts before this moment recorded, by key: each announcement and its outcome."""
        return self._job.desk.recorded(self._job)

    def failures(self) -> list[Failed]:
        """How earlier attempts ended, also those of the dead letter that this repeats, oldest first."""
        reader = self._job.desk.reader()
        rows = [row for id in reversed(self._job.desk.chain(self._job)) for row in reader.following(id)]
        return [event for event in map(decode, rows) if isinstance(event, Failed)]

    def check(self, payload: BaseModel) -> None:
        """Refuse now what would be refused when it is published, as far as that can be known before.

        Raises:
            PublishError: why it cannot be published.
        """
        self._drafting(payload)

    async def bought(
        self, key: str, name: str, run: Callable[[], Awaitable[R]], decoder: TypeAdapter[R], *, request: object,
        estimate: Price, price: Callable[[R | Exception], Price],
    ) -> R:  # fmt: skip
        """An effect that costs: its estimate is reserved before, its price is recorded with the result.

        Unlike a `call`, what is on record under the key is not looked up: the caller does, and announces it anew.

        Args:
            name: who is paid, for sums by effect.
            request: what is asked for; only its digest is kept.
            price: of the result, or of the error.

        Raises:
            BudgetSpent: the estimate is more than is left.
            CallRefused: nobody knows the price, and dollars are capped.
        """
        digest = self._announce(key, (request,), {})
        calling = Calling(key=key, name=name, digest=digest, cost=estimate.booked, tokens=estimate.tokens,
                          unpriced=estimate.cost is None)  # fmt: skip
        return cast("R", await self._execute(calling, run, decoder, price))

    def _announce(self, key: str, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
        check_text("key", key)
        if key in self._used:
            raise DuplicateCall(f'call "{key}" is used twice in {self.agent_name!r}. Give each effect its own key.')
        self._used.add(key)
        try:
            return digest_of_call(args, kwargs)
        except (PydanticSerializationError, ValueError) as error:
            raise NotJournalable(f"call {key!r}: its arguments cannot be recorded as JSON ({error}).") from error

    async def _execute(
        self, announced: Calling, run: Callable[[], Awaitable[Any]], decoder: TypeAdapter[Any],
        price: Callable[[Any], Price] = lambda _: FREE,
    ) -> Any:  # fmt: skip
        desk, job, key = self._job.desk, self._job, announced.key
        calling = await desk.calling(job, announced)
        started = perf_counter()

        def called(paid: Price, **said: Any) -> Called:
            seconds = perf_counter() - started
            return Called(activation=job.id, key=key, seconds=seconds, cost=paid.booked, tokens=paid.tokens,
                          unpriced=paid.cost is None, **said)  # fmt: skip

        try:
            result = await run()
            payload = _recordable(key, result, decoder)
        except Exception as error:
            paid = price(error)
            outcome = "failed" if paid.known else "unknown"
            await desk.called(job, calling, called(paid, outcome=outcome, error=ErrorInfo.of(error)))
            raise
        # No await between the return of the function and its record, so that a cancellation cannot fall between.
        await desk.called(job, calling, called(price(result), payload=payload))
        return decoder.validate_json(payload)

    async def sleep(self, key: str, seconds: Seconds) -> None:
        """Sleep durably: after a restart only the rest is slept. Virtual under a virtual clock."""
        digest = self._announce(key, (in_seconds(seconds, "ctx.sleep()"),), {})
        desk, job = self._job.desk, self._job
        recorded = desk.recorded(job).get(key)
        if recorded is not None and recorded[1] is not None:
            return
        if recorded is not None:
            calling = recorded[0].seq
        else:
            until = desk.now() + in_seconds(seconds, "ctx.sleep()")
            calling = await desk.calling(job, Calling(key=key, name="sleep", digest=digest, until=until))
        await desk.sleep(job, calling)
        await desk.called(job, calling, Called(activation=job.id, key=key))

    @overload
    async def ask(
        self, key: str, what: str, /, *, within: Seconds | None = None, default: bool | None = None
    ) -> bool: ...
    @overload
    async def ask(
        self, key: str, what: str, /, *, answer: type[T], within: Seconds | None = None, default: T | None = None
    ) -> T: ...
    async def ask(
        self, key: str, what: str, /, *, answer: Any = bool, within: Seconds | None = None, default: Any = None
    ) -> Any:
        """Ask a person and wait for the answer, for as long as it takes and over restarts, without keeping a place.

        The body is unwound here and runs again from its start when the answer is there; effects that are recorded
        are not executed again. An answer that is no `answer` is refused, and the question asked anew.
        Agents that may not see all inputs of this one see neither the question nor its answer.

        Args:
            key: unique among the effects of this body.
            what: the question; it must be the same whenever the body comes here.
            answer: what is expected: a model, an enumeration, or, without it, yes or no.
            within: seconds to wait for an answer.
            default: the answer if nobody gave one by then.

        Raises:
            NotAnswered: nobody answered in time, and there is no default.
            CallChanged: an earlier attempt asked something else with this key.
            CallRefused: no component of this board keeps questions.
        """
        limit = None if within is None else in_seconds(within, "ctx.ask(within=)")
        self._announce(key, (), {})
        return await Asking(self._job, key, what, answer, limit, default).wait()

    async def charge(self, key: str, *, cost: Decimal | str = "0", tokens: int = 0) -> None:
        """Book what an effect cost, once, however often the body is tried: for limits, costs and the report.

        Args:
            key: unique among the effects of this body.
            cost: dollars, exact: a Decimal or a text, never a float.
            tokens: of a language model.

        Raises:
            CallRefused: a component does not admit it.
            DefinitionError: it is no amount.
        """
        if not is_money(cost) or not is_number(tokens, whole=True):
            raise DefinitionError(
                f"ctx.charge(cost={cost!r}, tokens={tokens!r}): dollars as a Decimal or text, tokens whole, from 0."
            )
        exact = str(Decimal(cost))
        digest = self._announce(key, (exact, tokens), {})
        desk, job = self._job.desk, self._job
        recorded = desk.recorded(job).get(key)
        if recorded is not None and recorded[1] is not None:
            return
        calling = await desk.calling(job, Calling(key=key, name=CHARGE, digest=digest, cost=exact, tokens=tokens))
        await desk.called(job, calling, Called(activation=job.id, key=key, cost=exact, tokens=tokens))

    async def publish(self, payload: BaseModel, /, *, key: str | None = None, tags: Sequence[str] = ()) -> int:
        """Publish at once, before the body ends; its id. A retry of the body does not publish it again.

        It must be declared as what is returned must be, and gets the same visibility, tags and reviewer; what does
        not pass the `where=` of its output is left out, and its id is 0 (it counts for `fan_out=`, as when returned).
        An attempt of which a limit of the board refused something does not complete, also if the error is caught: it
        stays open for a higher limit.

        Args:
            key: what makes it the same artifact in the next attempt; by default its ordinal in this body.

        Raises:
            UndeclaredOutput: the agent does not publish this type.
            KeyReused: it published something else under this key, or in an earlier attempt in this place.
            WrongFanOut: this attempt has published as much as its output's `fan_out=` or `Limits(fan_out=)` allows.
            PayloadTooLarge: it is larger than `Limits(payload_bytes=)`.
        """
        self._published += 1
        own = f"{self._job.id}/{key if key is not None else self._published}"
        draft = self._drafting(payload, key=own, tags=tags)
        if draft is None:
            return 0
        which = f"under the key {key!r}" if key is not None else f"as number {self._published}"
        try:
            ids = await self._job.desk.publish_from(self._job, [draft])
        except KeyReused as error:
            raise KeyReused(
                f"{self.agent_name!r} gave ctx.publish something else {which} before. Give each its own key=, and "
                "publish in every attempt what depends on the inputs alone."
            ) from error
        if ids:
            return ids[0]
        row = self._job.desk.reader().by_key(self.run, own)
        return row.seq if row is not None else 0


def digest_of_call(args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    """What an effect was asked, as the log has it (`Calling.digest`)."""
    return blake2b(to_json([args, kwargs], by_alias=True, inf_nan_mode="strings"), digest_size=12).hexdigest()


def _recordable(key: str, result: object, decoder: TypeAdapter[Any]) -> bytes:
    try:
        model = isinstance(result, BaseModel)
        payload = lossless_json(result) if model else decoder.dump_json(result, warnings=False)
        decoder.validate_json(payload)
    except (PydanticSerializationError, ValidationError, ValueError) as error:
        raise NotJournalable(
            f'call "{key}" returned <{type(result).__name__}>; only JSON values and pydantic models can be recorded. '
            "Annotate what the function returns, and return a model or plain data."
        ) from error
    return payload


def _decoder(fn: Callable[..., Any]) -> TypeAdapter[Any]:
    """What reads the results of a function back; made once for each, as it takes longer than many an effect."""
    function = getattr(fn, "__func__", fn)
    decoder = _DECODERS.get(function) if isinstance(function, FunctionType) else None
    if decoder is not None:
        return decoder
    try:
        returns = get_type_hints(fn).get("return", object)
    except (NameError, TypeError):  # a name that is not known yet may be later
        return _ANYTHING
    try:
        decoder = _ANYTHING if returns in (Any, object) else TypeAdapter(returns)
    except PydanticSchemaGenerationError as error:
        raise NotJournalable(
            f"{getattr(fn, '__qualname__', fn)!r} returns {returns!r}, which cannot be recorded. Return a model."
        ) from error
    if isinstance(function, FunctionType):
        _DECODERS[function] = decoder
    return decoder
