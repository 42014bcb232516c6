"""Ctrl-C twice on a body that will not stop: the process leaves at once, and its board goes on."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stigmergy import Roster, read
from stigmergy.blackboard.events import Failed
from tests.boards import A, B, C, numbers
from tests.readme import ROOT

MAIN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom stigmergy.cli import main; main()"


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
@pytest.mark.parametrize("kind", ["a thread", "swallows the cancellation", "keeps the loop"])
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
    (tmp_path / "go").touch()
    with start(tmp_path, kind, "resume") as process:
        out = process.communicate(timeout=60)
    assert process.returncode == 0, out
    with read(tmp_path / "run.db", types=[A, B, C]) as view:
        assert sorted(numbers(view, B)) == [1, 2]
        assert view.report().done == 2
        assert {e.kind for e in view.events() if isinstance(e, Failed)} <= {"crashed", "interrupted"}
