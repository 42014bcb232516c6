"""The command line stopped by signals at random instants: nothing is lost, nothing is done twice, it goes on."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from stigmergy import Roster, read
from tests.cascade import TYPES, FileWorld, Story, World, board_on, check_ended, check_kept, define, run, story
from tests.readme import ROOT

ORDERS = 12
TOO_LONG = 60
"""Seconds in which a process that was told to stop has stopped; on an idle machine it takes a tenth of one."""
MAIN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom stigmergy.cli import main; main()"
STOPS = {
    "Ctrl-C": (signal.SIGINT,),
    "Ctrl-C twice": (signal.SIGINT, signal.SIGINT),
    "SIGTERM": (signal.SIGTERM,),
    "SIGKILL": (signal.SIGKILL,),
}


def roster(folder: str) -> Roster:
    """The cascade for the command line."""
    print("loaded", file=sys.stderr, flush=True)  # noqa: T201
    return define(Roster(concurrency=3), FileWorld(Path(folder)), backoff=0.01)


def start(folder: Path) -> "subprocess.Popen[str]":
    """A process that runs the cascade, or goes on with it."""
    command = [
        sys.executable, "-c", MAIN, "run", f"{__file__}:roster", "--set", f"folder={folder}",
        "--seed", str(folder / "seeds.jsonl"), "--store", str(folder / "run.db"),
    ]  # fmt: skip
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stopped(folder: Path, how: tuple[signal.Signals, ...], delay: float) -> int:
    """Send signals to the process some time after its agents were defined; its exit code."""
    with start(folder) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "loaded\n"
            time.sleep(delay)  # the instant of the signal is what is tested
            for which in how:
                process.send_signal(which)
            process.communicate(timeout=TOO_LONG)
        finally:
            process.kill()
    return process.returncode


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Story:
    path, world = tmp_path_factory.mktemp("undisturbed") / "run.db", World()
    asyncio.run(run(board_on(path, world), world, ORDERS))
    with read(path, types=TYPES) as view:
        return story(view)


def stopped_again_and_again(how: str, instants: int, seed: int, folder: Path, expected: Story) -> None:
    """Stop the cascade so many times, on as many boards as that takes, and see each of them through to its end."""
    random, left, boards = Random(seed), instants, 0
    while left:
        mine, boards = folder / str(boards), boards + 1
        mine.mkdir()
        seeds = [{"type": "Order", "payload": {"number": n}, "key": f"order {n}"} for n in range(ORDERS)]
        (mine / "seeds.jsonl").write_text("\n".join(map(json.dumps, seeds)))
        while left:
            code = stopped(mine, STOPS[how], random.uniform(0.0, 0.25))
            left -= 1
            if code == 1:  # it had ended before, with the one dead letter that it has to have
                break
            assert code in (130, *(-s for s in STOPS[how]))
            if (mine / "run.db").exists() and (mine / "payments").exists():
                with read(mine / "run.db", types=TYPES) as view:
                    check_kept(view, FileWorld.seen_in(mine))
        with start(mine) as process:
            assert process.communicate(timeout=TOO_LONG)[1] == "loaded\n"
        with read(mine / "run.db", types=TYPES) as view:
            check_ended(view, FileWorld.seen_in(mine), expected)


@pytest.mark.parametrize("how", STOPS)
def test_a_signal_at_any_instant_leaves_a_board_that_goes_on(how: str, tmp_path: Path, expected: Story) -> None:
    stopped_again_and_again(how, 3, 9, tmp_path, expected)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("how", STOPS)
def test_signals_at_thirty_instants_leave_boards_that_go_on(how: str, tmp_path: Path, expected: Story) -> None:
    stopped_again_and_again(how, 30, 30, tmp_path, expected)
