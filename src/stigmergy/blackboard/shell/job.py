"""The seam between the owner of a board and whoever runs bodies.

In one process these are function calls; what crosses them (inputs, drafts, records of effects) is serialisable, so
that the same messages can go through an outbox and an inbox to workers elsewhere.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stigmergy.blackboard.core.decision import Draft
from stigmergy.blackboard.core.records import Activation
from stigmergy.blackboard.definitions import AgentSpec
from stigmergy.blackboard.errors import PublishError
from stigmergy.blackboard.events import Called, Calling, Published
from stigmergy.blackboard.stores.base import Reader


class Desk(Protocol):
    """What a running activation may ask of the owner of its board."""

    def now(self) -> float:
        """Log time."""
        ...

    def published(self, id: int) -> Published:
        """The event that published an artifact."""
        ...

    def reader(self) -> Reader:
        """The durable log."""
        ...

    def chain(self, job: "Job") -> list[int]:
        """The activation and the dead letters that it repeats, newest first."""
        ...

    def recorded(self, job: "Job") -> dict[str, tuple[Calling, Called | None]]:
        """The effects that earlier attempts of this activation, or of the dead letter it repeats, recorded, by key."""
        ...

    async def calling(self, job: "Job", event: Calling) -> int:
        """Announce an effect; returns its id when the announcement is durable."""
        ...

    async def called(self, job: "Job", calling: int, event: Called) -> None:
        """Record the outcome of an effect at once; returns when the record is durable."""
        ...

    async def sleep(self, job: "Job", calling: int) -> None:
        """Wait until the deadline of an announced sleep has rung."""
        ...

    async def publish_from(self, job: "Job", drafts: Sequence[Draft]) -> list[int]:
        """Publish on behalf of an activation that still runs; returns ids when they are durable."""
        ...

    def watched(self, type_name: str) -> bool:
        """Whether some component observes artifacts of this type."""
        ...

    def lingering(self, job: "Job") -> Callable[[], None]:
        """Say that the body cannot be stopped; the result is to be called, from any thread, when it has ended."""
        ...


@dataclass(slots=True)
class Job:
    """One attempt of one activation, as a worker gets it."""

    id: int
    fence: int
    attempt: int
    agent: AgentSpec
    subscription: str
    inputs: list[int]
    slots: list[int]
    run: str
    feedback: str
    claimed_at: float
    redriven: int
    desk: Desk
    published: int = 0
    """How much this attempt has published before its end."""
    suspended: bool = False
    """Its body is unwound, because it waits for an answer; that is no failure."""
    over: PublishError | None = None
    """What a limit refused to publish. The attempt does not complete, also if its body makes light of that: what was
    refused would be lost."""

    def refused(self, error: PublishError) -> None:
        """Note what was refused, if it was by a limit."""
        if error.limit and self.over is None:
            self.over = error


class Suspended(BaseException):
    """Unwinds a body that waits for an answer. No `except Exception` stops it."""


class Worker(Protocol):
    """Runs bodies."""

    def may_speculate(self, agent: AgentSpec) -> bool:
        """Whether bodies of this agent may start before their claim is durable."""
        ...

    def perform(self, job: Job) -> Coroutine[Any, Any, Sequence[Draft]]:
        """Run the body of a job; what it returns is published. Raises what the body raises."""
        ...


def job_of(a: Activation, agent: AgentSpec, desk: Desk) -> Job:
    """The job of a claimed activation."""
    return Job(
        a.id, a.fence, a.attempts + 1, agent, a.subscription, a.inputs, a.slots, a.run, a.feedback, a.claimed_at,
        a.redriven, desk,
    )  # fmt: skip
