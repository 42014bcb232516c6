"""The circuit breaker: no calls while it is open, one at a time while it is half open."""

from typing import Any

import pytest

from stigmergy import Blackboard, Breaker, Retry, replay
from stigmergy.blackboard.errors import BadComponent
from stigmergy.blackboard.events import Held
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, numbers

pytestmark = pytest.mark.anyio


class World:
    """A service that is down until a time, and notes when it is called."""

    def __init__(self, clock: VirtualClock, down: float) -> None:
        self.clock = clock
        self.start = clock.now()
        self.down = down
        self.calls: list[float] = []

    def call(self) -> None:
        now = self.clock.now() - self.start
        self.calls.append(now)
        if now < self.down:
            raise ConnectionError("down")


def serving(board: Blackboard, world: World, retry: Retry | None = None, concurrency: int = 1) -> Blackboard:
    @board.agent(retry=retry or Retry(attempts=100, backoff=1, cap=1), concurrency=concurrency)
    async def service(a: A) -> B:
        world.call()
        return B(n=a.n)

    @board.agent
    async def other(c: C) -> None: ...

    return board


@pytest.mark.req("S2.41", "S2.42")
async def test_an_open_circuit_lets_nothing_through_and_a_half_open_one_lets_one_through(new_board: Boards) -> None:
    clock = VirtualClock()
    world = World(clock, down=100)
    board = serving(new_board(clock=clock, components=[Breaker("service", failures=3, recovery=40)]), world)
    await board.publish_many([A(n=n) for n in range(6)])
    await board.publish(C())
    report = await board.run_until_idle()
    assert (report.ok, sorted(numbers(board, B))) == (True, list(range(6)))
    assert world.calls[:3] == [0, 0, 0]
    assert world.calls[3:5] == [40, 80]  # one probe each time, and nothing between them
    assert world.calls[5:] == [120] * 6
    held = [e for e in board.events() if isinstance(e, Held)]
    assert "the circuit of service is open after 3 failures in a row" in {e.reason for e in held}
    assert replay(board, board).ok


@pytest.mark.req("S2.42", "S2.46")
async def test_it_closes_after_as_many_successes_as_are_asked_for(new_board: Boards) -> None:
    clock = VirtualClock()
    world = World(clock, down=1)
    breaker = Breaker(failures=2, recovery=10, successes=3)
    board = serving(new_board(clock=clock, components=[breaker]), world, concurrency=8)
    statuses: list[tuple[str, int]] = []
    await board.publish_many([A(n=n) for n in range(2)])
    await board.run_until_idle(horizon=5)
    assert board.fold(breaker).agents["service"].status == "open"
    await board.publish_many([A(n=n) for n in range(2, 6)])
    await board.run_until_idle()
    for event in board.events():
        circuit = board.at(event.tx).fold(breaker).agents.get("service")
        if circuit is not None and (not statuses or statuses[-1] != (circuit.status, circuit.successes)):
            statuses.append((circuit.status, circuit.successes))
    assert statuses == [("closed", 0), ("open", 0), ("half_open", 0), ("half_open", 1), ("half_open", 2), ("closed", 0)]


async def test_a_success_sets_the_count_of_failures_back(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock, components=[Breaker(failures=3)])

    @board.agent(concurrency=1)
    async def moody(a: A) -> None:
        if a.n % 3:
            raise OSError("no")

    await board.publish_many([A(n=n) for n in range(30)])
    report = await board.run_until_idle()
    assert (report.done, report.dead) == (10, 20)
    assert clock.now() == VirtualClock().now()


async def test_each_agent_has_its_own_circuit_and_others_are_left_alone(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock, components=[Breaker("bad", failures=1, recovery=1_000)])

    @board.agent
    async def bad(a: A) -> None:
        raise OSError("no")

    @board.agent
    async def good(a: A) -> B:
        return B(n=a.n)

    @board.agent
    async def unguarded(a: A) -> None:
        raise OSError("no")

    await board.publish_many([A(n=n) for n in range(9)])
    report = await board.run_until_idle()
    by_name = {a.name: a for a in report.agents}
    assert (by_name["good"].done, by_name["unguarded"].failed) == (9, 9)
    assert by_name["bad"].failed < 9
    assert report.reason == "waiting"


@pytest.mark.req("S2.51")
async def test_an_open_circuit_stays_open_over_a_restart(file_board: Boards, ending: str) -> None:
    clock = VirtualClock()
    world = World(clock, down=1)

    def breaker() -> Breaker:
        return Breaker(failures=1, recovery=100)

    board = serving(file_board(clock=clock, components=[breaker()]), world)
    await board.publish_many([A(n=1), A(n=2)])
    assert (await board.run_until_idle()).reason == "waiting"
    board = serving(await file_board.after(ending, board, clock=clock, components=[breaker()]), world)
    assert (await board.run_until_idle()).reason == "waiting"
    assert world.calls == [0]
    assert (await board.run_until_idle(horizon=None)).ok
    assert world.calls[1] == 100


async def test_when_the_probe_fails_for_good_another_one_is_tried_later(new_board: Boards) -> None:
    clock = VirtualClock()
    world = World(clock, down=50)
    board = new_board(clock=clock, components=[Breaker(failures=1, recovery=20)])
    serving(board, world, retry=Retry(attempts=1))
    await board.publish_many([A(n=n) for n in range(5)])
    report = await board.run_until_idle()
    assert world.calls == [0, 20, 40, 60, 60]
    assert (report.dead, report.done, report.open) == (3, 2, 0)


@pytest.mark.parametrize("what", ["failures", "successes"])
@pytest.mark.parametrize("count", [0, "3", 1.5])
def test_a_breaker_counts_in_whole_numbers(what: str, count: Any) -> None:
    with pytest.raises(BadComponent, match=f"{what}={count!r}"):
        Breaker(**{what: count})
