"""Components that hold activations back, deny them, or refuse their outputs."""

from collections.abc import Iterable
from typing import ClassVar

import pytest
from pydantic import BaseModel

from stigmergy import (
    ACCEPT,
    ADMIT,
    Component,
    Context,
    Deny,
    Hold,
    Reject,
    Release,
    Retry,
    Seen,
)
from stigmergy.blackboard.component import ActivationRequest, Admission, CallRequest, Reaction, Verdict
from stigmergy.blackboard.events import (
    Event,
)
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, copying, numbers
from tests.small_components import Go, Total

pytestmark = pytest.mark.anyio


# -- admission ---------------------------------------------------------------------------------------------------------


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
    copying(board, ran)
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


async def test_a_component_may_let_in_a_younger_one_first(new_board: Boards) -> None:
    class Bouncer(Component[tuple[int, ...]]):
        observes = (Total,)

        def start(self) -> tuple[int, ...]:
            return ()

        def step(self, state: tuple[int, ...], seen: Seen, /) -> tuple[int, ...]:
            assert seen.artifact is not None
            return (*state, seen.artifact.payload.of)

        def react(self, state: tuple[int, ...], seen: Seen, /) -> Iterable[Reaction]:
            yield Release(state[-1])

        def admit(self, state: tuple[int, ...], request: ActivationRequest | CallRequest, /) -> Admission:
            assert isinstance(request, ActivationRequest)
            return ADMIT if request.id in state else Hold("not on the list")

    board = new_board(components=[Bouncer()])
    ran: list[int] = []
    copying(board, ran)
    await board.publish_many([A(n=1), A(n=2), A(n=3)])
    report = await board.run_until_idle()
    oldest, _, youngest = report.left.held
    await board.publish(Total(of=youngest.id))
    await board.run_until_idle()
    await board.publish(Total(of=oldest.id))
    report = await board.run_until_idle()
    assert ran == [3, 1]
    assert len(report.left.held) == 1


async def test_what_was_held_may_be_denied_in_the_end(new_board: Boards) -> None:
    class Strict(Component[bool]):
        observes = (Go,)

        def start(self) -> bool:
            return False

        def step(self, state: bool, seen: Seen, /) -> bool:
            return True

        def admit(self, state: bool, request: ActivationRequest | CallRequest, /) -> Admission:
            return Deny("too late") if state else Hold("wait")

    board = new_board(components=[Strict()])
    ran: list[int] = []
    copying(board, ran)
    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()
    await board.publish(Go())
    report = await board.run_until_idle()
    assert ran == []
    assert (report.skipped, report.open, report.reason) == (2, 0, "idle")


async def test_held_activations_stay_held_over_a_restart(new_board: Boards) -> None:
    board = new_board(components=[Gate()])
    copying(board)
    await board.publish(A(n=1))
    await board.run_until_idle()
    again = await new_board.reopened(board, components=[Gate()])
    ran: list[int] = []
    copying(again, ran)
    assert (await again.run_until_idle()).reason == "deadlock"
    await again.publish(Go())
    await again.run_until_idle()
    assert ran == [1]


async def test_what_is_held_does_not_keep_others_from_running(new_board: Boards) -> None:
    board = new_board(components=[Gate()], concurrency=1)
    copying(board, concurrency=1)
    other: list[int] = []
    copying(board, other, name="other")
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


@pytest.mark.req("S3.42", "S2.10")
async def test_a_denied_activation_ends_skipped_with_the_reason(new_board: Boards) -> None:
    board = new_board(components=[Denies("other")])
    ran: list[int] = []
    copying(board, ran)
    copying(board, name="other")
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


# -- review ------------------------------------------------------------------------------------------------------------


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
    copying(board)
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
