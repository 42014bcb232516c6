"""A store that fails at any of its operations, once or for good: it is said, nothing is lost, and the board goes on."""

import asyncio
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stigmergy import read
from stigmergy.blackboard.errors import StigmergyError, StoreError
from tests.cascade import TYPES, Story, World, board_on, run, story
from tests.faults import PointedStore, files_of
from tests.test_crashes import Death, go_on


@dataclass
class Trouble:
    """Something that goes wrong at the k-th point, once or from then on."""

    at: int
    for_good: bool
    points: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> None:
        self.points.append(name)
        if len(self.points) == self.at or (self.for_good and len(self.points) > self.at):
            if name.startswith(("statement", "read")):
                raise sqlite3.OperationalError("disk I/O error")
            raise StoreError("the disk is gone")


def in_trouble(path: Path, trouble: Trouble, world: World) -> str:
    """What a run comes to whose store has it."""

    async def main() -> str:
        board = board_on(PointedStore(path, trouble), world)
        try:
            return (await run(board, world)).reason
        except StigmergyError as error:
            return error.code
        finally:
            try:
                await board.close()
            except StigmergyError as error:
                return error.code

    return asyncio.run(main())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Story, int]:
    path, world = tmp_path_factory.mktemp("undisturbed") / "run.db", World()
    counting = Trouble(0, for_good=False)
    assert in_trouble(path, counting, world) == "idle"
    with read(path, types=TYPES) as view:
        return story(view), len(counting.points)


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
def test_whatever_operation_of_its_store_fails_the_board_says_so_and_goes_on_when_it_is_opened_again(
    undisturbed: tuple[Story, int], tmp_path: Path, for_good: bool
) -> None:
    expected, count = undisturbed
    for k in range(1, count + 1):
        world, path = World(), tmp_path / str(k) / "run.db"
        path.parent.mkdir()
        trouble = Trouble(k, for_good)
        result = in_trouble(path, trouble, world)
        if k > len(trouble.points):
            break  # a run may do with fewer reads than another
        where = f"point {k} ({trouble.points[k - 1]})"
        assert result in ("idle", "broken", "StoreError", "OutcomeUnknown", "BoardBroken"), f"{where}: {result}"
        try:
            go_on(Death(where, files_of(path), world), tmp_path / f"{k} again" / "run.db", expected)
        except AssertionError as error:
            raise AssertionError(f"{where}: {error}") from error
