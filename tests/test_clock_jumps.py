"""The machine's clock is set, forward or back, while a board runs or between two runs: nothing waits for it."""

import asyncio
import time

import pytest
from pydantic import BaseModel

from stigmergy import Blackboard, Context, Retry
from stigmergy.blackboard.clock import SystemClock
from tests.boards import A, B, Boards, C, numbers

pytestmark = pytest.mark.anyio

DAY = 86_400.0
SOON = 20.0
"""Seconds that a day would not fit into, on any machine."""


class Gift(BaseModel):
    """What nobody gives."""


class Wall:
    """The machine's clock, which can be set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead = 0.0
        self._frozen: float | None = None
        monkeypatch.setattr("stigmergy.blackboard.clock.time", self._time)

    def set(self, seconds: float) -> None:
        """Set it so many seconds forward, or back."""
        self._ahead += seconds

    def freeze(self) -> None:
        """It stands still."""
        self._frozen = self._time()

    def _time(self) -> float:
        return time.time() + self._ahead if self._frozen is None else self._frozen


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    return Wall(monkeypatch)


def test_time_goes_on_when_the_clock_is_set_back_and_follows_it_forward(wall: Wall) -> None:
    clock = SystemClock()
    start = clock.now()
    wall.set(-DAY)
    assert start <= clock.now() < start + SOON
    wall.set(3 * DAY)
    assert start + 2 * DAY <= clock.now() < start + 2 * DAY + SOON
    wall.freeze()
    frozen = clock.now()
    while clock.now() == frozen:
        pass


def waiting(board: Blackboard, wall: Wall, set_by: float, ran: list[str]) -> Blackboard:
    """The board: a retry, a durable sleep and a join with a deadline, during each of which the clock is set."""

    @board.agent(retry=Retry(attempts=2, backoff=0.05))
    async def again(a: A, ctx: Context) -> B:
        ran.append(f"again {ctx.attempt}")
        if ctx.attempt == 1:
            wall.set(set_by)
            raise OSError("not yet")
        return B(n=a.n)

    @board.agent
    async def nap(b: B, ctx: Context) -> C:
        asyncio.get_running_loop().call_later(0.02, wall.set, set_by)
        await ctx.sleep("nap", 0.1)
        ran.append("nap")
        return C(n=b.n)

    @board.agent(within=0.1)
    async def late(c: C, gift: Gift | None) -> None:
        wall.set(set_by)
        ran.append(f"late {gift}")

    return board


@pytest.mark.parametrize("set_by", [DAY, -DAY, 3_600.0, -3_600.0], ids=["+1 d", "-1 d", "+1 h", "-1 h"])
async def test_what_waits_in_a_run_waits_no_longer_and_happens_once(
    new_board: Boards, wall: Wall, set_by: float
) -> None:
    ran: list[str] = []
    board = waiting(new_board(), wall, set_by, ran)
    await board.publish(A(n=1))
    report = await asyncio.wait_for(board.run_until_idle(), SOON)
    assert (report.reason, report.dead, report.open) == ("idle", 0, 0)
    assert ran == ["again 1", "again 2", "nap", "late None"]
    assert numbers(board, C) == [1]
    times = [e.at for e in board.events()]
    assert times == sorted(times)


@pytest.mark.parametrize("set_by", [DAY, -DAY], ids=["+1 d", "-1 d"])
async def test_what_waits_over_a_restart_waits_no_longer(
    file_board: Boards, ending: str, wall: Wall, set_by: float
) -> None:
    attempts: list[int] = []

    def define(board: Blackboard) -> Blackboard:
        @board.agent(retry=Retry(attempts=2, backoff=1.0))
        async def again(a: A, ctx: Context) -> B:
            attempts.append(ctx.attempt)
            if ctx.attempt == 1:
                raise OSError("not yet")
            return B(n=a.n)

        return board

    board = define(file_board())
    await board.publish(A(n=1))
    assert (await board.run_until_idle(horizon=0)).reason == "waiting"
    wall.set(set_by)
    board = define(await file_board.after(ending, board))
    report = await asyncio.wait_for(board.run_until_idle(), SOON)
    assert (report.reason, attempts, numbers(board, B)) == ("idle", [1, 2], [1])
