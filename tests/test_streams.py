"""Streams played against boards: recorded, muted, compared, shuffled."""

import asyncio
import gc
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from stigmergy import Blackboard, Component, Context, Publish, Retry, Roster, Seen, View, WorkDiscovery, ancestor
from stigmergy.blackboard.errors import DefinitionError, NotFound, SeedError
from stigmergy.blackboard.events import Calling, Idled
from stigmergy.seeds import Seed, write_stream
from stigmergy.testing import VirtualClock, assert_idle, assert_lineage, line, play
from stigmergy.testing.streams import Line, Step, Stream, shuffled, steps
from tests.boards import A, B, Boards, C, numbers
from tests.readme import ROOT

START = VirtualClock().now()


class Pair(BaseModel):
    left: int
    right: int


def team(factor: int = 2) -> Roster:
    """A -> B -> three C, and B with a C of its own tree -> Pair."""
    roster = Roster()

    @roster.agent
    async def double(a: A) -> B | None:
        return B(n=a.n * factor) if factor else None

    @roster.agent
    async def spread(b: B, ctx: Context) -> list[C]:
        await ctx.sleep("think", 5)
        await ctx.publish(C(n=-b.n))
        return [C(n=b.n), C(n=b.n + 1)]

    @roster.agent(by=ancestor(A))
    async def pair(b: B, c: C) -> Pair:
        return Pair(left=b.n, right=c.n)

    return roster


def virtual(roster: Roster | None = None, start: float = START) -> Blackboard:
    return Blackboard(roster=roster, clock=VirtualClock(start))


def recording(view: View) -> list[str]:
    out = io.StringIO()
    write_stream(view, out)
    return out.getvalue().splitlines()


def recorded() -> Blackboard:
    """A run of the team."""
    board = virtual(team())
    lines = [line(A(n=1), tags=["ops"], key="one"), line(A(n=2), at=3, priority="high"), line(A(n=3), at=30)]
    assert play(board, lines).ok
    assert len(board.artifacts(Pair)) == 3
    return board


def what(view: View, *, times: bool = True) -> list[tuple[object, ...]]:
    """All that artifacts are, but for their positions and what follows from positions."""
    found = [
        (a.type_name, a.payload.model_dump_json(), a.producer, a.tags, a.priority, a.depth, a.at if times else 0)
        for a in view.artifacts()
    ]
    return sorted(found, key=str)


def parents(view: View) -> list[tuple[str, list[str]]]:
    """What each artifact was made of."""
    lines = {item["id"]: item for item in map(json.loads, recording(view)[1:])}

    def text(id: int) -> str:
        return f"{lines[id]['type']} {lines[id]['payload']}"

    return sorted((text(id), [text(i) for i in item.get("inputs", [])]) for id, item in lines.items())


# -- muted and live -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [None, 1, 2, 3])
def test_an_exported_run_played_with_every_agent_muted_gives_the_same_artifacts(
    new_board: Boards, shuffle: int | None
) -> None:
    source = recorded()
    again = new_board(team(), clock=VirtualClock(START))
    report = play(again, recording(source), mute=again.agents, shuffle=shuffle)
    assert what(again, times=shuffle is None) == what(source, times=shuffle is None)
    assert [event for event in again.events() if isinstance(event, Calling)] == []
    assert_lineage(again, A, B, C)
    assert_idle(report)
    if shuffle is None:
        assert parents(again) == parents(source)


@pytest.mark.parametrize("muted", ["double", "spread", "pair"])
def test_a_muted_agents_outputs_follow_from_what_happens_in_this_play(muted: str) -> None:
    source = recorded()
    again = virtual(team())
    play(again, recording(source), mute=muted, strict=True)
    assert what(again) == what(source)
    assert parents(again) == parents(source)


def test_with_one_agent_live_only_what_that_agent_does_differs() -> None:
    source = recorded()
    again = virtual(team(factor=100))
    play(again, recording(source), mute=["spread", "pair"])
    assert [row for row in what(again) if row[0] != "B"] == [row for row in what(source) if row[0] != "B"]
    assert numbers(again, B) == [100, 200, 300]
    line_of = assert_lineage(again, A, B, C)
    assert line_of[1].payload in (B(n=100), B(n=200), B(n=300))


def test_a_muted_agents_output_comes_also_when_what_it_followed_from_does_not() -> None:
    again = virtual(team(factor=0))
    play(again, recording(recorded()), mute="spread")
    assert (numbers(again, B), len(again.artifacts(C))) == ([], 9)
    assert {a.cause for a in again.artifacts(C)} == {0}


def test_two_plays_are_as_far_apart_as_they_are_played() -> None:
    board = virtual(team())
    for _ in range(2):
        play(board, [line(A(n=1)), line(A(n=2), at=10)])
    assert [a.at - START for a in board.artifacts(A)] == [0, 10, 15, 25]


def test_who_is_to_be_muted_must_be_there() -> None:
    with pytest.raises(NotFound, match="Did you mean 'double'"):
        play(virtual(team()), [A()], mute=["duble"])


# -- time ---------------------------------------------------------------------------------------------------------


def test_lines_are_published_at_their_times_and_deadlines_between_them_pass_first() -> None:
    roster = Roster()
    met: list[tuple[int, int]] = []

    @roster.agent(by="key", within=10)
    async def meet(a: A, b: B) -> None:
        met.append((a.n, b.n))

    @roster.agent(retry=Retry(attempts=2, backoff=4))
    async def second(c: C, ctx: Context) -> A:
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return A(n=c.n, key="c")

    lines = [
        line(A(n=1, key="a"), at=0), line(A(n=2, key="b"), at=1), line(B(n=1, key="a"), at=9), line(C(n=3), at=9),
        line(B(n=3, key="c"), at=20), line(B(n=2, key="b"), at=100),
    ]  # fmt: skip
    board = virtual(roster)
    report = play(board, lines)
    assert met == [(1, 1), (3, 3)]
    assert [round(a.at - START) for a in board.artifacts(B)] == [9, 20, 100]
    assert report.reason == "idle"


def test_a_line_comes_at_its_time_while_bodies_sleep() -> None:
    roster = Roster()
    seen: list[str] = []

    @roster.agent
    async def slow(a: A, ctx: Context) -> None:
        await ctx.sleep("nap", 100)
        seen.append("slow")

    @roster.agent
    async def quick(b: B) -> None:
        seen.append("quick")

    board = virtual(roster)
    play(board, [line(A()), line(B(), at=50)])
    assert seen == ["quick", "slow"]
    assert board.artifacts(B)[0].at == START + 50


def test_what_waits_until_nothing_else_can_run_fires_in_a_pause_and_idleness_is_announced_once() -> None:
    roster = Roster()

    @roster.agent(batch=3, within="idle")
    async def together(a: list[A]) -> B:
        return B(n=len(a))

    board = virtual(roster)
    play(board, [*(line(A(n=n)) for n in range(5)), line(A(), at=1)])
    assert numbers(board, B) == [3, 2, 1]
    assert len([event for event in board.events() if isinstance(event, Idled)]) == 1


def test_the_machines_clock_cannot_be_played_on() -> None:
    with pytest.raises(DefinitionError, match=r"clock=VirtualClock\(\)"):
        play(Blackboard(roster=team()), [A()])


@pytest.mark.anyio
async def test_a_stream_can_be_played_where_a_loop_runs_already() -> None:
    board = virtual(team())
    assert play(board, [A(n=1)]).ok
    await board.publish(A(n=2))
    await board.run_until_idle()
    assert numbers(board, B) == [2, 4]


# -- lines --------------------------------------------------------------------------------------------------------


def test_a_stream_is_a_file_or_lines_of_any_kind(tmp_path: Path) -> None:
    given_lines: list[Line] = [line(A(n=1)) + "\n", {"type": "A", "payload": {"n": 2}}, A(n=3)]
    file = tmp_path / "stream.jsonl"
    file.write_text("\n".join(line(A(n=n)) for n in (1, 2, 3)), encoding="utf-8")
    streams: list[Stream] = [given_lines, iter(given_lines), file, str(file)]
    for stream in streams:
        board = virtual(team())
        play(board, stream)
        assert numbers(board, A) == [1, 2, 3]


def test_a_bad_line_is_named_and_nothing_is_published() -> None:
    board = virtual(team())
    with pytest.raises(SeedError, match=r"stream:2: A\.n: .* Nothing was published\."):
        play(board, [line(A()), {"type": "A", "payload": {"n": "x"}}])
    with pytest.raises(SeedError, match="stream:1: this is several lines"):
        play(board, ["{}\n{}"])
    assert board.artifacts().total == 0


def test_a_line_that_is_refused_where_it_is_played_is_named() -> None:
    board = virtual(team())
    with pytest.raises(SeedError, match=r"stream:3: key 'k' was used .* The lines before it were published\."):
        play(board, [line(A(n=1), key="k"), line(A(n=1), key="k"), line(A(n=2), key="k"), line(A(n=3), at=1)])
    assert numbers(board, A) == [1]
    assert play(board, [A(n=4)]).ok


def test_a_line_says_all_that_a_stream_can_say() -> None:
    text = line(A(n=1), at=1.5, key="k", tags=["t"], priority="low", producer="x", id=4, cause=2, inputs=[1])
    assert json.loads(text) == {
        "type": "A", "payload": {"n": 1, "key": ""}, "at": 1.5, "key": "k", "tags": ["t"], "priority": "low",
        "producer": "x", "id": 4, "cause": 2, "inputs": [1],
    }  # fmt: skip
    assert json.loads(line(A())) == {"type": "A", "payload": {"n": 0, "key": ""}}


# -- compared -----------------------------------------------------------------------------------------------------


def test_agents_that_answer_as_recorded_pass_whatever_the_order() -> None:
    lines = recording(recorded())
    play(virtual(team()), lines, strict=True)
    play(virtual(team()), lines, strict=True, shuffle=7)


def test_agents_that_answer_otherwise_are_shown_with_what_was_recorded_and_where_theirs_comes_from() -> None:
    lines = recording(recorded())
    with pytest.raises(AssertionError) as raised:
        play(virtual(team(factor=100)), lines, strict=True, mute=["spread", "pair"])
    text = str(raised.value)
    assert "3 outputs did not come, 3 outputs came that had not been recorded." in text
    assert 'stream:3: B {"n":2,"key":""} by double' in text
    assert "B@" in text
    assert "A@" in text
    assert "from outside" in text


def test_what_components_published_is_neither_played_nor_lost_sight_of() -> None:
    class Echo(Component[None]):
        observes = (A,)
        publishes = (C,)

        def react(self, state: None, seen: Seen) -> list[Publish]:
            return [Publish(C(n=7))]

    source = virtual(team())
    source.add(Echo())
    play(source, [A(n=1)])
    assert 7 in numbers(source, C)
    again = virtual(team())
    again.add(Echo())
    play(again, recording(source), strict=True, mute=again.agents)
    assert what(again) == what(source)
    with pytest.raises(AssertionError, match=r"1 output did not come, 0 outputs came"):
        play(virtual(team()), recording(source), strict=True, mute=list(team().agents))


# -- shuffled -----------------------------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> list[Step]:
    """Steps of which each may follow from steps before it."""
    made: list[Step] = []
    for id in range(1, draw(st.integers(1, 25)) + 1):
        inputs = tuple(draw(st.sets(st.integers(1, id - 1), max_size=3))) if id > 1 else ()
        producer = "x" if inputs else ""
        seed = Seed(A(n=id), "A", None, (), None, None, float(id // 3), producer, id, id, id + 1_000, inputs)
        made.append(Step(seed.at, producer, (seed,)))
    return made


@given(graphs(), st.integers())
def test_a_shuffle_is_an_order_that_could_have_been_and_the_same_for_the_same_seed(
    source: list[Step], seed: int
) -> None:
    order = list(shuffled(source, seed))
    assert [s.seeds for s in order] == [s.seeds for s in shuffled(iter(source), seed)]
    ids = [step.seeds[0].id for step in order]
    assert sorted(map(str, ids)) == sorted(str(step.seeds[0].id) for step in source)
    assert all(ids.index(i) < place for place, step in enumerate(order) for i in step.inputs)
    assert [step.at for step in order] == [step.at for step in source]


def test_seeds_give_different_orders() -> None:
    def order(shuffle: int) -> list[int]:
        board = virtual(team())
        play(board, [A(n=n) for n in range(20)], shuffle=shuffle)
        return numbers(board, A)

    orders = [order(seed) for seed in (1, 1, 2, 3)]
    assert orders[0] == orders[1] != list(range(20))
    assert len({tuple(o) for o in orders}) == 3


def test_work_stays_after_the_work_that_it_names() -> None:
    def work(name: str, parent: str | None = None, blocking: list[str] | None = None) -> WorkDiscovery:
        return WorkDiscovery(
            description=name, phase="analysis", done_definition="done", work_id=name, parent_work_id=parent,
            blocking_work_ids=blocking or [],
        )  # fmt: skip

    roster = Roster()

    @roster.agent
    async def analyse(work: WorkDiscovery) -> None: ...

    lines = [work(f"w{n}", f"w{n // 2}" if n else None, [f"w{n - 1}"] if n % 3 == 2 else None) for n in range(12)]
    for seed in range(10):
        board = virtual(roster)
        assert play(board, lines, shuffle=seed).done == 12


def test_what_one_activation_published_stays_together() -> None:
    seeds = [
        Seed(B(n=n), "B", None, (), None, None, 0.0, producer, n, n, cause, ())
        for n, producer, cause in [(1, "", None), (2, "", None), (3, "x", 9), (4, "x", 9), (5, "x", 10), (6, "y", 10)]
    ]
    assert [[s.line for s in step.seeds] for step in steps(seeds)] == [[1], [2], [3, 4], [5], [6]]


# -- long ---------------------------------------------------------------------------------------------------------


def long_stream(length: int) -> Iterator[str]:
    """Every other line a recorded output."""
    for n in range(length // 2):
        yield line(A(n=n), at=float(n), id=10 * n + 1)
        yield line(B(n=n), at=n + 0.5, id=10 * n + 5, producer="copy", cause=10 * n + 2, inputs=[10 * n + 1])


def play_long(length: int, path: Path, *, shuffle: int | None, at_end: Callable[[], None] = lambda: None) -> None:
    """Play and compare a stream of that length; call something shortly before its end."""
    board = Blackboard(path, clock=VirtualClock(), durability="fast")

    @board.agent
    async def copy(a: A) -> B:
        return B(n=a.n)

    @board.agent
    async def end(b: B) -> None: ...

    @board.agent
    async def last(c: C) -> None:
        if c.n == 1:
            at_end()

    lines = chain(long_stream(length), [line(C(n=n), at=float(length + n)) for n in (1, 2)])
    assert play(board, lines, shuffle=shuffle, mute="end", strict=True).done == length + 2
    asyncio.run(board.close())


@pytest.mark.parametrize("shuffle", [None, 1])
def test_a_long_stream_is_not_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shuffle: int | None
) -> None:
    monkeypatch.setattr("stigmergy.testing.streams.WINDOW", 50)
    held: list[int] = []
    play_long(
        1_000, tmp_path / "board.db", shuffle=shuffle,
        at_end=lambda: held.append(sum(isinstance(o, Seed) for o in gc.get_objects())),
    )  # fmt: skip
    assert len(held) == 1
    assert held[0] <= 60


MEMORY = """
import resource, sys
from stigmergy import Blackboard
from stigmergy.testing import VirtualClock, line, play
from tests.boards import A

board = Blackboard(sys.argv[1], clock=VirtualClock(), durability="fast")
play(board, [A()])  # its type is known from here on
assert play(board, (line(A(n=n), at=float(n)) for n in range(int(sys.argv[2])))).ok
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
@pytest.mark.timeout(600)
def test_many_lines_are_played_in_flat_memory(tmp_path: Path) -> None:
    def peak(length: int) -> int:
        command = [sys.executable, "-c", MEMORY, str(tmp_path / f"{length}.db"), str(length)]
        return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

    assert peak(100_000) < peak(10_000) * 1.1
