"""Money: reserved before it is spent, settled after, exact however many ask at once, and never lost with a process."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from stigmergy import Ask, Blackboard, Budget, Component, Context, Costs, Limits, Retry, replay
from stigmergy.agents.models.scripted import Answer, Scripted
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.blackboard.events import Called, Calling, Failed
from stigmergy.models import Estimate, ModelTimeout, OnToken, RateLimited, Reply, Request, Usage
from stigmergy.testing import VirtualClock, outputs
from tests.boards import A, B, Boards, C, numbers
from tests.paid import recount
from tests.readme import ROOT

pytestmark = pytest.mark.anyio


class Meter(Scripted):
    """Counts how much is asked for at one time, and what was paid in all."""

    def __init__(self, cost: str, most: str) -> None:
        super().__init__(lambda _: [B()], cost=cost, tokens=10, estimate=Estimate(tokens=10, cost=Decimal(most)))
        self.open = self.most_open = 0

    async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        await asyncio.sleep(0.005)  # as long as a provider takes at least, which is longer than a commit
        reply = await super().complete(request)
        self.open -= 1
        return reply


def team(board: Blackboard, size: int, **limits: object) -> Blackboard:
    for n in range(size):
        board.agent(f"agent{n}").limits(**limits).consumes(A).publishes(B)  # type: ignore[arg-type]
    return board


CAPS = {
    "limit": {"limits": Limits(cost="1.00")},
    "component": {"components": [Budget(cost="1.00")]},
    "tokens": {"limits": Limits(tokens=100)},
    "token component": {"components": [Budget(tokens=100)]},
}


@pytest.mark.req("S3.74")
@pytest.mark.parametrize("cap", CAPS)
async def test_fifty_agents_at_once_never_go_over_a_cap(new_board: Boards, cap: str) -> None:
    meter = Meter(cost="0.10", most="0.10")
    board = team(new_board(model=meter, concurrency=50, **CAPS[cap]), 50)  # type: ignore[arg-type]
    await board.publish(A())
    report = await board.run_until_idle()
    assert (report.reason, report.done, report.dead, report.open) == ("budget", 10, 0, 40)
    assert len(meter.asked) == 10
    assert meter.most_open > 1
    assert recount(board.events()) == (Decimal("1.00"), Decimal("1.00"))
    assert report.cost == Decimal("1.00")
    assert replay(board, board).ok, "what was parked is parked again"


@pytest.mark.parametrize("cap", ["limit", "component"])
async def test_who_is_only_in_the_way_of_reservations_waits_until_they_are_settled(new_board: Boards, cap: str) -> None:
    meter = Meter(cost="0.01", most="0.40")
    board = team(new_board(model=meter, concurrency=50, **CAPS[cap]), 50)  # type: ignore[arg-type]
    await board.publish(A())
    report = await board.run_until_idle()
    assert (report.ok, report.done, report.cost) == (True, 50, Decimal("0.50"))
    assert meter.most_open == 2
    assert recount(board.events())[1] <= 1


class Moody(Meter):
    """Costs and fails at random, and answers in a random order: of all who ask, whoever the dice choose is next."""

    def __init__(self, seed: int) -> None:
        super().__init__(cost="0", most="0.20")
        self._dice = Random(seed)
        self._waiting: list[asyncio.Future[None]] = []
        self.order: list[int] = []

    async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
        number = len(self.asked)
        self.asked.append(request)
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        self._later(self._dice.randrange(8))
        await mine
        self.order.append(number)
        if self._dice.random() < 0.2:
            patience = self._dice.randrange(90)
            raise self._dice.choice((ModelTimeout("slow"), RateLimited("later", retry_after=patience), OSError("gone")))
        text = outputs(B(n=self._dice.randrange(3))) if self._dice.random() < 0.7 else "no"
        return Reply(text=text, cost=Decimal(self._dice.randrange(21)) / 100, usage=Usage(output=3))

    def _later(self, turns: int) -> None:
        """Some turns of the loop later one of those who wait gets an answer."""
        if turns:
            asyncio.get_running_loop().call_soon(self._later, turns - 1)
        else:
            self._waiting.pop(self._dice.randrange(len(self._waiting))).set_result(None)


@pytest.mark.req("S0.24", "S3.74")
@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("cap", ["limit", "component"])
async def test_whatever_the_order_costs_and_failures_a_cap_holds_and_sums_agree(
    new_board: Boards, cap: str, seed: int
) -> None:
    dice = Random(seed)
    board = new_board(model=Moody(seed), concurrency=dice.choice((2, 7, 50)), clock=VirtualClock(), **CAPS[cap])  # type: ignore[arg-type]
    for n in range(2):  # with losers
        board.agent(f"best{n}").model(ask=Ask(best_of=2)).limits(retry=Retry(attempts=2)).consumes(A).publishes(B)
    team(board, dice.choice((1, 20)), retry=Retry(attempts=3))
    await board.publish(A())
    report = await board.run_until_idle(horizon=None)
    spent, most = recount(board.events())
    assert most <= 1
    accounts = board.fold(Costs())
    assert report.cost == spent == accounts.total.money
    for each in (accounts.agents, accounts.runs, accounts.effects):
        assert sum(s.money for s in each.values()) == spent
    assert report.reason == "budget" or report.open == 0
    assert replay(board, board).ok


@pytest.mark.parametrize("cap", ["limit", "component"])
async def test_a_raised_cap_goes_on_and_asks_for_nothing_twice(new_board: Boards, cap: str) -> None:
    meter = Meter(cost="0.10", most="0.10")
    board = team(new_board(model=meter, concurrency=50, **CAPS[cap]), 20)  # type: ignore[arg-type]
    await board.publish(A())
    await board.run_until_idle()
    same = await board.run_until_idle()
    assert (same.reason, same.done, len(meter.asked)) == ("budget", 10, 10)
    more = Budget(cost="5") if cap == "component" else None
    again = await new_board.reopened(
        board, model=meter, components=[more] if more else [], limits=Limits(cost="5.00") if not more else None
    )
    report = await team(again, 20).run_until_idle()
    assert (report.reason, report.done, report.dead) == ("idle", 20, 0)
    assert len(meter.asked) == 20
    assert report.failed_attempts == 0, "who had no money did not try"


async def test_the_report_says_what_the_budget_was_spent_on(new_board: Boards) -> None:
    board = team(new_board(model=Meter("0.40", "0.40"), concurrency=1, limits=Limits(cost="1.00")), 3)
    await board.publish(A())
    report = await board.run_until_idle()
    assert "limits refuses effect 'scripted' of 'agent2': cost $0.80 of $1.00, and it may take $0.40" in report.detail


@pytest.mark.parametrize("cap", [{"cost": "0.10"}, {"tokens": 10}], ids=["dollars", "tokens"])
@pytest.mark.parametrize(("per", "paid"), [("agent", 2), ("phase", 2), ("tree", 3), ("run", 1), ("effect", 1)])
async def test_a_cap_may_be_per_agent_phase_tree_run_or_effect(
    new_board: Boards, per: str, paid: int, cap: dict[str, object]
) -> None:
    board = new_board(model=Meter("0.10", "0.10"), components=[Budget(per=per, **cap)])  # type: ignore[arg-type]
    for name in ("plan", "build"):
        board.agent(name).phase(name).consumes(A).publishes(B)
    await board.publish_many([A(n=n) for n in range(3)])
    report = await board.run_until_idle()
    assert (report.reason, report.done) == ("budget", paid)
    assert (report.cost, report.tokens) == (Decimal("0.10") * paid, 10 * paid)


async def test_a_reserve_is_left_for_who_sums_up(new_board: Boards) -> None:
    budget = Budget(cost="1.00", reserve_for="summary", reserve="0.20")
    board = new_board(model=Meter("0.10", "0.10"), concurrency=50, components=[budget])
    for n in range(20):
        board.agent(f"agent{n}").consumes(A).publishes(B)
    await board.publish(A())
    assert (await board.run_until_idle()).cost == Decimal("0.80")
    board.agent("summary").consumes(C).publishes(B)
    await board.publish_many([C(n=n) for n in range(3)])
    report = await board.run_until_idle()
    assert (report.cost, next(a.done for a in report.agents if a.name == "summary")) == (Decimal("1.00"), 2)


@pytest.mark.parametrize("cap", CAPS)
async def test_a_model_without_a_price_is_refused_where_dollars_are_capped_and_counted_where_tokens_are(
    new_board: Boards, cap: str
) -> None:
    unpriced = Reply(text=outputs(B()), cost=None, usage=Usage(input=10))
    model = Scripted([unpriced], estimate=Estimate(tokens=10, cost=None))
    board = team(new_board(model=model, **CAPS[cap]), 1)  # type: ignore[arg-type]
    await board.publish(A())
    report = await board.run_until_idle()
    if "token" in cap:
        assert (report.ok, report.cost, report.tokens) == (True, Decimal(0), 10)
        assert [e.unpriced for e in board.events() if isinstance(e, Calling)] == [True]
    else:
        [dead] = report.left.dead_letters
        assert dead.error is not None
        assert "refuses effect 'model/1' of 'agent0': nobody knows what it costs" in dead.error.message
        assert model.asked == []
    assert replay(board, board).ok


async def test_what_nobody_knows_the_price_of_is_counted_in_the_report_and_in_the_costs(new_board: Boards) -> None:
    unknown = Estimate(tokens=10, cost=None)
    unpriced = Reply(text=outputs(B()), cost=None, usage=Usage(input=10))
    known = unpriced.model_copy(update={"cost": Decimal(0)})  # a fallback model that is free, say
    replies: list[Answer] = ["no", unpriced, unpriced, known, RateLimited("not yet"), ModelTimeout("slow"), unpriced]
    model = Scripted([r if isinstance(r, Exception) else _with_cost(r) for r in replies], estimate=unknown)
    board = new_board(model=model, clock=VirtualClock(), concurrency=1)
    board.agent("thinker").limits(retry=Retry(attempts=3)).consumes(A).publishes(B)
    await board.publish_many([A(n=n) for n in range(4)])
    report = await board.run_until_idle()
    assert (report.ok, report.cost, report.tokens) == (True, Decimal(0), 60)
    assert report.unpriced == 5, "but not what was free, and not what the provider refused to take"
    assert "5 calls without a price" in str(report)
    spent = board.fold(Costs())
    assert spent.total.unpriced == spent.agents["thinker"].unpriced == spent.effects["scripted"].unpriced == 5
    assert replay(board, board).ok
    later = await new_board.reopened(board)
    assert later.report().unpriced == 5


def _with_cost(reply: Answer) -> Reply:
    """A reply of a model whose price nobody knows, unless it says what it costs."""
    return reply if isinstance(reply, Reply) else Reply(text=str(reply), cost=None, usage=Usage(input=10))


async def test_a_request_without_a_price_that_nobody_waits_for_is_counted_too(new_board: Boards) -> None:
    model = Hanging(Estimate(cost=None))
    board = new_board(model=model)
    board.agent("thinker").limits(timeout=1.0).consumes(A).publishes(B)
    await board.publish(A())
    report = await board.run_until_idle()
    assert (report.dead, report.unpriced, report.unanswered) == (1, 1, 1)
    assert replay(board, board).ok


def test_a_budget_that_caps_nothing_or_inexactly_is_refused() -> None:
    with pytest.raises(DefinitionError, match="caps nothing"):
        Budget()
    with pytest.raises(DefinitionError, match=r'Write cost="2\.0"'):
        Budget(cost=2.0)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="Give all three"):
        Budget(cost="1", reserve_for="summary")


# -- sums --------------------------------------------------------------------------------------------------------------


@pytest.mark.req("S0.24", "S0.38")
async def test_all_sums_agree_with_the_log_to_the_cent_with_retries_failures_and_timeouts(new_board: Boards) -> None:
    replies: Iterator[Answer] = iter(["no", ModelTimeout("slow"), outputs(B(n=1)), "no", "no", "no", outputs(B(n=2))])
    first = Scripted(lambda _: next(replies), cost="0.013", tokens=7, estimate=Estimate(tokens=7, cost=Decimal("0.02")))
    second = Scripted(lambda _: [B(n=3)], cost="0.10", tokens=1)
    second.name = "other/script"
    board = new_board(clock=VirtualClock(), concurrency=1)
    board.agent("one").phase("p").model(first).limits(retry=Retry(attempts=3)).consumes(A).publishes(B)
    board.agent("two").phase("q").model(second).consumes(A).publishes(B)

    @board.agent(phase="q")
    async def three(a: A, ctx: Context) -> None:
        await ctx.charge("x", cost="0.005", tokens=2)

    await board.publish_many([A(n=1), A(n=2)])
    report = await board.run_until_idle()
    assert report.ok
    spent = board.fold(Costs())
    total = recount(board.events())[0]
    assert total == Decimal("0.013") * 6 + Decimal("0.02") + Decimal("0.20") + Decimal("0.010")
    for accounts in (spent.agents, spent.phases, spent.runs, spent.effects):
        assert sum(s.money for s in accounts.values()) == total
        assert sum(s.tokens for s in accounts.values()) == report.tokens
    assert report.cost == spent.total.money == total
    assert sum(a.cost for a in report.agents) == total
    assert spent.effects["other/script"].money == Decimal("0.20")
    assert (report.estimated, report.unanswered, spent.total.unanswered) == (Decimal("0.02"), 1, 1)


@pytest.mark.req("S0.23")
async def test_tokens_and_cost_are_on_record_though_the_agent_fails_later(new_board: Boards) -> None:
    board = new_board(model=Scripted(["no"] * 3, cost="0.10", tokens=5))
    board.agent("thinker").consumes(A).publishes(B)
    await board.publish(A())
    report = await board.run_until_idle()
    assert (report.dead, report.cost, report.tokens) == (1, Decimal("0.30"), 15)


class Hanging(Scripted):
    """Never answers the first time."""

    def __init__(self, estimate: Estimate = Estimate(cost=Decimal("0.25"))) -> None:  # noqa: B008  it is frozen
        super().__init__(lambda _: [B()], cost="0.10", estimate=estimate)
        self.reached = asyncio.Event()

    async def complete(self, request: Request, /, on_token: OnToken | None = None) -> Reply:
        if not self.reached.is_set():
            self.asked.append(request)
            self.reached.set()
            await asyncio.Event().wait()
        return await super().complete(request)


@pytest.mark.parametrize("how", ["timeout", "cancel", "stop"])
async def test_a_request_that_nobody_waits_for_any_more_is_booked_at_its_estimate(new_board: Boards, how: str) -> None:
    model = Hanging()
    board = new_board(model=model, limits=Limits(cost="0.50"))
    timeout = 1.0 if how == "timeout" else None
    board.agent("thinker").limits(timeout=timeout, retry=Retry(attempts=2, backoff=0)).consumes(A).publishes(B)
    await board.publish(A())
    run = asyncio.create_task(board.run_until_idle())
    await model.reached.wait()
    if how == "cancel":
        await board.cancel(board.report().left.unfinished[0].oldest)
    elif how == "stop":
        run.cancel()
        await asyncio.wait([run])
    report = await (board.run_until_idle() if how == "stop" else run)
    lost, *later = [e for e in board.events() if isinstance(e, Called)]
    assert (lost.outcome, lost.cost) == ("cancelled", "0.25")
    assert [e.cost for e in later] == ([] if how == "cancel" else ["0.10"])
    assert report.cost == sum((Decimal(e.cost) for e in (lost, *later)), Decimal(0))
    assert board.fold(Costs()).agents["thinker"].money == report.cost
    assert "$0.250 of it estimated: 1 effect without answer" in str(report)
    recount(board.events())
    assert replay(board, board).ok


# -- kill -9 -----------------------------------------------------------------------------------------------------------


def killed(folder: Path, moment: str) -> Blackboard:
    """A board whose process was killed at a moment, and opened again by a process that ran it to its end."""
    for how in (moment, "never"):
        command = [sys.executable, "-m", "tests.thinking_target", str(folder), how]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == (0 if how == "never" else -9), done.stderr
    return Blackboard(folder / "run.db")


@pytest.mark.parametrize(
    ("moment", "asked", "cost"),
    [("in the call", 3, "0.45"), ("after the record", 2, "0.20")],
)
async def test_after_a_kill_a_recorded_reply_is_not_bought_again_and_an_unrecorded_one_is_booked(
    tmp_path: Path, moment: str, asked: int, cost: str
) -> None:
    board = killed(tmp_path, moment)
    assert (tmp_path / "asked").read_text().count("\n") == asked
    report = board.report()
    assert (report.ok, report.cost) == (True, Decimal(cost))
    called = [e for e in board.events() if isinstance(e, Called)]
    lost = [e for e in called if e.outcome == "unknown"]
    assert [(e.key, e.cost) for e in lost] == ([("model/2", "0.25")] if moment == "in the call" else [])
    assert report.unanswered == len(lost)
    assert [e.kind for e in board.events() if isinstance(e, Failed)] == ["crashed"]
    assert board.fold(Costs()).total.money == Decimal(cost)
    assert recount(board.events())[0] == Decimal(cost)
    await board.close()


async def test_a_component_sees_every_reservation_settled(new_board: Boards) -> None:
    class Open(Component[int]):
        observes = (Calling, Called)

        def start(self) -> int:
            return 0

        def step(self, state: int, seen: object, /) -> int:
            return state + (1 if isinstance(getattr(seen, "event", None), Calling) else -1)

    board = team(new_board(model=Meter("0.10", "0.10"), components=[Open()]), 3)
    await board.publish(A())
    await board.run_until_idle()
    assert board.fold(Open()) == 0
    assert numbers(board, B) == [0, 0, 0]


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [({"cost": "two"}, "no amount"), ({"cost": "-1"}, "no amount"), ({"tokens": 1.5}, "no cap"),
     ({"cost": "1", "reserve": "some", "reserve_for": "judge"}, "no amount")],
)  # fmt: skip
def test_a_budget_that_is_no_amount_is_refused_when_it_is_given(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DefinitionError, match=complaint):
        Budget(**wrong)
