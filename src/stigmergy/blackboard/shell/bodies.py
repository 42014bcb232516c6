"""The bodies that run, and how they are stopped.

One that is to stop is cancelled, and cancelled again; if it never does, it is left alone. Then it keeps its place until
it has ended, as does a thread, which cannot be stopped at all, and whatever it still gives comes too late.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Protocol

from stigmergy.blackboard.clock import Clock
from stigmergy.blackboard.core.decider import Decider
from stigmergy.blackboard.core.records import Activation
from stigmergy.blackboard.definitions import ONCE
from stigmergy.blackboard.events import ErrorInfo, Event
from stigmergy.blackboard.shell.writer import Writer

GRACE = 5.0
"""Seconds that a cancelled body has to clean up before it is cancelled again."""
ASKED_TO_STOP = 3


class Shell(Protocol):
    """What the bodies need of the owner behind them."""

    decider: Decider
    clock: Clock
    writer: Writer

    @property
    def running(self) -> bool: ...
    def record(self, events: list[Event]) -> int: ...
    def pump(self) -> None: ...


class Bodies:
    """Running bodies by fence: one that was given up may still end while its activation runs again."""

    def __init__(self, owner: Shell) -> None:
        self._owner = owner
        self.tasks: dict[int, asyncio.Task[None]] = {}
        """The task that each body runs in."""
        self.unbegun: dict[int, Activation] = {}
        """Claimed activations whose body has not begun, by fence."""
        self.given_up: set[int] = set()
        """Those that are to stop though the run goes on; their attempt is on record as failed."""
        self.lingering = 0
        """How many were left alone and have not ended."""
        self._left: deque[str] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def count(self) -> int:
        """How many have a place and were not left alone."""
        return len(self.tasks) + len(self.unbegun)

    def __contains__(self, fence: int) -> bool:
        return fence in self.tasks or fence in self.unbegun

    def __iter__(self) -> Iterator[int]:
        return iter([*self.tasks, *self.unbegun])

    def ended(self, agent: str, fence: int) -> None:
        """An attempt is through."""
        if self.tasks.pop(fence, None) is None:
            self._gone(agent)
        elif fence in self.given_up:
            self._free(agent, fence)

    def _free(self, agent: str, fence: int) -> None:
        self.given_up.discard(fence)
        self._owner.decider.freed(agent)

    def cancel(self, fences: Iterable[int]) -> None:
        """Cancel bodies. One that has not begun never will, so that its attempt is ended here."""
        for fence in fences:
            task = self.tasks.get(fence)
            if task is not None:
                task.cancel()
            a = self.unbegun.pop(fence, None)
            if a is not None:
                self._interrupted(a.id, fence, "the run was stopped")
                if fence in self.given_up:
                    self._free(a.agent, fence)
                self._owner.pump()

    def _interrupted(self, id: int, fence: int, message: str, *, keeps_place: bool = False) -> None:
        owner, error = self._owner, ErrorInfo("Interrupted", message)
        if owner.writer.failed is None:
            now = owner.clock.now()
            decided = owner.decider.fail(id, fence, error, 0.0, now, ONCE, "interrupted", keeps_place=keeps_place)
            owner.record(decided)

    async def stop(self) -> None:
        """Stop all bodies in good order: their work stays open."""
        for _ in range(ASKED_TO_STOP):
            self.cancel(self)
            if not self.tasks:
                return
            await asyncio.wait(self.tasks.values(), timeout=GRACE)
        self.leave_alone()

    def leave_alone(self) -> None:
        """Wait no longer for those that were asked to stop."""
        for fence in list(self.tasks):
            self._leave_alone(fence)

    def give_up(self, fences: Iterable[int]) -> None:
        """Stop bodies while the run goes on."""
        new = [fence for fence in fences if fence not in self.given_up]
        self.given_up.update(new)
        for fence in new:
            self._urge(fence, ASKED_TO_STOP)

    def _urge(self, fence: int, times: int) -> None:
        if fence not in self:
            return
        if times:
            self.cancel([fence])
            asyncio.get_running_loop().call_later(GRACE, self._urge, fence, times - 1)
        else:
            self._leave_alone(fence)
            self._owner.pump()

    def _leave_alone(self, fence: int) -> None:
        del self.tasks[fence]
        self.lingering += 1
        if fence in self.given_up:
            self.given_up.discard(fence)
            return
        state = self._owner.decider.state
        for id in [id for id in state.running if state.activations[id].fence == fence]:
            self._interrupted(id, fence, "the run was stopped, but the body does not stop", keeps_place=True)

    # -- what lingers ---------------------------------------------------------------------------------------------

    def crowded(self) -> str:
        """How much is ready and waits for a place that something lingering keeps; "" if nothing does."""
        ready = self._owner.decider.agenda.count
        if not (ready and self.lingering):
            return ""
        return f"{ready:,} for the place of a body that was given up and has not ended"

    def lingers(self, agent: str) -> Callable[[], None]:
        """A thread was given up and goes on; the result is to be called, from any thread, when it has ended."""
        self.lingering += 1
        self._owner.decider.agenda.occupy(agent)
        return lambda: self._gone(agent)

    def _gone(self, agent: str) -> None:
        self._left.append(agent)
        if self._loop is not None:
            with suppress(RuntimeError):  # that loop is closed; the next run sees to it
                self._loop.call_soon_threadsafe(self.clear)

    def clear(self) -> None:
        """Give the places of those that have ended to others; called in the loop of the run, and when one begins."""
        owner, self._loop = self._owner, asyncio.get_running_loop()
        while self._left:
            self.lingering -= 1
            owner.decider.freed(self._left.popleft())
            if owner.running:
                owner.pump()
