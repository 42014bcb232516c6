"""Work that waits for other work, by the ids that its authors chose."""

from typing import Any

import pytest
from pydantic import BaseModel

from stigmergy import Artifact, Blackboard, Context, Retry
from stigmergy.blackboard.errors import BlockingCycle, DuplicateWork, InvalidPayload, UnknownWork
from stigmergy.testing import VirtualClock
from tests.boards import A, Boards

pytestmark = pytest.mark.anyio


class Work(BaseModel):
    work_id: str | None = None
    blocking_work_ids: list[str] = []
    parent_work_id: str | None = None
    fails: bool = False


class Gate(BaseModel):
    blocking_work_ids: list[str]


def work(name: str | None = None, *blocking: str, fails: bool = False, parent: str | None = None) -> Work:
    return Work(work_id=name, blocking_work_ids=list(blocking), fails=fails, parent_work_id=parent)


def worker(board: Blackboard) -> list[str | None]:
    """An agent that does all work, and the order in which it is done."""
    done: list[str | None] = []

    async def do(item: Work) -> None:
        if item.fails:
            raise RuntimeError(f"{item.work_id} cannot be done")
        done.append(item.work_id)

    board.agent("worker").consumes(Work).body(do)
    return done


# -- order -------------------------------------------------------------------------------------------------------------


@pytest.mark.req("S3.51", "S2.53")
async def test_work_starts_only_when_all_that_blocks_it_is_done(new_board: Boards) -> None:
    board = new_board()
    done = worker(board)
    await board.publish_many([work("roof", "walls", "timber"), work("walls", "ground"), work("ground"), work("timber")])
    report = await board.run_until_idle()
    assert sorted(str(name) for name in done) == ["ground", "roof", "timber", "walls"]
    assert done.index("ground") < done.index("walls") < done.index("roof")
    assert done.index("timber") < done.index("roof")
    assert report.left.count == 0


async def test_what_is_done_already_blocks_nothing(new_board: Boards) -> None:
    board = new_board()
    done = worker(board)
    await board.publish(work("first"))
    await board.run_until_idle()
    await board.publish(work("second", "first"))
    await board.run_until_idle()
    assert done == ["first", "second"]


async def test_work_done_before_a_restart_blocks_nothing_after_it(new_board: Boards) -> None:
    board = new_board()
    worker(board)
    await board.publish(work("first"))
    await board.run_until_idle()
    again = await new_board.reopened(board)
    done = worker(again)
    await again.publish(work("second", "first"))
    await again.run_until_idle()
    assert done == ["second"]


async def test_work_is_done_when_every_agent_that_took_it_has_ended(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())
    order: list[str] = []

    @board.agent
    async def quick(item: Work) -> None:
        order.append(f"quick {item.work_id}")

    @board.agent(retry=Retry(attempts=2, backoff=20))
    async def slow(item: Work, ctx: Context) -> None:
        if item.work_id == "first" and ctx.attempt == 1:
            raise OSError("again")
        order.append(f"slow {item.work_id}")

    await board.publish_many([work("first"), work("second", "first")])
    await board.run_until_idle()
    assert order[:2] == ["quick first", "slow first"]
    assert sorted(order[2:]) == ["quick second", "slow second"]


async def test_an_agent_may_publish_work_that_blocks_other_work_of_the_same_return(new_board: Boards) -> None:
    board = new_board()
    done = worker(board)

    @board.agent
    async def plan(a: A) -> list[Work]:
        return [work("c", "a", "b"), work("a"), work("b", "a")]

    await board.publish(A())
    await board.run_until_idle()
    assert done == ["a", "b", "c"]


async def test_work_ids_of_two_runs_have_nothing_to_do_with_each_other(new_board: Boards) -> None:
    board = new_board()
    done = worker(board)
    await board.publish(work("first"), run="one")
    await board.publish(work("second", "first"), run="two")
    report = await board.run_until_idle()
    assert done == ["first"]
    assert report.reason == "deadlock"


# -- what never comes --------------------------------------------------------------------------------------------------


async def test_an_unknown_id_is_waited_for_and_named_as_what_cannot_go_on(new_board: Boards) -> None:
    board = new_board()
    done = worker(board)
    item = await board.publish(work("roof", "walls"))
    report = await board.run_until_idle()
    assert (report.reason, report.ok) == ("deadlock", False)
    assert "'walls'" in report.detail
    [left] = report.left.blocked
    assert (left.inputs, left.works) == ((item.ref,), ("walls",))

    await board.publish(work("walls"))
    report = await board.run_until_idle()
    assert done == ["walls", "roof"]
    assert (report.reason, report.left.count) == ("idle", 0)


async def test_work_that_nobody_takes_blocks_for_ever_and_both_are_listed(new_board: Boards) -> None:
    board = new_board()

    async def never(item: Work) -> None: ...

    board.agent("picky").consumes(Work, where=lambda item: item.work_id != "orphan").body(never)
    await board.publish_many([work("orphan"), work("next", "orphan")])
    report = await board.run_until_idle()
    assert report.reason == "deadlock"
    assert len(report.left.no_consumer) == 1
    assert report.left.blocked[0].works == ("orphan",)


@pytest.mark.req("S3.51")
async def test_the_publish_that_closes_a_cycle_is_refused_and_names_the_path(new_board: Boards) -> None:
    board = new_board()
    worker(board)
    await board.publish(work("a", "b"))
    await board.publish(work("b", "c"))
    with pytest.raises(BlockingCycle, match="c -> a -> b -> c"):
        await board.publish(work("c", "a"))
    assert board.artifacts(Work).total == 2


async def test_work_that_waits_for_itself_is_refused(new_board: Boards) -> None:
    board = new_board()
    with pytest.raises(BlockingCycle, match="a -> a"):
        await board.publish(work("a", "a"))


async def test_a_cycle_within_one_publish_is_refused_as_a_whole(new_board: Boards) -> None:
    board = new_board()
    with pytest.raises(BlockingCycle):
        await board.publish_many([work("x"), work("a", "b"), work("b", "a")])
    assert board.artifacts().total == 0


async def test_an_agent_that_closes_a_cycle_is_a_dead_letter(new_board: Boards) -> None:
    board = new_board()
    worker(board)

    @board.agent
    async def plan(a: A) -> list[Work]:
        return [work("a", "b"), work("b", "a")]

    await board.publish(A())
    report = await board.run_until_idle()
    assert [d.error.type for d in report.left.dead_letters if d.error] == ["BlockingCycle"]
    assert board.artifacts(Work).total == 0


# -- what fails --------------------------------------------------------------------------------------------------------


@pytest.mark.req("S3.51")
async def test_what_a_failed_blocker_blocked_ends_too_and_says_why(new_board: Boards) -> None:
    board = new_board()
    done = worker(board)
    await board.publish_many([work("third", "second"), work("second", "first"), work("first", fails=True), work("x")])
    report = await board.run_until_idle()
    assert done == ["x"]
    assert (report.dead, report.blocker_failed, report.open, report.ok) == (1, 2, 0, False)
    assert {aside.reason for aside in report.put_aside} == {"work 'first' failed", "work 'second' failed"}


async def test_work_that_comes_after_its_blocker_failed_ends_at_once(new_board: Boards) -> None:
    board = new_board()
    done = worker(board)
    await board.publish(work("first", fails=True))
    await board.run_until_idle()
    await board.publish(work("second", "first"))
    report = await board.run_until_idle()
    assert done == []
    assert report.blocker_failed == 1


async def test_a_cancelled_blocker_ends_what_it_blocked(new_board: Boards) -> None:
    board = new_board()
    done = worker(board)
    await board.publish_many([work("second", "first"), work("first", "never")])
    report = await board.run_until_idle()
    first = next(left for left in report.left.blocked if left.works == ("never",))
    await board.cancel(first.activation)
    report = await board.run_until_idle()
    assert done == []
    assert (report.cancelled, report.blocker_failed, report.open) == (1, 1, 0)


# -- ids ---------------------------------------------------------------------------------------------------------------


async def test_a_work_id_is_used_once_in_a_run(new_board: Boards) -> None:
    board = new_board()
    worker(board)
    await board.publish(work("a"))
    with pytest.raises(DuplicateWork, match="work id 'a' is already used in run 'main'"):
        await board.publish(work("a"))
    with pytest.raises(DuplicateWork):
        await board.publish_many([work("b"), work("b")])
    await board.run_until_idle()
    with pytest.raises(DuplicateWork):
        await board.publish(work("a"))
    await board.publish(work("a"), run="another")
    assert board.artifacts(Work).total == 2


async def test_a_work_id_is_used_once_also_after_a_restart(new_board: Boards) -> None:
    board = new_board()
    worker(board)
    await board.publish(work("a"))
    await board.run_until_idle()
    again = await new_board.reopened(board)
    with pytest.raises(DuplicateWork):
        await again.publish(work("a"))


@pytest.mark.req("S3.8")
async def test_a_parent_must_be_known_and_may_come_in_the_same_publish(new_board: Boards) -> None:
    board = new_board()
    worker(board)
    with pytest.raises(UnknownWork, match="parent work 'nobody'; run 'main' has no such work_id"):
        await board.publish(work("a", parent="nobody"))
    await board.publish_many([work("child", parent="parent"), work("parent")])
    await board.run_until_idle()
    await board.publish(work("another child", parent="parent"))
    assert board.artifacts(Work).total == 3


async def test_a_work_id_that_is_no_name_is_refused(new_board: Boards) -> None:
    board = new_board()
    for name in ("", "a\0b"):
        with pytest.raises(InvalidPayload):
            await board.publish(work(name))
    await board.publish(work("ok"))
    assert board.artifacts(Work).total == 1


@pytest.mark.parametrize("given", [{"first"}, ("first",), frozenset({"first"})], ids=lambda g: type(g).__name__)
async def test_work_waits_however_its_ids_are_collected(new_board: Boards, given: Any) -> None:
    class Step(BaseModel):
        blocking_work_ids: type(given)  # type: ignore[valid-type]

    board = new_board()
    done = worker(board)
    board.agent("stepper").consumes(Step).body(lambda step: done.append("step"))
    await board.publish(Step(blocking_work_ids=given))
    assert (await board.run_until_idle()).reason == "deadlock"
    await board.publish(work("first"))
    await board.run_until_idle()
    assert done == ["first", "step"]


@pytest.mark.parametrize("given", ["first", [7], {"first": 1}, [None], 7], ids=str)
async def test_ids_that_nobody_could_wait_for_are_refused(new_board: Boards, given: Any) -> None:
    class Step(BaseModel):
        blocking_work_ids: Any

    board = new_board()
    with pytest.raises(
        InvalidPayload, match=r"^Step\.blocking_work_ids is .*, so nobody would wait for it\. Give a list"
    ):
        await board.publish_many([A(), Step(blocking_work_ids=given)])
    assert board.artifacts().total == 0
    await board.publish(Step(blocking_work_ids=None))


async def test_blocked_work_keeps_waiting_over_a_restart(new_board: Boards) -> None:
    board = new_board()
    worker(board)
    await board.publish(work("second", "first"))
    await board.run_until_idle()
    again = await new_board.reopened(board)
    done = worker(again)
    assert (await again.run_until_idle()).reason == "deadlock"
    await again.publish(work("first"))
    assert (await again.run_until_idle()).ok
    assert done == ["first", "second"]


# -- several runs ------------------------------------------------------------------------------------------------------


def joining_runs(board: Blackboard) -> tuple[Blackboard, list[str]]:
    """Two agents, one that does named work and one that joins over runs, and what they did."""
    did: list[str] = []

    async def do(item: Artifact[Work]) -> None:
        if item.payload.fails:
            raise RuntimeError("it cannot be done")
        did.append(f"work of {item.run}")

    async def join(a: A, gate: Gate) -> None:
        did.append("join")

    board.agent("worker").consumes(Work).body(do)
    board.agent("join").consumes(A, Gate, scope="board").body(join)
    return board, did


async def test_an_input_of_a_join_over_runs_waits_for_the_work_of_its_own_run(new_board: Boards) -> None:
    board, did = joining_runs(new_board())
    await board.publish(A(), run="one")
    await board.publish(Gate(blocking_work_ids=["w"]), run="two")
    report = await board.run_until_idle()
    assert report.reason == "deadlock"
    assert [blocked.works for blocked in report.left.blocked] == [("w of run two",)]

    await board.publish(work("w"), run="one")
    assert (await board.run_until_idle()).reason == "deadlock"
    assert did == ["work of one"]

    board, did = joining_runs(await new_board.reopened(board))
    await board.publish(work("w"), run="two")
    report = await board.run_until_idle()
    assert (report.reason, did) == ("idle", ["work of two", "join"])


async def test_equal_work_ids_of_two_runs_are_both_waited_for(new_board: Boards) -> None:
    board, did = joining_runs(new_board())

    async def gates(first: Gate, second: Gate) -> None:
        did.append("gates")

    board.agent("gates").consumes(Gate, Gate, scope="board").body(gates)
    for run in ("one", "two"):
        await board.publish(Gate(blocking_work_ids=["w"]), run=run)
    await board.publish(work("w"), run="two")
    await board.run_until_idle()
    assert did == ["work of two"]
    await board.publish(work("w"), run="one")
    report = await board.run_until_idle()
    assert did == ["work of two", "work of one", "gates"]
    assert report.left.blocked == ()


async def test_only_failed_work_of_its_own_run_ends_what_waits_in_a_join_over_runs(new_board: Boards) -> None:
    board, did = joining_runs(new_board())
    await board.publish(A(), run="one")
    await board.publish(Gate(blocking_work_ids=["w"]), run="two")
    await board.publish(work("w", fails=True), run="one")
    assert len((await board.run_until_idle()).left.blocked) == 1
    await board.publish(work("w", fails=True), run="two")
    report = await board.run_until_idle()
    assert [aside.outcome for aside in report.put_aside] == ["blocker failed"]
    assert did == []
    assert report.left.blocked == ()
