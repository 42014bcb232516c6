"""The shell: one owner per board, who decides, appends, and only then shows.

The rule it keeps: nothing leaves the process on behalf of an event that is not durable. A publish is acknowledged, an
effect starts, a watcher sees, a body starts, only when what it rests on is durable; only a body that has no effect of
its own (`pure`) may start before.

Bodies are the loop's own tasks: a task group with a cancel scope for each would cost three times all the rest. All
deadlines are in the decider's one heap, served by one timer here, so that a virtual clock can move them.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from traceback import format_exception

from stigmergy.blackboard.clock import Clock
from stigmergy.blackboard.decider import Decider
from stigmergy.blackboard.decision import Draft
from stigmergy.blackboard.definitions import ONCE
from stigmergy.blackboard.errors import BoardBroken, BrokenOff, CallRefused, OutcomeUnknown, StigmergyError
from stigmergy.blackboard.events import Activated, Called, Calling, ErrorInfo, Event, Published, Rang, Reason
from stigmergy.blackboard.fold import Folded
from stigmergy.blackboard.job import Job, Worker, job_of
from stigmergy.blackboard.past import RecentPast
from stigmergy.blackboard.rows import decode, encode
from stigmergy.blackboard.state import Activation
from stigmergy.blackboard.stores.base import Reader, Store
from stigmergy.blackboard.writer import Writer

WINDOW = 1_000
"""Events that may be decided and not yet durable; beyond it nothing more is claimed."""
SNAPSHOT_EVERY = 100_000
"""Events after which a running board saves a snapshot."""
ANNOUNCEMENTS = 100
"""How often in one run components may answer "nothing is left" with new work."""

Goal = Callable[[Published], bool]


class Owner:
    """Runs one board in one event loop."""

    def __init__(
        self, store: Store, reader: Reader, decider: Decider, folded: Folded, past: RecentPast, worker: Worker,
        clock: Clock, concurrency: int,
    ) -> None:  # fmt: skip
        self._reader = reader
        self.decider = decider
        self.folded = folded
        self._past = past
        self._snapshot_at = decider.state.seq
        self._worker = worker
        self._clock = clock
        self._concurrency = concurrency
        self.writer = Writer(store, decider.state.seq, self._on_durable)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._lingering = 0
        self._unbegun: dict[int, Activation] = {}
        """Claimed activations whose task the loop has not begun yet."""
        self._given_up: set[int] = set()
        self._stopping = False
        self._sleepers: dict[int, asyncio.Future[None]] = {}
        self._quiet: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._strict_until = 0
        self._goal: Goal | None = None
        self._reached = ""
        self._stopping = False
        self.watchers: set[asyncio.Event] = set()

    # -- recording ------------------------------------------------------------------------------------------------

    def record(self, events: list[Event]) -> int:
        """Take the events of one decision: they are appended in this order. Returns the last position."""
        if not events:
            return self.writer.last
        ledger = self.folded.ledger.apply
        for event in events:
            ledger(event)
            if isinstance(event, Published):
                self._note(event)
            elif isinstance(event, Rang) and event.timer == "sleep":
                self._wake_sleeper(event.cause)
        self.writer.add([encode(event) for event in events])
        self._past.remember(events)
        self._past.trim(self.writer.durable)
        if self.writer.last - self._snapshot_at >= SNAPSHOT_EVERY:
            self._snapshot_at = self.writer.last
            self.writer.keep(self.folded.snapshot())
        if self.decider.stopped:
            self._stop_bodies()
        if self.watchers and self.writer.durable == self.writer.last:
            self._on_durable()
        return events[-1].seq

    def _note(self, event: Published) -> None:
        self._past.add(event)
        if self._goal is not None and not self._reached and self._goal(event):
            self._reached = f"{event.type}@{event.seq}"

    def _on_durable(self) -> None:
        for watcher in self.watchers:
            watcher.set()
        if self._quiet is not None:
            self._pump()

    def _broken(self) -> BoardBroken:
        error = self.writer.failed
        return OutcomeUnknown(
            f"an append failed ({error}); whether it reached the disk is not known. Open the board again; "
            "publish once more with the same key= to be sure."
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
            raise self._broken() from error

    async def publish(self, drafts: Sequence[Draft]) -> list[int]:
        """Publish from outside, all or none; ids of the new artifacts when they are durable."""
        if self.writer.failed is not None:
            raise self._broken() from self.writer.failed
        while self._quiet is not None and self.writer.behind > 2 * WINDOW:
            await self.durable(self.writer.last - WINDOW)
        events = self.decider.publish(drafts, self._clock.now())
        last = self.record(events)
        if self._quiet is not None:
            self._pump()
        await self.durable(last)
        return self._ids(drafts, (e.seq for e in events if isinstance(e, Published) and not e.cause))

    def _ids(self, drafts: Sequence[Draft], new: Iterator[int]) -> list[int]:
        """The artifact of each draft: a new one, or the first that was published with its key."""
        ids: list[int] = []
        fresh: dict[str, int] = {}
        numbers = list(new)
        position = 0
        for d in drafts:
            known = self._past.key(d.run, d.key) if d.key is not None else None
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
        self.record(self.decider.resume_runs(self._clock.now()))
        self._strict_until = self._strictness()
        announced = 0
        try:
            while True:
                await self._until_quiet()
                if self.writer.failed is not None:
                    return "broken", str(self.writer.failed)
                if self._reached:
                    await self._interrupt()
                    self.record(self.decider.idle("goal", self._reached, self._clock.now()))
                    await self.durable(self.writer.last)
                    return "goal", self._reached
                if self._more_at_idle() or await self._wait_for_timer(horizon):
                    continue
                reason, detail = self.decider.why_idle()
                before = self.decider.agenda.count
                self.record(self.decider.idle(reason, detail, self._clock.now()))
                announced += 1
                if self.decider.agenda.count > before and announced < ANNOUNCEMENTS:
                    continue
                await self.durable(self.writer.last)
                return reason, detail
        except BaseException:
            await asyncio.shield(self._leave_running())
            raise
        finally:
            self._quiet = None
            self._goal = None
            self._disarm()

    async def _leave_running(self) -> None:
        """The run was cancelled: stop the bodies, and make durable what is decided."""
        await self._interrupt()
        if self.writer.failed is None:
            await self.writer.flush()

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._quiet is not None

    async def leave(self) -> None:
        """Give up the board: stop what runs, and make everything durable."""
        await self._interrupt()
        self.record(self.decider.leave(self._clock.now()))
        self.writer.keep(self.folded.snapshot())
        await self.writer.finish()

    def _strictness(self) -> int:
        """After unclean stops speculation rests until 2^k windows are durable (k stops in a row)."""
        unclean = self.decider.state.unclean
        return self.writer.last + WINDOW * 2 ** min(unclean, 16) if unclean else 0

    async def _until_quiet(self) -> None:
        self._quiet = asyncio.get_running_loop().create_future()
        self._pump()
        await self._quiet

    def _pump(self) -> None:
        """Start what may start; say so when nothing is left running."""
        if self.writer.failed is not None:
            self._cancel(list(self._tasks))
        elif not self._reached and not self._stopping:
            self._start_bodies()
        if self._at_rest() and self.writer.behind <= WINDOW:
            if self._quiet is not None and not self._quiet.done():
                self._quiet.set_result(None)
        elif self._sleepers and len(self._sleepers) == len(self._tasks):
            self._move_time()
        else:
            self._arm()

    def _at_rest(self) -> bool:
        """Nothing runs, or need not go on; a given-up thread whose place is waited for does."""
        return self._reached != "" or not (self._tasks or (self._lingering and self.decider.agenda.count))

    def _start_bodies(self) -> None:
        tasks, decider = self._tasks, self.decider
        while len(tasks) + self._lingering < self._concurrency and self.writer.behind <= WINDOW:
            if not decider.agenda.count and not decider.suspects:
                return
            events, a = decider.claim(self._clock.now())
            self.record(events)
            if a is None:
                return
            self._unbegun[a.id] = a
            tasks[a.id] = asyncio.get_running_loop().create_task(self._attempt(a))

    async def _attempt(self, a: Activation) -> None:
        """One attempt of one activation, from its durable claim to its recorded end."""
        del self._unbegun[a.id]
        spec = self.decider.index.agents[a.agent]
        id, fence = a.id, a.fence
        job = job_of(a, spec, self)
        started = perf_counter()
        events: list[Event]
        try:
            if self.writer.durable < fence and (fence <= self._strict_until or not self._worker.may_speculate(spec)):
                await self.durable(fence)
                started = perf_counter()
            drafts = await self._worker.perform(job)
            seconds = perf_counter() - started
            events = self.decider.complete(id, fence, drafts, seconds, self._clock.now(), spec.retry)
        except BaseException as error:  # noqa: BLE001  whatever a body raises, it is the activation that failed
            events = self._failed(a, error, perf_counter() - started)
        self._ended(a, events)

    def _ended(self, a: Activation, events: list[Event]) -> None:
        self._tasks.pop(a.id, None)
        if a.id in self._given_up:
            self._given_up.discard(a.id)
            self.decider.freed(a.agent)
        if self.writer.failed is None:
            self.record(events)
        self._pump()

    def _failed(self, a: Activation, error: BaseException, seconds: float) -> list[Event]:
        if isinstance(error, BrokenOff):
            self.writer.fail(error)
        if self.writer.failed is not None:
            return []
        task = asyncio.current_task()
        now = self._clock.now()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            info = ErrorInfo("Interrupted", "the run was stopped")
            return self.decider.fail(a.id, a.fence, info, seconds, now, ONCE, "interrupted")
        retry = self.decider.index.agents[a.agent].retry
        return self.decider.fail(a.id, a.fence, error_info(error), seconds, now, retry)

    def _stop_bodies(self) -> None:
        stopped, self.decider.stopped = self.decider.stopped, []
        for id, agent in stopped:
            task = self._tasks.get(id)
            if task is None:
                self.decider.freed(agent)
            else:
                self._given_up.add(id)
                self._cancel([id])

    def _cancel(self, ids: Sequence[int]) -> None:
        """Stop bodies. One that has not begun never will, so that its attempt is ended here."""
        for id in ids:
            task = self._tasks.get(id)
            if task is None:
                continue
            task.cancel()
            a = self._unbegun.pop(id, None)
            if a is not None:
                error = ErrorInfo("Interrupted", "the run was stopped")
                now = self._clock.now()
                broken = self.writer.failed is not None
                self._ended(a, [] if broken else self.decider.fail(id, a.fence, error, 0.0, now, ONCE, "interrupted"))

    async def _interrupt(self) -> None:
        """Stop all bodies in good order: their work stays open."""
        self._stopping = True
        while tasks := list(self._tasks.values()):
            self._cancel(list(self._tasks))
            await asyncio.wait(tasks)

    # -- time -----------------------------------------------------------------------------------------------------

    def _more_at_idle(self) -> bool:
        events = self.decider.fire_at_idle(self._clock.now())
        self.record(events)
        return bool(events)

    async def _wait_for_timer(self, horizon: float | None) -> bool:
        """Let the next deadline that work waits for come, if it is near enough."""
        due = self.decider.next_work_due()
        now = self._clock.now()
        if due is None or (horizon is not None and due - now > horizon):
            return False
        if not self._clock.jump(due) and due > now:
            self._quiet = asyncio.get_running_loop().create_future()
            self._arm()
            await self._quiet
            return True
        self.record(self.decider.wake(self._clock.now()))
        return True

    def _move_time(self) -> None:
        """All running bodies sleep: a virtual clock may go on to the next deadline."""
        timer = self.decider.timers.next()
        if timer is not None and self._clock.jump(timer.due):
            self.record(self.decider.wake(self._clock.now()))
        else:
            self._arm()

    def _arm(self) -> None:
        timer = self.decider.timers.next()
        if timer is None:
            self._disarm()
        elif self._timer is None or timer.due != self._timer_due:
            self._disarm()
            self._timer_due = timer.due
            wait = max(0.0, timer.due - self._clock.now())
            self._timer = asyncio.get_running_loop().call_later(wait, self._ring)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self.writer.failed is None:
            self.record(self.decider.wake(self._clock.now()))
        self._pump()

    def _wake_sleeper(self, calling: int) -> None:
        sleeper = self._sleepers.get(calling)
        if sleeper is not None and not sleeper.done():
            sleeper.set_result(None)

    # -- the desk: what running bodies ask for --------------------------------------------------------------------

    def now(self) -> float:
        """Log time."""
        return self._clock.now()

    def published(self, id: int) -> Published:
        """The event that published an artifact."""
        return self._past.published(id)

    def reader(self) -> Reader:
        """The durable log."""
        return self._reader

    def chain(self, job: Job) -> list[int]:
        """The activation and the dead letters that it repeats, newest first."""
        ids, before = [job.id], job.redriven
        while before:
            ids.append(before)
            row = self._reader.event(before)
            event = decode(row) if row is not None else None
            before = event.redriven if isinstance(event, Activated) else 0
        return ids

    def recorded(self, job: Job) -> dict[str, tuple[Calling, Called | None]]:
        """The effects that earlier attempts recorded, by key: the last announcement of each and its outcome."""
        found: dict[str, tuple[Calling, Called | None]] = {}
        callings: dict[int, Calling] = {}
        for id in reversed(self.chain(job)):
            for event in map(decode, self._reader.calls(id)):
                if isinstance(event, Calling):
                    callings[event.seq] = event
                    found[event.key] = (event, None)
                elif isinstance(event, Called) and found[event.key][0] is callings.get(event.cause):
                    found[event.key] = (found[event.key][0], event)
        return found

    async def calling(self, job: Job, event: Calling) -> int:
        """Announce an effect; it may start when this returns."""
        events, refusal = self.decider.calling(job.id, job.fence, event, self._clock.now())
        self.record(events)
        if refusal:
            raise CallRefused(refusal)
        await self.durable(event.seq)
        return event.seq

    async def called(self, job: Job, calling: int, event: Called) -> None:
        """Record an outcome; only the wait for durability can be cancelled."""
        if self.writer.failed is not None:
            raise self._broken()
        self.record(self.decider.called(calling, event, self._clock.now()))
        await self.durable(event.seq)

    async def sleep(self, job: Job, calling: int) -> None:
        """Wait for the deadline of an announced sleep."""
        call = self.decider.state.calls.get(calling)
        if call is None or (call.until or 0.0) <= self._clock.now():
            return
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers[calling] = sleeper
        try:
            self._pump()
            await sleeper
        finally:
            del self._sleepers[calling]

    async def publish_from(self, job: Job, drafts: Sequence[Draft]) -> list[int]:
        """Publish on behalf of a running activation."""
        origin = self.decider.origin_of(job.id)
        events = self.decider.publish(drafts, self._clock.now(), origin)
        last = self.record(events)
        self._pump()
        await self.durable(last)
        return [e.seq for e in events if isinstance(e, Published) and e.cause == job.id]

    def lingering(self, job: Job) -> Callable[[], None]:
        """A body that cannot be stopped keeps its place until it has ended."""
        loop = asyncio.get_running_loop()
        self._lingering += 1
        self.decider.agenda.occupy(job.agent.name)

        def ended() -> None:
            self._lingering -= 1
            self.decider.freed(job.agent.name)
            if self._quiet is not None:
                self._pump()

        def from_any_thread() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(ended)

        return from_any_thread


def error_info(error: BaseException) -> ErrorInfo:
    """An exception as data; our own errors need no traceback."""
    trace = "" if isinstance(error, StigmergyError) else "".join(format_exception(error))[-8_000:]
    return ErrorInfo(type(error).__name__, str(error), trace)
