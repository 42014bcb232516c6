"""Processes that really die, and disks that really fail, at the calls that SQLite really makes.

A small library in C is preloaded; without a C compiler, or where nothing can be preloaded, these tests are skipped,
and `test_crashes.py` and `test_failing_stores.py` have the portable half.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from stigmergy import read, verify
from stigmergy.blackboard.errors import NotABoard, StoreError
from stigmergy.blackboard.stores.base import Row
from stigmergy.blackboard.stores.sqlite import SQLiteReader
from tests.cascade import TYPES, FileWorld, Story, World, board_on, run, story
from tests.faults import files_of, put, torn
from tests.readme import ROOT
from tests.test_crashes import Death, go_on

SAMPLE = 12
"""Points of every kind in the fast part; the long one has them all."""


@dataclass(frozen=True)
class Ended:
    """How a child ended: a signal, or what the run gave or raised."""

    folder: Path
    signal: int
    result: str
    calls: int


@dataclass(frozen=True)
class Shim:
    """The compiled library, and what an undisturbed run makes of it."""

    path: Path
    expected: Story
    calls: int
    fast_calls: int

    def sample(self, seed: int) -> list[int]:
        """Some of all points."""
        return sorted(Random(seed).sample(range(1, self.calls + 1), SAMPLE))

    @property
    def all(self) -> range:
        """Every point; a run that goes another way may have a few more calls."""
        return range(1, self.calls + 1)


def ended(shim: Path, folder: Path, action: str, points: Sequence[int]) -> Iterator[Ended]:
    """Let something happen to the cascade at each of these points."""
    command = [sys.executable, "-m", "tests.dying_disk", str(folder), action, *map(str, points)]
    environment = {**os.environ, "LD_PRELOAD": str(shim)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            k, signalled, result, calls = json.loads(line)
            yield Ended(folder / str(k), signalled, result, calls)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler, and Linux")
    folder = tmp_path_factory.mktemp("shim")
    path = folder / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, ROOT / "tests/fault_shim.c", "-ldl"], check=True)
    [undisturbed] = ended(path, folder, "kill", [0])
    [fast] = ended(path, folder / "fast", "kill fast", [0])
    assert fast.result == "idle"
    assert fast.calls < undisturbed.calls, "it syncs less"
    assert undisturbed.result == "idle"
    assert undisturbed.calls > 100, "the shim sees what SQLite writes"
    with read(undisturbed.folder / "run.db", types=TYPES) as view:
        return Shim(path, story(view), undisturbed.calls, fast.calls)


def killed_everywhere(shim: Shim, points: Sequence[int], folder: Path) -> None:
    """Kill, and go on with the files as a kill leaves them, as a power cut may, and as it does at worst."""
    random = Random(len(points))
    for process in ended(shim.path, folder, "kill", points):
        assert process.signal == signal.SIGKILL
        world = FileWorld.seen_in(process.folder)
        left, synced = files_of(process.folder / "run.db"), files_of(process.folder / "synced" / "run.db")
        for what, files in (("kill", left), ("power", synced), ("sectors", torn(synced, left, random))):
            death = Death(f"call {process.folder.name}", files, world)
            go_on(death, process.folder / what / "run.db", shim.expected)


@pytest.mark.req("S3.57", "S3.58")
def test_killed_at_its_disk_calls_the_cascade_goes_on_to_the_same_end(shim: Shim, tmp_path: Path) -> None:
    killed_everywhere(shim, shim.sample(1), tmp_path)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_killed_at_every_disk_call_the_cascade_goes_on_to_the_same_end(shim: Shim, tmp_path: Path) -> None:
    killed_everywhere(shim, shim.all, tmp_path)


def cut_off_everywhere(shim: Shim, points: Sequence[int], folder: Path) -> int:
    """Cut the power under a board that is "fast"; how often that took something that was acknowledged."""
    random, taken = Random(len(points)), 0
    for process in ended(shim.path, folder, "kill fast", points):
        assert process.signal == signal.SIGKILL
        left, synced = files_of(process.folder / "run.db"), files_of(process.folder / "synced" / "run.db")
        world = FileWorld.seen_in(process.folder)
        for what, files in (
            ("kill", left),
            ("power", synced),
            *(("sectors", torn(synced, left, random)) for _ in range(3)),
        ):
            path = put(files, process.folder / what / "run.db")
            kept = rows_of(path)
            if what == "kill":
                written = kept
                assert set(world.acknowledged) <= {row.seq for row in kept}
            assert kept == written[: len(kept)], "what is left is no beginning"
            assert not kept or kept == written or kept[-1].seq + 1 == written[len(kept)].tx, "half a decision is left"
            taken += not set(world.acknowledged) <= {row.seq for row in kept}
            again = World()
            asyncio.run(run(board_on(path, again), again))
            assert verify(path).whole
            with read(path, types=TYPES) as view:
                assert story(view) == shim.expected
                assert view.report().open == 0
    return taken


def rows_of(path: Path) -> list[Row]:
    """The log of a board that may be no board yet."""
    reader = SQLiteReader(path)
    try:
        return list(reader.events())
    except NotABoard:
        return []
    except StoreError:
        assert not path.exists()
        return []
    finally:
        reader.close()


def test_a_power_cut_takes_at_most_an_end_of_a_fast_board(shim: Shim, tmp_path: Path) -> None:
    points = sorted(Random(4).sample(range(1, shim.fast_calls + 1), SAMPLE))
    assert cut_off_everywhere(shim, points, tmp_path), "the disk has everything: nothing was cut"


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_power_cut_at_any_disk_call_takes_at_most_an_end_of_a_fast_board(shim: Shim, tmp_path: Path) -> None:
    assert cut_off_everywhere(shim, range(1, shim.fast_calls + 1), tmp_path)


def failing_everywhere(shim: Shim, action: str, points: Sequence[int], folder: Path) -> None:
    """Let a call fail, then go on when the disk is well again."""
    for process in ended(shim.path, folder, action, points):
        assert process.signal == 0, "it hangs"
        assert process.result in ("idle", "broken", *ERRORS), f"{process.folder.name}: {process.result!r}"
        world = FileWorld.seen_in(process.folder)
        death = Death(f"call {process.folder.name}", files_of(process.folder / "run.db"), world)
        go_on(death, process.folder / "again" / "run.db", shim.expected)


ERRORS = ("StoreError", "StoreFull", "StoreReadOnly", "OutcomeUnknown", "BoardBroken")


@pytest.mark.parametrize("action", ["EIO", "ENOSPC", "EIO!", "ENOSPC!"])
def test_a_disk_call_that_fails_is_named_and_loses_nothing(shim: Shim, tmp_path: Path, action: str) -> None:
    failing_everywhere(shim, action, shim.sample(3), tmp_path)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("action", ["EIO", "ENOSPC", "EIO!", "ENOSPC!"])
def test_every_disk_call_that_fails_is_named_and_loses_nothing(shim: Shim, tmp_path: Path, action: str) -> None:
    failing_everywhere(shim, action, shim.all, tmp_path)


COMMITS = """
import asyncio, ctypes, sys
from stigmergy import Blackboard
from tests.boards import A

async def main():
    shim = ctypes.CDLL(None)
    async with Blackboard(sys.argv[1], durability=sys.argv[2]) as board:
        await board.publish(A())
        before = shim.fault_calls()
        for n in range(20):
            await board.publish(A(n=n))
        print(shim.fault_calls() - before)

asyncio.run(main())
"""


def test_every_commit_waits_for_the_disk_unless_the_board_is_fast(shim: Shim, tmp_path: Path) -> None:
    calls = {}
    for durability in ("full", "fast"):
        environment = {
            **os.environ, "LD_PRELOAD": str(shim.path), "FAULT_FOLDER": str(tmp_path), "FAULT_AT": "0",
            "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))),
        }  # fmt: skip
        command = [sys.executable, "-c", COMMITS, str(tmp_path / f"{durability}.db"), durability]
        calls[durability] = int(subprocess.check_output(command, cwd=ROOT, env=environment, text=True))
    assert calls["full"] - calls["fast"] == 20, calls
    assert calls["fast"] >= 20, "it writes all the same"
