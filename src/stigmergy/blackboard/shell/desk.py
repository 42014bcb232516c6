"""The desk of an owner: what running bodies may ask for, answered in this process."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from stigmergy.blackboard.clock import Clock
from stigmergy.blackboard.core.decider import Decider
from stigmergy.blackboard.core.decision import Draft
from stigmergy.blackboard.core.offers import check_count
from stigmergy.blackboard.errors import BoardBroken, CallRefused, PublishError
from stigmergy.blackboard.events import Activated, Called, Calling, Event, Published
from stigmergy.blackboard.shell.bodies import Bodies
from stigmergy.blackboard.shell.job import Job
from stigmergy.blackboard.shell.past import RecentPast
from stigmergy.blackboard.shell.writer import Writer
from stigmergy.blackboard.stores.base import Reader
from stigmergy.blackboard.stores.rows import decode, event_at


class Shell(Protocol):
    """What the desk needs of the owner behind it."""

    decider: Decider
    clock: Clock
    past: RecentPast
    reader: Reader
    writer: Writer
    bodies: Bodies

    @property
    def running(self) -> bool: ...
    def record(self, events: list[Event]) -> int: ...
    def pump(self) -> None: ...
    def broken(self) -> BoardBroken: ...
    async def durable(self, seq: int) -> None: ...


class LocalDesk:
    """Answers the bodies that run in the owner's process."""

    def __init__(self, owner: Shell) -> None:
        self._owner = owner
        self.sleepers: dict[int, asyncio.Future[None]] = {}
        """Announced sleeps that bodies wait for."""
        self._next_outcome: asyncio.Future[None] | None = None

    def settled(self) -> None:
        """An effect has its outcome: those that are held are asked about again."""
        waiting, self._next_outcome = self._next_outcome, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _outcome(self) -> asyncio.Future[None]:
        if self._next_outcome is None:
            self._next_outcome = asyncio.get_running_loop().create_future()
        return self._next_outcome

    def ring(self, calling: int) -> None:
        """The deadline of an announced sleep has passed."""
        sleeper = self.sleepers.get(calling)
        if sleeper is not None and not sleeper.done():
            sleeper.set_result(None)

    def now(self) -> float:
        """Log time."""
        owner = self._owner
        return owner.clock.now()

    def published(self, id: int) -> Published:
        """The event that published an artifact."""
        return self._owner.past.published(id)

    def reader(self) -> Reader:
        """The durable log."""
        return self._owner.reader

    def chain(self, job: Job) -> list[int]:
        """The activation and the dead letters that it repeats, newest first."""
        ids, before = [job.id], job.redriven
        while before:
            event = event_at(self._owner.reader, before)
            if not isinstance(event, Activated) or event.agent != job.agent.name or event.inputs != job.inputs:
                break  # what another agent did, or did with other inputs, is no effect of this body
            ids.append(before)
            before = event.redriven
        return ids

    def recorded(self, job: Job) -> dict[str, tuple[Calling, Called | None]]:
        """The effects that earlier attempts recorded, by key: the last announcement of each and its outcome."""
        found: dict[str, tuple[Calling, Called | None]] = {}
        callings: dict[int, Calling] = {}
        for id in reversed(self.chain(job)):
            for event in map(decode, self._owner.reader.calls(id)):
                if isinstance(event, Calling):
                    callings[event.seq] = event
                    found[event.key] = (event, None)
                elif isinstance(event, Called) and found[event.key][0] is callings.get(event.cause):
                    found[event.key] = (found[event.key][0], event)
        return found

    async def calling(self, job: Job, event: Calling) -> int:
        """Announce an effect; it may start when this returns."""
        owner = self._owner
        while True:
            events, refusal = owner.decider.calling(job.id, job.fence, event, owner.clock.now())
            owner.record(events)
            if refusal is None:
                break
            if isinstance(refusal, CallRefused):
                raise refusal
            await asyncio.shield(self._outcome())
        await owner.durable(event.seq)
        return event.seq

    async def called(self, job: Job, calling: int, event: Called) -> None:
        """Record an outcome; only the wait for durability can be cancelled."""
        owner = self._owner
        if owner.writer.failed is not None:
            raise owner.broken()
        owner.record(owner.decider.called(calling, event, owner.clock.now()))
        await owner.durable(event.seq)

    async def sleep(self, job: Job, calling: int) -> None:
        """Wait for the deadline of an announced sleep."""
        owner = self._owner
        call = owner.decider.state.calls.get(calling)
        if call is None or (call.until or 0.0) <= owner.clock.now():
            return
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sleepers[calling] = sleeper
        try:
            owner.pump()
            await sleeper
        finally:
            del self.sleepers[calling]

    async def publish_from(self, job: Job, drafts: Sequence[Draft]) -> list[int]:
        """Publish on behalf of a running activation.

        It is not held back while much is ready, as publishers from outside are: those that would have to work that
        off may all be bodies that wait here. So what one attempt publishes is limited.

        Raises:
            CallRefused: the attempt has ended, or was given up.
            PublishError: one of them is refused.
        """
        owner = self._owner
        owner.decider.attempt(job.id, job.fence)
        job.published += len(drafts)
        try:
            check_count(job.agent.name, "gave ctx.publish", job.published, owner.decider.limits.fan_out)
            events = owner.decider.publish(drafts, owner.clock.now(), owner.decider.origin_of(job.id))
        except PublishError as error:
            job.refused(error)
            raise
        last = owner.record(events)
        owner.pump()
        await owner.durable(last)
        return [e.seq for e in events if isinstance(e, Published) and e.cause == job.id]

    def watched(self, type_name: str) -> bool:
        """Whether some component observes artifacts of this type."""
        return self._owner.decider.observers.watches(type_name)

    def lingering(self, job: Job) -> Callable[[], None]:
        """A body that cannot be stopped keeps its place until it has ended."""
        return self._owner.bodies.lingers(job.agent.name)
