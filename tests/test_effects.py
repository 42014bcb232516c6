"""Journaled effects: executed once however often a body is tried, and refused where that could not be promised."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from stigmergy import Blackboard, Context, Retry
from stigmergy.blackboard.errors import (
    CallChanged,
    CallRefused,
    DefinitionError,
    DuplicateCall,
    KeyReused,
    NotJournalable,
    UseContext,
)
from stigmergy.blackboard.events import Called, Calling, Failed
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, numbers

pytestmark = pytest.mark.anyio


class Reply(BaseModel):
    text: str
    at: timedelta = timedelta(seconds=1)


class World:
    """Counts what really happens."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def act(self, what: str) -> str:
        self.done.append(what)
        return what.upper()

    async def act_async(self, what: str) -> Reply:
        await asyncio.sleep(0)
        self.done.append(what)
        return Reply(text=what)

    def fail(self, what: str) -> str:
        self.done.append(what)
        raise OSError("no network")


async def error_in_body(board: Blackboard, body: Callable[[Context], Any]) -> BaseException:
    """What one activation with this body raises."""
    raised: list[BaseException] = []

    async def attempt(a: A, ctx: Context) -> None:
        try:
            await body(ctx)
        except Exception as error:
            raised.append(error)
            raise

    board.agent("attempt").consumes(A).publishes(B).body(attempt)
    await board.publish(A())
    await board.run_until_idle()
    [error] = raised
    return error


# -- once --------------------------------------------------------------------------------------------------------------


async def test_a_recorded_effect_is_not_executed_again_by_a_retry(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())
    world = World()
    got: list[object] = []

    @board.agent(retry=Retry(attempts=3))
    async def work(a: A, ctx: Context) -> B:
        got.append(await ctx.call("sync", world.act, "first"))
        got.append(await ctx.call("async", world.act_async, "second"))
        if ctx.attempt < 3:
            raise OSError("after the effects")
        return B(n=ctx.attempt)

    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert world.done == ["first", "second"]
    assert got == ["FIRST", Reply(text="second")] * 3
    assert numbers(board, B) == [3]
    called = [e for e in board.events() if isinstance(e, Called)]
    assert [(e.key, e.outcome) for e in called] == [("sync", "done"), ("async", "done")]


async def test_a_recorded_effect_survives_closing_the_board(new_board: Boards) -> None:
    world = World()
    clock = VirtualClock()

    def define(board: Blackboard) -> None:
        async def work(a: A, ctx: Context) -> B:
            text = await ctx.call("act", world.act, f"for {a.n}")
            if ctx.attempt == 1:
                raise OSError("once")
            return B(key=text)

        board.agent("work").limits(retry=Retry(attempts=2, backoff=600, cap=600)).consumes(A).publishes(B).body(work)

    board = new_board(clock=clock)
    define(board)
    await board.publish(A(n=1))
    assert (await board.run_until_idle()).reason == "waiting"

    again = await new_board.reopened(board, clock=clock)
    define(again)
    await again.run_until_idle(horizon=None)
    assert again.one(B).key == "FOR 1"
    assert world.done == ["for 1"]


async def test_the_result_is_the_same_value_the_first_time_and_afterwards(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())
    got: list[object] = []

    def pairs() -> tuple[int, list[Reply]]:
        return 1, [Reply(text="x", at=timedelta(minutes=2))]

    def plain():  # type: ignore[no-untyped-def]
        return {"a": [1, 2.5, None, True]}

    @board.agent(retry=Retry(attempts=2))
    async def work(a: A, ctx: Context) -> None:
        got.append(await ctx.call("typed", pairs))
        got.append(await ctx.call("plain", plain))
        if ctx.attempt == 1:
            raise OSError

    await board.publish(A())
    await board.run_until_idle()
    assert got == [(1, [Reply(text="x", at=timedelta(minutes=2))]), {"a": [1, 2.5, None, True]}] * 2


async def test_a_failed_effect_is_recorded_as_failed_and_tried_again_by_the_next_attempt(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())
    world = World()

    @board.agent(retry=Retry(attempts=2))
    async def work(a: A, ctx: Context) -> B:
        fn = world.fail if ctx.attempt == 1 else world.act
        return B(key=await ctx.call("act", fn, "x"))

    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert world.done == ["x", "x"]
    assert [e.outcome for e in board.events() if isinstance(e, Called)] == ["failed", "done"]


async def test_effects_of_one_body_may_run_beside_each_other(new_board: Boards) -> None:
    board = new_board()
    both = asyncio.Barrier(2)

    async def meet(name: str) -> str:
        await both.wait()
        return name

    @board.agent
    async def work(a: A, ctx: Context) -> B:
        names = await asyncio.gather(ctx.call("one", meet, "x"), ctx.call("two", meet, "y"))
        return B(key="".join(names))

    await board.publish(A())
    await asyncio.wait_for(board.run_until_idle(), 10)
    assert board.one(B).key == "xy"


async def test_an_effect_starts_only_when_it_is_announced_durably(new_board: Boards) -> None:
    board = new_board()
    announced: list[bool] = []

    @board.agent(pure=True)
    async def work(a: A, ctx: Context) -> None:
        await ctx.call("look", look)

    def look() -> None:
        announced.append(any(isinstance(e, Calling) for e in board.events()))

    await board.publish(A())
    await board.run_until_idle()
    assert announced == [True]


async def test_an_idempotency_key_is_the_same_in_every_attempt_and_differs_between_activations(
    new_board: Boards,
) -> None:
    board = new_board(clock=VirtualClock())
    keys: dict[int, set[str]] = {1: set(), 2: set()}

    @board.agent(retry=Retry(attempts=2))
    async def work(a: A, ctx: Context) -> None:
        keys[a.n].add(ctx.idempotency_key("pay"))
        if ctx.attempt == 1:
            raise OSError

    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()
    assert len(keys[1]) == len(keys[2]) == 1
    assert keys[1] != keys[2]


# -- refused -----------------------------------------------------------------------------------------------------------


async def test_one_key_for_two_effects_is_refused(new_board: Boards) -> None:
    world = World()

    async def body(ctx: Context) -> None:
        await ctx.call("same", world.act, "x")
        await ctx.call("same", world.act, "y")

    error = await error_in_body(new_board(), body)
    assert isinstance(error, DuplicateCall)
    assert '"same" is used twice' in str(error)
    assert world.done == ["x"]


async def test_another_request_under_a_recorded_key_is_refused(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())
    world = World()

    @board.agent(retry=Retry(attempts=2))
    async def work(a: A, ctx: Context) -> None:
        await ctx.call("act", world.act, f"attempt {ctx.attempt}")
        raise OSError

    await board.publish(A())
    report = await board.run_until_idle()
    [dead] = report.left.dead_letters
    assert dead.error is not None
    assert dead.error.type == CallChanged.__name__
    assert world.done == ["attempt 1"]


async def test_a_recorded_result_that_no_longer_fits_the_annotation_is_named(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())

    def act() -> dict[str, int]:
        return {"n": 1}

    def edited() -> Reply:
        raise NotImplementedError

    @board.agent(retry=Retry(attempts=2))
    async def work(a: A, ctx: Context) -> None:
        await ctx.call("act", act if ctx.attempt == 1 else edited)
        raise OSError

    await board.publish(A())
    [dead] = (await board.run_until_idle()).left.dead_letters
    assert dead.error is not None
    assert dead.error.type == CallChanged.__name__
    assert "call \"act\" of 'work' was recorded with a result" in dead.error.message
    assert "text" in dead.error.message
    assert "\n" not in dead.error.message


async def test_a_result_that_is_no_data_is_refused(new_board: Boards) -> None:
    async def body(ctx: Context) -> None:
        await ctx.call("open", object)

    error = await error_in_body(new_board(), body)
    assert isinstance(error, NotJournalable)
    assert 'call "open" returned <object>' in str(error)


async def test_a_result_that_does_not_fit_its_annotation_is_refused(new_board: Boards) -> None:
    def lie() -> int:
        return "three"  # type: ignore[return-value]

    async def body(ctx: Context) -> None:
        await ctx.call("lie", lie)

    assert isinstance(await error_in_body(new_board(), body), NotJournalable)


async def test_arguments_that_are_no_data_are_refused_before_anything_happens(new_board: Boards) -> None:
    done: list[object] = []

    async def body(ctx: Context) -> None:
        await ctx.call("act", done.append, object())

    assert isinstance(await error_in_body(new_board(), body), NotJournalable)
    assert done == []


async def test_a_plain_function_cannot_journal_effects_and_is_told_why(new_board: Boards) -> None:
    board = new_board()
    said: list[str] = []

    @board.agent
    def work(a: A, ctx: Context) -> None:
        for verb in (
            lambda: ctx.call("x", str.upper, "x"), lambda: ctx.sleep("y", 1), lambda: ctx.ask("z", "?"),
            lambda: ctx.charge("c", tokens=1), lambda: ctx.publish(B()),
        ):  # fmt: skip
            with pytest.raises(UseContext, match="plain function in a thread") as raised:
                verb()  # as somebody writes who forgets that nothing awaits it
            said.append(str(raised.value).partition("; ")[2])

    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert said == [
        "make it async def to journal effects.", "make it async def to sleep durably.", "make it async def to ask.",
        "make it async def to book what it cost.", "return what it publishes.",
    ]  # fmt: skip


async def test_an_activation_that_was_cancelled_starts_no_more_effects(new_board: Boards) -> None:
    board = new_board()
    world = World()
    started, errors = asyncio.Event(), []

    @board.agent
    async def work(a: A, ctx: Context) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            try:
                await ctx.call("late", world.act, "too late")
            except CallRefused as error:
                errors.append(error)

    await board.publish(A())
    run = asyncio.create_task(board.run_until_idle())
    await started.wait()
    await board.cancel(*[int(left.oldest) for left in board.report().left.unfinished])
    await run
    assert world.done == []
    assert len(errors) == 1


async def test_an_attempt_that_was_given_up_starts_and_publishes_nothing_more(new_board: Boards) -> None:
    board = new_board()
    world = World()
    kept: list[Context] = []
    errors: list[str] = []

    @board.agent(timeout=0.02)
    async def stubborn(a: A, ctx: Context) -> B:
        kept.append(ctx)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for effect in (ctx.publish(B(n=1)), ctx.call("late", world.act, "x"), ctx.sleep("nap", 1)):
                with pytest.raises(CallRefused) as refused:
                    await effect
                errors.append(str(refused.value))
        return B(n=2)

    await board.publish(A())
    report = await board.run_until_idle()
    assert (report.dead, world.done, board.artifacts(B).total) == (1, [], 0)
    assert len(errors) == 3
    assert all("has ended or was given up" in text for text in errors)
    with pytest.raises(CallRefused, match="has ended"):
        await kept[0].publish(B(n=3))


async def test_an_attempt_that_was_given_up_publishes_nothing_for_the_next_one(new_board: Boards) -> None:
    board = new_board()
    second = asyncio.Event()
    late: list[asyncio.Task[None]] = []

    @board.agent(timeout=0.5, retry=Retry(attempts=2, backoff=0))
    async def work(a: A, ctx: Context) -> B:
        if ctx.attempt == 2:
            second.set()
            with pytest.raises(CallRefused):
                await late[0]
            return B(n=2)

        async def afterwards() -> None:
            await second.wait()
            await ctx.publish(B(n=1))

        late.append(asyncio.create_task(afterwards()))
        raise OSError

    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert numbers(board, B) == [2]


# -- sleeping ----------------------------------------------------------------------------------------------------------


async def test_a_sleep_takes_no_time_under_a_virtual_clock_and_deadlines_keep_their_order(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    start = clock.now()
    order: list[tuple[int, float]] = []

    @board.agent
    async def nap(a: A, ctx: Context) -> None:
        await ctx.sleep("nap", timedelta(hours=a.n))
        order.append((a.n, clock.now() - start))

    await board.publish_many([A(n=3), A(n=1), A(n=2)])
    assert (await board.run_until_idle()).ok
    assert order == [(1, 3600), (2, 7200), (3, 10800)]


async def test_one_body_may_sleep_twice_at_a_time_under_a_virtual_clock(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    start = clock.now()
    woke: list[tuple[str, float]] = []

    @board.agent
    async def nap(a: A, ctx: Context) -> None:
        async def one(key: str, seconds: float) -> None:
            await ctx.sleep(key, seconds)
            woke.append((key, clock.now() - start))

        await asyncio.gather(one("long", 50), one("short", 20))

    await board.publish(A())
    await asyncio.wait_for(board.run_until_idle(), 10)
    assert woke == [("short", 20), ("long", 50)]


async def test_a_sleep_in_real_time_ends(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def nap(a: A, ctx: Context) -> B:
        await ctx.sleep("nap", 0.01)
        return B()

    await board.publish(A())
    assert (await board.run_until_idle()).ok
    assert board.artifacts(B).total == 1


async def test_a_retry_sleeps_only_what_is_left(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    start = clock.now()
    woke: list[float] = []

    @board.agent(timeout=10, retry=Retry(attempts=20, backoff=0))
    async def nap(a: A, ctx: Context) -> None:
        await ctx.sleep("nap", 35)
        woke.append(clock.now() - start)

    await board.publish(A())
    report = await board.run_until_idle()
    assert woke == [35]
    assert [e.kind for e in board.events() if isinstance(e, Failed)] == ["timeout"] * 3
    assert report.ok


async def test_a_sleep_must_have_a_length(new_board: Boards) -> None:
    async def body(ctx: Context) -> None:
        await ctx.sleep("nap", -1)

    assert isinstance(await error_in_body(new_board(), body), DefinitionError)


# -- publishing at once ------------------------------------------------------------------------------------------------


async def test_what_a_body_publishes_at_once_is_worked_on_while_it_runs_and_is_linked_to_it(
    new_board: Boards,
) -> None:
    board = new_board()
    seen = asyncio.Event()

    @board.agent
    async def first(a: A, ctx: Context) -> B | C:
        id_ = await ctx.publish(B(n=a.n), tags=["early"])
        await seen.wait()
        return C(n=id_)

    @board.agent
    async def second(b: B) -> None:
        seen.set()

    seed = await board.publish(A(n=7), run="r")
    await asyncio.wait_for(board.run_until_idle(), 10)
    [early] = board.artifacts(B)
    [last] = board.artifacts(C)
    assert last.payload.n == early.id
    assert early.cause == last.cause
    assert (early.producer, early.run, early.root, early.tags) == ("first", "r", seed.id, ("early",))


async def test_a_retry_does_not_publish_again_what_was_published_at_once(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())
    ids: list[list[int]] = []

    @board.agent(retry=Retry(attempts=3))
    async def work(a: A, ctx: Context) -> B | C:
        ids.append([await ctx.publish(B(n=1)), await ctx.publish(B(n=2)), await ctx.publish(B(n=3), key="third")])
        if ctx.attempt < 3:
            raise OSError
        return C()

    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()
    assert sorted(numbers(board, B)) == [1, 1, 2, 2, 3, 3]
    assert len({tuple(some) for some in ids}) == 2
    assert board.artifacts(C).total == 2


async def test_a_key_of_a_body_cannot_stand_for_two_payloads(new_board: Boards) -> None:
    async def body(ctx: Context) -> None:
        await ctx.publish(B(n=1), key="k")
        await ctx.publish(B(n=2), key="k")

    error = await error_in_body(new_board(), body)
    assert isinstance(error, KeyReused)
    assert "'attempt' gave ctx.publish something else under the key 'k' before" in str(error)


async def test_an_attempt_that_publishes_something_else_than_the_one_before_is_told_where(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())

    @board.agent(retry=Retry(attempts=2))
    async def work(a: A, ctx: Context) -> B:
        await ctx.publish(B(n=0))
        await ctx.publish(B(n=ctx.attempt))
        raise OSError

    await board.publish(A())
    [dead] = (await board.run_until_idle()).left.dead_letters
    assert dead.error is not None
    assert dead.error.type == "KeyReused"
    assert "'work' gave ctx.publish something else as number 2 before" in dead.error.message
    assert numbers(board, B) == [0, 1]
