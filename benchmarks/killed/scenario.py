"""Killed in the middle of a step: what is lost, doubled, paid twice; the same for every system.

python benchmarks/killed/scenario.py [--python PYTHON] PROGRAM VARIANT [--kills 20]

Each of 20 items goes through three steps; a step makes one paid call and hands its result on. The process is killed
(SIGKILL) once, at a seeded call and moment; the program is started again and runs to its end. Prints one JSON line.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from threading import Timer

ITEMS = 20
STEPS = 3
MOMENTS = ("before it is paid", "after it is paid", "a moment later")
LATER = 0.01
"""Seconds after a call has returned, at most, for the last of the moments."""


class Provider:
    """What is paid for: each payment is a line that is synced. With a token, the same is never paid for twice."""

    def __init__(self, folder: Path, kill: str) -> None:
        self._file = folder / "payments"
        self._calls = 0
        self._at, self._moment, self._delay = json.loads(kill) if kill else (0, "", 0.0)

    async def pay(self, item: int, step: int, token: str | None = None) -> str:
        """Pay for one step of one item."""
        self._calls += 1
        moment = self._moment if self._calls == self._at else ""
        await asyncio.sleep(0.002)  # the others' calls are under way meanwhile
        if moment == "before it is paid":
            _die()
        paid = self._file.read_text(encoding="utf-8").splitlines() if self._file.exists() else []
        if token is None or not any(line.endswith(f" {token}") for line in paid):
            with self._file.open("a", encoding="utf-8") as file:
                file.write(f"{item}-{step} {token}\n")
                file.flush()
                os.fsync(file.fileno())
        if moment == "after it is paid":
            _die()
        if moment:
            Timer(self._delay, _die).start()
        return f"receipt for {item}-{step}"


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def start(python: str, program: Path, variant: str, folder: Path, kill: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own, to its end or to its death."""
    command = [python, str(program), variant, str(folder), kill]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def killed_once(python: str, program: Path, variant: str, seed: int) -> Counter[str]:
    """Kill it, start it again, and count what came out."""
    moments = random.Random(seed)
    kill = json.dumps([moments.randint(1, ITEMS * STEPS), MOMENTS[seed % 3], moments.uniform(0, LATER)])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        died = start(python, program, variant, folder, kill)
        if died.returncode not in (0, -signal.SIGKILL):
            raise SystemExit(died.stderr)
        again = start(python, program, variant, folder, "")
        if again.returncode:
            raise SystemExit(again.stderr)
        results = Counter(json.loads(again.stdout.splitlines()[-1]))
        payments = (folder / "payments").read_text(encoding="utf-8").splitlines()
    paid = Counter(line.split()[0] for line in payments)
    twice = sum(n - 1 for n in paid.values())
    return Counter({
        "kills": int(died.returncode != 0),
        "lost": sum(not results[item] for item in range(ITEMS)),
        "doubled": sum(n - 1 for n in results.values()),
        "never paid": ITEMS * STEPS - len(paid),
        "paid twice": twice,
        "runs that paid twice": int(twice > 0),
    })  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=Path)
    parser.add_argument("variant")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--kills", type=int, default=20)
    chosen = parser.parse_args()
    total: Counter[str] = Counter()
    for seed in range(chosen.kills):
        total.update(killed_once(chosen.python, chosen.program, chosen.variant, seed))
    names = ("kills", "lost", "doubled", "never paid", "paid twice", "runs that paid twice")
    print(json.dumps({"program": chosen.program.stem, "variant": chosen.variant, **{n: total[n] for n in names}}))


if __name__ == "__main__":
    main()
