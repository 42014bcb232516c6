"""Bits that flip in a board file: whoever reads it gets what was written, or is told; nobody gets anything else."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest

from stigmergy import Roster, View, read, replay, verify
from stigmergy.agents import context
from stigmergy.blackboard.errors import (
    BoardBroken,
    NewerBoard,
    NotABoard,
    NotFound,
    OutcomeUnknown,
    StigmergyError,
    StoreDamaged,
    StoreError,
)
from stigmergy.blackboard.shell import attempts
from stigmergy.seeds import write_stream
from tests.cascade import TYPES, Order, Story, World, board_on, check_ended, define, run, story
from tests.faults import files_of, put

FLIPS = 60
TOLD = (StoreDamaged, NotABoard, NewerBoard, StoreError)
BY_INDEX = ("lists", "counts", "why", "dead letters")
"""What may lack something when an index is damaged, which only `verify` can tell."""


def listed(view: View) -> object:
    """What lists show, by type and without."""
    return [[repr(a) for a in view.artifacts(cls)] for cls in (*TYPES, None)]


def counted(view: View) -> object:
    """How many there are, by index alone."""
    return [view.artifacts(cls).total for cls in (*TYPES, None)]


def got(view: View) -> object:
    """Every artifact by its id; what is no artifact is None."""
    found: list[str | None] = []
    for id in range(1, view.last + 1):
        try:
            found.append(repr(view.get(id)))
        except NotFound:
            found.append(None)
    return found


def exported(view: View) -> object:
    """The stream of what was published."""
    with StringIO() as out:
        write_stream(view, out)
        return out.getvalue()


def explained(view: View) -> object:
    """How every artifact came about."""
    return [str(view.why(artifact.id)) for artifact in view.artifacts()]


def replayed(view: View) -> object:
    """Everything decided anew."""
    return str(replay(view, define(Roster(concurrency=3), World())))


READS: dict[str, Callable[[View], object]] = {
    "lists": listed,
    "counts": counted,
    "get": got,
    "events": lambda view: [repr(event) for event in view.events()],
    "report": lambda view: view.report().to_json(),
    "rewind": lambda view: view.at(view.last // 2).report().to_json(),
    "export": exported,
    "why": explained,
    "replay": replayed,
    "graph": lambda view: view.graph().mermaid(),
    "dead letters": lambda view: repr(view.dead_letters()),
}


@dataclass(frozen=True)
class Half:
    """A board that was closed in the middle of the cascade, and what everybody reads of it."""

    path: Path
    content: bytes
    world: World
    said: dict[str, object]
    end: Story


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Half:
    path, world = tmp_path_factory.mktemp("half") / "run.db", World()

    async def until_something_waits() -> None:
        async with board_on(path, world) as board:
            for number in range(3):
                world.acknowledge((await board.publish(Order(number=number), key=f"order {number}")).id)
            report = await board.run_until_idle(horizon=0)
            assert report.open

    with patch.object(attempts, "perf_counter", float), patch.object(context, "perf_counter", float):
        asyncio.run(until_something_waits())  # how long bodies took is on the log, and each run is to have the same
    [content] = files_of(path).values()
    said = {}
    for name, look in READS.items():
        with read(path, types=TYPES) as view:
            said[name] = look(view)
    done, other = path.with_name("done.db"), World()
    asyncio.run(run(board_on(done, other), other))
    with read(done, types=TYPES) as view:
        return Half(path, content, world, said, story(view))


def outcome(use: Callable[[], object]) -> object:
    """What somebody gets of a damaged file: something, or the kind of an error of one line."""
    try:
        return use()
    except StigmergyError as error:
        return type(error) if "\n" not in str(error) else str(error)


def flipped(half: Half, seed: int) -> dict[str, bytes]:
    """The file, with one bit that is not what it was."""
    random, content = Random(seed), bytearray(half.content)
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    return {"": bytes(content)}


@pytest.mark.parametrize("seed", range(FLIPS))
def test_whoever_reads_gets_what_was_written_or_an_error(half: Half, seed: int) -> None:
    damaged = flipped(half, seed)
    for name, look in READS.items():
        put(damaged, half.path)

        def use(look: Callable[[View], object] = look) -> object:
            with read(half.path, types=TYPES) as view:
                return look(view)

        found = outcome(use)
        if found != half.said[name] and found not in TOLD:
            assert name in BY_INDEX
            damage = verify(half.path).damage
            assert damage is not None
            assert damage.why.startswith("the events are all there, but not what finds them")


@pytest.mark.parametrize("seed", range(FLIPS))
def test_whoever_goes_on_comes_to_the_same_end_or_is_told(half: Half, seed: int) -> None:
    world = deepcopy(half.world)
    put(flipped(half, seed), half.path)

    def use() -> object:
        asyncio.run(run(board_on(half.path, world), world))
        with read(half.path, types=TYPES) as view:
            check_ended(view, world, half.end)
        return None

    assert outcome(use) in (None, *TOLD, OutcomeUnknown, BoardBroken)


def test_a_log_that_lost_its_end_is_not_taken_for_one_that_ended_there(half: Half) -> None:
    put({"": half.content}, half.path)
    with closing(sqlite3.connect(half.path)) as connection, connection:
        connection.execute("DELETE FROM event WHERE seq > 140")
    for name in READS:
        with read(half.path, types=TYPES) as view, pytest.raises(StoreDamaged, match="at event 141: the log ends"):
            READS[name](view)
    assert not verify(half.path).whole


def test_a_damaged_snapshot_is_not_used(half: Half) -> None:
    put({"": half.content}, half.path)
    with closing(sqlite3.connect(half.path)) as connection, connection:
        connection.execute("UPDATE snapshot SET state = CAST(replace(CAST(state AS TEXT), '3', '4') AS BLOB)")
    with read(half.path, types=TYPES) as view:
        assert view._source().reader.snapshot() is None
        assert view.report().to_json() == half.said["report"]
