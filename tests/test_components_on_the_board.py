"""Components on a living board: they watch, react, hold back, deny, review and wake up; and what if they raise."""

import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from stigmergy import (
    ACCEPT,
    ADMIT,
    Blackboard,
    Cancel,
    Close,
    Completion,
    Component,
    Context,
    Deny,
    Hold,
    Metrics,
    Publish,
    Redrive,
    Reject,
    Report,
    Retry,
    Seen,
    WorkflowComplete,
    WorkflowMetrics,
)
from stigmergy.blackboard.component import ActivationRequest, Admission, CallRequest, Reaction, Verdict
from stigmergy.blackboard.errors import BadComponent
from stigmergy.blackboard.events import Ended, Event, Faulted, Idled, Published, Rang
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, numbers

pytestmark = pytest.mark.anyio


class Total(BaseModel):
    of: int


class Go(BaseModel):
    pass


def copy_agent(board: Blackboard, ran: list[int] | None = None, name: str = "copy", **limits: Any) -> None:
    """An agent that makes a B of every A."""

    async def copy(a: A) -> B:
        if ran is not None:
            ran.append(a.n)
        return B(n=a.n, key=a.key)

    board.agent(name).limits(**limits).consumes(A).publishes(B).body(copy)


def kinds(board: Blackboard) -> list[str]:
    return [type(e).__name__ for e in board.events()]


# -- watching and reacting --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sum:
    total: int = 0
    said: int = 0


class Adder(Component[Sum]):
    """Adds up every A, and says the sum whenever it has passed another ten."""

    publishes = (Total,)
    observes: ClassVar[tuple[type[Event] | type[BaseModel], ...]] = (A, Total)

    def start(self) -> Sum:
        return Sum()

    def step(self, state: Sum, seen: Seen, /) -> Sum:
        assert seen.artifact is not None
        if total := seen.artifact.as_type(Total):
            return replace(state, said=total.of)
        return replace(state, total=state.total + seen.artifact.payload.n)

    def react(self, state: Sum, seen: Seen, /) -> Iterable[Reaction]:
        if state.total // 10 > state.said // 10:
            yield Publish(Total(of=state.total), tags=("sum",), priority="high")


@pytest.mark.req("S3.33")
async def test_a_component_sees_what_happens_and_reacts_in_the_same_decision(new_board: Boards) -> None:
    board = new_board(components=[Adder()])
    seen: list[int] = []

    @board.agent
    async def listen(total: Total) -> None:
        seen.append(total.of)

    await board.publish(A(n=4), run="r")
    trigger = await board.publish(A(n=7), run="r")
    await board.publish(A(n=1), run="r")
    [total] = board.artifacts(Total)
    assert (total.payload.of, total.producer, total.run, total.root) == (11, "adder", "r", trigger.id)
    assert (total.tags, total.priority, total.cause) == (("sum",), "high", trigger.id)
    by_seq = {e.seq: e for e in board.events()}
    assert by_seq[total.id].tx == by_seq[trigger.id].tx
    await board.run_until_idle()
    assert seen == [11]


async def test_the_state_of_a_component_is_folded_again_and_it_does_not_react_twice(new_board: Boards) -> None:
    board = new_board(components=[Adder()])
    await board.publish_many([A(n=4), A(n=7)])
    again = await new_board.reopened(board, components=[Adder()])
    await again.publish(A(n=8))
    assert again.artifacts(Total).total == 1
    await again.publish(A(n=1))
    assert [t.of for t in again.artifacts(Total).payloads] == [11, 20]


async def test_a_component_added_to_an_old_board_knows_its_past_and_reacts_to_the_future_only(
    new_board: Boards,
) -> None:
    board = new_board()
    await board.publish_many([A(n=4), A(n=7)])
    again = await new_board.reopened(board, components=[Adder()])
    await again.publish(A(n=9))
    assert [t.of for t in again.artifacts(Total).payloads] == [20]


async def test_a_component_may_add_work_when_nothing_is_left_and_ends_by_its_own_rule(new_board: Boards) -> None:
    class Again(Component[int]):
        publishes = (A,)
        observes = (Idled, A)

        def start(self) -> int:
            return 0

        def step(self, state: int, seen: Seen, /) -> int:
            return state + 1 if seen.artifact else state

        def react(self, state: int, seen: Seen, /) -> Iterable[Reaction]:
            if isinstance(seen.event, Idled) and state < 3:
                yield Publish(A(n=state))

    board = new_board(components=[Again()])
    ran: list[int] = []
    copy_agent(board, ran)
    report = await board.run_until_idle()
    assert ran == [0, 1, 2]
    assert report.reason == "idle"


async def test_a_component_that_always_finds_work_at_idle_does_not_run_for_ever(new_board: Boards) -> None:
    class Restless(Component[None]):
        publishes = (A,)
        observes = (Idled,)

        def react(self, state: None, seen: Seen, /) -> Iterable[Reaction]:
            yield Publish(A())

    board = new_board(components=[Restless()])
    ran: list[int] = []
    copy_agent(board, ran)
    await board.run_until_idle()
    assert 1 < len(ran) <= 100
    before = len(ran)
    await board.run_until_idle()
    assert len(ran) > before


async def test_a_component_does_not_react_to_what_it_published_itself(new_board: Boards) -> None:
    class Echo(Component[None]):
        publishes = (A,)
        observes = (A,)

        def react(self, state: None, seen: Seen, /) -> Iterable[Reaction]:
            assert seen.artifact is not None
            yield Publish(A(n=seen.artifact.payload.n + 1))

    board = new_board(components=[Echo()])
    await board.publish(A(n=0))
    assert numbers(board, A) == [0, 1]


@pytest.mark.req("S3.39")
async def test_metrics_do_not_trigger_metrics(new_board: Boards) -> None:
    board = new_board(components=[Metrics(every=1), Completion()])
    copy_agent(board)
    await board.publish_many([A(n=1), A(n=2)])
    report = await board.run_until_idle()
    await board.run_until_idle()
    assert report.reason == "idle"
    metrics = board.artifacts(WorkflowMetrics)
    events = sum(1 for e in board.events() if not (isinstance(e, Published) and e.producer == "metrics"))
    assert 0 < metrics.total <= events
    assert board.artifacts(WorkflowComplete).total == 1


# -- admission --------------------------------------------------------------------------------------------------------


class Gate(Component[bool]):
    """Holds the agent `copy` until somebody says Go."""

    observes: ClassVar[tuple[type[Event] | type[BaseModel], ...]] = (Go,)

    def start(self) -> bool:
        return False

    def step(self, state: bool, seen: Seen, /) -> bool:
        return True

    def admit(self, state: bool, request: ActivationRequest | CallRequest, /) -> Admission:
        if isinstance(request, CallRequest) or state or request.agent != "copy":
            return ADMIT
        return Hold("nobody said go")


async def test_a_held_activation_waits_and_starts_when_the_component_changes_its_mind(new_board: Boards) -> None:
    board = new_board(components=[Gate()])
    ran: list[int] = []
    copy_agent(board, ran)
    await board.publish_many([A(n=1), A(n=2)])
    report = await board.run_until_idle()
    assert ran == []
    assert (report.reason, report.ok) == ("deadlock", False)
    assert {(left.by, left.reason) for left in report.left.held} == {("gate", "nobody said go")}
    assert "gate: nobody said go" in report.detail

    await board.publish(Go())
    report = await board.run_until_idle()
    assert ran == [1, 2]
    assert report.left.held == ()


async def test_held_activations_stay_held_over_a_restart(new_board: Boards) -> None:
    board = new_board(components=[Gate()])
    copy_agent(board)
    await board.publish(A(n=1))
    await board.run_until_idle()
    again = await new_board.reopened(board, components=[Gate()])
    ran: list[int] = []
    copy_agent(again, ran)
    assert (await again.run_until_idle()).reason == "deadlock"
    await again.publish(Go())
    await again.run_until_idle()
    assert ran == [1]


async def test_what_is_held_does_not_keep_others_from_running(new_board: Boards) -> None:
    board = new_board(components=[Gate()], concurrency=1)
    copy_agent(board, concurrency=1)
    other: list[int] = []
    copy_agent(board, other, name="other")
    await board.publish_many([A(n=n) for n in range(5)])
    await board.run_until_idle()
    assert other == [0, 1, 2, 3, 4]


async def test_a_hold_with_a_time_is_asked_again_when_it_has_come(new_board: Boards) -> None:
    class Curfew(Component[None]):
        def __init__(self, until: float) -> None:
            self.until = until

        def admit(self, state: None, request: ActivationRequest | CallRequest, /) -> Admission:
            assert isinstance(request, ActivationRequest)
            return ADMIT if request.attempt > 1 or clock.now() >= self.until else Hold("too early", self.until)

    clock = VirtualClock()
    start = clock.now()
    board = new_board(clock=clock, components=[Curfew(start + 30)])
    times: list[float] = []

    @board.agent
    async def work(a: A, ctx: Context) -> None:
        times.append(ctx.now() - start)

    await board.publish(A())
    report = await board.run_until_idle()
    assert times == [30.0]
    assert report.reason == "idle"


class Denies(Component[None]):
    """Lets nobody but `allowed` run."""

    def __init__(self, allowed: str = "") -> None:
        self.allowed = allowed

    def admit(self, state: None, request: ActivationRequest | CallRequest, /) -> Admission:
        if isinstance(request, ActivationRequest) and request.agent != self.allowed:
            return Deny(f"{request.agent} is not welcome")
        return ADMIT


@pytest.mark.req("S3.42")
async def test_a_denied_activation_ends_skipped_with_the_reason(new_board: Boards) -> None:
    board = new_board(components=[Denies("other")])
    ran: list[int] = []
    copy_agent(board, ran)
    copy_agent(board, name="other")
    await board.publish(A(n=1))
    report = await board.run_until_idle()
    assert ran == []
    assert (report.skipped, report.dead, report.done, report.ok) == (1, 0, 1, True)
    [aside] = report.put_aside
    assert (aside.outcome, aside.subject, aside.reason) == ("skipped", "copy", "denies: copy is not welcome")


async def test_a_denied_effect_is_refused_inside_the_body(new_board: Boards) -> None:
    class NoMoney(Component[None]):
        def admit(self, state: None, request: ActivationRequest | CallRequest, /) -> Admission:
            if isinstance(request, CallRequest):
                assert request.activation.agent == "buyer"
                return Deny(f"{request.key} costs too much") if request.key == "car" else ADMIT
            return ADMIT

    board = new_board(components=[NoMoney()])
    bought: list[str] = []

    @board.agent
    async def buyer(a: A, ctx: Context) -> None:
        await ctx.call("bread", bought.append, "bread")
        await ctx.call("car", bought.append, "car")

    await board.publish(A())
    report = await board.run_until_idle()
    assert bought == ["bread"]
    [dead] = report.left.dead_letters
    assert dead.error is not None
    assert dead.error.type == "CallRefused"
    assert "car costs too much" in dead.error.message


# -- review -----------------------------------------------------------------------------------------------------------


class Reviewer(Component[None]):
    """Accepts an activation only if every B has a key."""

    def __init__(self, *, retry: bool) -> None:
        self.retry = retry
        self.asked: list[tuple[str, int]] = []

    def review(self, state: None, request: ActivationRequest, outputs: tuple[BaseModel, ...], /) -> Verdict:
        self.asked.append((request.agent, len(outputs)))
        bad = [b.n for b in outputs if isinstance(b, B) and not b.key]
        return Reject(f"B {bad} has no key", retry=self.retry) if bad else ACCEPT


@pytest.mark.req("S3.43")
async def test_rejected_outputs_are_not_published_and_the_reason_is_on_the_dead_letter(new_board: Boards) -> None:
    reviewer = Reviewer(retry=False)
    board = new_board(components=[reviewer])
    copy_agent(board)
    await board.publish_many([A(n=1), A(n=2, key="k")])
    report = await board.run_until_idle()
    assert numbers(board, B) == [2]
    [dead] = report.left.dead_letters
    assert dead.error is not None
    assert (dead.error.type, dead.error.message) == ("Rejected", "reviewer: B [1] has no key")
    assert reviewer.asked == [("copy", 1), ("copy", 1)]


async def test_a_rejection_with_retry_gives_the_next_attempt_its_feedback(new_board: Boards) -> None:
    board = new_board(components=[Reviewer(retry=True)], clock=VirtualClock())
    feedback: list[str] = []

    @board.agent(retry=Retry(attempts=3))
    async def learn(a: A, ctx: Context) -> B:
        feedback.append(ctx.feedback)
        return B(n=a.n, key="" if ctx.attempt == 1 else "k")

    await board.publish(A(n=5))
    report = await board.run_until_idle()
    assert report.ok
    assert feedback == ["", "B [5] has no key"]
    assert board.artifacts(B).total == 1


# -- alarms -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deadline:
    since: float | None = None
    rang: int = 0


class Patience(Component[Deadline]):
    """Loses patience a minute after the last A."""

    publishes = (Total,)
    observes = (A, Rang)

    def start(self) -> Deadline:
        return Deadline()

    def step(self, state: Deadline, seen: Seen, /) -> Deadline:
        if isinstance(seen.event, Rang):
            return Deadline(None, state.rang + 1) if seen.event.component == self.name else state
        return replace(state, since=seen.event.at)

    def react(self, state: Deadline, seen: Seen, /) -> Iterable[Reaction]:
        if isinstance(seen.event, Rang) and seen.event.component == self.name:
            yield Publish(Total(of=state.rang))

    def alarm(self, state: Deadline, /) -> float | None:
        return None if state.since is None else state.since + 60


async def test_an_alarm_rings_once_at_its_time_while_work_goes_on(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(components=[Patience()], clock=clock)
    start = clock.now()

    @board.agent
    async def slow(a: A, ctx: Context) -> None:
        await ctx.sleep("long", 300)

    await board.publish(A())
    await board.run_until_idle()
    assert [total.at - start for total in board.artifacts(Total)] == [60.0]
    assert clock.now() - start == 300.0


async def test_an_alarm_that_is_moved_rings_at_the_new_time_only(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(components=[Patience()], clock=clock)
    start = clock.now()

    @board.agent
    async def slow(b: B, ctx: Context) -> A:
        await ctx.sleep("a while", 40)
        return A()

    @board.agent
    async def slower(c: C, ctx: Context) -> None:
        await ctx.sleep("long", 300)

    await board.publish(A())
    await board.publish(B())
    await board.publish(C())
    await board.run_until_idle()
    assert [total.at - start for total in board.artifacts(Total)] == [100.0]


async def test_an_alarm_alone_does_not_keep_a_run_awake(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(components=[Patience()], clock=clock)
    await board.publish(A())
    report = await board.run_until_idle(horizon=None)
    assert report.reason == "idle"
    assert board.artifacts(Total).total == 0


# -- steering ---------------------------------------------------------------------------------------------------------


class OnTotal(Component[None]):
    """Does something when a Total appears."""

    observes = (Total,)

    def __init__(self, what: Callable[[int], Reaction]) -> None:
        self.what = what

    def react(self, state: None, seen: Seen, /) -> Iterable[Reaction]:
        assert seen.artifact is not None
        yield self.what(seen.artifact.payload.of)


async def test_a_component_may_close_a_run_and_what_is_open_is_parked(new_board: Boards) -> None:
    board = new_board(components=[OnTotal(lambda of: Close("goal", "enough", run="main"))], concurrency=1)

    @board.agent
    async def count(a: A) -> Total | None:
        return Total(of=a.n) if a.n == 3 else None

    await board.publish_many([A(n=n) for n in range(1, 7)])
    await board.publish(A(n=9), run="another")
    report = await board.run_until_idle()
    assert (report.reason, report.detail, report.ok) == ("goal", "enough", True)
    assert (report.done, report.open) == (4, 3)
    report = await board.run_until_idle()
    assert (report.reason, report.done, report.open) == ("idle", 7, 0)


async def test_a_component_may_cancel_all_open_work_of_a_run(new_board: Boards) -> None:
    board = new_board(components=[OnTotal(lambda of: Close("cancelled", "stop it", stop="cancel"))])
    clock_stopped: list[int] = []

    @board.agent
    async def endless(b: B, ctx: Context) -> None:
        try:
            await ctx.sleep("for ever", 30)
        finally:
            clock_stopped.append(b.n)

    @board.agent
    async def stop(a: A) -> Total:
        return Total(of=1)

    await board.publish_many([B(n=1), B(n=2)])
    await board.publish(A())
    report = await board.run_until_idle(horizon=0)
    assert (report.reason, report.cancelled, report.open) == ("cancelled", 2, 0)
    assert sorted(clock_stopped) == [1, 2]
    assert {aside.reason for aside in report.put_aside} == {"stop it"}


async def test_a_component_may_cancel_the_very_activation_that_made_it_do_so(new_board: Boards) -> None:
    class Strict(Component[None]):
        observes = (B,)

        def react(self, state: None, seen: Seen, /) -> Iterable[Reaction]:
            assert seen.artifact is not None
            yield Cancel(seen.artifact.cause, "published too early")

    board = new_board(components=[Strict()])
    went_on: list[str] = []

    @board.agent
    async def hasty(a: A, ctx: Context) -> C:
        await ctx.publish(B())
        await ctx.sleep("rest", 5)
        went_on.append("hasty")
        return C()

    await board.publish(A())
    report = await board.run_until_idle()
    assert went_on == []
    assert (report.cancelled, report.done) == (1, 0)
    assert board.artifacts(C).total == 0


async def test_a_component_may_try_a_dead_letter_again(new_board: Boards) -> None:
    class SecondChance(Component[int]):
        observes = (Ended,)

        def start(self) -> int:
            return 0

        def step(self, state: int, seen: Seen, /) -> int:
            return state + 1

        def react(self, state: int, seen: Seen, /) -> Iterable[Reaction]:
            if state <= 2 and isinstance(seen.event, Ended) and seen.event.outcome == "dead_letter":
                yield Redrive(seen.event.cause)

    board = new_board(components=[SecondChance()])
    calls: list[int] = []

    @board.agent
    async def flaky(a: A) -> B:
        calls.append(a.n)
        if len(calls) < 3:
            raise OSError("no")
        return B(n=a.n)

    await board.publish(A(n=8))
    report = await board.run_until_idle()
    assert calls == [8, 8, 8]
    assert numbers(board, B) == [8]
    assert report.ok


# -- when a component raises ------------------------------------------------------------------------------------------


def raising(method: str, when: Callable[..., bool] = lambda *_: True) -> Component[Any]:
    """A component of which one method raises."""

    def broken(self: Any, state: Any, *rest: Any) -> Any:
        if when(state, *rest):
            raise ZeroDivisionError(f"{method} is broken")
        return {"step": state, "react": (), "admit": ADMIT, "review": ACCEPT, "alarm": None}[method]

    body: dict[str, Any] = {"observes": (A,), method: broken}
    if method == "alarm":
        body["start"] = lambda self: 0
        body["step"] = lambda self, state, seen: state + 1
    base = Component[int] if method == "alarm" else Component
    made: Component[Any] = types.new_class("Broken", (base,), {}, lambda namespace: namespace.update(body))()
    return made


def assert_out_of_service(board: Blackboard, report: Report, method: str) -> None:
    """The component is out of service, on the log and on the report."""
    [left] = report.left.failed_components
    assert left.component == "broken"
    assert left.error is not None
    assert left.error.message == f"{method} is broken"
    assert not report.ok
    assert report.reason == "component_failed"
    assert [e.component for e in board.events() if isinstance(e, Faulted)] == ["broken"]


@pytest.mark.parametrize("method", ["step", "react"])
async def test_a_component_that_raises_is_out_of_service_and_the_decision_stands(
    new_board: Boards, method: str
) -> None:
    board = new_board(components=[raising(method), Adder()])
    ran: list[int] = []
    copy_agent(board, ran)
    await board.publish(A(n=5))
    await board.publish(A(n=6))
    report = await board.run_until_idle()
    assert ran == [5, 6]
    assert [t.of for t in board.artifacts(Total).payloads] == [11], "the other component goes on"
    assert_out_of_service(board, report, method)


async def test_a_component_whose_alarm_raises_is_out_of_service(new_board: Boards) -> None:
    board = new_board(components=[raising("alarm", lambda state: state == 2)])
    ran: list[int] = []
    copy_agent(board, ran)
    await board.publish_many([A(n=5), A(n=6)])
    report = await board.run_until_idle()
    assert ran == [5, 6]
    assert_out_of_service(board, report, "alarm")


async def test_a_guard_that_raises_denies_everything_from_then_on(new_board: Boards) -> None:
    board = new_board(components=[raising("admit")])
    ran: list[int] = []
    copy_agent(board, ran)
    await board.publish_many([A(n=5), A(n=6)])
    report = await board.run_until_idle()
    assert ran == []
    assert report.skipped == 2
    assert {aside.reason for aside in report.put_aside} == {"broken: the component failed, so nothing is admitted"}
    assert_out_of_service(board, report, "admit")


async def test_a_guard_that_raises_while_it_observes_denies_as_well(new_board: Boards) -> None:
    class Guard(Component[int]):
        observes = (A,)

        def start(self) -> int:
            return 0

        def step(self, state: int, seen: Seen, /) -> int:
            raise ValueError("lost count")

        def admit(self, state: int, request: ActivationRequest | CallRequest, /) -> Admission:
            return ADMIT

    board = new_board(components=[Guard()])
    ran: list[int] = []
    copy_agent(board, ran)
    await board.publish(A(n=1))
    report = await board.run_until_idle()
    assert ran == []
    assert report.skipped == 1


async def test_a_review_that_raises_lets_nothing_pass(new_board: Boards) -> None:
    board = new_board(components=[raising("review")])
    copy_agent(board)
    await board.publish_many([A(n=5), A(n=6)])
    report = await board.run_until_idle()
    assert board.artifacts(B).total == 0
    assert report.dead == 2
    assert_out_of_service(board, report, "review")


async def test_a_component_that_failed_stays_out_of_service_after_a_restart(new_board: Boards) -> None:
    board = new_board(components=[raising("admit")])
    copy_agent(board)
    await board.publish(A(n=5))
    await board.run_until_idle()
    again = await new_board.reopened(board, components=[raising("admit", lambda *_: False)])
    ran: list[int] = []
    copy_agent(again, ran)
    await again.publish(A(n=6))
    report = await again.run_until_idle()
    assert ran == []
    assert report.left.failed_components


@pytest.mark.parametrize("garbage", ["text", None, 3])
async def test_a_reaction_that_is_none_is_the_components_fault(new_board: Boards, garbage: Any) -> None:
    class Babbler(Component[None]):
        observes = (A,)

        def react(self, state: None, seen: Seen, /) -> Any:
            return [garbage]

    board = new_board(components=[Babbler()])
    await board.publish(A())
    report = await board.run_until_idle()
    assert [left.component for left in report.left.failed_components] == ["babbler"]


async def test_components_that_set_each_other_off_for_ever_are_taken_out_of_service(new_board: Boards) -> None:
    class Ping(Component[None]):
        publishes = (B,)
        observes = (A,)

        def react(self, state: None, seen: Seen, /) -> Iterable[Reaction]:
            yield Publish(B())

    class Pong(Component[None]):
        publishes = (A,)
        observes = (B,)

        def react(self, state: None, seen: Seen, /) -> Iterable[Reaction]:
            yield Publish(A())

    board = new_board(components=[Ping(), Pong()])
    ran: list[int] = []

    @board.agent
    async def go_on(c: C) -> None:
        ran.append(c.n)

    await board.publish(A())
    await board.publish(C(n=1))
    report = await board.run_until_idle()
    assert ran == [1]
    assert report.reason == "component_failed"
    assert report.left.failed_components
    assert board.artifacts().total < 3_000


async def test_a_reaction_that_is_refused_is_the_components_fault_and_publishes_nothing(new_board: Boards) -> None:
    class Unpublishable(Component[None]):
        observes = (A,)
        publishes = (Total,)

        def react(self, state: None, seen: Seen, /) -> Iterable[Reaction]:
            yield Publish(Total(of=1), key="same")
            yield Publish(Total(of=2), key="same")

    board = new_board(components=[Unpublishable()])
    await board.publish(A())
    report = await board.run_until_idle()
    [left] = report.left.failed_components
    assert left.error is not None
    assert left.error.type == "KeyReused"
    assert [t.of for t in board.artifacts(Total).payloads] == [1]


class Opaque:
    """Something that is no data."""


async def test_a_component_whose_state_is_no_data_does_not_keep_a_board_from_closing(new_board: Boards) -> None:
    class Hoarder(Component[Any]):
        observes = (A,)

        def start(self) -> Any:
            return []

        def step(self, state: Any, seen: Seen, /) -> Any:
            return [*state, Opaque()]

        def admit(self, state: Any, request: ActivationRequest | CallRequest, /) -> Admission:
            return ADMIT if len(state) > 1 else Deny(f"{len(state)} seen")

    board = new_board(components=[Hoarder()])
    await board.publish(A(n=1))
    again = await new_board.reopened(board, components=[Hoarder()])
    ran: list[int] = []
    copy_agent(again, ran)
    await again.publish(A(n=2))
    (await again.run_until_idle()).raise_for_failures()
    assert ran == [2]


# -- defining ---------------------------------------------------------------------------------------------------------


async def test_a_component_added_to_an_open_board_is_shown_the_whole_log_once(new_board: Boards) -> None:
    board = new_board()
    await board.publish_many([A(n=4), A(n=7)])
    board.add(Adder())
    await board.publish(A(n=8))
    await board.publish(A(n=2))
    assert [t.of for t in board.artifacts(Total).payloads] == [19, 21]


async def test_an_agent_and_a_component_cannot_have_one_name(new_board: Boards) -> None:
    board = new_board(components=[Adder()])
    with pytest.raises(BadComponent, match="is here already"):
        board.add(Adder())


async def test_components_are_asked_in_the_order_of_the_list(new_board: Boards) -> None:
    order: list[str] = []

    class First(Component[None]):
        def admit(self, state: None, request: ActivationRequest | CallRequest, /) -> Admission:
            order.append("first")
            return ADMIT

    class Second(Component[None]):
        def admit(self, state: None, request: ActivationRequest | CallRequest, /) -> Admission:
            order.append("second")
            return ADMIT

    board = new_board(components=[First(), Second()])
    copy_agent(board)
    await board.publish(A())
    await board.run_until_idle()
    assert order == ["first", "second"]
    assert kinds(board).count("Enrolled") == 3
