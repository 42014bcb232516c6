"""Progress, completion, statistics, metrics and costs as folds of logs that are made by hand."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from stigmergy.blackboard.component import Component
from stigmergy.blackboard.errors import BadComponent
from stigmergy.blackboard.events import Activated, Completed, Withdrawn
from stigmergy.components import (
    Completion,
    Costs,
    Metrics,
    PhaseStatistics,
    Progress,
    WorkflowComplete,
    WorkflowMetrics,
    every_phase,
)
from stigmergy.components.progress import AgentProgress
from stigmergy.components.statistics import Timing
from stigmergy.components.worklog import PhaseCounts
from stigmergy.phases import Recovery
from tests.hand_made import HandMadeLog


class Work(BaseModel):
    phase: str
    done_definition: str = "It is done"
    work_id: str | None = None
    blocking_work_ids: list[str] = []


class Note(BaseModel):
    text: str = ""


def team(component: Component[Any]) -> HandMadeLog[Any]:
    log: HandMadeLog[Any] = HandMadeLog(component)
    for agent, phase in (("analyzer", "analysis"), ("implementer", "implementation"), ("validator", "validation")):
        log.enroll(agent, phase)
    return log


def through_all_phases(log: HandMadeLog[Any], run: str = "main") -> None:
    """One seed, and every phase does its part."""
    at = log.publish(Work(phase="analysis"), run=run)
    for agent in ("analyzer", "implementer", "validator"):
        activation = log.run_through(agent, at, outputs=(Note(),), run=run)
        at = activation + 3  # Claimed, Completed, Published


# -- progress ---------------------------------------------------------------------------------------------------------


def test_progress_follows_every_activation_to_its_end() -> None:
    log = HandMadeLog(Progress())
    seed = log.publish(Note())
    activations = [log.activate("a", seed) for _ in range(7)]
    blocked = log.activate("a", seed, blockers=("w1",))
    assert log.state.agents["a"] == AgentProgress(ready=7, blocked=1)
    for activation in activations[:5]:
        log.claim(activation)
    log.hold(activations[5])
    assert log.state.agents["a"] == AgentProgress(ready=1, running=5, held=1, blocked=1)
    log.complete(activations[0])
    log.fail(activations[1])
    log.fail(activations[2], retry=False)
    log.end(activations[3], "cancelled")
    log.release(activations[5])
    log.end(activations[6], "skipped")
    log.claim(blocked)
    assert log.state.agents["a"] == AgentProgress(ready=2, running=2, done=1, failed=1, skipped=1, cancelled=1)
    assert log.state.agents["a"].open == 4


def test_a_dead_letter_that_is_tried_again_is_no_longer_failed() -> None:
    log = HandMadeLog(Progress())
    seed = log.publish(Note())
    dead = log.activate("a", seed)
    log.claim(dead)
    log.fail(dead, retry=False)
    again = log.activate("a", seed, redriven=dead)
    assert log.state.agents["a"] == AgentProgress(ready=1)
    log.claim(again)
    log.complete(again)
    assert log.state.agents["a"] == AgentProgress(done=1)
    cancelled = log.activate("a", seed)
    log.end(cancelled, "cancelled")
    log.activate("a", seed, redriven=cancelled)
    assert log.state.agents["a"] == AgentProgress(ready=1, done=1, cancelled=1)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("cfdhrexp")), max_size=40))
def test_no_sequence_of_events_loses_an_activation(steps: list[tuple[str, str]]) -> None:
    log = HandMadeLog(Progress())
    seed = log.publish(Note())
    made = {"a": 0, "b": 0}
    open_: dict[str, list[int]] = {"a": [], "b": []}
    for agent, step in steps:
        waiting = open_[agent]
        if step == "p" or not waiting:
            waiting.append(log.activate(agent, seed, blockers=("w",) if step == "x" else ()))
            made[agent] += 1
        elif step == "c":
            log.claim(waiting[0])
        elif step == "f":
            log.fail(waiting[0])
        elif step == "d":
            log.complete(waiting.pop(0))
        elif step == "h":
            log.hold(waiting[-1])
        elif step == "r":
            log.release(waiting[-1])
        else:
            log.end(waiting.pop(), "dead_letter" if step == "e" else "skipped")
    for agent, counts in log.state.agents.items():
        over = counts.done + counts.failed + counts.skipped + counts.cancelled
        assert counts.open == len(open_[agent])
        assert counts.open + over == made[agent]
        assert min(counts.ready, counts.running, counts.held, counts.blocked) >= 0


# -- completion -------------------------------------------------------------------------------------------------------


def test_a_workflow_is_complete_once_when_nothing_is_left() -> None:
    log = team(Completion())
    through_all_phases(log)
    assert log.published == []
    expected = WorkflowComplete(
        phases_completed=["analysis", "implementation", "validation"], total_work_items=3, failed_work_items=0
    )
    assert log.idle() == [expected]
    assert log.idle() == []
    through_all_phases(log)
    assert log.idle() == []


def test_a_board_on_which_nothing_happened_is_not_complete() -> None:
    log = team(Completion())
    assert log.idle() == []
    log.publish(Note())
    assert log.idle() == []


def test_work_that_was_only_cancelled_completes_nothing() -> None:
    log = team(Completion())
    log.end(log.activate("analyzer", log.publish(Work(phase="analysis"))), "cancelled")
    assert log.idle() == []


def test_work_that_nobody_took_keeps_a_workflow_from_being_complete() -> None:
    log = team(Completion())
    through_all_phases(log)
    orphan = log.publish(Work(phase="deployment"))
    assert log.idle() == []
    log.run_through("deployer", orphan)
    assert len(log.idle()) == 1


def test_withdrawn_work_does_not_keep_a_workflow_open() -> None:
    log = team(Completion())
    through_all_phases(log)
    duplicate = log.publish(Work(phase="analysis"))
    log.one(Withdrawn(by="dedup"), duplicate)
    assert len(log.idle()) == 1


def test_blocked_and_held_work_keeps_a_workflow_from_being_complete() -> None:
    log = team(Completion())
    through_all_phases(log)
    later = log.publish(Work(phase="analysis", blocking_work_ids=["w1"]))
    waits = log.activate("analyzer", later, blockers=("w1",))
    assert log.idle() == []
    log.claim(waits)
    log.complete(waits)
    held = log.activate("analyzer", later)
    log.hold(held)
    assert log.idle() == []
    log.release(held)
    log.claim(held)
    log.complete(held)
    assert len(log.idle()) == 1


def test_only_true_idleness_completes() -> None:
    log = team(Completion())
    through_all_phases(log)
    for reason in ("waiting", "deadlock", "budget", "cancelled"):
        assert log.idle(reason) == []
    assert len(log.idle("idle")) == 1


def test_every_phase_must_have_done_something_if_that_is_the_goal() -> None:
    log = team(Completion(every_phase(["analysis", "implementation", "validation"])))
    seed = log.publish(Work(phase="analysis"))
    log.run_through("analyzer", seed)
    assert log.idle() == []
    for agent in ("implementer", "validator"):
        log.run_through(agent, log.publish(Note()))
    assert len(log.idle()) == 1


def test_failed_work_is_counted_and_does_not_keep_a_workflow_open() -> None:
    log = team(Completion())
    through_all_phases(log)
    dead = log.activate("analyzer", log.publish(Work(phase="analysis")))
    log.claim(dead)
    log.fail(dead, retry=False)
    (complete,) = log.idle()
    assert complete == WorkflowComplete(
        phases_completed=["analysis", "implementation", "validation"], total_work_items=3, failed_work_items=1
    )


def test_every_run_is_complete_for_itself() -> None:
    log = team(Completion())
    through_all_phases(log, run="a")
    open_ = log.activate("analyzer", log.publish(Work(phase="analysis"), run="b"), run="b")
    assert len(log.idle()) == 1
    assert list(log.state.complete) == ["a"]
    log.claim(open_)
    log.complete(open_)
    assert [c.total_work_items for c in log.idle() if isinstance(c, WorkflowComplete)] == [1]
    assert list(log.state.complete) == ["a", "b"]
    assert log.state.runs == {}


# -- statistics -------------------------------------------------------------------------------------------------------


def test_all_phases_are_counted_and_those_without_work_are_listed() -> None:
    log = team(PhaseStatistics(["analysis", "implementation", "validation", "deployment"]))
    through_all_phases(log)
    taken = log.activate("implementer", log.publish(Note()))
    log.claim(taken)
    log.publish(Work(phase="validation"))
    assert log.state.work.phases == {
        "analysis": PhaseCounts(completed=1),
        "implementation": PhaseCounts(completed=1, active=1),
        "validation": PhaseCounts(completed=1, pending=1),
        "deployment": PhaseCounts(),
    }
    assert log.state.work.active_phases == ["implementation", "validation"]


def test_the_phase_of_an_agent_without_one_is_that_of_nobody() -> None:
    log = HandMadeLog(PhaseStatistics())
    log.run_through("logger", log.publish(Note()))
    assert log.state.work.phases == {"": PhaseCounts(completed=1)}
    assert log.state.work.active_phases == []


def test_what_led_to_what_is_counted_by_phase() -> None:
    log = team(PhaseStatistics())
    seed = log.publish(Work(phase="analysis"))
    log.begin()
    activation = log.activate("analyzer", seed)
    log.claim(activation)
    log.begin()
    _completed_with(log, activation, "implementer", "implementer", "analyzer")
    assert log.state.transitions == {"analysis -> implementation": 2, "analysis -> analysis": 1}
    log.activate("validator", log.publish(Note()))
    assert sum(log.state.transitions.values()) == 3


def _completed_with(log: HandMadeLog[Any], activation: int, *takers: str) -> None:
    """Complete with one output for each agent, each offered in the same decision."""

    log.begin()
    log.observe(Completed(outputs=len(takers)), activation)
    for taker in takers:
        id_ = log.put(Note(), "analyzer", activation)
        log.observe(Activated(agent=taker, inputs=[id_], run="main"), id_)
    log.finish()


def test_work_is_blocked_until_all_that_it_waits_for_is_done() -> None:
    log = team(PhaseStatistics())
    first = log.publish(Work(phase="analysis", work_id="w1"))
    log.publish(Work(phase="analysis", work_id="unrelated"))
    doing = [log.activate("analyzer", first), log.activate("validator", first)]
    waits = log.activate("analyzer", log.publish(Work(phase="analysis")), blockers=("w1", "w2"))
    assert log.state.work.blocked_by == ["w1", "w2"]
    for activation in doing:
        log.claim(activation)
    log.complete(doing[0])
    assert log.state.work.blocked_by == ["w1", "w2"]
    log.end(doing[1], "skipped")
    assert log.state.work.blocked_by == ["w2"]
    log.run_through("analyzer", log.publish(Work(phase="analysis", work_id="w2")))
    assert log.state.work.blocked == {}
    assert waits in log.state.work.pending


def test_work_of_another_run_with_the_same_name_unblocks_nothing() -> None:
    log = team(PhaseStatistics())
    mine = log.activate("analyzer", log.publish(Work(phase="analysis")), blockers=("w1",))
    log.activate("analyzer", log.publish(Note(), run="other"), run="other", blockers=("w1",))
    log.run_through("analyzer", log.publish(Work(phase="analysis", work_id="w1"), run="other"), run="other")
    assert list(log.state.work.blocked) == [mine]
    assert log.state.work.blocked_by == ["w1"]
    log.claim(mine)
    assert log.state.work.blocked_by == []


def test_a_failed_blocker_keeps_blocking_until_it_is_done_after_all() -> None:
    log = team(PhaseStatistics())
    first = log.publish(Work(phase="analysis", work_id="w1"))
    dead = log.activate("analyzer", first)
    waits = log.activate("analyzer", log.publish(Work(phase="analysis")), blockers=("w1",))
    log.claim(dead)
    log.fail(dead, retry=False)
    assert list(log.state.work.blocked) == [waits]
    assert log.state.work.phases["analysis"] == PhaseCounts(pending=1, failed=1)
    again = log.activate("analyzer", first, redriven=dead)
    log.claim(again)
    log.complete(again)
    assert log.state.work.blocked == {}
    assert log.state.work.phases["analysis"] == PhaseCounts(completed=1, pending=1)


def test_agents_are_timed_with_their_failures() -> None:
    log = HandMadeLog(PhaseStatistics())
    activation = log.activate("a", log.publish(Note()))
    for seconds, kind in ((2.0, "timeout"), (1.0, "rejected"), (50.0, "interrupted"), (50.0, "crashed")):
        log.claim(activation)
        log.fail(activation, seconds, kind)
    log.claim(activation)
    log.complete(activation, seconds=3.0)
    timing = log.state.agents["a"]
    assert (timing.count, timing.seconds, timing.mean) == (3, 6.0, 2.0)
    assert (timing.failed, timing.rejected) == (2, 1)


@given(st.lists(st.floats(1e-5, 1e6), min_size=1, max_size=200))
def test_the_95th_percentile_is_at_most_three_percent_off(durations: list[float]) -> None:
    timing = Timing()
    for seconds in durations:
        timing = timing.after(seconds)
    exact = sorted(durations)[-(-95 * len(durations) // 100) - 1]
    assert timing.p95 == pytest.approx(exact, rel=0.032)
    assert timing.mean == pytest.approx(sum(durations) / len(durations))


def test_the_memory_of_durations_is_bounded() -> None:
    timing = Timing()
    for i in range(20_000):
        timing = timing.after(1.001**i % 86_400)
    assert timing.count == 20_000
    assert len(timing.buckets) < 1_200
    assert Timing().p95 == Timing().mean == 0.0
    assert Timing().after(0.0).p95 < 1e-5


# -- metrics ----------------------------------------------------------------------------------------------------------


def test_metrics_are_published_at_rest_after_changes_and_never_because_of_metrics() -> None:
    log = team(Metrics())
    through_all_phases(log)
    waits = log.publish(Work(phase="validation", blocking_work_ids=["w9"]))
    log.activate("validator", waits, blockers=("w9",))
    assert log.published == []
    (metrics,) = log.idle()
    assert isinstance(metrics, WorkflowMetrics)
    assert metrics.total_discoveries == 2
    assert metrics.completed_work == 3
    assert metrics.active_phases == ["validation"]
    assert (metrics.blocked_work, metrics.blocked_by) == (1, ["w9"])
    assert log.idle() == []
    assert log.idle() == []
    log.publish(Note())
    assert log.idle() == []
    log.publish(Work(phase="analysis"))
    assert len(log.idle()) == 1


def test_metrics_can_be_published_without_waiting_for_rest() -> None:
    log = HandMadeLog(Metrics(every=3))
    for _ in range(10):
        log.publish(Work(phase="analysis"))
    assert [m.changes for m in log.published if isinstance(m, WorkflowMetrics)] == [3, 6, 9]
    with pytest.raises(BadComponent, match="every=0"):
        Metrics(every=0)


# -- definitions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: every_phase("analysis"), "'analysis' is no list of phases"),
        (lambda: every_phase(None), "None is no list of phases"),  # type: ignore[arg-type]
        (lambda: PhaseStatistics("analysis"), "'analysis' is no list of phases"),
        (lambda: PhaseStatistics([1]), "is no list of phases"),  # type: ignore[list-item]
        (lambda: Completion(["analysis"]), "a goal is a function"),  # type: ignore[arg-type]
        (lambda: Metrics("3"), "every='3'"),  # type: ignore[arg-type]
        (lambda: Metrics(1.5), "every=1.5"),  # type: ignore[arg-type]
        (lambda: Recovery(depth="2"), "depth='2'"),  # type: ignore[arg-type]
        (lambda: Recovery(depth=0), "depth=0"),
        (lambda: Recovery(phase=" "), "phase=' '"),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_written(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(BadComponent, match=re.escape(complaint)):
        make()


# -- costs ------------------------------------------------------------------------------------------------------------


def test_costs_add_up_exactly_by_agent_phase_and_run_with_what_failed() -> None:
    log = team(Costs())
    analysis = log.activate("analyzer", log.publish(Work(phase="analysis")))
    log.claim(analysis)
    log.called(analysis, "0.1", 100)
    log.fail(analysis, 2.0, "timeout")
    log.claim(analysis)
    log.called(analysis, "0.2", 200)
    log.complete(analysis, seconds=1.5)
    other = log.activate("validator", log.publish(Note(), run="b"), run="b")
    log.claim(other)
    log.called(other, "0.0000000001")
    log.fail(other, 1.0, "interrupted")
    log.claim(other)
    log.fail(other, 0.5, retry=False)
    spent = log.state
    assert spent.agents["analyzer"].money == Decimal("0.3")
    assert spent.agents["analyzer"].tokens == 300
    assert (spent.agents["analyzer"].attempts, spent.agents["analyzer"].failed) == (2, 1)
    assert spent.agents["analyzer"].seconds == 3.5
    assert spent.phases["analysis"] == spent.agents["analyzer"] == spent.runs["main"]
    assert (spent.agents["validator"].attempts, spent.agents["validator"].seconds) == (1, 1.5)
    assert spent.total.money == Decimal("0.3000000001")
    assert spent.total.money == sum((s.money for s in spent.runs.values()), Decimal(0))
    assert spent.running == {}


def test_an_effect_of_nobody_known_is_in_the_total_all_the_same() -> None:
    log = HandMadeLog(Costs())
    log.called(77, "0.05")
    assert log.state.total.money == log.state.agents[""].money == Decimal("0.05")
