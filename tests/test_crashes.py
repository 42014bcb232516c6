"""The cascade killed at every point: what goes on from there ends as if nothing had happened."""

import asyncio
import inspect
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from stigmergy import read
from stigmergy.blackboard.errors import NotABoard
from stigmergy.blackboard.stores.base import Store
from tests.cascade import TYPES, Story, World, activation_of, board_on, check_ended, check_kept, recorded, run, story
from tests.faults import PointedStore, files_of, put, torn

CUTS = 3
"""Random states for every write that is cut."""


@dataclass(frozen=True)
class Death:
    """What is left of a process that died at a point: the files, and what it did to the world."""

    point: str
    files: dict[str, bytes]
    world: World


def lived(path: Path, world: World) -> list[Death]:
    """Run the cascade to its end on what is at the path; what would be left of it at every point.

    Nothing is written while a point is passed and a kill takes nothing from the files, so the copy that is made there
    is what a process leaves that is killed there.
    """
    deaths: list[Death] = []

    def point(name: str) -> None:
        if name != "read":  # it changes nothing
            deaths.append(Death(name, files_of(path), deepcopy(world)))

    asyncio.run(run(board_on(PointedStore(path, point), world), world))
    return deaths


def go_on(death: Death, path: Path, expected: Story) -> None:
    """Open what a death left, run to the end, compare."""
    put(death.files, path)
    before = look(path, death.world)
    paid = len(death.world.payments)
    world = deepcopy(death.world)
    asyncio.run(run(board_on(path, world), world))
    again = {activation_of(key) for key in world.payments[paid:]}
    assert not again & before, "what was recorded as paid was paid again"
    with read(path, types=TYPES) as view:
        check_ended(view, world, expected)


def look(path: Path, world: World) -> set[int]:
    """Check what is there before anybody opens it; the activations whose effect is recorded as done."""
    try:
        if path.exists():
            with read(path, types=TYPES) as view:
                check_kept(view, world)
                return set(recorded(view))
    except NotABoard:
        pass  # its process died while it made the file
    assert (world.acknowledged, world.payments) == ([], [])
    return set()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Story, list[Death]]:
    """The story of a run that nobody disturbs, and every death it could have died."""
    path, world = tmp_path_factory.mktemp("undisturbed") / "run.db", World()
    deaths = lived(path, world)
    with read(path, types=TYPES) as view:
        expected = story(view)
        check_ended(view, world, expected)
    return expected, deaths


def test_every_operation_of_a_store_has_its_fault_points(undisturbed: tuple[Story, list[Death]]) -> None:
    operations = {
        name for name, value in vars(Store).items() if inspect.iscoroutinefunction(value) and not name.startswith("_")
    }
    operations.remove("erase")  # in test_erasing.py
    passed = {death.point for death in undisturbed[1]}
    assert passed == {f"{name} {when}" for name in (*operations, "statement") for when in ("before", "after")}


@pytest.mark.req("S3.57", "S3.58")
def test_killed_at_any_point_the_cascade_goes_on_to_the_same_end(
    undisturbed: tuple[Story, list[Death]], tmp_path: Path
) -> None:
    expected, deaths = undisturbed
    assert len(deaths) > 60
    for k, death in enumerate(deaths):
        try:
            go_on(death, tmp_path / str(k) / "run.db", expected)
        except AssertionError as error:
            raise AssertionError(f"killed at point {k} ({death.point}): {error}") from error


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_killed_again_in_its_recovery_it_goes_on_to_the_same_end(
    undisturbed: tuple[Story, list[Death]], tmp_path: Path, share: float
) -> None:
    expected, deaths = undisturbed
    killed_twice(deaths[int(share * len(deaths))], expected, tmp_path, every=4)


@pytest.mark.long
def test_killed_anywhere_and_again_anywhere_in_its_recovery_it_goes_on_to_the_same_end(
    undisturbed: tuple[Story, list[Death]], tmp_path: Path
) -> None:
    expected, deaths = undisturbed
    for k in range(1, len(deaths), 7):
        killed_twice(deaths[k], expected, tmp_path / str(k))


def killed_twice(death: Death, expected: Story, folder: Path, every: int = 1) -> None:
    world = deepcopy(death.world)
    path = put(death.files, folder / "first" / "run.db")
    seconds = lived(path, world)
    assert seconds
    for k, second in enumerate(seconds[::every]):
        try:
            go_on(second, folder / str(k) / "run.db", expected)
        except AssertionError as error:
            raise AssertionError(
                f"killed at {death.point}, again at point {k * every} ({second.point}): {error}"
            ) from error


def test_a_power_cut_in_the_middle_of_a_write_loses_nothing_that_was_acknowledged(
    undisturbed: tuple[Story, list[Death]], tmp_path: Path
) -> None:
    """Any sectors of what was being written may be there. That what was written before is there is what
    `test_real_crashes.py` proves, with the calls that SQLite really makes."""
    expected, deaths = undisturbed
    random, cuts = Random(2), 0
    for k, (before, after) in enumerate(pairwise(deaths)):
        for files in (f for _ in range(CUTS) for f in half_written(before.files, after.files, random)):
            cuts += 1
            try:
                go_on(Death(after.point, files, before.world), tmp_path / f"{k}-{cuts}" / "run.db", expected)
            except AssertionError as error:
                raise AssertionError(f"power was cut before point {k + 1} ({after.point}): {error}") from error
    assert cuts > 10 * CUTS


def half_written(before: dict[str, bytes], after: dict[str, bytes], random: Random) -> list[dict[str, bytes]]:
    """States between two others: while the log is written, or while it is copied to the file, synced, and emptied."""
    if "-wal" not in before or before == after:
        return []
    if before[""] == after[""]:
        return [torn(before, after, random)]
    copying = torn(before, {**after, "-wal": before["-wal"]}, random)
    return [copying, torn({**after, "-wal": before["-wal"]}, after, random)]
