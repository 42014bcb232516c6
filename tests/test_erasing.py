"""Payloads that are erased: what goes, what stays, and what a board still knows and does afterwards."""

import asyncio
import re
import sqlite3
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from stigmergy import (
    Blackboard,
    Budget,
    Completion,
    Component,
    Context,
    Costs,
    Questions,
    Quota,
    Seen,
    backup,
    read,
    replay,
    vacuum,
    verify,
)
from stigmergy.blackboard.errors import BadComponent, NotFound, PayloadErased, StoreError
from stigmergy.blackboard.events import Activated, Erased, Published
from stigmergy.blackboard.reading.erasable import Erasure
from stigmergy.blackboard.stores.seals import sum_of
from stigmergy.blackboard.stores.sqlite import SQLiteReader
from stigmergy.seeds import write_stream
from stigmergy.testing import VirtualClock
from stigmergy.testing.making import make_test
from tests.boards import A, B, Boards, C, copying, numbers
from tests.cascade import TYPES, Story, World, activation_of, board_on, check_ended, check_kept, define, recorded, story
from tests.faults import PointedStore, files_of, put
from tests.small_components import Adder, Sum

pytestmark = pytest.mark.anyio


async def erased(board: Blackboard) -> Erasure:
    """Erase all that can be."""
    return await board.erase(before=board.last + 1)


async def run_and_erase(board: Blackboard, world: World) -> None:
    """Two orders; what was said is erased in the middle, and again at the end."""
    for number in range(2):
        world.acknowledge((await board.publish(TYPES[0](number=number), key=f"order {number}")).id)
    await board.run_until(TYPES[3], count=1)
    await erased(board)
    await board.run_until_idle(horizon=None)
    await erased(board)
    await board.close()


def told(board: Blackboard) -> tuple[Any, ...]:
    """What can be said of a board without its payloads."""
    report = board.report()
    proofs = [[s.name for s in board.why(a.id).steps] for a in board.artifacts()]
    prov = [re.sub(r'"prov:label": ".*"', "", board.why(a.id).to_prov()) for a in board.artifacts()]
    numbers = (report.done, report.dead, report.open, report.cost, report.tokens, report.retries)
    edges = sorted(str(e) for e in board.graph().edges)
    return numbers, proofs, prov, edges, [d.attempts for d in board.dead_letters()], board.fold(Costs())


async def test_lineage_costs_and_reports_survive_and_what_was_said_does_not(new_board: Boards) -> None:
    world = World()
    board = define(new_board(clock=VirtualClock()), world)
    for number in range(3):
        await board.publish(TYPES[0](number=number))
    await board.run_until_idle(horizon=None)
    before, artifacts = told(board), board.artifacts().total
    gone = await erased(board)
    assert gone.payloads > 20
    assert told(board) == before
    for again in (False, True):
        if again:
            board = define(await new_board.reopened(board, clock=VirtualClock()), world)
        assert told(board) == before
        assert board.artifacts().total == artifacts
        said = [a for a in board.artifacts() if "erased" not in repr(a)]
        assert {a.id for a in said} == {i.id for d in board.dead_letters() for i in d.inputs}
        paid = next(iter(board.artifacts(TYPES[3])))
        with pytest.raises(PayloadErased, match=r"'receipt' is asked of a payload that was erased"):
            _ = paid.payload.receipt  # type: ignore[attr-defined]
        with pytest.raises(PayloadErased, match=rf"the payload of Paid@{paid.id} was erased"):
            paid.as_type(TYPES[3])
        assert paid.payload.model_dump() is None
        assert board.artifacts(TYPES[3], where={"number": 0}).total == 0
        assert board.artifacts(TYPES[3], where=lambda p: True).total == 0
        assert [*board.artifacts(TYPES[3]).rows()[0]] == ["id", "producer"]


async def test_erased_in_any_middle_what_is_open_goes_on_to_the_same_end(new_board: Boards) -> None:
    """What waits in joins and batches, is held, retried, asked, or half paid is still all there."""
    world = World()
    board = define(new_board(clock=VirtualClock(), concurrency=1), world)
    for number in range(3):
        await board.publish(TYPES[0](number=number), key=f"order {number}")
    await board.run_until_idle(horizon=None)
    expected = story(board, erased=True)
    for model, count in [(model, count) for model in TYPES[1:] for count in (1, 2)]:
        world = World()
        clock = VirtualClock()
        board = define(new_board(clock=clock, concurrency=1), world)
        for number in range(3):
            await board.publish(TYPES[0](number=number), key=f"order {number}")
        await board.run_until(model, count=count, horizon=None)
        await erased(board)
        board = define(await new_board.reopened(board, clock=clock, concurrency=1), world)
        await board.run_until_idle(horizon=None)
        check_ended(board, world, expected, erased=True)


async def test_erased_again_and_again_while_it_runs_it_comes_to_the_same_end(new_board: Boards) -> None:
    world = World()
    board = define(new_board(clock=VirtualClock(), concurrency=3), world)
    for number in range(3):
        await board.publish(TYPES[0](number=number), key=f"order {number}")
    await board.run_until_idle(horizon=None)
    expected, world = story(board, erased=True), World()
    board = define(new_board(clock=VirtualClock(), concurrency=3), world)
    for number in range(3):
        await board.publish(TYPES[0](number=number), key=f"order {number}")

    async def again_and_again() -> None:
        for _ in range(20):
            await erased(board)

    await asyncio.gather(board.run_until_idle(horizon=None), again_and_again())
    check_ended(board, world, expected, erased=True)


async def test_an_effect_that_is_on_record_is_not_paid_again_though_others_are_erased(new_board: Boards) -> None:
    paid: list[int] = []

    def paying(board: Blackboard, *, well: bool) -> Blackboard:
        @board.agent
        async def pay(a: A, ctx: Context) -> B:
            await ctx.call("pay", lambda: paid.append(a.n))
            if a.n == 2 and not well:
                raise ValueError("after it was paid")
            return B(n=a.n)

        return board

    board = paying(new_board(), well=False)
    for n in range(4):
        await board.publish(A(n=n))
    await board.run_until_idle()
    [dead] = board.dead_letters()
    gone = await erased(board)
    assert len(gone.keep) == 2  # its input and its reply
    board = paying(await new_board.reopened(board), well=True)
    await board.retry(dead.id)
    await erased(board)
    await board.run_until_idle()
    assert paid == [0, 1, 2, 3]
    assert [a.payload.n for a in board.artifacts(B, where={"n": 2})] == [2]
    assert (await erased(board)).keep == ()


async def test_an_effect_whose_reply_is_erased_is_not_paid_again(new_board: Boards) -> None:
    paid: list[int] = []
    board = new_board(components=[Questions()])

    @board.agent
    async def pay(a: A, ctx: Context) -> B:
        await ctx.call("pay", lambda: paid.append(a.n))
        await ctx.ask("on", "Go on?", answer=bool)
        return B(n=a.n)

    @board.agent(by="key")
    async def wait(a: A, c: C) -> None: ...

    await board.publish(A(n=1))
    await board.run_until_idle()
    cancelled = next(e.seq for e in board.events() if isinstance(e, Activated) and e.agent == "pay")
    await board.cancel(cancelled)
    gone = await erased(board)
    assert (gone.payloads, len(gone.keep)) == (1, 2)  # the reply; what the other one waits with is needed
    await board.retry(cancelled)
    await board.run_until_idle()
    [dead] = board.dead_letters()
    assert dead.error is not None
    assert (dead.error.type, dead.agent) == ("PayloadErased", "pay")
    assert paid == [1]


class Named(Component[Sum]):
    """Counts artifacts by their number."""

    observes: ClassVar[tuple[Any, ...]] = (A,)

    def __init__(self, name: str = "named", worth: int = 1) -> None:
        self.name = name
        self.worth = worth

    def start(self) -> Sum:
        return Sum()

    def step(self, state: Sum, seen: Seen, /) -> Sum:
        assert seen.artifact is not None
        return replace(state, total=state.total + self.worth * seen.artifact.payload.n)


def observing() -> list[Component[Any]]:
    return [Adder(), Completion(), Quota(artifacts=100), Budget(cost="5"), Named()]


async def test_components_know_what_they_would_know_without_it(new_board: Boards) -> None:
    states: list[list[object]] = []
    for erasing in (False, True):
        clock = VirtualClock()
        board = copying(new_board(components=observing(), clock=clock))
        for numbers_ in ((1, 2, 3), (20,), (4, 5)):
            for n in numbers_:
                await board.publish(A(n=n))
            await board.run_until_idle()
            if erasing:
                await erased(board)
                path = Path(board._store.name)
                await board.close()
                if path.exists():
                    vacuum(path)  # no snapshot is left
            board = copying(await new_board.reopened(board, components=observing(), clock=clock))
        states.append([board.fold(c) for c in observing()])
        await board.run_until_idle()
        assert [board.fold(c) for c in observing()] == states[-1]
    kept, gone = (re.sub(r"\bseconds=[\d.e-]+", "", repr(state)) for state in states)  # bodies take what they take
    assert states[1][0] == Sum(35, 30)
    assert gone == kept


async def test_who_changed_goes_on_and_who_comes_late_begins_there(
    new_board: Boards, caplog: pytest.LogCaptureFixture
) -> None:
    board = copying(new_board(components=[Adder(), Named()]))
    for n in (1, 2, 3):
        await board.publish(A(n=n))
    await board.run_until_idle()
    await erased(board)
    await board.publish(A(n=10))
    board = copying(await new_board.reopened(board, components=[Adder(), Named(worth=100), Named("late")]))
    await board.run_until_idle()
    assert board._owner is not None
    states = board._owner.folded.observers.states
    assert states["named"] == Sum(6 + 100 * 10)  # made otherwise now: what it had, and the rest as it counts now
    assert states["late"] == Sum(10)
    warned = [vars(r)["who"] for r in caplog.records if "knows nothing of what was erased" in r.getMessage()]
    assert warned == ["late"]
    with pytest.raises(PayloadErased, match=r"the payload of A@\d+ was erased"):
        board.fold(Named("nobody"))
    with pytest.raises(PayloadErased):
        board.at(10).fold(Adder())
    assert board.at(10).report().artifacts > 0
    assert board.fold(Costs()).running == {}


async def test_a_component_that_is_not_here_or_keeps_no_data_forbids_it(new_board: Boards) -> None:
    class Odd(Component[object]):
        name = "odd"

        def start(self) -> object:
            return object()

    board = copying(new_board(components=[Odd()]))
    await board.publish(A())
    await board.run_until_idle()
    with pytest.raises(BadComponent, match="the state of component 'odd' cannot be written as JSON"):
        await erased(board)
    assert numbers(board, A) == [0]
    board = copying(await new_board.reopened(board, components=[Adder()]))
    await board.run_until_idle()
    board = await new_board.reopened(board)
    with pytest.raises(BadComponent, match=r"component 'adder' takes part in this board and is not here"):
        await erased(board)
    assert numbers(board, A) == [0]


async def test_nobody_is_offered_shown_or_told_what_is_erased(new_board: Boards) -> None:
    board = copying(new_board())
    for n in range(3):
        await board.publish(A(n=n))
    await board.run_until_idle()
    await board.erase(before=board.artifacts(A)[2].id)
    seen: list[int] = []
    past: list[list[int]] = []

    board = copying(await new_board.reopened(board))

    async def late(a: A, ctx: Context) -> None:
        seen.append(a.n)
        past.append([p.payload.n for p in ctx.past if isinstance(p.payload, A | B)])

    board.agent("late").consumes(A, since="start").body(late)
    await board.publish(A(n=3))
    await board.run_until_idle()
    assert seen == [2, 3]
    assert all(n > 1 for shown in past for n in shown)
    answer = board.why_not("late", board.artifacts(A)[0])
    assert "erased" in str(answer)


async def test_what_cannot_be_done_without_payloads_says_so(new_board: Boards, tmp_path: Path) -> None:
    board = copying(new_board())
    await board.publish(A(n=1))
    await board.publish(A(n=2))
    open_now = board.report()
    assert open_now.open == 2
    first, second = [e.seq for e in board.events() if isinstance(e, Activated)]
    await board.cancel(first)
    await board.run_until_idle()
    await erased(board)
    gone = r"the payload of A@\d+ was erased\. What came of it is told by why, events and the report"
    with pytest.raises(PayloadErased, match=r"event \d+ erased what some of it rests on\. Replay a copy from before"):
        replay(board, board, until=5)
    with pytest.raises(PayloadErased, match=gone), (tmp_path / "s.jsonl").open("w") as file:
        write_stream(board, file)
    with pytest.raises(PayloadErased, match=gone):
        make_test(board, board, f"copy@{second}", file=tmp_path / "test_x.py", source="x:board")
    with pytest.raises(PayloadErased, match=rf"copy@{first} cannot be tried again: its input A@\d+ was erased"):
        await board.retry(first)


async def test_it_is_said_how_much_goes_and_when_there_is_nothing_nothing_is_recorded(new_board: Boards) -> None:
    clock = VirtualClock()
    board = copying(new_board(clock=clock))
    await board.publish(A(n=1))
    await board.run_until_idle()
    middle = clock.now() + 50
    clock.advance(100)
    await board.publish(A(n=2))
    await board.run_until_idle()
    last = board.last
    assert await board.erase(before=0) == await board.erase(before=-5) == Erasure((), 0, 0)
    assert board.last == last
    assert (await board.erase(before=datetime.fromtimestamp(middle, UTC))).payloads == 2
    assert [(a.payload.model_dump() or {}).get("n") for a in board.artifacts(A)] == [None, 2]
    sizes = sum(len(a.payload.model_dump_json()) for a in [*board.artifacts(A), *board.artifacts(B)][1::2])
    assert await board.erase(before=10**9) == Erasure((), 2, sizes)
    assert [e.before for e in board.events() if isinstance(e, Erased)] == [
        next(e.seq for e in board.events() if isinstance(e, Published) and e.at > middle),
        board.last,
    ]
    for odd in (True, "yesterday", None, 1.5):
        with pytest.raises(NotFound, match="is no moment of a board"):
            await board.erase(before=odd)  # type: ignore[arg-type]


# -- files ------------------------------------------------------------------------------------------------------------


class Note(BaseModel):
    text: str


def texts_in(path: Path) -> set[str]:
    """Which of the marked texts are anywhere in the files of a board."""
    data = b"".join(files_of(path).values())
    return {mark for mark in ("early-canary", "late-canary") if mark.encode() in data}


async def marked(path: Path, **options: Any) -> Blackboard:
    board = copying(Blackboard(path, **options))
    await board.publish(Note(text="early-canary"))
    for n in range(40):
        await board.publish(A(n=n, key=f"early-canary {n} " + "x" * (300 * n)))
    assert "early-canary" in str(await board.run_until_idle())
    return board


async def test_nothing_of_it_is_left_in_the_file_and_the_log_is_proven(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    board = await marked(path)
    assert texts_in(path) == {"early-canary"}
    await erased(board)
    assert "canary" not in str(board.report())
    await board.publish(A(key="late-canary"))
    assert texts_in(path) == {"late-canary"}
    await board.close()
    with read(path) as view:
        assert "canary" not in str(view.report())
    assert texts_in(path) == {"late-canary"}
    found, size = verify(path), path.stat().st_size
    assert (found.whole, found.closed) == (True, True)
    assert vacuum(path).after < size / 4
    assert verify(path) == found
    backup(path, tmp_path / "copy.db")
    assert verify(tmp_path / "copy.db").seal == found.seal


async def test_a_payload_that_is_emptied_and_not_on_record_as_erased_is_found(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    board = await marked(path)
    await board.erase(before=20)
    await board.close()
    reader = SQLiteReader(path)
    victim = next(row for row in reader.events(20) if row.kind == "Published")
    reader.close()
    with closing(sqlite3.connect(path)) as connection:
        crc = sum_of(victim._replace(payload=""))
        connection.execute("UPDATE event SET payload = '', crc = ? WHERE seq = ?", (crc, victim.seq))
        connection.commit()
    found = verify(path)
    assert found.damage is not None
    assert f"the payload of A@{victim.seq} is not what was written" in found.damage.why


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Story, list[tuple[str, dict[str, bytes], World]]]:
    """The story of a board that is erased twice, and every death it could have died."""
    path, world = tmp_path_factory.mktemp("erased") / "run.db", World()
    deaths: list[tuple[str, dict[str, bytes], World]] = []

    def point(name: str) -> None:
        if name != "read":
            deaths.append((name, files_of(path), deepcopy(world)))

    asyncio.run(run_and_erase(board_on(PointedStore(path, point), world), world))
    with read(path, types=TYPES) as view:
        expected = story(view, erased=True)
        check_ended(view, world, expected, erased=True)
    assert {"erase before", "erase after"} <= {name for name, _, _ in deaths}
    return expected, deaths


async def test_killed_at_any_point_of_it_the_cascade_goes_on_to_the_same_end(
    undisturbed: tuple[Story, list[tuple[str, dict[str, bytes], World]]], tmp_path: Path
) -> None:
    expected, deaths = undisturbed
    first = next(k for k, death in enumerate(deaths) if death[0] == "erase before")
    for k, (name, files, lived) in [*enumerate(deaths)][first - 4 :]:
        path, world = tmp_path / str(k) / "run.db", deepcopy(lived)
        put(files, path)
        with read(path, types=TYPES) as view:
            check_kept(view, world)
            before, paid = set(recorded(view)), len(world.payments)
        assert verify(path).whole, name
        await run_and_erase(board_on(path, world), world)
        assert not {activation_of(key) for key in world.payments[paid:]} & before, "paid again"
        with read(path, types=TYPES) as view:
            check_ended(view, world, expected, erased=True)
        assert verify(path).whole


class Died(Exception):
    pass


async def test_what_is_on_record_as_erased_and_is_not_is_erased_by_vacuum(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    await (await marked(path)).close()

    def point(name: str) -> None:
        if name == "erase before":
            raise Died

    board = copying(Blackboard(PointedStore(path, point)))
    with pytest.raises(Died):
        await erased(board)
    await board.close()
    assert texts_in(path) == {"early-canary"}
    assert verify(path).whole
    vacuum(path)
    assert texts_in(path) == set()
    assert verify(path).whole


async def test_nothing_comes_to_need_what_is_on_record_as_erased_and_is_still_there(tmp_path: Path) -> None:
    path = tmp_path / "run.db"

    def point(name: str) -> None:
        if name == "erase before":
            raise Died

    board = copying(Blackboard(PointedStore(path, point)))
    await board.publish(A(n=1))
    [open_now] = [e.seq for e in board.events() if isinstance(e, Activated)]
    await board.cancel(open_now)
    with pytest.raises(Died):
        await erased(board)
    await board.close()
    board, offered = copying(Blackboard(path)), list[int]()

    async def late(a: A) -> None:
        offered.append(a.n)

    board.agent("late").consumes(A, since="start").body(late)
    with pytest.raises(PayloadErased, match="cannot be tried again"):
        await board.retry(open_now)
    assert numbers(board, A) == [1]  # it is still there
    assert (await board.run_until_idle()).open == 0
    await board.close()
    vacuum(path)
    board = copying(Blackboard(path))
    await board.publish(A(n=2))
    assert (await board.run_until_idle()).dead == 0
    assert numbers(board, B) == [2]
    assert offered == []
    await board.close()


async def test_a_disk_that_fails_is_named_and_it_can_be_done_again(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    await (await marked(path)).close()
    passed: list[str] = []

    def point(name: str) -> None:
        passed.append(name)
        if passed[-3:] == ["statement before", "statement after", "statement before"] and "erase before" in passed:
            raise sqlite3.OperationalError("disk I/O error")

    board = copying(Blackboard(PointedStore(path, point)))
    with pytest.raises(StoreError, match="cannot be read or written"):
        await erased(board)
    await board.close()
    assert texts_in(path) == {"early-canary"}
    board = copying(Blackboard(path))
    await erased(board)
    await board.publish(C())
    await board.close()
    assert texts_in(path) == set()
    assert verify(path).whole
