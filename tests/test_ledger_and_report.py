"""What a run came to: the books folded from the log, and the report that shows them."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from stigmergy import Blackboard, Component, Context, Deny, Limits, Publish, Retry, Seen, after
from stigmergy.blackboard import events as ev
from stigmergy.blackboard.component import ADMIT, ActivationRequest, Admission, CallRequest
from stigmergy.blackboard.core.ledger import KEPT, Ledger
from stigmergy.blackboard.core.state import State
from stigmergy.blackboard.errors import RunFailed
from stigmergy.blackboard.reading.inventory import left_on
from stigmergy.blackboard.reading.report import Recorded, Report, report_of
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C

pytestmark = pytest.mark.anyio


class Work(BaseModel):
    description: str
    phase: str = "analysis"


class Log:
    """A log written by hand, with what the report folds from it."""

    def __init__(self) -> None:
        self.state, self.ledger, self.seq, self.at = State(), Ledger(), 0, 1_790_000_000.0

    def add(self, event: ev.Event, cause: int = 0, later: float = 0.0) -> int:
        self.seq += 1
        self.at += later
        event.seq = event.tx = self.seq
        event.at, event.cause = self.at, cause
        self.state.apply(event)
        self.ledger.apply(event)
        return self.seq

    def artifact(self, type_: str, producer: str = "outside", cause: int = 0, **fields: object) -> int:
        payload = json.dumps(fields).encode()
        return self.add(ev.Published(type=type_, producer=producer, run="main", payload=payload), cause)

    def start(self, agent: str, *inputs: int) -> int:
        activated = ev.Activated(agent=agent, subscription=f"{agent}/0", inputs=list(inputs), run="main")
        activation = self.add(activated, inputs[-1])
        self.add(ev.Claimed(), activation)
        return activation

    def report(self, limits: Limits | None = None) -> Report:
        return report_of(self.ledger, self.state, store="run.db", ref=lambda i: f"Work@{i}", limits=limits)


def story() -> Log:
    """One seed, a plan, an implementation that fails three times, and costs."""
    log = Log()
    log.add(ev.Opened())
    log.add(ev.Enrolled(name="analyzer", phase="analysis"))
    log.add(ev.Enrolled(name="implementer", phase="implementation"))
    seed = log.artifact("Work", description="Build authentication")
    analysis = log.start("analyzer", seed)
    call = log.add(ev.Calling(key="model", cost="0.10"), analysis)
    log.add(ev.Called(activation=analysis, key="model", cost="0.061", tokens=1200), call, later=2)
    log.add(ev.Completed(outputs=1, seconds=2.0), analysis)
    plan = log.artifact("Plan", "analyzer", analysis, plan="…", approved=True)
    failing = log.start("implementer", plan)
    info = ev.ErrorInfo("TimeoutError", "no result after 60 s", "Traceback: line 1")
    for attempt in range(3):
        if attempt:
            log.add(ev.Claimed(attempt=attempt + 1), failing)
        call = log.add(ev.Calling(key="model", cost="0.10"), failing)
        log.add(ev.Called(activation=failing, key="model", outcome="failed", cost="0.041", tokens=700), call)
        last = attempt == 2
        log.add(ev.Failed(kind="timeout", error=info, seconds=60, retry_at=None if last else log.at), failing, later=60)
    log.add(ev.Ended(outcome="dead_letter", reason="3 attempts", error=info), failing)
    log.add(ev.Idled())
    return log


def test_the_summary_says_what_ran_what_it_cost_and_what_is_left() -> None:
    assert str(story().report(Limits(cost="2.00"))) == "\n".join(
        (
            "idle after 3 min 2 s: nothing left to do",
            "  1 seed, 2 artifacts   2 activations: 1 done, 1 dead letter   2 retries   $0.184 of $2.00   3,300 tokens",
            "",
            "  agent        phase           done  failed    mean     p95    cost",
            "  analyzer     analysis           1       -   2.0 s   2.0 s  $0.061",
            "  implementer  implementation     -       1  60.0 s  60.5 s  $0.123",
            "",
            '  Work@4 "Build authentication"  from outside',
            "  └─ Plan@10 approved            analyzer",
            "",
            "  1 thing left",
            "  dead letter  implementer@11 on Work@10: TimeoutError: no result after 60 s, 3 attempts"
            "  stigmergy retry run.db 11",
        )
    )


def test_costs_of_failed_calls_count_and_the_sums_agree_exactly() -> None:
    report = story().report()
    assert report.cost == Decimal("0.184") == sum(line.cost for line in report.agents)
    assert report.tokens == 3300 == sum(line.tokens for line in report.agents)


def test_a_cost_that_arrives_after_the_end_still_goes_to_its_agent() -> None:
    log = Log()
    activation = log.start("late", log.artifact("Work"))
    log.add(ev.Ended(outcome="cancelled", reason="asked for"), activation)
    log.ledger.apply(ev.Called(activation=activation, cost="0.5", tokens=3))
    assert (log.ledger.agents["late"].cost, log.ledger.cost) == (Decimal("0.5"), Decimal("0.5"))


def test_the_report_is_json_with_the_same_facts() -> None:
    report = story().report()
    data = json.loads(report.to_json())
    assert (data["ok"], data["reason"], data["dead"], data["cost"]) == (False, "idle", 1, "0.184")
    assert data["left"]["dead_letters"][0]["error"]["traceback"] == "Traceback: line 1"
    assert data["agents"][1]["name"] == "implementer"


def test_the_repr_is_one_line_and_the_html_escapes_what_users_wrote() -> None:
    log = story()
    assert repr(log.report()) == "<Report idle: 2 activations, 1 dead letter, 3 min 2 s, $0.18>"
    log.artifact("Work", description="<script>alert(1)</script>")
    html = log.report()._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_raising_for_failures_chains_the_recorded_error() -> None:
    with pytest.raises(RunFailed, match="implementer@11 on Work@10: TimeoutError") as raised:
        story().report().raise_for_failures()
    cause = raised.value.__cause__
    assert isinstance(cause, Recorded)
    assert cause.info.type == "TimeoutError"
    assert "Traceback: line 1" in str(cause)


async def test_a_run_without_failures_is_ok_and_raises_nothing(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def copy(a: A) -> B:
        return B(n=a.n)

    await board.publish(A(n=1))
    report = await board.run_until_idle()
    report.raise_for_failures()
    assert report.ok
    assert (report.seeds, report.artifacts, report.activations, report.done) == (1, 2, 1, 1)
    assert report.left.count == 0


async def test_idle_with_a_dead_letter_is_not_ok(new_board: Boards) -> None:
    board = new_board()

    @board.agent(retry=Retry(attempts=2, backoff=0))
    async def break_(a: A) -> None:
        raise LookupError("nothing at <here>")

    await board.publish(A(n=1))
    report = await board.run_until_idle()
    assert (report.reason, report.ok, report.dead, report.retries, report.failed_attempts) == ("idle", False, 1, 1, 2)
    [letter] = report.left.dead_letters
    assert (letter.agent, letter.attempts, letter.error and letter.error.type) == ("break_", 2, "LookupError")
    assert letter.inputs[0].startswith("A@")
    with pytest.raises(RunFailed):
        report.raise_for_failures()


async def test_a_dead_letter_that_is_tried_again_with_success_is_no_longer_left(new_board: Boards) -> None:
    board = new_board()
    broken = True

    @board.agent
    async def mend(a: A) -> B:
        if broken:
            raise ValueError("not yet")
        return B()

    await board.publish(A())
    first = await board.run_until_idle()
    broken = False
    await board.retry(first.left.dead_letters[0].activation)
    second = await board.run_until_idle()
    assert (second.dead, second.done, second.activations, second.ok) == (0, 1, 1, True)
    assert "dead letter" not in str(second)


async def test_what_nobody_takes_is_listed_with_its_phase(new_board: Boards) -> None:
    board = new_board()
    board.agent("analyzer").consumes(Work, where={"phase": "analysis"}).body(take_work)
    await board.publish(Work(description="Deploy it", phase="deployment"))
    report = await board.run_until_idle()
    [orphan] = report.left.no_consumer
    assert (orphan.type, orphan.phase) == ("Work", "deployment")
    assert 'no consumer  Work@3 (phase "deployment")  no agent consumes this phase' in str(report)
    assert report.ok


async def test_an_agent_that_comes_back_takes_what_it_missed_off_the_list(file_board: Boards) -> None:
    board = file_board()
    board.agent("taker").consumes(A).body(take_a)
    await board.run_until_idle()
    board = await file_board.reopened(board)
    await board.publish(A())
    assert (await board.run_until_idle()).left.no_consumer
    board = await file_board.reopened(board)
    board.agent("taker").consumes(A).body(take_a)
    report = await board.run_until_idle()
    assert (report.done, report.left.no_consumer) == (1, ())


async def test_only_its_own_producer_would_take_it_is_said_so(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def again(a: A) -> A:
        return A(n=a.n + 1)

    await board.publish(A(n=1))
    report = await board.run_until_idle()
    [orphan] = report.left.no_consumer
    assert orphan.self_skipped == ("again",)
    assert "only again takes it, who published it" in str(report)


async def test_a_join_that_waits_says_its_key_what_it_has_and_what_it_lacks(new_board: Boards) -> None:
    board = new_board()
    board.agent("ship").consumes(A, B, C, by="key").body(take_abc)
    await board.publish(A(key="b"))
    await board.publish(B(key="b"))
    report = await board.run_until_idle()
    [join] = report.left.waiting
    assert (join.agent, join.key, join.lacks) == ("ship", 'key="b"', ("C",))
    assert 'join waiting  ship, key="b": has A@' in str(report)
    assert ", lacks C" in str(report)


async def test_what_is_held_until_later_and_its_deadline_are_listed(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())
    board.agent("taker").consumes(A).body(take_a)
    await board.publish(A(), visibility=after(3600))
    report = await board.run_until_idle()
    [held] = report.left.held
    assert (held.by, held.subject[:2], report.reason) == ("visibility", "A@", "waiting")
    assert "held" in str(report)
    assert " by visibility until 2026-01-01 01:00:00 UTC" in str(report)


async def test_a_retry_that_is_due_later_is_listed_with_its_time(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())

    @board.agent(retry=Retry(attempts=2, backoff=500, cap=500))
    async def break_(a: A) -> None:
        raise ValueError("later")

    await board.publish(A())
    report = await board.run_until_idle(horizon=60)
    [due] = report.left.due
    assert (due.timer, due.subject[:7], report.reason) == ("retry", "break_@", "waiting")
    assert "retry of break_@" in str(report)


class Gate(Component[None]):
    """Lets nothing pass."""

    def admit(self, state: None, request: ActivationRequest | CallRequest, /) -> Admission:
        return Deny("the gate is shut") if isinstance(request, ActivationRequest) else ADMIT


async def test_what_was_denied_is_listed_with_its_reason_once_per_reason(new_board: Boards) -> None:
    board = new_board(components=[Gate()])
    board.agent("taker").consumes(A).body(take_a)
    await board.publish_many([A(n=1), A(n=2)])
    report = await board.run_until_idle()
    [aside] = report.put_aside
    assert (aside.outcome, aside.subject, aside.reason, aside.count) == (
        "skipped",
        "taker",
        "gate: the gate is shut",
        2,
    )
    assert "skipped  taker: gate: the gate is shut (2 times)" in str(report)
    assert report.ok


class Fragile(Component[None]):
    """Raises at the first artifact."""

    observes = (A,)

    def step(self, state: None, seen: Seen, /) -> None:
        raise ZeroDivisionError("no state")


async def test_a_component_that_failed_makes_the_run_fail(new_board: Boards) -> None:
    board = new_board(components=[Fragile()])
    await board.publish(A())
    report = await board.run_until_idle()
    [failed] = report.left.failed_components
    assert (failed.component, failed.error and failed.error.type, report.ok) == ("fragile", "ZeroDivisionError", False)
    with pytest.raises(RunFailed) as raised:
        report.raise_for_failures()
    assert isinstance(raised.value.__cause__, Recorded)


class Echo(Component[None]):
    """Publishes a C for every B."""

    publishes = (C,)
    observes = (B,)

    def react(self, state: None, seen: Seen, /) -> list[Publish]:
        return [Publish(C())] if seen.artifact is not None else []


async def test_what_components_publish_is_in_the_tree_only_if_somebody_took_it(new_board: Boards) -> None:
    board = new_board(components=[Echo()])

    @board.agent
    async def copy(a: A) -> B:
        return B()

    await board.publish(A())
    assert "C@" not in str(await board.run_until_idle())
    board.agent("taker").consumes(C).body(take_c)
    await board.publish(A())
    report = await board.run_until_idle()
    assert [b.type for b in report.tree.branches].count("C") == 1


async def test_the_tree_shows_how_work_branched_and_counts_what_it_leaves_out(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def spread(work: Work) -> list[A]:
        return [A(n=n) for n in range(30)]

    await board.publish(Work(description="Cut it up"))
    report = await board.run_until_idle()
    lines = str(report).splitlines()
    assert any(line.startswith('  Work@3 "Cut it up"') and line.endswith("from outside") for line in lines)
    assert any(line.strip().startswith("└─ … 11 more") for line in lines)
    assert len(report.tree.branches) == 20


async def test_work_found_for_another_phase_says_for_which(new_board: Boards) -> None:
    board = new_board()
    board.agent("validator").phase("validation").consumes(A).publishes(Work).body(discover)
    await board.publish(A())
    assert "validator -> analysis" in str(await board.run_until_idle())


async def test_a_stop_by_a_limit_names_it_and_what_is_not_finished(new_board: Boards) -> None:
    board = new_board(limits=Limits(activations=1))
    board.agent("taker").consumes(A).body(take_a)
    await board.publish_many([A(n=1), A(n=2)])
    report = await board.run_until_idle()
    assert (report.reason, report.ok, report.open) == ("budget", False, 1)
    assert str(report).startswith("budget spent after ")
    assert "not finished  taker: 1 ready" in str(report)


async def test_a_board_that_was_published_to_and_never_ran_waits(file_board: Boards) -> None:
    board = file_board()
    board.agent("taker").consumes(A).body(take_a)
    await board.publish(A())
    report = board.report()
    assert (report.reason, report.detail) == ("waiting", "not everything has run")
    assert report.left.unfinished[0].ready == 1


@pytest.mark.req("S2.9")
@pytest.mark.parametrize("fails", [False, True])
async def test_the_report_of_the_file_is_the_report_of_the_run(new_board: Boards, fails: bool) -> None:
    board = new_board()
    board.agent("ship").consumes(A, B, by="key").body(take_ab)

    @board.agent
    async def break_(c: C) -> None:
        if fails:
            raise ValueError("no")

    await board.publish_many([C(n=1), C(n=2)])
    await board.publish(A(key="x"))
    report = await board.run_until_idle()
    assert (report.ok, report.dead) == (not fails, 2 * fails)
    assert board.report() == report
    kept = (await new_board.reopened(board)).report()
    assert (kept.reason, kept.done, kept.dead) == (report.reason, report.done, report.dead)


async def test_every_prefix_of_a_log_can_be_saved_and_gone_on_from(new_board: Boards) -> None:
    board = new_board(components=[Echo()])

    @board.agent(retry=Retry(attempts=2, backoff=0))
    async def half(a: A, ctx: Context) -> B | None:
        if a.n % 2:
            raise ValueError("odd")
        return B(n=a.n)

    board.agent("ship").consumes(B, C, by="n").body(take_bc)
    await board.publish_many([A(n=n) for n in range(6)])
    await board.run_until_idle()
    whole, saved = Ledger(), Ledger()
    for event in board.events():
        whole.apply(event)
        saved.apply(event)
        saved = Ledger.load(saved.dump())
    assert saved == whole
    assert whole.dead == 3


@given(st.lists(st.floats(1e-6, 1e5), min_size=1, max_size=300))
def test_the_95th_percentile_is_at_most_three_percent_off(durations: list[float]) -> None:
    ledger = Ledger()
    for i, duration in enumerate(durations):
        ledger.apply(ev.Activated(seq=i + 1, agent="a"))
        ledger.apply(ev.Completed(cause=i + 1, seconds=duration))
    exact = sorted(durations)[max(0, -(-95 * len(durations) // 100) - 1)]
    assert ledger.agents["a"].quantile(0.95) == pytest.approx(exact, rel=0.03)
    assert ledger.agents["a"].spent == pytest.approx(sum(durations))


def test_attempts_that_took_no_time_are_counted_too() -> None:
    ledger = Ledger()
    for i in range(1, 21):
        ledger.apply(ev.Activated(seq=i, agent="a"))
        ledger.apply(ev.Completed(cause=i, seconds=0.0 if i < 20 else 1.0))
    assert ledger.agents["a"].quantile(0.5) == 0.0
    assert ledger.agents["a"].quantile(1.0) == pytest.approx(1.0, rel=0.03)


def test_of_very_many_dead_letters_the_first_and_last_thousand_are_kept_and_all_counted() -> None:
    ledger = Ledger()
    for i in range(1, 5001):
        ledger.apply(ev.Activated(seq=i, agent="a", inputs=[i]))
        ledger.apply(ev.Ended(cause=i, outcome="dead_letter"))
    kept = [ending.activation for ending in ledger.dead_letters]
    assert kept == [*range(1, KEPT + 1), *range(5001 - KEPT, 5001)]
    assert (ledger.dead, ledger.dead_letters.count, ledger.open) == (5000, 5000, 0)
    assert left_on(State(), ledger, str).count == 5000


def test_downtime_between_two_processes_is_no_running_time() -> None:
    log = Log()
    log.add(ev.Opened())
    activation = log.start("a", log.artifact("Work"))
    log.add(ev.Matched(), later=3)
    log.add(ev.Opened(epoch=2, clean=False), later=10_000)
    log.add(ev.Failed(kind="crashed", retry_at=log.at), activation)
    log.add(ev.Claimed(), activation)
    log.add(ev.Completed(), activation, later=2)
    log.add(ev.Idled())
    assert log.ledger.seconds == pytest.approx(5)


def test_a_board_on_which_nothing_happened_has_a_report() -> None:
    assert str(Blackboard().report()) == "idle after <0.1 ms: nothing has run\n  0 seeds, 0 artifacts   0 activations"


async def take_a(a: A) -> None:
    pass


async def take_c(c: C) -> None:
    pass


async def take_work(work: Work) -> None:
    pass


async def take_ab(a: A, b: B) -> None:
    pass


async def take_abc(a: A, b: B, c: C) -> None:
    pass


async def take_bc(b: B, c: C) -> None:
    pass


async def discover(a: A) -> Work:
    return Work(description="Caching could speed up all routes")
