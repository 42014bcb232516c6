"""Deadlines: the soonest is found without sorting all of them."""

from hypothesis import given
from hypothesis import strategies as st

from stigmergy.blackboard.core.timers import Timer, Timers

deadlines = st.lists(st.tuples(st.integers(0, 50), st.sampled_from(["alarm", "retry"]), st.booleans()), max_size=60)


@given(deadlines)
def test_the_soonest_deadline_that_work_waits_for_is_the_one_that_sorting_finds(
    some: list[tuple[int, str, bool]],
) -> None:
    timers = Timers(lambda timer: some[timer.subject][2])
    wanted = []
    for subject, (due, kind, live) in enumerate(some):
        timers.push(float(due), "alarm" if kind == "alarm" else "retry", subject)
        if live and kind == "retry":
            wanted.append((float(due), subject))
    soonest = timers.next_work()
    assert (None if soonest is None else (soonest.due, soonest.subject)) == min(wanted, default=None)
    count, first = timers.work()
    assert count == len(wanted)
    assert not wanted or first == min(wanted)[0]


def test_of_ten_thousand_deadlines_only_those_before_the_soonest_are_looked_at() -> None:
    looked: list[Timer] = []

    def live(timer: Timer) -> bool:
        looked.append(timer)
        return True

    timers = Timers(live)
    for subject in range(10_000):
        timers.push(10.0 + subject, "retry", subject)
    for subject in range(3):
        timers.push(float(subject), "alarm", subject, "component")
    looked.clear()
    soonest = timers.next_work()
    assert soonest is not None
    assert soonest.due == 10.0
    assert len(looked) < 10
