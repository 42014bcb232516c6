"""What the state holds: plain records of what is alive."""

from dataclasses import dataclass, field
from itertools import repeat
from typing import Literal

from stigmergy.blackboard.events import Kept, Priority, Reason

Status = Literal["ready", "running", "retrying", "held", "blocked"]


@dataclass(slots=True)
class Alive(Kept):
    """An artifact that something still needs; `refs` counts who."""

    refs: int = 0


@dataclass(slots=True)
class Activation:
    """An open activation."""

    id: int
    agent: str
    subscription: str
    inputs: list[int]
    slots: list[int]
    key: str
    run: str
    priority: Priority
    depth: int
    root: int
    at: float
    status: Status = "ready"
    attempts: int = 0
    crashes: int = 0
    fence: int = 0
    alone: bool = False
    suspect: bool = False
    claimed_at: float = 0.0
    due: float | None = None
    held_by: str = ""
    reason: str = ""
    feedback: str = ""
    blockers: list[str] = field(default_factory=list)
    phase: str | None = None
    redriven: int = 0
    blocker_runs: list[str] = field(default_factory=list)

    @property
    def waits(self) -> list[tuple[str, str]]:
        """The run and the id of every work item that it waits for."""
        return list(zip(self.blocker_runs or repeat(self.run), self.blockers, strict=False))


@dataclass(slots=True)
class Waiting:
    """An artifact in a place of a subscription that waits for more."""

    id: int
    subscription: str
    scope: str
    key: str
    slot: int
    at: float
    ordinal: int


@dataclass(slots=True)
class HeldArtifact:
    """An artifact that is not offered yet."""

    id: int
    by: str
    until: float | None


@dataclass(slots=True)
class Work:
    """A work item that is not done: nobody consumed it, or some activations of it are open or have failed."""

    run: str
    id: str
    artifact: int
    blocking: list[str]
    open: int = 0
    failed: int = 0


@dataclass(slots=True)
class OpenCall:
    """An effect that was announced and has no outcome yet; what it reserves counts as spent."""

    id: int
    activation: int
    key: str
    run: str
    cost: str
    tokens: int
    until: float | None
    rung: bool = False
    unpriced: bool = False


@dataclass(slots=True)
class RunTotals:
    """What one run has used, for its limits."""

    name: str
    activations: int = 0
    artifacts: int = 0
    seconds: float = 0.0
    tokens: int = 0
    cost: str = "0"
    closed: Reason | Literal[""] = ""
    detail: str = ""


class Runs(dict[str, RunTotals]):
    """The totals of every run by name; asking for a new one makes it."""

    def __missing__(self, name: str) -> RunTotals:
        totals = self[name] = RunTotals(name)
        return totals


@dataclass(slots=True)
class Member:
    """An agent or component as it took part last, in the `epoch`th opening; `shapes` by subscription."""

    role: Literal["agent", "component"]
    fingerprint: str
    shapes: dict[str, str]
    epoch: int


@dataclass(slots=True)
class Dump:
    """The state as plain data."""

    seq: int
    at: float
    epoch: int
    unclean: int
    quiet: bool
    alive: list[Alive]
    activations: list[Activation]
    waiting: list[Waiting]
    ordinals: list[tuple[str, str, int]]
    held: list[HeldArtifact]
    works: list[Work]
    calls: list[OpenCall]
    runs: list[RunTotals]
    seen: dict[str, int]
    shapes: dict[str, str]
    members: dict[str, Member]
    faults: dict[str, dict[str, str]]
    absent: list[str]
    maybe_done: list[int]
    fresh: list[int]
    erased_before: int
    spared: list[int]
