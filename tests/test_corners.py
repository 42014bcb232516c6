"""Corners of the core that the simulation found wrong once."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from pydantic import BaseModel

from stigmergy import Blackboard, Context, Retry, artifact_type
from stigmergy.blackboard import component as cp
from stigmergy.blackboard.errors import CallRefused, InvalidPayload, NotFound, PublishError
from stigmergy.blackboard.events import (
    Activated,
    Claimed,
    Completed,
    Ended,
    Event,
    Idled,
    Opened,
    Published,
    Visibility,
)
from stigmergy.blackboard.stores.rows import decode
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, numbers

pytestmark = pytest.mark.anyio


class Work(BaseModel):
    work_id: str
    blocking_work_ids: list[str] = []


class Stop(BaseModel):
    pass


def log(board: Blackboard) -> list[Event]:
    """All events."""
    assert board._reader is not None
    return [decode(row) for row in board._reader.events()]


def echo(board: Blackboard, **options: Any) -> list[int]:
    """An agent that takes A; the numbers it got."""
    got: list[int] = []

    @board.agent(**options)
    async def taker(a: A) -> None:
        got.append(a.n)

    return got


# -- decisions are whole ----------------------------------------------------------------------------------------------


class BreaksOnCalls(cp.Component[None]):
    def admit(self, state: None, request: cp.ActivationRequest | cp.CallRequest, /) -> cp.Admission:
        if isinstance(request, cp.CallRequest):
            raise RuntimeError("it broke")
        return cp.ADMIT


async def test_a_guard_that_breaks_when_asked_about_an_effect_leaves_no_hole_in_the_log(new_board: Boards) -> None:
    board = new_board(components=[BreaksOnCalls()])
    refused: list[str] = []

    @board.agent
    async def caller(a: A, ctx: Context) -> B:
        try:
            await ctx.call("effect", lambda: 1)
        except CallRefused as error:
            refused.append(str(error))
        return B(n=a.n)

    await board.publish(A(n=1))
    report = await board.run_until_idle()
    assert report.reason == "component_failed"
    assert len(refused) == 1
    assert numbers(board, B) == [1]
    positions = [event.seq for event in log(board)]
    assert positions == list(range(1, len(positions) + 1))


class Stopper(cp.Component[None]):
    observes = (Stop,)

    def react(self, state: None, seen: cp.Seen, /) -> Iterable[cp.Reaction]:
        yield cp.Close("goal", stop="cancel")


async def test_a_run_is_cancelled_with_what_waits_for_its_work(new_board: Boards) -> None:
    board = new_board(components=[Stopper()])
    board.agent("worker").consumes(Work).body(lambda work: None)
    await board.publish_many([Work(work_id="a"), Work(work_id="b", blocking_work_ids=["a"]), Stop()])
    report = await board.run_until_idle()
    assert (report.cancelled, report.blocker_failed, report.open) == (1, 1, 0)
    assert not report.left.failed_components


async def test_a_long_chain_of_work_ends_with_its_first(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def worker(work: Work) -> None:
        raise ValueError("it cannot be done")

    chain = [Work(work_id="0"), *(Work(work_id=str(i), blocking_work_ids=[str(i - 1)]) for i in range(1, 1_500))]
    await board.publish_many(chain)
    report = await board.run_until_idle()
    assert (report.dead, report.blocker_failed, report.open) == (1, 1_499, 0)


class Once(cp.Component[None]):
    """Answers what is no answer."""

    def __init__(self, method: str) -> None:
        setattr(type(self), method, lambda *_: "rubbish")


@pytest.mark.parametrize("method", ["admit", "review"])
async def test_a_guard_whose_answer_is_none_lets_nothing_pass(new_board: Boards, method: str) -> None:
    kind = type("Rubbish", (Once,), {})
    board = new_board(components=[kind(method)])
    echo(board)
    await board.publish(A())
    report = await board.run_until_idle()
    assert report.reason == "component_failed"
    assert report.done == 0


class Nagging(cp.Component[None]):
    """Its alarm is always due."""

    def alarm(self, state: None, /) -> float | None:
        return 5.0


async def test_an_alarm_that_is_due_for_ever_rings_once(new_board: Boards) -> None:
    board = new_board(components=[Nagging()], clock=VirtualClock(100.0))

    @board.agent
    async def sleeper(a: A, ctx: Context) -> None:
        await ctx.sleep("nap", 10)

    await board.publish(A())
    report = await board.run_until_idle()
    assert report.reason == "component_failed"
    assert [type(e).__name__ for e in log(board)].count("Rang") == 2


# -- claims -----------------------------------------------------------------------------------------------------------


class Veto(cp.Component[int]):
    """Cancels every other activation as it is claimed."""

    observes = (Claimed,)

    def start(self) -> int:
        return 0

    def step(self, state: int, seen: cp.Seen, /) -> int:
        return state + 1

    def react(self, state: int, seen: cp.Seen, /) -> Iterable[cp.Reaction]:
        if state % 2:
            yield cp.Cancel(seen.event.cause, "not this one")


async def test_an_activation_that_is_cancelled_as_it_is_claimed_does_not_end_the_run(new_board: Boards) -> None:
    board = new_board(components=[Veto()], concurrency=1)
    got = echo(board)
    await board.publish_many([A(n=i) for i in range(6)])
    report = await board.run_until_idle()
    assert (report.done, report.cancelled, report.open) == (3, 3, 0)
    assert got == [1, 3, 5]


async def test_an_attempt_may_begin_while_the_one_that_timed_out_is_still_ending(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())
    attempts: list[int] = []

    @board.agent(timeout=1, retry=Retry(attempts=2, backoff=0.0))
    async def slow(a: A, ctx: Context) -> B:
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            try:
                await ctx.sleep("nap", 5)
            finally:
                for _ in range(3):
                    await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        return B(n=ctx.attempt)

    await board.publish(A())
    report = await board.run_until_idle()
    assert attempts == [1, 2]
    assert numbers(board, B) == [2]
    assert (report.done, report.open) == (1, 0)


class Doorkeeper(cp.Component[tuple[bool, int]]):
    """Holds everything until the board was idle once, and denies the first then."""

    observes = (Idled, Activated)

    def start(self) -> tuple[bool, int]:
        return False, 0

    def step(self, state: tuple[bool, int], seen: cp.Seen, /) -> tuple[bool, int]:
        if isinstance(seen.event, Idled):
            return True, state[1]
        return state if state[1] else (state[0], seen.event.seq)

    def admit(self, state: tuple[bool, int], request: cp.ActivationRequest | cp.CallRequest, /) -> cp.Admission:
        opened, first = state
        if not opened:
            return cp.Hold("not yet")
        return cp.Deny("never") if isinstance(request, cp.ActivationRequest) and request.id == first else cp.ADMIT


async def test_who_is_held_and_then_denied_does_not_stand_in_the_way(new_board: Boards) -> None:
    board = new_board(components=[Doorkeeper()])
    got = echo(board)
    await board.publish_many([A(n=0), A(n=1), A(n=2)])
    report = await board.run_until_idle()
    assert got == [1, 2]
    assert (report.skipped, report.open) == (1, 0)


class Closed(cp.Component[None]):
    def admit(self, state: None, request: cp.ActivationRequest | cp.CallRequest, /) -> cp.Admission:
        return cp.Hold("closed")


async def test_what_a_component_held_goes_on_when_that_component_is_gone(file_board: Boards) -> None:
    board = file_board(components=[Closed()])
    echo(board)
    await board.publish(A(n=1))
    assert (await board.run_until_idle()).open == 1
    board = await file_board.reopened(board)
    got = echo(board)
    report = await board.run_until_idle()
    assert got == [1]
    assert report.open == 0


# -- offers -----------------------------------------------------------------------------------------------------------


class Greeter(cp.Component[None]):
    """Publishes when a board is opened."""

    publishes = (A,)
    observes = (Opened,)

    def react(self, state: None, seen: cp.Seen, /) -> Iterable[cp.Reaction]:
        yield cp.Publish(A(n=seen.event.seq))


async def test_what_a_component_publishes_at_the_opening_is_offered_once(file_board: Boards) -> None:
    board = file_board(components=[Greeter()])
    got = echo(board)
    await board.run_until_idle()
    assert len(got) == 1
    board = await file_board.reopened(board, components=[Greeter()])
    again = echo(board)
    await board.run_until_idle()
    assert len(again) == 1
    assert again != got


async def test_a_join_that_lost_a_slot_is_offered_what_waited_in_it(file_board: Boards) -> None:
    board = file_board()
    board.agent("join").consumes(A, B, C).body(lambda a, b, c: None)
    await board.publish_many([A(n=1), A(n=2), C(n=3)])
    await board.run_until_idle()
    board = await file_board.reopened(board)
    pairs: list[tuple[int, int]] = []
    board.agent("join").consumes(A, C).body(lambda a, c: pairs.append((a.n, c.n)))
    report = await board.run_until_idle()
    assert pairs == [(1, 3)]
    assert report.done == 1


class Verdicts(cp.Component[tuple[int, ...]]):
    """When a board is opened, of two held artifacts the first is withdrawn and the second released."""

    observes = (Published, Opened)

    def start(self) -> tuple[int, ...]:
        return ()

    def step(self, state: tuple[int, ...], seen: cp.Seen, /) -> tuple[int, ...]:
        event = seen.event
        return (*state, event.seq) if isinstance(event, Published) and event.held_by else state

    def react(self, state: tuple[int, ...], seen: cp.Seen, /) -> Iterable[cp.Reaction]:
        if isinstance(seen.event, Opened) and len(state) == 2:
            yield cp.Withdraw(state[0], "bad")
            yield cp.Release(state[1])


async def test_who_was_away_is_offered_what_was_released_and_not_what_was_withdrawn(file_board: Boards) -> None:
    board = file_board(components=[Verdicts()])
    echo(board)
    await board.publish(A(n=1), review_by="reviewer")
    await board.publish(A(n=2), review_by="reviewer")
    board = await file_board.reopened(board, components=[Verdicts()])
    await board.run_until_idle()
    board = await file_board.reopened(board, components=[Verdicts()])
    got = echo(board)
    await board.run_until_idle()
    assert got == [2]


async def test_a_board_that_could_not_be_opened_stays_unopened(file_board: Boards) -> None:
    @artifact_type(name="Doc")
    class Old(BaseModel):
        n: int

    @artifact_type(name="Doc", version=2)
    class New(BaseModel):
        n: int
        text: str

    board = file_board()
    await board.publish(Old(n=1))
    board = await file_board.reopened(board)
    board.agent("reader").consumes(New, since="start").body(lambda doc: None)
    for _ in range(2):
        with pytest.raises(InvalidPayload, match="no upcast"):
            await board.run_until_idle()


async def test_an_artifact_is_delayed_or_reviewed_but_not_both(new_board: Boards) -> None:
    board = new_board()
    with pytest.raises(PublishError, match="leave one of them out"):
        await board.publish(A(), review_by="reviewer", visibility=Visibility(after=5.0))


# -- trying again -----------------------------------------------------------------------------------------------------


async def test_only_what_failed_is_tried_again_and_only_once(new_board: Boards) -> None:
    board = new_board()
    fails = True

    @board.agent
    async def taker(a: A) -> None:
        if fails and a.n == 1:
            raise ValueError("not now")

    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()
    activations = {e.inputs[0]: e.seq for e in log(board) if isinstance(e, Activated)}
    failed = next(e.cause for e in log(board) if isinstance(e, Ended))
    completed = next(e.cause for e in log(board) if isinstance(e, Completed))
    assert {failed, completed} == set(activations.values())
    fails = False
    await board.retry(failed)
    with pytest.raises(NotFound, match="again already"):
        await board.retry(failed)
    with pytest.raises(NotFound, match="no activation that failed"):
        await board.retry(completed)
    report = await board.run_until_idle()
    assert (report.done, report.dead) == (2, 0)


async def test_work_that_is_tried_again_waits_for_what_blocks_it(new_board: Boards) -> None:
    board = new_board()
    done: list[str] = []
    broken = True

    @board.agent
    async def worker(work: Work) -> None:
        if broken:
            raise ValueError("not now")
        done.append(work.work_id)

    await board.publish_many([Work(work_id="ground"), Work(work_id="walls", blocking_work_ids=["ground"])])
    report = await board.run_until_idle()
    assert (report.dead, report.blocker_failed) == (1, 1)
    ended = {e.outcome: e.cause for e in log(board) if isinstance(e, Ended)}
    broken = False
    await board.retry(ended["dead_letter"], ended["blocker_failed"])
    report = await board.run_until_idle()
    assert done == ["ground", "walls"]
    assert (report.done, report.dead, report.blocker_failed) == (2, 0, 0)


class Persistent(cp.Component[int]):
    """Tries a dead letter again, in the decision in which it became one, up to twice."""

    observes = (Ended,)

    def start(self) -> int:
        return 0

    def step(self, state: int, seen: cp.Seen, /) -> int:
        return state + 1

    def react(self, state: int, seen: cp.Seen, /) -> Iterable[cp.Reaction]:
        if state <= 2:
            yield cp.Redrive(seen.event.cause)


async def test_a_dead_letter_can_be_tried_again_before_it_is_durable(new_board: Boards) -> None:
    board = new_board(components=[Persistent()])
    attempts = 0

    @board.agent(pure=True)
    async def taker(a: A) -> B:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise ValueError("not yet")
        return B(n=attempts)

    await board.publish(A())
    report = await board.run_until_idle()
    assert numbers(board, B) == [3]
    assert (report.reason, report.done, report.dead) == ("idle", 1, 0)
