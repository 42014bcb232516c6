"""What agents are made of: plain values that the matching, the decider and the worker read.

Nothing here has a body or does IO; `stigmergy.agents` builds these from signatures and fluent calls.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from math import inf
from typing import Any, Literal

from pydantic import BaseModel

from stigmergy.blackboard.errors import DefinitionError
from stigmergy.blackboard.events import Visibility
from stigmergy.blackboard.redaction import storable

Predicate = Callable[[Any], bool]
"""An opaque test on a typed payload; it must not change it."""
MAX_WAITING = 10_000
"""Artifacts that may wait in one subscription, unless it says otherwise."""


@dataclass(frozen=True, slots=True)
class Where:
    """A filter, split into what can be indexed and what cannot.

    Attributes:
        equals: field name -> allowed JSON values (any of), sorted by field name.
        predicates: tested in order, on the typed payload.
    """

    equals: tuple[tuple[str, tuple[object, ...]], ...] = ()
    predicates: tuple[Predicate, ...] = ()


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A join key: the nearest ancestor artifact of this type (fork and join inside a run)."""

    type_name: str
    model: type[BaseModel]


Key = str | Callable[[Any], object] | Ancestor
"""How a join finds what belongs together: a field name, a function of the payload, or a common ancestor."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One place of a subscription.

    Attributes:
        type_name: the stable name of the artifact type.
        count: how many artifacts fill it.
        optional: when the deadline passes, the subscription fires without it.
        producers: only artifacts by these agents ("outside" = published from outside); empty = by anyone.
        tags: only artifacts with at least one of these tags; empty = any.
    """

    type_name: str
    model: type[BaseModel]
    count: int = 1
    optional: bool = False
    where: Where = Where()
    producers: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Subscription:
    """What an agent waits for; one rule serves single inputs, joins, counts, batches and windows.

    For every key the oldest artifacts fill the slots first, and fire when all slots are full; the rest keep waiting.

    Attributes:
        id: "agent/0", "agent/1", … in order of definition.
        by: what must be equal among the inputs of one activation.
        within: seconds that an artifact waits for the rest; "idle" = until nothing else can run. When it passes,
            a batch fires with what is there, a join fires if only optional slots are empty, else the artifact expires.
        window: expire an artifact when more than this many later ones have entered this subscription.
        groups: how many complete groups make one activation.
        scope: "run" keeps runs apart; "board" mixes them.
        batch: the slot takes up to `count` artifacts and the body gets a list.
        since: "start" offers what was published before the agent was first enrolled.
        max_waiting: how many artifacts may wait; when one more comes, the oldest expires.
    """

    id: str
    slots: tuple[Slot, ...]
    by: Key | None = None
    within: float | Literal["idle"] | None = None
    window: int | None = None
    groups: int = 1
    scope: Literal["run", "board"] = "run"
    batch: bool = False
    since: Literal["now", "start"] = "now"
    max_waiting: int = MAX_WAITING

    @property
    def single(self) -> bool:
        """Whether one artifact alone is an activation."""
        return len(self.slots) == 1 and self.slots[0].count == 1 and self.groups == 1 and not self.batch


@dataclass(frozen=True, slots=True)
class Output:
    """What an agent may publish.

    Attributes:
        fan_out: how many of this type one activation must publish (least, most); None = any number.
        where: outputs that do not pass are left out.
        review_by: held until a component releases it; only this agent is offered it before.
    """

    type_name: str
    model: type[BaseModel]
    visibility: Visibility | None = None
    tags: tuple[str, ...] = ()
    fan_out: tuple[int, int] | None = None
    where: Where = Where()
    review_by: str = ""


def is_number(value: object, *, whole: bool = False) -> bool:
    """Whether it is a finite number from 0."""
    return isinstance(value, int if whole else int | float) and not isinstance(value, bool) and 0 <= value < inf


def is_money(value: object) -> bool:
    """Whether it is an exact amount from 0."""
    if not isinstance(value, str | int | Decimal) or isinstance(value, bool):
        return False
    try:
        amount = Decimal(value)
    except InvalidOperation:
        return False
    return amount.is_finite() and amount >= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How failed attempts are repeated: `attempts` in all, waiting `backoff * 2**n` seconds, at most `cap`.

    An error that has an attribute `retry_after` is not repeated before that many seconds, whatever `cap` says.

    Attributes:
        jitter: by what share of itself, at most, a delay is cut short, so that those that failed together are not
            repeated together. How much follows from the activation, and is the same in every replay.
        never: errors after which another attempt is of no use: classes with all that derive from them, or their names.
    """

    attempts: int = 3
    backoff: float = 1.0
    cap: float = 60.0
    jitter: float = 0.0
    never: tuple[type[BaseException] | str, ...] = ()

    def __post_init__(self) -> None:
        if not is_number(self.attempts, whole=True) or self.attempts < 1:
            raise DefinitionError(f"Retry(attempts={self.attempts!r}): it is a whole number from 1.")
        for name, value in (("backoff", self.backoff), ("cap", self.cap)):
            if not is_number(value):
                raise DefinitionError(f"Retry({name}={value!r}): it is a number of seconds, from 0.")
        if not is_number(self.jitter) or self.jitter > 1:
            raise DefinitionError(f"Retry(jitter={self.jitter!r}): it is a share, from 0 to 1.")

    def delay(self, attempt: int, activation: int = 0) -> float:
        """Seconds to wait after the given failed attempt (1 = the first)."""
        whole = min(self.cap, self.backoff * 2.0 ** min(attempt - 1, 1_000))
        if not self.jitter:
            return whole
        digest = blake2b(f"{activation}/{attempt}".encode(), digest_size=8).digest()
        return whole * (1 - self.jitter * int.from_bytes(digest) / 2**64)


ONCE = Retry(attempts=1, backoff=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a run; when one is reached the run stops with reason `budget`, and nothing is lost.

    An activation whose outputs exceed `fan_out` or `payload_bytes` does not complete and stays open, until the board is
    opened with a higher limit; a publish from outside that is too large is refused.

    Attributes:
        activations: how many may start in one run.
        depth: activations between an artifact and an outside publish.
        fan_out: outputs of one activation, and separately what one of its attempts publishes with `ctx.publish`.
        payload_bytes: size of one artifact as JSON.
        cost: money in dollars, exact; a string or a Decimal, never a float.
        tokens, seconds: sums over a run's activations and journaled effects.
    """

    cost: Decimal | str | None = None
    tokens: int | None = None
    seconds: float | None = None
    activations: int | None = 100_000
    depth: int | None = 1_000
    fan_out: int | None = 1_000
    payload_bytes: int | None = 4_000_000

    def __post_init__(self) -> None:
        if self.cost is not None and not is_money(self.cost):
            raise DefinitionError(f'Limits(cost={self.cost!r}): it is exact money, as a text like "2.00" or a Decimal.')
        for name in ("tokens", "seconds", "activations", "depth", "fan_out", "payload_bytes"):
            value = getattr(self, name)
            if value is not None and not is_number(value, whole=name != "seconds"):
                number = "number" if name == "seconds" else "whole number"
                raise DefinitionError(f"Limits({name}={value!r}): it is a {number} from 0, or None for no limit.")


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """All that the kernel needs to know of an agent.

    Attributes:
        concurrency: activations of this agent at one time; None = only the board's limit.
        timeout: seconds per attempt.
        pure: its body has no effect outside `ctx.call`, so it may start before its claim is durable.
        self_trigger: whether it may consume what it publishes itself.
        labels, tenant: what visibility asks for.
        phase: the phase it serves, for statistics and instructions.
        in_reserve: it is offered nothing, and gets only what a component hands over to it.
    """

    name: str
    description: str = ""
    subscriptions: tuple[Subscription, ...] = ()
    outputs: tuple[Output, ...] = ()
    concurrency: int | None = None
    timeout: float | None = None
    retry: Retry = ONCE
    pure: bool = False
    self_trigger: bool = False
    labels: frozenset[str] = frozenset()
    tenant: str | None = None
    phase: str | None = None
    max_crashes: int = 3
    in_reserve: bool = False
    place: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = {"description": self.description, "phase": self.phase or "", "tenant": self.tenant or ""}
        for what, text in (*texts.items(), *(("label", label) for label in self.labels)):
            if not isinstance(text, str) or storable(text) != text:
                raise DefinitionError(f'agent "{self.name}": {what} {text!r} is no text that can be stored.')

    def output(self, type_name: str) -> Output | None:
        """The declared output of that type, if there is one."""
        return next((o for o in self.outputs if o.type_name == type_name), None)
