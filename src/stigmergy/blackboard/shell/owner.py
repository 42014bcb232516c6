"""The shell: one owner per board, who decides, appends, and only then shows.

The rule it keeps: nothing leaves the process on behalf of an event that is not durable. A publish is acknowledged, an
effect starts, a watcher sees, a body starts, only when what it rests on is durable; only a body that has no effect of
its own (`pure`) may start before.

Bodies run in the loop's own tasks: a task group with a cancel scope for each would cost three times all the rest. All
deadlines are in the decider's one heap, served by one timer here, so that a virtual clock can move them.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from stigmergy.blackboard.clock import Clock
from stigmergy.blackboard.core.decider import Decider
from stigmergy.blackboard.core.decision import OUTSIDE, Draft, Origin
from stigmergy.blackboard.core.fold import Folded
from stigmergy.blackboard.errors import BoardBroken, BoardClosed, OutcomeUnknown, StigmergyError
from stigmergy.blackboard.events import Called, Event, Published, Rang, Reason, Released
from stigmergy.blackboard.log import LOUD, say, say_event
from stigmergy.blackboard.shell.attempts import WINDOW, Attempts
from stigmergy.blackboard.shell.bodies import Bodies
from stigmergy.blackboard.shell.desk import LocalDesk
from stigmergy.blackboard.shell.job import Worker
from stigmergy.blackboard.shell.past import RecentPast
from stigmergy.blackboard.shell.through import through
from stigmergy.blackboard.shell.writer import Writer
from stigmergy.blackboard.stores.base import Reader, Store

BACKLOG = 10_000
"""Activations that may be ready before those who publish from outside into a running board wait."""
SNAPSHOT_EVERY = 100_000
"""Events after which a running board saves a snapshot."""
ANNOUNCEMENTS = 100
"""How often in one run components may answer "nothing is left" with new work."""

_HEEDED = LOUD | {Rang, Called, Released}
"""Events that more is done about than to record them."""

Goal = Callable[[Published], bool]


def told(error: BaseException | None) -> str:
    """An error as the end of a message: what the library says as it stands, and others by their name."""
    return str(error) if isinstance(error, StigmergyError) else f"{type(error).__name__}: {error or 'no message'}."


class Owner:
    """Runs one board in one event loop."""

    def __init__(
        self, store: Store, reader: Reader, decider: Decider, folded: Folded, past: RecentPast, worker: Worker,
        clock: Clock, concurrency: int,
    ) -> None:  # fmt: skip
        self._name = store.name
        self.reader = reader
        self.decider = decider
        self.folded = folded
        self.past = past
        self._snapshot_at = decider.state.seq
        self.clock = clock
        self.writer = Writer(store, decider.state.seq, self._on_durable)
        self.bodies = Bodies(self)
        self.desk = LocalDesk(self)
        self.attempts = Attempts(self, self.bodies, worker, concurrency)
        self._stopping = False
        self._quiet: asyncio.Future[None] | None = None
        self._given_up = False
        self._crowd: asyncio.Future[None] | None = None
        """What publishers from outside wait for while too much is ready."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._goal: Goal | None = None
        self._runner: asyncio.Task[object] | None = None
        self._cancelled_before = 0
        self._reached = ""
        self.watchers: set[asyncio.Event] = set()
        self.feed: Callable[[bool], bool] = lambda asleep: False
        """Asked when nothing runs, or (True) all that runs sleeps: makes what comes next happen, if anything does."""

    # -- recording ------------------------------------------------------------------------------------------------

    def record(self, events: list[Event]) -> int:
        """Take the events of one decision: they are appended in this order. Returns the last position."""
        if not events:
            return self.writer.last
        writer, last = self.writer, events[-1].seq
        self.folded.book(events)
        for event in events:
            if event.__class__ is Published:
                self._note(event)
            elif event.__class__ in _HEEDED:
                self._heed(event)
        writer.add(events)
        if writer.durable < last:
            self.past.remember(events)
            if last - self._snapshot_at >= SNAPSHOT_EVERY:
                self._snapshot_at = last
                writer.keep(self.folded.snapshot)
        elif self.watchers:
            self._tell_watchers()
        if self.decider.stopped:
            self._stop_bodies()
        return last

    def _heed(self, event: Event) -> None:
        if event.__class__ in LOUD:
            say_event(event, self._name)
        elif isinstance(event, Rang) and event.timer == "sleep":
            self.desk.ring(event.cause)
        elif isinstance(event, Called):
            self.desk.settled()
        elif isinstance(event, Released) and self._goal is not None:
            self._aim(self.past.event(event.cause))

    def _note(self, event: Any) -> None:
        self.past.add(event, self.writer.durable)
        if self._goal is not None and not event.held_by:
            self._aim(event)

    def _aim(self, event: Event | None) -> None:
        """An artifact is there for everybody: it may be what the run is for."""
        if isinstance(event, Published) and self._goal is not None and not self._reached and self._goal(event):
            self._reached = f"{event.type}@{event.seq}"

    def _tell_watchers(self) -> None:
        for watcher in self.watchers:
            watcher.set()

    def _on_durable(self) -> None:
        if self.writer.failed is not None:
            say(logging.ERROR, "an append failed", board=self._name, error=str(self.writer.failed))
        self.past.trim(self.writer.durable)
        self._tell_watchers()
        if self._quiet is not None:
            self.pump()

    def broken(self) -> BoardBroken:
        """What whoever waits for an append that failed is told."""
        error = self.writer.failed
        return OutcomeUnknown(
            "an append failed; whether it reached the disk is not known. Open the board again; publish once more with "
            f"the same key= to be sure. {told(error)}"
        )

    async def durable(self, seq: int) -> None:
        """Wait until a position is durable.

        Raises:
            OutcomeUnknown: the append failed.
        """
        try:
            await self.writer.until(seq)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise self.broken() from error

    async def publish(self, drafts: Sequence[Draft], origin: Origin = OUTSIDE) -> list[int]:
        """Publish from outside, all or none; ids of the new artifacts when they are durable."""
        if self.writer.failed is not None:
            raise self.broken() from self.writer.failed
        while self._quiet is not None and self.writer.behind > 2 * WINDOW:
            await self.durable(self.writer.last - WINDOW)
        while self.going_on and self._quiet is not None and self.decider.agenda.count > BACKLOG:
            self._crowd = self._crowd or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._crowd)
        if self._given_up:
            raise BoardClosed(f"{self._name} was closed while this waited to be published; nothing was.")
        events = self.decider.publish(drafts, self.clock.now(), origin)
        last = self.record(events)
        if self._quiet is not None:
            self.pump()
        self.attempts.strangers += 1
        try:
            await self.durable(last)
        finally:
            self.attempts.strangers -= 1
        return self._ids(drafts, (e.seq for e in events if isinstance(e, Published) and not e.cause))

    def _ids(self, drafts: Sequence[Draft], new: Iterator[int]) -> list[int]:
        """The artifact of each draft: a new one, or the first that was published with its key."""
        ids: list[int] = []
        fresh: dict[str, int] = {}
        numbers = list(new)
        position = 0
        for d in drafts:
            known = self.past.key(d.run, d.key) if d.key is not None else None
            if known is not None and (known[0] not in numbers or d.key in fresh):
                ids.append(known[0])
                continue
            ids.append(numbers[position])
            position += 1
            if d.key is not None:
                fresh[d.key] = ids[-1]
        return ids

    # -- running --------------------------------------------------------------------------------------------------

    async def run(self, horizon: float | None, goal: Goal | None) -> tuple[Reason, str]:
        """Run bodies until nothing is left to do, or the goal is reached.

        Args:
            horizon: seconds from the moment of quiescence that deadlines are waited for; None = for all.
        """
        self._goal, self._reached, self._stopping = goal, "", False
        self._runner = asyncio.current_task()
        self._cancelled_before = self._runner.cancelling() if self._runner is not None else 0
        self.bodies.clear()
        self.attempts.begin_run()
        self.record(self.decider.resume_runs(self.clock.now()))
        self.attempts.hold_back()
        self.record(self.decider.wake(self.clock.now()))  # an alarm alone would not keep the run awake to ring
        announced = 0
        try:
            while True:
                await self._until_quiet()
                if self.writer.failed is not None:
                    return "broken", str(self.writer.failed)
                if self._stopping:
                    return "cancelled", "the board was closed"
                if self._reached:
                    await self._interrupt()
                    await self.announce("goal", self._reached)
                    return "goal", self._reached
                reason: Reason
                if detail := self.bodies.crowded():
                    if await self._wait_for_place(horizon):
                        continue
                    reason = "waiting"
                elif self.feed(False) or self._more_at_idle() or await self._wait_for_timer(horizon):
                    continue
                else:
                    reason, detail = self.decider.why_idle()
                before = self.decider.agenda.count
                short = self.decider.short() if reason == "budget" else {}
                self.record(self.decider.idle(reason, detail, self.clock.now(), short))
                announced += 1
                self.attempts.hold_back()
                if self.decider.agenda.count > before:
                    if announced < ANNOUNCEMENTS:
                        continue
                    self._quiet = None  # what components add for ever is for another run: nothing starts any more
                rest = len(self.decider.state.activations)
                await self.durable(self.writer.last)
                if not self.bodies.count and len(self.decider.state.activations) == rest:
                    return reason, detail
                # else somebody published while this was written
        except BaseException:
            with suppress(asyncio.CancelledError):  # who runs next must not meet it
                await through(leaving := asyncio.ensure_future(self._leave_running()), leaving.cancel)
            raise
        finally:
            self._quiet = self._goal = self._runner = None
            self._let_in()
            self._disarm()

    async def announce(self, reason: Reason, detail: str) -> None:
        """Record why a run ended before its work did; not if the board was given up meanwhile, which has its end."""
        if not self._given_up:
            self.record(self.decider.idle(reason, detail, self.clock.now()))
            await self.durable(self.writer.last)

    async def _leave_running(self) -> None:
        """The run was cancelled: stop the bodies, and make durable what is decided. Cancelled, it only hurries."""
        try:
            await self._interrupt()
        except asyncio.CancelledError:
            self.bodies.leave_alone()
        with suppress(Exception):  # whoever comes next is told that the board is broken
            await self.writer.flush()

    @property
    def going_on(self) -> bool:
        """Whether more may start."""
        return not self._reached and not self._stopping and self.writer.failed is None

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._quiet is not None

    async def leave(self) -> None:
        """Give up the board: stop what runs, and make everything durable, unless an append has failed before."""
        self._given_up, broken = True, self.writer.failed is not None
        await self._interrupt()
        self._disarm()
        if self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)
        if broken:
            return
        self.record(self.decider.leave(self.clock.now()))
        self.writer.keep(self.folded.snapshot)
        await self.writer.finish()

    async def _until_quiet(self) -> None:
        while True:
            self._quiet = asyncio.get_running_loop().create_future()
            self.pump()
            await self._quiet
            if self._at_rest() or self._stopping:  # a deadline may have passed since it was said
                return

    def pump(self) -> None:
        """Start what may start; say so when nothing is left running."""
        if self.writer.failed is not None:
            self.bodies.give_up(self.bodies)
        elif self.going_on:
            self.attempts.start()
        if self._crowd is not None and (self.decider.agenda.count <= BACKLOG // 2 or not self.going_on):
            self._let_in()
        if self._at_rest() and (self.writer.failed is not None or self.writer.behind <= self.attempts.window):
            if self._quiet is not None and not self._quiet.done():
                self._quiet.set_result(None)
        elif self._stopping or self.writer.failed is not None:
            self._disarm()  # nothing is decided any more, so what is due would be due again at once
        elif self.desk.sleepers and self._all_sleep():
            asyncio.get_running_loop().call_soon(self._move_time)  # a body may be about to do something still
        else:
            self.arm()

    def _let_in(self) -> None:
        """Those who wait to publish may."""
        crowd, self._crowd = self._crowd, None
        if crowd is not None:
            crowd.set_result(None)

    def _at_rest(self) -> bool:
        """Nothing runs, or need not go on; on a disk that failed all have to end, since nobody stops them later."""
        return (self._reached != "" and self.writer.failed is None) or not self.bodies.count

    async def _wait_for_place(self, horizon: float | None) -> bool:
        self._quiet = asyncio.get_running_loop().create_future()
        self.arm()
        return bool((await asyncio.wait([self._quiet], timeout=horizon))[0])

    def _all_sleep(self) -> bool:
        """Every running body waits for a deadline, and none was just woken or given up, or waits for the disk."""
        sleepers, bodies = self.desk.sleepers, self.bodies
        if not sleepers or len(sleepers) < bodies.count or bodies.given_up or self.writer.behind:
            return False
        calls = self.decider.state.calls
        if any(woken.done() or call not in calls for call, woken in sleepers.items()):
            return False
        return len({calls[call].activation for call in sleepers}) == bodies.count

    def wanted(self, fence: int, error: BaseException) -> bool:
        """Whether a body ended because it was to be stopped; one may also cancel itself, and that is a failure."""
        interrupted = self._runner is not None and self._runner.cancelling() > self._cancelled_before
        if interrupted and isinstance(error, asyncio.CancelledError | KeyboardInterrupt):
            self._stopping = True  # the run will notice a moment later; nothing is to start until then
            return True
        return isinstance(error, asyncio.CancelledError) and (self._stopping or fence in self.bodies.given_up)

    def _stop_bodies(self) -> None:
        stopped, self.decider.stopped = self.decider.stopped, []
        for fence, agent in stopped:
            if fence in self.bodies:
                self.bodies.give_up([fence])
            else:
                self.decider.freed(agent)

    async def _interrupt(self) -> None:
        self._stopping = True
        await self.bodies.stop()

    # -- time -----------------------------------------------------------------------------------------------------

    def _more_at_idle(self) -> bool:
        events = self.decider.fire_at_idle(self.clock.now())
        self.record(events)
        return bool(events)

    async def _wait_for_timer(self, horizon: float | None) -> bool:
        """Let the next deadline that work waits for come, if it is near enough."""
        due = self.decider.next_work_due()
        now = self.clock.now()
        if due is None or (horizon is not None and due - now > horizon):
            return False
        if not self.clock.jump(due) and due > now:
            self._quiet = asyncio.get_running_loop().create_future()
            self.arm()
            await self._quiet
            return True
        self.record(self.decider.wake(self.clock.now()))
        return True

    def _move_time(self) -> None:
        """If all running bodies sleep, a virtual clock may go on to the next deadline."""
        if self._stopping or self._quiet is None or not self._all_sleep():
            return
        timer = self.decider.timers.next()
        if self.feed(True):
            asyncio.get_running_loop().call_soon(self.pump)
        elif timer is not None and self.clock.jump(timer.due):
            self.record(self.decider.wake(self.clock.now()))
            asyncio.get_running_loop().call_soon(self.pump)
        else:
            self.arm()

    def arm(self) -> None:
        """Ring at the next deadline."""
        timer = self.decider.timers.next()
        if timer is None:
            self._disarm()
        elif self._timer is None or timer.due != self._timer_due:
            self._disarm()
            self._timer_due = timer.due
            wait = max(0.0, timer.due - self.clock.now())
            self._timer = asyncio.get_running_loop().call_later(wait, self._ring)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self.writer.failed is None and not self._stopping:
            self.record(self.decider.wake(self.clock.now()))
        self.pump()
