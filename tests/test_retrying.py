"""Which failures are repeated, and when."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stigmergy import Blackboard, Context, Questions, Retry, replay
from stigmergy.agents.models.errors import BadKey, ModelError, RateLimited
from stigmergy.blackboard.component import ADMIT, ActivationRequest, Admission, CallRequest, Component, Deny
from stigmergy.blackboard.errors import CallRefused, DefinitionError
from stigmergy.blackboard.events import Failed
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, numbers

pytestmark = pytest.mark.anyio


def raising(board: Blackboard, error: Exception, retry: Retry) -> Blackboard:
    @board.agent(retry=retry)
    async def work(a: A) -> None:
        raise error

    return board


async def failures(board: Blackboard) -> list[Failed]:
    await board.publish(A())
    await board.run_until_idle(horizon=None)
    return [e for e in board.events() if isinstance(e, Failed)]


@pytest.mark.req("S2.44")
async def test_delays_double_up_to_the_cap(new_board: Boards) -> None:
    clock = VirtualClock()
    board = raising(new_board(clock=clock), OSError("no"), Retry(attempts=6, backoff=1, cap=5))
    began = clock.now()
    assert [e.at - began for e in await failures(board)] == [0, 1, 3, 7, 12, 17]


@pytest.mark.req("S2.44")
async def test_jitter_follows_from_the_activation_and_is_the_same_in_a_replay(new_board: Boards) -> None:
    board = raising(new_board(clock=VirtualClock()), OSError("no"), Retry(attempts=2, backoff=10, jitter=0.5))
    await board.publish_many([A(n=n) for n in range(20)])
    await board.run_until_idle(horizon=None)
    delays = {e.retry_at - e.at for e in board.events() if isinstance(e, Failed) and e.retry_at is not None}
    assert len(delays) == 20
    assert all(5 <= delay <= 10 for delay in delays)
    assert replay(board, board).ok


class Patience(Exception):
    """An error of anybody's that says how long to wait."""

    def __init__(self, retry_after: object) -> None:
        super().__init__("later")
        self.retry_after = retry_after


@pytest.mark.parametrize(
    ("error", "delays"),
    [
        (RateLimited("later", retry_after=100), [100, 100]),  # more than the cap
        (RateLimited("later", retry_after=1.5), [1.5, 2]),  # the backoff is longer the second time
        (RateLimited("later"), [1, 2]),
        (Patience(7), [7, 7]),
        *[(Patience(odd), [1, 2]) for odd in ("7", -7, float("nan"), float("inf"), True)],
    ],
    ids=repr,
)
async def test_nobody_tries_again_before_the_time_that_the_error_names(
    new_board: Boards, error: Exception, delays: list[float]
) -> None:
    clock = VirtualClock()
    board = raising(new_board(clock=clock), error, Retry(attempts=3, backoff=1, cap=60))
    await board.publish(A())
    report = await board.run_until_idle(horizon=None)
    failed = [e for e in board.events() if isinstance(e, Failed)]
    assert [e.retry_at - e.at for e in failed if e.retry_at is not None] == delays
    assert clock.now() - failed[0].at == sum(delays)
    assert report.dead == 1
    assert replay(board, board).ok


async def test_a_wait_beyond_the_horizon_ends_the_run_and_the_next_one_keeps_it(file_board: Boards) -> None:
    clock = VirtualClock()
    asked: list[float] = []

    def work(board: Blackboard) -> Blackboard:
        @board.agent(retry=Retry(attempts=2))
        async def patient(a: A) -> B:
            asked.append(clock.now())
            if len(asked) == 1:
                raise RateLimited("tomorrow", retry_after=86_400)
            return B()

        return board

    board = work(file_board(clock=clock))
    await board.publish(A())
    assert (await board.run_until_idle()).reason == "waiting"
    again = work(await file_board.reopened(board, clock=clock))
    assert (await again.run_until_idle()).reason == "waiting"
    assert (await again.run_until_idle(horizon=None)).ok
    assert asked[1] - asked[0] == 86_400


async def test_an_error_that_cannot_be_asked_fails_its_activation_alone(new_board: Boards) -> None:
    class Odd(Exception):
        @property
        def retryable(self) -> bool:
            raise RuntimeError("odd")

        retry_after = retryable

    board = raising(new_board(clock=VirtualClock()), Odd("no"), Retry(attempts=2, backoff=3))
    assert [e.retry_at for e in await failures(board)][1:] == [None]


@given(
    st.integers(1, 10_000), st.integers(0, 2**62), st.floats(0, 1), st.floats(0, 1e6), st.floats(0, 1e6)
)  # fmt: skip
def test_a_delay_is_a_pure_function_within_its_bounds(
    attempt: int, activation: int, jitter: float, backoff: float, cap: float
) -> None:
    retry = Retry(backoff=backoff, cap=cap, jitter=jitter)
    delay = retry.delay(attempt, activation)
    whole = Retry(backoff=backoff, cap=cap).delay(attempt)
    assert whole * (1 - jitter) * 0.999 <= delay <= whole <= cap
    assert retry.delay(attempt, activation) == delay


class Unhelpful(LookupError):
    pass


@pytest.mark.parametrize(
    ("error", "never", "attempts"),
    [
        (OSError("no"), (), 3),
        (Unhelpful("no"), (LookupError,), 1),
        (Unhelpful("no"), ("LookupError",), 1),
        (Unhelpful("no"), ("Unhelpful", OSError), 1),
        (ValueError("no"), (LookupError, "OSError"), 3),
        (RateLimited("slow down"), (), 3),
        (RateLimited("slow down"), (ModelError,), 1),
        (BadKey("wrong"), (), 1),
        (DefinitionError("wrong"), (), 1),
    ],
)
@pytest.mark.req("S2.43")
async def test_a_table_that_can_be_extended_says_what_is_not_tried_again(
    new_board: Boards, error: Exception, never: tuple[type[BaseException] | str, ...], attempts: int
) -> None:
    board = raising(new_board(clock=VirtualClock()), error, Retry(attempts=3, never=never))
    assert len(await failures(board)) == attempts
    [letter] = board.dead_letters()
    assert letter.reason == ("not retryable" if attempts == 1 else "3 attempts")
    assert letter.error is not None
    assert letter.error.type == type(error).__name__
    assert replay(board, board).ok


@pytest.mark.req("S2.46", "S2.47", "S4.21")
async def test_a_retry_that_succeeds_lets_the_work_go_on(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())
    attempts: list[int] = []

    @board.agent(retry=Retry(attempts=3))
    async def work(a: A) -> B:
        attempts.append(a.n)
        if len(attempts) < 3:
            raise OSError("not yet")
        return B(n=a.n)

    await board.publish(A(n=1))
    report = await board.run_until_idle()
    assert (report.ok, report.retries, report.failed_attempts, len(attempts)) == (True, 2, 2, 3)
    assert numbers(board, B) == [1]


async def test_attempts_go_on_counting_after_a_restart(file_board: Boards, ending: str) -> None:
    clock = VirtualClock()
    retry = Retry(attempts=3, backoff=100)
    board = raising(file_board(clock=clock), OSError("no"), retry)
    await board.publish(A())
    await board.run_until_idle()
    board = raising(await file_board.after(ending, board, clock=clock), OSError("no"), retry)
    await board.run_until_idle(horizon=None)
    assert len(board.dead_letters()[0].attempts) == 3


async def test_a_run_does_not_end_over_a_retry_that_starts_in_the_instant_of_rest(new_board: Boards) -> None:
    board = new_board()
    tried, both_wait = list[int](), asyncio.Event()

    @board.agent(retry=Retry(attempts=2, backoff=0.02))
    async def again(a: A) -> B:
        tried.append(a.n)
        if len(tried) < 2:
            raise OSError("once")
        await asyncio.sleep(0.01)
        return B(n=a.n)

    @board.agent
    async def last(a: A) -> None:
        await both_wait.wait()

    @board.agent
    async def slow(b: C) -> None:
        while not tried:
            await asyncio.sleep(0)
        both_wait.set()
        time.sleep(0.05)  # in the loop: the retry comes due meanwhile, and is seen right after `last` has ended

    await board.publish(A(n=1))
    await board.publish(C())
    report = await board.run_until_idle()
    assert (report.reason, report.open, numbers(board, B)) == ("idle", 0, [1])


class NoEffects(Component):
    """Denies every effect."""

    observes = ()

    def admit(self, state: None, request: ActivationRequest | CallRequest, /) -> Admission:
        return Deny("not here") if isinstance(request, CallRequest) else ADMIT


@pytest.mark.parametrize("caught", [False, True])
async def test_an_effect_that_was_denied_is_not_asked_for_again_and_who_can_do_without_goes_on(
    new_board: Boards, caught: bool
) -> None:
    board = new_board(components=[NoEffects()], clock=VirtualClock())

    async def pay() -> None: ...

    @board.agent(retry=Retry(attempts=3))
    async def work(a: A, ctx: Context) -> None:
        try:
            await ctx.call("pay", pay)
        except CallRefused:
            if not caught:
                raise

    failed = await failures(board)
    assert [(e.error and e.error.type, e.retry_at) for e in failed] == ([] if caught else [("CallRefused", None)])


async def test_what_nobody_answered_in_time_is_not_waited_for_again(new_board: Boards) -> None:
    board = new_board(components=[Questions()], clock=VirtualClock())

    @board.agent(retry=Retry(attempts=3))
    async def work(a: A, ctx: Context) -> None:
        await ctx.ask("go", "Go?", within=10)

    failed = await failures(board)
    ended = [(e.error and e.error.type, e.retry_at) for e in failed if e.kind == "error"]
    assert ended == [("NotAnswered", None)]
