"""The one shape for everything that watches and steers a board: a pure component.

A component observes the log and keeps plain state; it may react, admit, review and set an alarm. It has no clock,
no randomness and does no IO: what it needs to know is in the log. Its state is returned, never kept on `self`,
so that it survives a restart, a rewind and a replay.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Generic, Literal

from pydantic import BaseModel, Field, JsonValue
from typing_extensions import TypeVar

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.events import Event, Priority, Reason, Visibility

S = TypeVar("S", default=None)

END_OF_TIME = 253_402_300_800
"""The log time of the year 10,000, which no date can name."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish an artifact, in the same decision.

    Attributes:
        about: ids of artifacts and activations that it tells of: only who may see all of these, and all inputs of
            those, may see it. An error may quote what its agent was given.
    """

    payload: BaseModel
    key: str | None = None
    tags: tuple[str, ...] = ()
    priority: Priority | None = None
    run: str | None = None
    visibility: Visibility | None = None
    about: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Release:
    """Offer a held artifact, or let a held activation be asked again."""

    id: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Never offer a held artifact."""

    id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Close:
    """Stop a run: nothing more of it starts (`park`), or all its open work is cancelled."""

    reason: Reason = "goal"
    detail: str = ""
    run: str | None = None
    stop: Literal["park", "cancel"] = "park"


@dataclass(frozen=True, slots=True)
class Cancel:
    """End an open activation as cancelled."""

    id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Redrive:
    """Open a dead letter again.

    Attributes:
        agent: who is to try, with the same inputs; by default the one that failed.
        edited: fields of its inputs that are to be others, in every input that has a field of that name.
    """

    id: int
    agent: str = ""
    edited: Mapping[str, JsonValue] | None = None


@dataclass(frozen=True, slots=True)
class Discard:
    """Give a dead letter up: it counts as skipped, and no longer as failed."""

    id: int
    reason: str


Reaction = Publish | Release | Withdraw | Close | Cancel | Redrive | Discard


@dataclass(frozen=True, slots=True)
class Admit:
    """It may start."""


@dataclass(frozen=True, slots=True)
class Hold:
    """It waits until this component's state changes, or until this log time.

    A time that has passed is none: only a change of the state can help then.
    An effect waits until another effect has its outcome; if no other is under way, it is refused.
    """

    reason: str
    until: Annotated[float, Field(lt=END_OF_TIME)] | None = None


@dataclass(frozen=True, slots=True)
class Deny:
    """It will not start: an activation ends skipped, a body gets `CallRefused`, with the reason.

    Attributes:
        park: nothing ends; the activation stays open and is asked about again in the next run. The run that has nothing
            else to do ends with reason `budget`.
    """

    reason: str
    park: bool = False


ADMIT = Admit()
Admission = Admit | Hold | Deny


@dataclass(frozen=True, slots=True)
class Accept:
    """The outputs are good."""


@dataclass(frozen=True, slots=True)
class Reject:
    """The outputs are refused: the attempt failed, and with `retry` the next one gets the feedback."""

    feedback: str
    retry: bool = False


ACCEPT = Accept()
Verdict = Accept | Reject


@dataclass(frozen=True, slots=True)
class ActivationRequest:
    """What `admit` and `review` are told of an activation."""

    id: int
    agent: str
    run: str
    priority: Priority
    depth: int
    inputs: tuple[int, ...]
    attempt: int
    phase: str | None
    at: float
    root: int = 0


@dataclass(frozen=True, slots=True)
class CallRequest:
    """What `admit` is told of an effect inside an activation.

    Attributes:
        cost, tokens: the most that it is expected to take. What is only booked (`ctx.charge`, name "charge") is spent
            already.
        unpriced: nobody knows what it costs, so that no cap in dollars can hold.
    """

    activation: ActivationRequest
    key: str
    name: str
    cost: str
    tokens: int
    unpriced: bool = False


UNPRICED = (
    "nobody knows what it costs, so it cannot be held to a cap in dollars. Give it a price, or cap tokens instead."
)


@dataclass(frozen=True, slots=True)
class Seen:
    """An event as a component sees it: with the typed artifact if it publishes one, and who did what.

    Attributes:
        event: the event itself.
        artifact: for `Published`, the artifact with its typed payload; else None.
        activation: for events about an activation, what is known of it; else None.
    """

    event: Event
    artifact: Artifact[Any] | None = None
    activation: ActivationRequest | None = None


class Component(Generic[S]):
    """Base of all components; override what is needed.

    Class attributes:
        publishes: artifact types that `react` may publish, so that the log can be decoded and the graph drawn.
        observes: event classes and artifact types that `step` and `react` are called for; None = every event.
        reserve: agent -> another that gets its work only from this component, by `Redrive(agent=)`.
        version: raise it when the meaning of the state changes: an old snapshot is then not used; and when it is
            mended after it raised: opened with another version, the board has it back in service, with its state
            folded anew from the whole log.
    """

    reserve: Mapping[str, str] = MappingProxyType({})
    publishes: ClassVar[tuple[type[BaseModel], ...]] = ()
    observes: ClassVar[tuple[type[Event] | type[BaseModel], ...] | None] = None
    version: ClassVar[int] = 1

    @cached_property
    def name(self) -> str:
        """Unique on a board; the class name in snake case unless set."""
        text = type(self).__name__
        return "".join(("_" if c.isupper() and i else "") + c.lower() for i, c in enumerate(text))

    def start(self) -> S:
        """The state before the first event; plain, immutable data."""
        return None  # type: ignore[return-value]

    def step(self, state: S, seen: Seen, /) -> S:
        """The state after this event. Called for every observed event, also when a log is folded again."""
        return state

    def react(self, state: S, seen: Seen, /) -> Iterable[Reaction]:
        """What follows from this event, decided once and recorded. Not called for what it published itself."""
        return ()

    def admit(self, state: S, request: ActivationRequest | CallRequest, /) -> Admission:
        """Whether an activation or an effect may start now."""
        return ADMIT

    def review(self, state: S, request: ActivationRequest, outputs: tuple[BaseModel, ...], /) -> Verdict:
        """Whether the outputs of an activation may be published."""
        return ACCEPT

    def alarm(self, state: S, /) -> float | None:
        """Log time at which `Rang` is to be recorded for this component; asked when its state changed."""
        return None

    def waiting(self, state: S, /) -> str:
        """What it waits for from the world outside, "" if nothing; asked when nothing is left to run.

        A run that ends while somebody waits for the world ends as `waiting`, and neither as idle nor in a deadlock.
        """
        return ""
