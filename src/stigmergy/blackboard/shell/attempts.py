"""Activations are claimed, and their bodies run, in turns.

A turn is a task that runs one body after the other as long as none of them waits for anything, so that such a delivery
costs neither a task nor a turn of the loop. A body that does wait keeps the task to itself until it ends, and another
turn goes on with the others. Each body has a context of its own (contextvars), as if it had a task of its own.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextvars import Context, copy_context
from time import perf_counter
from traceback import format_exception
from types import coroutine
from typing import Any, Protocol

from stigmergy.blackboard.core.decision import Draft
from stigmergy.blackboard.core.records import Activation
from stigmergy.blackboard.core.retryable import is_retryable, patience
from stigmergy.blackboard.definitions import ONCE, AgentSpec
from stigmergy.blackboard.errors import BrokenOff, BudgetSpent, PublishError, StigmergyError, StoreError
from stigmergy.blackboard.events import ErrorInfo, Event
from stigmergy.blackboard.shell.bodies import Bodies
from stigmergy.blackboard.shell.bodies import Shell as BodiesShell
from stigmergy.blackboard.shell.job import Desk, Job, Worker, job_of
from stigmergy.blackboard.stores.base import Reader

WINDOW = 1_000
"""Events that may be decided and not yet durable; beyond it nothing more is claimed."""
NARROW = 100
"""The same while somebody outside waits for a publish: what is decided meanwhile would make that wait longer."""
TURN = 32
"""Bodies after which a turn gives way to whatever else the loop has to do."""
LONG = 0.002
"""Seconds, by the clock of the board, after which it does so earlier."""


class Shell(BodiesShell, Protocol):
    """What attempts need of the owner behind them."""

    reader: Reader

    @property
    def desk(self) -> Desk: ...
    @property
    def going_on(self) -> bool: ...
    def wanted(self, fence: int, error: BaseException) -> bool: ...
    def arm(self) -> None: ...


class Attempts:
    """Claims what may run, and runs it."""

    def __init__(self, owner: Shell, bodies: Bodies, worker: Worker, concurrency: int) -> None:
        self._owner = owner
        self._bodies = bodies
        self.worker = worker
        self._concurrency = concurrency
        self._ready: deque[int] = deque()
        """Fences of what may begin."""
        self._claimed: deque[int] = deque()
        """Fences of what may begin when they are durable."""
        self._turn: asyncio.Task[None] | None = None
        """The turn that will begin bodies, or is beginning one."""
        self._context = Context()
        self._strict_until = self._shown = 0
        self.strangers = 0
        """How many outside publishes wait until they are durable."""

    @property
    def window(self) -> int:
        """How many events may be decided and not yet durable when something is claimed."""
        return NARROW if self.strangers else WINDOW

    def begin_run(self) -> None:
        """Bodies see the context of whoever runs the board."""
        self._context = copy_context()

    def hold_back(self) -> None:
        """Speculation rests until the log shows that somebody is at work, since a crash before that would look like
        rest, and after unclean stops until 2^k windows are durable (k stops in a row)."""
        last, state = self._owner.writer.last, self._owner.decider.state
        self._shown = last + state.quiet
        self._strict_until = last + WINDOW * 2 ** min(state.unclean, 16) if state.unclean else 0

    def start(self) -> None:
        """Claim what there is a place for, and see to it that what may begin does."""
        claimed, ready, durable = self._claimed, self._ready, self._owner.writer.durable
        while claimed and claimed[0] <= durable:
            ready.append(claimed.popleft())
        self._claim(self._owner.clock.now())
        if ready and (self._turn is None or self._turn.done()):
            self._turn = asyncio.get_running_loop().create_task(self._take_turn())

    def _claim(self, now: float) -> None:
        owner, bodies = self._owner, self._bodies
        decider, writer, unbegun = owner.decider, owner.writer, bodies.unbegun
        while decider.agenda.count or decider.suspects:
            if bodies.count + bodies.lingering >= self._concurrency or writer.behind > self.window:
                return
            events, a = decider.claim(now)
            owner.record(events)
            if a is not None:
                unbegun[a.fence] = a
                (self._ready if self._may_begin(a) else self._claimed).append(a.fence)
            elif not events:  # if there are any, one was denied, held or cancelled at once, and the next may run
                return

    def _may_begin(self, a: Activation) -> bool:
        """Whether the body may start: its claim is durable, or it has no effect, and nothing speaks against it."""
        durable, fence = self._owner.writer.durable, a.fence
        if durable >= fence:
            return True
        strict = durable < self._shown or fence <= self._strict_until
        return not strict and self.worker.may_speculate(self._owner.decider.index.agents[a.agent])

    async def _take_turn(self) -> None:
        owner, unbegun, ready = self._owner, self._bodies.unbegun, self._ready
        task = asyncio.current_task()
        assert task is not None
        until = owner.clock.now() + LONG
        for _ in range(TURN):
            if not ready:
                break
            a = unbegun.pop(ready.popleft(), None)
            if a is None:  # stopped before it began
                continue
            self._bodies.tasks[a.fence] = task
            now = await self._attempt(a)
            if task is not self._turn or now > until or task.cancelling() or not owner.going_on:
                break
            self._claim(now)
        if task is self._turn:
            self._turn = None
        owner.pump()

    async def _attempt(self, a: Activation) -> float:
        """One attempt of one activation, from its claim to its recorded end; when that was, in log time."""
        owner = self._owner
        spec = owner.decider.index.agents[a.agent]
        id, fence = a.id, a.fence
        job = job_of(a, spec, owner.desk)
        started = perf_counter()
        try:
            context = self._context.copy()
            body = self.worker.perform(job)
            try:
                waits_for = context.run(body.send, None)
            except StopIteration as returned:
                drafts: Sequence[Draft] = returned.value
            else:
                self._turn = None
                self.start()
                if owner.going_on:
                    owner.arm()  # it may have been claimed in this turn, and has a timeout
                drafts = await _rest_of(body, context, waits_for)
            if job.over is not None:
                raise job.over
            seconds = perf_counter() - started
            now = owner.clock.now()
            try:
                events = owner.decider.complete(id, fence, drafts, seconds, now, spec.retry)
            except PublishError as error:
                job.refused(error)
                raise
        except BaseException as error:  # noqa: BLE001  whatever a body raises, it is the activation that failed
            now = owner.clock.now()
            events = self._failed(job, spec, error, perf_counter() - started, now)
        self._bodies.ended(a.agent, fence)
        if owner.writer.failed is None:
            owner.record(events)
        return now

    def _failed(self, job: Job, spec: AgentSpec, error: BaseException, seconds: float, now: float) -> list[Event]:
        owner = self._owner
        if isinstance(error, BrokenOff) or (isinstance(error, StoreError) and error.reader is owner.reader):
            owner.writer.fail(error)  # a board that cannot be read is not the body's failure
        if owner.writer.failed is not None:
            return []
        id, fence = job.id, job.fence
        stopped: ErrorInfo | None = None
        if job.suspended and not isinstance(error, Exception):
            stopped = ErrorInfo("Suspended", "it waits for an answer")
        elif owner.wanted(fence, error):
            stopped = ErrorInfo("Interrupted", "the run was stopped")
        if stopped is not None:
            return owner.decider.fail(id, fence, stopped, seconds, now, ONCE, "interrupted")
        if job.over is not None:
            return owner.decider.park(id, fence, ErrorInfo.of(job.over), seconds, now, job.over.limit)
        if isinstance(error, BudgetSpent):
            return owner.decider.park(id, fence, ErrorInfo.of(error), seconds, now)
        info = ErrorInfo.of(error, "" if isinstance(error, StigmergyError) else _trace(error))
        info.retryable, info.retry_after = is_retryable(error, spec.retry.never), patience(error)
        return owner.decider.fail(id, fence, info, seconds, now, spec.retry)


def _trace(error: BaseException) -> str:
    """The traceback, of which a long message leaves something; writing it asks the error for all sorts of things."""
    try:
        return "".join(part[-4_000:] for part in format_exception(error))[-8_000:]
    except Exception as broken:  # noqa: BLE001  what cannot be written is still to be recorded
        return f"its traceback cannot be written ({type(broken).__name__})"


@coroutine
def _rest_of(body: Coroutine[Any, Any, Any], context: Context, waits_for: Any) -> Generator[Any, Any, Any]:
    """Go on with a body that has begun and waits for something: await that for it, and again, until it returns."""
    step: Callable[[Any], Any]
    while True:
        try:
            given = yield waits_for
        except BaseException as error:  # noqa: BLE001  for the body: it was cancelled, or what it waits for failed
            step, value = body.throw, error
        else:
            step, value = body.send, given
        try:
            waits_for = context.run(step, value)
        except StopIteration as returned:
            return returned.value
