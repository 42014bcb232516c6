"""Components on a living board: they watch, react, wake up and steer."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import pytest

from stigmergy import (
    ADMIT,
    Cancel,
    Close,
    Completion,
    Component,
    Context,
    Deny,
    Metrics,
    Publish,
    Redrive,
    Retry,
    Seen,
    WorkflowComplete,
    WorkflowMetrics,
)
from stigmergy.blackboard.component import ActivationRequest, Admission, CallRequest, Reaction
from stigmergy.blackboard.errors import (
    BadComponent,
)
from stigmergy.blackboard.events import (
    Ended,
    Enrolled,
    Failed,
    Idled,
    Published,
    Rang,
)
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, copying, numbers
from tests.small_components import Adder, Total

pytestmark = pytest.mark.anyio


# -- watching and reacting ---------------------------------------------------------------------------------------------


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
    copying(board, ran)
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
    copying(board, ran)
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
    copying(board)
    await board.publish_many([A(n=1), A(n=2)])
    report = await board.run_until_idle()
    await board.run_until_idle()
    assert report.reason == "idle"
    metrics = board.artifacts(WorkflowMetrics)
    events = sum(1 for e in board.events() if not (isinstance(e, Published) and e.producer == "metrics"))
    assert 0 < metrics.total <= events
    assert board.artifacts(WorkflowComplete).total == 1


# -- alarms ------------------------------------------------------------------------------------------------------------


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


# -- steering ----------------------------------------------------------------------------------------------------------


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
    async def hasty(a: A, ctx: Context) -> B | C:
        await ctx.publish(B())
        await ctx.sleep("rest", 5)
        went_on.append("hasty")
        return C()

    await board.publish(A())
    report = await board.run_until_idle()
    assert went_on == []
    assert (report.cancelled, report.done) == (1, 0)
    assert board.artifacts(C).total == 0


@pytest.mark.req("S3.37")
async def test_a_component_learns_of_a_failure_with_its_error_and_inputs(new_board: Boards) -> None:
    class Mourner(Component[None]):
        publishes = (Total,)
        observes = (Failed,)

        def react(self, state: None, seen: Seen, /) -> Iterable[Reaction]:
            assert isinstance(seen.event, Failed)
            assert seen.event.error is not None
            assert seen.activation is not None
            told.append((seen.activation.agent, seen.activation.inputs, seen.event.error.message))
            yield Publish(Total(of=len(told)))

    told: list[tuple[str, tuple[int, ...], str]] = []
    board = new_board(components=[Mourner()], clock=VirtualClock())

    @board.agent(retry=Retry(attempts=2))
    async def breaks(a: A, ctx: Context) -> None:
        raise OSError(f"attempt {ctx.attempt}")

    made = await board.publish(A())
    await board.run_until_idle()
    assert told == [("breaks", (made.id,), "attempt 1"), ("breaks", (made.id,), "attempt 2")]
    assert [t.of for t in board.artifacts(Total).payloads] == [1, 2]


@pytest.mark.parametrize("text", ["\ud800", "a\0b"])
async def test_a_reason_may_be_any_text(new_board: Boards, text: str) -> None:
    class Terse(Component[None]):
        def admit(self, state: None, request: ActivationRequest | CallRequest, /) -> Admission:
            return Deny(text)

    board = new_board(components=[Terse()])
    copying(board)
    await board.publish(A())
    assert (await board.run_until_idle()).skipped == 1
    again = await new_board.reopened(board, components=[Terse()])
    copying(again)
    assert (await again.run_until_idle()).skipped == 1


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


# -- defining ----------------------------------------------------------------------------------------------------------


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


@pytest.mark.req("S2.13")
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
    copying(board)
    await board.publish(A())
    await board.run_until_idle()
    assert order == ["first", "second"]
    assert sum(isinstance(e, Enrolled) for e in board.events()) == 3
