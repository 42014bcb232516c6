"""Ctrl-C, once and twice, on a body that will not stop: the process leaves, and its board goes on."""

import asyncio
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from stigmergy import Roster, read
from stigmergy.blackboard.events import Failed
from tests.boards import A, B, C, numbers
from tests.readme import ROOT

MAIN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom stigmergy.cli import main; main()"

PLAIN = """
import signal, sys, threading, time
from pathlib import Path

import stigmergy.loop, stigmergy.blackboard.shell.bodies as bodies
from stigmergy import Blackboard
from tests.boards import A, C
from tests.test_stubborn_bodies import roster

folder, kind, verb, grace = sys.argv[1:]
bodies.GRACE = stigmergy.loop.GRACE = float(grace)
signal.signal(signal.SIGINT, signal.default_int_handler)
board = Blackboard(folder + "/run.db", roster=roster(folder, kind))
if verb == "resume":
    seeds = []
else:
    seeds = [C(n=1), A(n=2)]
try:
    board.run_sync(*seeds)
except KeyboardInterrupt:
    if verb != "goes on":
        raise
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Path(folder, "go").touch()
    board.run_sync()
"""
"""A program as one writes it; what it does when it was interrupted is to be told from what a library prints."""
KINDS = ["a thread", "swallows the cancellation", "swallows everything", "keeps the loop"]


def roster(folder: str, kind: str) -> Roster:
    """An agent that has nothing else to do, and one that does not stop before there is a file "go"."""
    team, go = Roster(), Path(folder) / "go"

    def said() -> None:
        print("running", file=sys.stderr, flush=True)  # noqa: T201

    @team.agent
    async def easy(c: C) -> B:
        return B(n=c.n)

    if kind == "a thread":

        @team.agent
        def thread(a: A) -> B:
            said()
            while not go.exists():
                pass
            return B(n=a.n)

    if kind == "swallows the cancellation":

        @team.agent
        async def swallows(a: A) -> B:
            said()
            while not go.exists():
                try:
                    await asyncio.sleep(3_600)
                except asyncio.CancelledError:
                    continue
            return B(n=a.n)

    if kind == "swallows everything":

        @team.agent
        async def refuses(a: A) -> B:
            said()
            while not go.exists():
                with suppress(BaseException):
                    await asyncio.sleep(3_600)
            return B(n=a.n)

    if kind == "keeps the loop":

        @team.agent
        async def keeps(a: A) -> B:
            said()
            while not go.exists():
                pass
            return B(n=a.n)

    return team


def start(folder: Path, kind: str, verb: str) -> "subprocess.Popen[str]":
    settings = ["--set", f"folder={folder}", "--set", f"kind={kind}"]
    target = [f"{__file__}:roster", *(["--seed", str(folder / "seeds.jsonl")] if verb == "run" else [])]
    command = [sys.executable, "-c", MAIN, verb, *target, "--store", str(folder / "run.db"), *settings]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", KINDS)
def test_interrupted_twice_it_leaves_at_once_and_the_board_goes_on(
    tmp_path: Path, kind: str, which: signal.Signals
) -> None:
    seeds = '{"type": "C", "payload": {"n": 1}, "priority": "high"}\n{"type": "A", "payload": {"n": 2}}'
    (tmp_path / "seeds.jsonl").write_text(seeds)
    with start(tmp_path, kind, "run") as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "running\n"
            for _ in range(100):  # two that come at the same moment are one
                process.send_signal(which)
                try:
                    process.wait(0.1)
                    break
                except subprocess.TimeoutExpired:
                    continue
            rest = process.communicate(timeout=5)[1]
        finally:
            process.kill()
    if kind == "a thread":  # nobody waits for its end: once may be enough, and what comes while Python ends is the end
        assert process.returncode in (130, -which)
    else:
        assert process.returncode == 130
        assert rest == "interrupted twice: left at once; what was acknowledged is kept.\n"
    goes_on(tmp_path, start(tmp_path, kind, "resume"))


# -- a plain program ---------------------------------------------------------------------------------------------------


def plain(folder: Path, kind: str, verb: str, grace: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PLAIN, str(folder), kind, verb, str(grace)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def interrupted(process: "subprocess.Popen[str]", times: int) -> str:
    """Interrupt it when a body runs, again so often at intervals, and wait for its end; what it says after that."""
    with process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "running\n"
            for _ in range(times):
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)
                    break
            return process.communicate(timeout=30)[1]
        finally:
            process.kill()


def goes_on(folder: Path, process: "subprocess.Popen[str]") -> None:
    """Let bodies end; everything is done then once, by this process."""
    (folder / "go").touch()
    with process:
        out = process.communicate(timeout=60)
    assert process.returncode == 0, out
    check_done(folder)


def check_done(folder: Path) -> None:
    with read(folder / "run.db", types=[A, B, C]) as view:
        assert sorted(numbers(view, B)) == [1, 2]
        report = view.report()
        assert (report.done, report.dead, report.open) == (2, 0, 0)
        assert {e.kind for e in view.events() if isinstance(e, Failed)} <= {"crashed", "interrupted"}


@pytest.mark.parametrize(("kind", "times"), [*((kind, 2) for kind in KINDS), ("swallows everything", 20)])
def test_a_program_interrupted_twice_leaves_at_once_and_its_board_goes_on(
    tmp_path: Path, kind: str, times: int
) -> None:
    process = plain(tmp_path, kind, "run", 3_600)
    said = interrupted(process, times)
    assert process.returncode == -signal.SIGINT
    assert said.endswith("KeyboardInterrupt\n"), "nothing is said but where it was"
    goes_on(tmp_path, plain(tmp_path, kind, "resume", 3_600))


@pytest.mark.parametrize("kind", KINDS[:-1])  # what keeps the loop cannot be told before it lets go
def test_a_program_interrupted_once_waits_a_while_for_its_bodies_and_its_board_goes_on(
    tmp_path: Path, kind: str
) -> None:
    process = plain(tmp_path, kind, "run", 0.1)
    said = interrupted(process, 1)
    assert process.returncode == -signal.SIGINT
    assert said.endswith("KeyboardInterrupt\n")
    goes_on(tmp_path, plain(tmp_path, kind, "resume", 0.1))


@pytest.mark.parametrize(("kind", "times"), [*((kind, 1) for kind in KINDS[:-1]), *((kind, 2) for kind in KINDS)])
def test_a_program_that_was_interrupted_goes_on_with_the_same_board(tmp_path: Path, kind: str, times: int) -> None:
    process = plain(tmp_path, kind, "goes on", 0.1 if times == 1 else 3_600)
    said = interrupted(process, times)
    assert process.returncode == 0
    if kind != "swallows everything":  # of which Python itself complains
        assert said in ("", "running\n")
    check_done(tmp_path)
