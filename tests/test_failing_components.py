"""Components that raise: out of service, on the log, and what they guarded is denied."""

import math
import types
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest

from stigmergy import (
    ACCEPT,
    ADMIT,
    Blackboard,
    Cancel,
    Close,
    Component,
    Deny,
    Hold,
    Publish,
    Redrive,
    Report,
    Seen,
    Withdraw,
)
from stigmergy.blackboard.component import ActivationRequest, Admission, CallRequest, Reaction
from stigmergy.blackboard.events import (
    Faulted,
    Held,
    Published,
)
from tests.boards import A, B, Boards, C, copying
from tests.small_components import Adder, Total

pytestmark = pytest.mark.anyio


def raising(method: str, when: Callable[..., bool] = lambda *_: True) -> Component[Any]:
    """A component of which one method raises."""

    def broken(self: Any, state: Any, *rest: Any) -> Any:
        if when(state, *rest):
            raise ZeroDivisionError(f"{method} is broken")
        return {"step": state, "react": (), "admit": ADMIT, "review": ACCEPT, "alarm": None}[method]

    body: dict[str, Any] = {"observes": (A,), method: broken}
    if method == "alarm":
        body["start"] = lambda self: 0
        body["step"] = lambda self, state, seen: state + 1
    base = Component[int] if method == "alarm" else Component
    made: Component[Any] = types.new_class("Broken", (base,), {}, lambda namespace: namespace.update(body))()
    return made


def assert_out_of_service(board: Blackboard, report: Report, method: str) -> None:
    """The component is out of service, on the log and on the report."""
    [left] = report.left.failed_components
    assert left.component == "broken"
    assert left.error is not None
    assert left.error.message == f"{method} is broken"
    assert not report.ok
    assert report.reason == "component_failed"
    assert [e.component for e in board.events() if isinstance(e, Faulted)] == ["broken"]


@pytest.mark.parametrize("method", ["step", "react"])
async def test_a_component_that_raises_is_out_of_service_and_the_decision_stands(
    new_board: Boards, method: str
) -> None:
    board = new_board(components=[raising(method), Adder()])
    ran: list[int] = []
    copying(board, ran)
    await board.publish(A(n=5))
    await board.publish(A(n=6))
    report = await board.run_until_idle()
    assert ran == [5, 6]
    assert [t.of for t in board.artifacts(Total).payloads] == [11], "the other component goes on"
    assert_out_of_service(board, report, method)


async def test_a_component_whose_alarm_raises_is_out_of_service(new_board: Boards) -> None:
    board = new_board(components=[raising("alarm", lambda state: state == 2)])
    ran: list[int] = []
    copying(board, ran)
    await board.publish_many([A(n=5), A(n=6)])
    report = await board.run_until_idle()
    assert ran == [5, 6]
    assert_out_of_service(board, report, "alarm")


async def test_an_alarm_that_is_no_time_from_the_start_is_out_of_service(new_board: Boards) -> None:
    class Tomorrow(Component[None]):
        observes = (C,)

        def alarm(self, state: None, /) -> float | None:
            return "tomorrow"  # type: ignore[return-value]

    board = new_board(components=[Tomorrow()])
    ran: list[int] = []
    copying(board, ran)
    await board.publish(A(n=5))
    report = await board.run_until_idle()
    [left] = report.left.failed_components
    assert (left.component, ran, report.reason) == ("tomorrow", [5], "component_failed")
    assert left.error is not None
    assert "tomorrow" in left.error.message


async def test_a_guard_that_raises_denies_everything_from_then_on(new_board: Boards) -> None:
    board = new_board(components=[raising("admit")])
    ran: list[int] = []
    copying(board, ran)
    await board.publish_many([A(n=5), A(n=6)])
    report = await board.run_until_idle()
    assert ran == []
    assert report.skipped == 2
    assert {aside.reason for aside in report.put_aside} == {"broken: the component failed, so nothing is admitted"}
    assert_out_of_service(board, report, "admit")


async def test_a_guard_that_raises_while_it_observes_denies_as_well(new_board: Boards) -> None:
    class Guard(Component[int]):
        observes = (A,)

        def start(self) -> int:
            return 0

        def step(self, state: int, seen: Seen, /) -> int:
            raise ValueError("lost count")

        def admit(self, state: int, request: ActivationRequest | CallRequest, /) -> Admission:
            return ADMIT

    board = new_board(components=[Guard()])
    ran: list[int] = []
    copying(board, ran)
    await board.publish(A(n=1))
    report = await board.run_until_idle()
    assert ran == []
    assert report.skipped == 1


async def test_a_review_that_raises_lets_nothing_pass(new_board: Boards) -> None:
    board = new_board(components=[raising("review")])
    copying(board)
    await board.publish_many([A(n=5), A(n=6)])
    report = await board.run_until_idle()
    assert board.artifacts(B).total == 0
    assert report.dead == 2
    assert_out_of_service(board, report, "review")


async def test_a_component_that_failed_stays_out_of_service_after_a_restart(new_board: Boards) -> None:
    board = new_board(components=[raising("admit")])
    copying(board)
    await board.publish(A(n=5))
    await board.run_until_idle()
    again = await new_board.reopened(board, components=[raising("admit", lambda *_: False)])
    ran: list[int] = []
    copying(again, ran)
    await again.publish(A(n=6))
    report = await again.run_until_idle()
    assert ran == []
    assert report.left.failed_components


class Count(Component[int]):
    """Lets three A in, and counts all of them; the first version cannot count beyond one."""

    def __init__(self, version: int) -> None:
        self.version = version  # type: ignore[misc]  # two versions of one class in one file

    def start(self) -> int:
        return 0

    def step(self, state: int, seen: Seen, /) -> int:
        if not (isinstance(seen.event, Published) and seen.event.type == "A"):
            return state
        if self.version == 1 and state == 1:
            raise OverflowError("it is too much")
        return state + 1

    def admit(self, state: int, request: ActivationRequest | CallRequest, /) -> Admission:
        return ADMIT if state <= 3 else Deny(f"{state} are too many")


async def test_another_version_of_a_component_that_failed_is_in_service_again_and_has_missed_nothing(
    new_board: Boards,
) -> None:
    board = new_board(components=[Count(1)])
    copying(board)
    await board.publish_many([A(n=1), A(n=2)])
    report = await board.run_until_idle()
    assert (report.reason, report.skipped) == ("component_failed", 2)
    assert "raise its version=" in str(report)

    mended = await new_board.reopened(board, components=[Count(2)])
    ran: list[int] = []
    copying(mended, ran)
    await mended.publish(A(n=3))
    report = await mended.run_until_idle()
    assert (ran, report.left.failed_components) == ([3], ())
    assert mended.fold(Count(2)) == 3
    await mended.publish(A(n=4))
    report = await mended.run_until_idle()
    assert {aside.reason for aside in report.put_aside} >= {"count: 4 are too many"}


async def test_a_version_that_failed_once_stays_out_of_service_when_it_comes_back(new_board: Boards) -> None:
    board = new_board(components=[Count(1)])
    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()
    for version, out in ((2, False), (1, True), (2, False), (1, True)):
        board = await new_board.reopened(board, components=[Count(version)])
        report = await board.run_until_idle()
        assert [left.component for left in report.left.failed_components] == (["count"] if out else [])
        assert report.ok is not out
    assert len([e for e in board.events() if isinstance(e, Faulted)]) == 1


async def test_a_component_that_is_taken_off_the_board_is_no_failed_one(new_board: Boards) -> None:
    board = new_board(components=[raising("step")])
    await board.publish(A())
    await board.run_until_idle()
    board = await new_board.reopened(board)
    report = await board.run_until_idle()
    assert (report.reason, report.left.failed_components) == ("idle", ())


async def test_a_component_that_comes_late_and_raises_at_the_past_is_out_of_service_on_record(
    new_board: Boards,
) -> None:
    board = new_board()
    copying(board)
    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()
    board.add(raising("step"))
    report = await board.run_until_idle()
    assert_out_of_service(board, report, "step")


@pytest.mark.parametrize(
    "garbage",
    [
        "text",
        None,
        3,
        Hold("not a reaction"),
        Close(reason=cast("Any", "tokens are spent")),
        Close(stop=cast("Any", "soon")),
        Close(detail=cast("Any", 7)),
        Close(run=cast("Any", 7)),
        Publish(cast("Any", "no model")),
        Publish(B(), key=cast("Any", 7)),
        Publish(B(), key="\0"),
        Publish(B(), tags=cast("Any", "text")),
        Publish(B(), tags=cast("Any", (7,))),
        Publish(B(), priority=cast("Any", "urgent")),
        Publish(B(), run=cast("Any", 7)),
        Publish(B(), visibility=cast("Any", "me")),
        Cancel(7, cast("Any", None)),
        Withdraw(cast("Any", "A@7"), "no"),
        Redrive(cast("Any", None)),
    ],
    ids=repr,
)
async def test_a_reaction_that_cannot_be_recorded_is_the_components_fault_and_the_log_stays_readable(
    file_board: Boards, garbage: Any
) -> None:
    class Babbler(Component[None]):
        observes = (A,)
        publishes = (B,)

        def react(self, state: None, seen: Seen, /) -> Any:
            return [garbage]

    board = file_board(components=[Babbler()])
    await board.publish(A())
    report = await board.run_until_idle()
    assert [left.component for left in report.left.failed_components] == ["babbler"]
    assert not board.artifacts(B)
    board = await file_board.reopened(board, components=[Babbler()])
    await board.publish(A())
    assert board.artifacts(A).total == 2


@pytest.mark.parametrize(
    "answer",
    [None, True, ACCEPT, Deny(cast("Any", 7)), Hold(cast("Any", None)), Hold("for ever", math.inf), Hold("", math.nan)],
    ids=str,
)
async def test_an_admission_that_cannot_be_recorded_is_a_failed_guard_and_the_log_stays_readable(
    file_board: Boards, answer: Any
) -> None:
    class Guard(Component[None]):
        def admit(self, state: None, request: ActivationRequest | CallRequest, /) -> Any:
            return answer

    board = file_board(components=[Guard()])
    copying(board)
    await board.publish(A())
    report = await board.run_until_idle()
    assert [left.component for left in report.left.failed_components] == ["guard"]
    assert report.skipped == 1
    assert (await file_board.reopened(board)).report().skipped == 1


async def test_who_is_held_until_a_time_that_has_passed_waits_for_a_change_of_mind(new_board: Boards) -> None:
    class Guard(Component[bool]):
        observes = (B,)

        def start(self) -> bool:
            return False

        def step(self, state: bool, seen: Seen, /) -> bool:
            return True

        def admit(self, state: bool, request: ActivationRequest | CallRequest, /) -> Admission:
            return ADMIT if state else Hold("not yet", until=1.0)

    board = new_board(components=[Guard()])
    copying(board)
    await board.publish(A())
    report = await board.run_until_idle()
    assert report.reason == "deadlock"
    assert len([e for e in board.events() if isinstance(e, Held)]) == 1
    await board.publish(B())
    report = await board.run_until_idle()
    assert report.done == 1


@pytest.mark.parametrize(("says", "reason"), [(7, "component_failed"), ("half \ud800", "waiting"), (None, "idle")])
async def test_what_a_component_says_it_waits_for_can_be_recorded_or_the_run_fails(
    file_board: Boards, says: Any, reason: str
) -> None:
    class Waiting(Component[None]):
        def waiting(self, state: None, /) -> Any:
            return says

    board = file_board(components=[Waiting()])
    await board.publish(A())
    assert (await board.run_until_idle()).reason == reason
    assert (await file_board.reopened(board)).report().reason == reason


async def test_components_that_set_each_other_off_for_ever_are_taken_out_of_service(new_board: Boards) -> None:
    class Ping(Component[None]):
        publishes = (B,)
        observes = (A,)

        def react(self, state: None, seen: Seen, /) -> Iterable[Reaction]:
            yield Publish(B())

    class Pong(Component[None]):
        publishes = (A,)
        observes = (B,)

        def react(self, state: None, seen: Seen, /) -> Iterable[Reaction]:
            yield Publish(A())

    board = new_board(components=[Ping(), Pong()])
    ran: list[int] = []

    @board.agent
    async def go_on(c: C) -> None:
        ran.append(c.n)

    await board.publish(A())
    await board.publish(C(n=1))
    report = await board.run_until_idle()
    assert ran == [1]
    assert report.reason == "component_failed"
    assert report.left.failed_components
    assert board.artifacts().total < 3_000


async def test_a_reaction_that_is_refused_is_the_components_fault_and_publishes_nothing(new_board: Boards) -> None:
    class Unpublishable(Component[None]):
        observes = (A,)
        publishes = (Total,)

        def react(self, state: None, seen: Seen, /) -> Iterable[Reaction]:
            yield Publish(Total(of=1), key="same")
            yield Publish(Total(of=2), key="same")

    board = new_board(components=[Unpublishable()])
    await board.publish(A())
    report = await board.run_until_idle()
    [left] = report.left.failed_components
    assert left.error is not None
    assert left.error.type == "KeyReused"
    assert [t.of for t in board.artifacts(Total).payloads] == [1]


async def test_a_component_publishes_only_what_it_declares(new_board: Boards) -> None:
    class Smuggler(Component[None]):
        observes = (A,)
        publishes = (Total,)

        def react(self, state: None, seen: Seen, /) -> Iterable[Reaction]:
            yield Publish(Total(of=1))
            yield Publish(B(n=2))

    board = new_board(components=[Smuggler()])
    await board.publish(A())
    report = await board.run_until_idle()
    [left] = report.left.failed_components
    assert left.error is not None
    assert (left.error.type, board.artifacts(B).total) == ("UndeclaredOutput", 0)
    assert left.error.message == "'smuggler' published B. Add it to its publishes = (…)."


class Opaque:
    """Something that is no data."""


async def test_a_component_whose_state_is_no_data_does_not_keep_a_board_from_closing(new_board: Boards) -> None:
    class Hoarder(Component[Any]):
        observes = (A,)

        def start(self) -> Any:
            return []

        def step(self, state: Any, seen: Seen, /) -> Any:
            return [*state, Opaque()]

        def admit(self, state: Any, request: ActivationRequest | CallRequest, /) -> Admission:
            return ADMIT if len(state) > 1 else Deny(f"{len(state)} seen")

    board = new_board(components=[Hoarder()])
    await board.publish(A(n=1))
    again = await new_board.reopened(board, components=[Hoarder()])
    ran: list[int] = []
    copying(again, ran)
    await again.publish(A(n=2))
    (await again.run_until_idle()).raise_for_failures()
    assert ran == [2]


class Barrier(Component[int]):
    """Holds everything in its first version, and nothing in its second."""

    def __init__(self, version: int) -> None:
        self.version = version  # type: ignore[misc]

    def start(self) -> int:
        return 0

    def step(self, state: int, seen: Seen, /) -> int:
        return state

    def admit(self, state: int, request: ActivationRequest | CallRequest, /) -> Admission:
        return Hold("not yet") if self.version == 1 else ADMIT


async def test_another_version_of_a_component_is_asked_again_about_what_the_one_before_held(new_board: Boards) -> None:
    board = copying(new_board(components=[Barrier(1)]))
    await board.publish_many([A(n=1), A(n=2)])
    report = await board.run_until_idle()
    assert report.open == 2
    ran: list[int] = []
    board = copying(await new_board.reopened(board, components=[Barrier(2)]), ran)
    report = await board.run_until_idle()
    assert (report.open, sorted(ran)) == (0, [1, 2])
