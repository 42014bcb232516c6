"""One agent on the pure core against a model that is a dict: whatever is done, in any order, both agree."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pydantic import BaseModel

from stigmergy.blackboard import events as ev
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.decider import Decider
from stigmergy.blackboard.core.drafting import draft_of
from stigmergy.blackboard.core.enrolment import Enrolment
from stigmergy.blackboard.core.fingerprints import fingerprint, shape
from stigmergy.blackboard.core.fold import Folded, fold
from stigmergy.blackboard.core.matching import Index
from stigmergy.blackboard.core.observers import Observers
from stigmergy.blackboard.definitions import AgentSpec, Limits, Retry, Slot, Subscription
from stigmergy.blackboard.errors import KeyReused, NotFound
from stigmergy.blackboard.events import ErrorInfo, Event, Published
from stigmergy.blackboard.payloads.envelope import envelope
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.shell.past import RecentPast
from stigmergy.blackboard.stores.base import Row
from stigmergy.blackboard.stores.memory import MemoryStore
from stigmergy.blackboard.stores.rows import encode

ERROR = ErrorInfo("ValueError", "it failed")
RETRY = Retry(attempts=2, backoff=1.0)
PLACES = 2
MAX_CRASHES = 2
WINDOW = 500


class Task(BaseModel):
    n: int = 0


WORKER = AgentSpec(
    "worker", subscriptions=(Subscription("worker/0", (Slot("Task", Task),)),), concurrency=PLACES, retry=RETRY,
    max_crashes=MAX_CRASHES,
)  # fmt: skip


@dataclass
class Expected:
    """What the model says of an activation."""

    at: float
    status: str = "ready"
    attempts: int = 0
    crashes: int = 0
    fence: int = 0
    alone: bool = False
    suspect: bool = False
    due: float = 0.0
    tried_again: bool = False

    @property
    def open(self) -> bool:
        return self.status in ("ready", "running", "retrying")


@dataclass
class Model:
    """Activations by id, and idempotency keys with their payload."""

    jobs: dict[int, Expected]
    keys: dict[str, int]

    def having(self, *statuses: str) -> list[int]:
        return [id for id, job in self.jobs.items() if job.status in statuses]


class Board(RuleBasedStateMachine):
    """Publish, claim, complete, fail, crash, cancel, redrive, wake, reopen."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.types = TypeTable()
        self.types.add(Task)
        self.model = Model({}, {})
        self.durable: tuple[list[Row], Model] = [], copy.deepcopy(self.model)
        self.rows: list[Row] = []
        self.fences: list[tuple[int, int]] = []
        self.highest = 0

    @initialize()
    def begin(self) -> None:
        self._open()

    def _open(self) -> None:
        store = MemoryStore()
        store.append_now(self.rows)
        self.past = RecentPast(store.reader(), self.types, self._envelope)
        self.folded: Folded = fold(store.reader(), Observers([]), self._envelope)
        self.decider = Decider(self.folded.state, Index([WORKER]), self.folded.observers, self.past, Limits())
        self.store = store
        shapes = {s.id: shape(s) for s in WORKER.subscriptions}
        enrolment = Enrolment("worker", "agent", fingerprint(WORKER), shapes)
        self.stored = len(self.rows)
        highest = self.highest
        opened = self._took(self.decider.open("1", "full", WINDOW, self.now, [enrolment]))[0]
        assert isinstance(opened, ev.Opened)
        assert opened.clean or opened.seq > highest, "an id is dealt a second time"
        for id in self.model.having("running"):
            job = self.model.jobs[id]
            job.crashes += job.alone
            guilty = job.alone and job.crashes >= MAX_CRASHES
            job.status, job.suspect, job.alone = "dead" if guilty else "ready", not guilty, False
        self._flush()

    def _envelope(self, event: Published) -> Artifact[Any]:
        return envelope(event, self.types.decode(event.type, event.version, event.payload))

    def _took(self, events: list[Event]) -> list[Event]:
        self.rows += [encode(event) for event in events]
        self.past.remember(events)
        for event in events:
            if isinstance(event, Published):
                self.past.add(event, 0)
        self.highest = self.rows[-1].seq
        return events

    def _flush(self) -> None:
        self.store.append_now(self.rows[self.stored :])
        self.stored = len(self.rows)
        self.durable = list(self.rows), copy.deepcopy(self.model)
        self.past.trim(self.highest)

    # -- rules ----------------------------------------------------------------------------------------------------

    @rule(n=st.integers(0, 3), key=st.sampled_from([None, None, "a", "b"]))
    def publish(self, n: int, key: str | None) -> None:
        drafts = [draft_of(self.types, Task(n=n), key=key, run="main")]
        if key is not None and self.model.keys.get(key, n) != n:
            with pytest.raises(KeyReused):
                self.decider.publish(drafts, self.now)
            return
        events = self.decider.publish(drafts, self.now)
        if key is not None and key in self.model.keys:
            assert not events
            return
        if key is not None:
            self.model.keys[key] = n
        [published, activated] = self._took(events)
        assert isinstance(activated, ev.Activated) and activated.inputs == [published.seq]
        self.model.jobs[activated.seq] = Expected(activated.at)

    @rule()
    def claim(self) -> None:
        events, given = self.decider.claim(self.now)
        jobs, running = self.model.jobs, self.model.having("running")
        ready = sorted(self.model.having("ready"), key=lambda id: (jobs[id].at, id))
        suspects = sorted((id for id in ready if jobs[id].suspect), key=lambda id: (jobs[id].crashes, id))
        if suspects:
            expected = suspects[0] if not running else None
        else:
            full = len(running) >= PLACES or any(jobs[id].alone for id in running)
            expected = ready[0] if ready and not full else None
        assert (given.id if given is not None else None) == expected
        if given is None:
            assert not events
            return
        self._took(events)
        job = jobs[given.id]
        job.status, job.fence, job.alone, job.suspect = "running", given.fence, job.suspect, False
        self.fences.append((given.id, given.fence))

    @precondition(lambda self: self.model.having("running"))
    @rule(data=st.data(), outputs=st.integers(0, 2))
    def complete(self, data: st.DataObject, outputs: int) -> None:
        id = data.draw(st.sampled_from(self.model.having("running")))
        drafts = [draft_of(self.types, Task(n=9)) for _ in range(outputs)]
        events = self._took(self.decider.complete(id, self.model.jobs[id].fence, drafts, 0.1, self.now, RETRY))
        assert [type(e) for e in events] == [ev.Completed] + [Published] * outputs, "it may not trigger itself"
        self.model.jobs[id].status = "done"

    @precondition(lambda self: self.model.having("running"))
    @rule(data=st.data(), interrupted=st.booleans())
    def fail(self, data: st.DataObject, interrupted: bool) -> None:
        id = data.draw(st.sampled_from(self.model.having("running")))
        job = self.model.jobs[id]
        kind: Any = "interrupted" if interrupted else "error"
        self._took(self.decider.fail(id, job.fence, ERROR, 0.1, self.now, RETRY, kind))
        job.alone = False
        if interrupted:
            job.status = "ready"
            return
        job.attempts += 1
        job.status = "retrying" if job.attempts < RETRY.attempts else "dead"
        job.due = self.folded.state.at + 1.0

    @precondition(lambda self: self.fences)
    @rule(data=st.data())
    def come_late(self, data: st.DataObject) -> None:
        id, fence = data.draw(st.sampled_from(self.fences))
        job = self.model.jobs.get(id)
        if job is not None and job.status == "running" and job.fence == fence:
            return
        assert not self.decider.complete(id, fence, [], 0.1, self.now)
        assert not self.decider.fail(id, fence, ERROR, 0.1, self.now)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.model.jobs)))
        job = self.model.jobs[id]
        events = self.decider.cancel([id], "not wanted", self.now)
        assert bool(events) == job.open
        if events:
            self._took(events)
            job.status = "cancelled"
        for _, agent in self.decider.stopped:
            self.decider.freed(agent)
        self.decider.stopped = []

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def redrive(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.model.jobs)))
        job = self.model.jobs[id]
        if job.status not in ("dead", "cancelled") or job.tried_again:
            with pytest.raises(NotFound):
                self.decider.redrive(id, self.now)
            return
        events = self._took(self.decider.redrive(id, self.now))
        job.tried_again = True
        assert isinstance(events[-1], ev.Activated)
        self.model.jobs[events[-1].seq] = Expected(events[-1].at)

    @rule(seconds=st.sampled_from([0.0, 0.5, 2.0, -3.0]))
    def wake(self, seconds: float) -> None:
        self.now += seconds
        events = self.decider.wake(self.now)
        now = max(self.now, self.folded.state.at)
        due = [id for id in self.model.having("retrying") if self.model.jobs[id].due <= now]
        assert bool(events) == bool(due)
        if events:
            self._took(events)
        for id in due:
            self.model.jobs[id].status = "ready"

    @rule()
    def flush(self) -> None:
        self._flush()

    @rule()
    def crash(self) -> None:
        rows, model = self.durable
        self.rows, self.model = list(rows), copy.deepcopy(model)
        self._open()

    @rule()
    def reopen(self) -> None:
        self._took(self.decider.leave(self.now))
        for id in self.model.having("running"):
            self.model.jobs[id].status, self.model.jobs[id].alone = "ready", False
        self._open()

    # -- what always holds ----------------------------------------------------------------------------------------

    @invariant()
    def both_agree(self) -> None:
        if not self.rows:
            return
        found = {a.id: (a.status, a.attempts, a.crashes, a.suspect) for a in self.folded.state.activations.values()}
        expected = {
            id: (job.status, job.attempts, job.crashes, job.suspect) for id, job in self.model.jobs.items() if job.open
        }
        assert found == expected

    @invariant()
    def the_log_is_dense_within_an_epoch(self) -> None:
        for before, row in zip(self.rows, self.rows[1:], strict=False):
            assert row.seq == before.seq + 1 or row.kind == "Opened"
            assert row.at >= before.at


def test_the_model_and_the_core_agree_whatever_is_done() -> None:
    run_state_machine_as_test(
        Board,
        settings=settings(
            max_examples=100, stateful_step_count=40, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


@pytest.mark.long
def test_the_model_and_the_core_agree_at_length() -> None:
    run_state_machine_as_test(
        Board, settings=settings(max_examples=600, stateful_step_count=80, deadline=None, database=None)
    )
