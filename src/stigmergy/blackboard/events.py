"""The closed vocabulary of the log: these classes are the file format.

Rules. Every event carries its own position, time, cause and decision, so that folding the log needs nothing
from outside. An event records a fact that was decided; it never has to be recomputed (an edited predicate
changes the future, not the past). Fields are plain data. New fields need a default, so that old boards open.

`tx` is the `seq` of the first event of the decision that an event belongs to: a decision is committed and
folded whole or not at all.

Events are slotted and not frozen because making a frozen dataclass costs seven times as much; nobody but the
decider makes them and nobody changes them.
"""

from dataclasses import dataclass, field
from itertools import repeat
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from stigmergy.blackboard.redaction import redacted, storable

Priority = Literal["low", "medium", "high", "critical"]
Outcome = Literal["dead_letter", "cancelled", "skipped", "blocker_failed"]
Reason = Literal["idle", "goal", "budget", "cancelled", "waiting", "deadlock", "component_failed", "broken", "timeout"]
Expiry = Literal["window", "waiting_limit", "changed", "cancelled"]
RawJson = Annotated[bytes, Field(exclude=True)]
"""JSON kept as bytes beside the event: stored in a column of its own, never parsed to fold the log."""
Column = Annotated[int, Field(exclude=True)]
TimeColumn = Annotated[float, Field(exclude=True)]
"""Fields that every event has are stored as columns, not in its body."""


_NOTHING_ELSE = ConfigDict(extra="forbid")
"""A field that is not known here was written by a newer version, and leaving it out would change what the log says."""


@dataclass(slots=True)
class Event:
    """What all events carry.

    Attributes:
        seq: position in the log, from 1; the id of whatever the event creates.
        at: log time in seconds since the epoch (UTC); never goes back.
        cause: the `seq` this follows from; 0 = from outside.
        tx: the `seq` of the first event of the same decision.
    """

    seq: Column = 0
    at: TimeColumn = 0.0
    cause: Column = 0
    tx: Column = 0

    __pydantic_config__: ClassVar[ConfigDict] = _NOTHING_ELSE


_MESSAGE = 4_000
"""Characters of an error's message that are recorded."""
_LOOKED_AT = 2 * _MESSAGE
"""Characters in which secrets are looked for, so that none is cut in two before."""


@dataclass(slots=True)
class ErrorInfo:
    """An exception as data.

    Attributes:
        retryable: another attempt may do better.
        retry_after: seconds before which it will not, if the error said so.
    """

    type: str
    message: str
    traceback: str = ""
    retryable: bool = True
    retry_after: float | None = None

    __pydantic_config__: ClassVar[ConfigDict] = _NOTHING_ELSE

    def __post_init__(self) -> None:
        self.message, self.traceback = storable(self.message), storable(self.traceback)

    @classmethod
    def of(cls, error: BaseException, traceback: str = "") -> "ErrorInfo":
        """An exception that user code raised; its `__str__` is user code, too."""
        try:
            message = str(error)
        except BaseException as broken:  # noqa: BLE001  what cannot say its message is still to be recorded
            message = f"its message cannot be read ({type(broken).__name__})"
        if len(message) > _MESSAGE:
            message = f"{redacted(message[:_LOOKED_AT])[:_MESSAGE]}… ({len(message):,} characters)"
        return cls(type(error).__name__, message, traceback)


@dataclass(slots=True)
class Visibility:
    """Who may see an artifact; what is not set does not restrict, and all that is set must hold.

    Attributes:
        agents: only these agents (and never an unnamed reader).
        labels: only agents that carry all of these labels.
        tenant: only agents of this tenant.
        after: seconds after publication before it is offered or seen.
    """

    agents: list[str] | None = None
    labels: list[str] | None = None
    tenant: str | None = None
    after: float | None = None

    __pydantic_config__: ClassVar[ConfigDict] = _NOTHING_ELSE


@dataclass(slots=True)
class Opened(Event):
    """A process took ownership of the board. `gap` sequence numbers before this one were skipped, because an
    unclean stop may have shown them to the world before they were durable."""

    epoch: int = 1
    clean: bool = True
    gap: int = 0
    version: str = ""
    durability: str = "full"


@dataclass(slots=True)
class Enrolled(Event):
    """An agent or a component takes part from here on. `since` is the position after which artifacts are offered
    to it; `subscriptions` maps each subscription id to the digest of its shape."""

    name: str = ""
    role: Literal["agent", "component"] = "agent"
    fingerprint: str = ""
    since: int = 0
    subscriptions: dict[str, str] = field(default_factory=dict)
    phase: str | None = None


@dataclass(slots=True)
class Published(Event):
    """An artifact is on the board; its id is `seq`. `cause` is the activation that published it (0 = outside).

    Attributes:
        type: stable type name; `version` and `schema` (a digest of the JSON schema) say which shape.
        producer: agent or component name; "outside" for publishes from outside.
        root: the oldest root this descends from; its own `seq` if it has none.
        depth: activations between it and an outside publish.
        ancestors: type name -> nearest ancestor of that type, for `by=ancestor(T)`.
        work, blocking: the user's own work ids.
        held_by: not offered until `Released`; by whom ("" = not held), `held_until` for a delay.
        self_skipped: agents that would have taken it but published it themselves.
        unserved: its type has consumers, it came from outside, or it asks for work, and nobody took it.
        system: published by a component; offered only to subscriptions that name the type.
        replaces: the input in whose place a dead letter that is tried again gets this; it is offered to nobody else.
    """

    type: str = ""
    version: int = 1
    schema: str = ""
    run: str = ""
    producer: str = ""
    key: str | None = None
    tags: list[str] = field(default_factory=list)
    priority: Priority = "medium"
    visibility: Visibility | None = None
    root: int = 0
    depth: int = 0
    ancestors: dict[str, int] = field(default_factory=dict)
    work: str | None = None
    parent_work: str | None = None
    blocking: list[str] = field(default_factory=list)
    phase: str | None = None
    held_by: str = ""
    held_until: float | None = None
    self_skipped: list[str] = field(default_factory=list)
    unserved: bool = False
    system: bool = False
    digest: str = ""
    payload: RawJson = b""
    replaces: int = 0


@dataclass(slots=True)
class Matched(Event):
    """An artifact (`cause`) took a place in a subscription that waits for more: slot `slot` of group `key`."""

    subscription: str = ""
    slot: int = 0
    key: str = ""
    scope: str = ""


@dataclass(slots=True)
class Expired(Event):
    """Artifacts left their places unused; nothing is dropped silently."""

    subscription: str = ""
    artifacts: list[int] = field(default_factory=list)
    key: str = ""
    scope: str = ""
    reason: Expiry = "window"


@dataclass(slots=True)
class Held(Event):
    """An activation (`cause`) may not start yet: `by` says who holds it, `until` when it is asked again."""

    by: str = ""
    reason: str = ""
    until: float | None = None

    def __post_init__(self) -> None:
        self.reason = storable(self.reason)


@dataclass(slots=True)
class Released(Event):
    """What was held (`cause`: an artifact or an activation) is offered now."""

    by: str = ""
    self_skipped: list[str] = field(default_factory=list)
    unserved: bool = False


@dataclass(slots=True)
class Withdrawn(Event):
    """A held artifact (`cause`) will never be offered."""

    by: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        self.reason = storable(self.reason)


@dataclass(slots=True)
class Activated(Event):
    """An agent is to run on these inputs; the id of the activation is `seq`, `cause` the artifact that completed it.

    Attributes:
        inputs: artifact ids in declared slot order.
        slots: how many inputs each slot holds, per group; empty for a single input.
        blockers: work ids that must be done first and were not when this was decided.
        blocker_runs: the runs of these; empty if all are of the activation's own, as only a join over runs may differ.
        redriven: the dead letter that this repeats; 0 = none.
    """

    agent: str = ""
    subscription: str = ""
    inputs: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    key: str = ""
    scope: str = ""
    run: str = ""
    priority: Priority = "medium"
    depth: int = 0
    blockers: list[str] = field(default_factory=list)
    redriven: int = 0
    blocker_runs: list[str] = field(default_factory=list)

    @property
    def waits(self) -> list[tuple[str, str]]:
        """The run and the id of every work item that it waits for."""
        return list(zip(self.blocker_runs or repeat(self.run), self.blockers, strict=False))


@dataclass(slots=True)
class Claimed(Event):
    """A worker has the activation (`cause`); the fence is (`epoch`, `seq`). `alone`: nothing else runs beside it,
    because it was running when a process died."""

    epoch: int = 1
    worker: str = ""
    attempt: int = 1
    alone: bool = False


@dataclass(slots=True)
class Calling(Event):
    """An effect inside an activation (`cause`) is about to happen; money for it is reserved.

    `unpriced`: nobody knows what it will cost.
    """

    key: str = ""
    name: str = ""
    digest: str = ""
    cost: str = "0"
    tokens: int = 0
    until: float | None = None
    unpriced: bool = False


@dataclass(slots=True)
class Called(Event):
    """The effect that `cause` (a `Calling`) announced has happened, or is given up; its reply is the payload.

    `unpriced`: it was paid for, and nobody knows how much; `cost` says nothing then.
    """

    activation: int = 0
    key: str = ""
    outcome: Literal["done", "failed", "cancelled", "unknown"] = "done"
    error: ErrorInfo | None = None
    seconds: float = 0.0
    cost: str = "0"
    tokens: int = 0
    payload: RawJson = b""
    unpriced: bool = False


@dataclass(slots=True)
class Completed(Event):
    """The activation (`cause`) ended well; its outputs are the `Published` of the same decision."""

    outputs: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Failed(Event):
    """An attempt of the activation (`cause`) ended badly. It runs again at `retry_at`; without one, `Ended` follows.

    Only "error" and "timeout" use up attempts: an orderly stop is nobody's fault, and for a crash see `guilty`.
    """

    kind: Literal["error", "timeout", "interrupted", "crashed", "rejected"] = "error"
    error: ErrorInfo | None = None
    seconds: float = 0.0
    retry_at: float | None = None
    guilty: bool = False
    feedback: str = ""

    def __post_init__(self) -> None:
        self.feedback = storable(self.feedback)


@dataclass(slots=True)
class Ended(Event):
    """The activation (`cause`) ended without completing."""

    outcome: Outcome = "dead_letter"
    reason: str = ""
    error: ErrorInfo | None = None

    def __post_init__(self) -> None:
        self.reason = storable(self.reason)


@dataclass(slots=True)
class Kept:
    """What is remembered of an artifact as long as something needs it."""

    id: int
    type: str
    run: str
    producer: str
    priority: Priority
    depth: int
    root: int
    at: float
    ancestors: dict[str, int]
    work: str | None
    blocking: list[str]
    phase: str | None


@dataclass(slots=True)
class Recalled(Event):
    """Artifacts that were forgotten are needed again: for a dead letter that is tried again, or because an agent that
    was away is offered what it missed."""

    inputs: list[Kept] = field(default_factory=list)


@dataclass(slots=True)
class Redriven(Event):
    """What had failed (`cause`, with this outcome) is tried again, by a new activation with the same inputs.

    `by`: the component that decided it; "" = a person did.
    """

    outcome: Outcome = "dead_letter"
    by: str = ""


@dataclass(slots=True)
class Erased(Event):
    """Payloads of artifacts and replies at positions below `before` are gone for good, but for those that `keep` lists.

    `states` closes the books: component -> what it was made as, and its state as JSON. Who cannot be shown a payload
    goes on from there.
    """

    before: int = 0
    keep: list[int] = field(default_factory=list)
    states: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(slots=True)
class Rang(Event):
    """A deadline passed: a delay, a batch, a retry, or a component's alarm (`component`)."""

    timer: Literal["visible", "group", "retry", "hold", "timeout", "sleep", "alarm"] = "alarm"
    component: str = ""


@dataclass(slots=True)
class Faulted(Event):
    """A component raised and is out of service from here on; if it guards, it now denies.

    `fingerprint` is of the version that raised: a board that is opened with another one has it back in service.
    """

    component: str = ""
    error: ErrorInfo | None = None
    fingerprint: str = ""


@dataclass(slots=True)
class Idled(Event):
    """Nothing is left to do for now. `short`: run -> the limits that keep open work of it from starting."""

    reason: Reason = "idle"
    detail: str = ""
    short: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Closed(Event):
    """A run was stopped on purpose; its open work is parked, or cancelled."""

    run: str = ""
    reason: Reason = "goal"
    detail: str = ""
    by: str = ""
    stop: Literal["park", "cancel"] = "park"

    def __post_init__(self) -> None:
        self.detail = storable(self.detail)


@dataclass(slots=True)
class Resumed(Event):
    """A closed run goes on."""

    run: str = ""


KINDS: dict[str, type[Event]] = {
    cls.__name__: cls
    for cls in (
        Opened, Enrolled, Published, Matched, Expired, Held, Released, Withdrawn, Activated, Claimed, Calling, Called,
        Completed, Failed, Ended, Recalled, Redriven, Erased, Rang, Faulted, Idled, Closed, Resumed,
    )
}  # fmt: skip
"""Event kind -> class; a kind that is not here was written by a newer version."""
