"""The table: every target as a ratio of two runs in the same minute, the median of interleaved rounds.

python benchmarks/compare.py [--rounds 5] [--only W1,W5] [--candidate PROGRAM]
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HERE = Path(__file__).parent
FULL = " --sync FULL"


@dataclass(frozen=True)
class Target:
    """One line of the table: what is measured, against what, and what the ratio must not exceed.

    Attributes:
        ours, against: arguments of the candidate, and of the floor (or of the candidate again).
        measure: the field of their JSON lines that is compared.
    """

    name: str
    ours: str
    against: str
    limit: float
    base: Literal["floors", "candidate"] = "floors"
    measure: str = "us_per_delivery"


TARGETS = (
    Target("W1 chain, against a bare loop", "W1 20000", "W1 20000", 8),
    Target("W2 fan-out, against a bare loop", "W2 20000", "W2 20000", 8),
    Target("W3T 1,000 agents by equality, against 10", "W3T 2000 --m 1000", "W3T 2000 --m 10", 1.5, "candidate"),
    Target("W3 1,000 agents by predicate, against 10", "W3 1000 --m 1000", "W3 1000 --m 10", 10, "candidate"),
    Target("W4 history 100,000, against 1,000", "W4 20000 --hist 100000", "W4 20000 --hist 1000", 1.15, "candidate"),
    Target("W4 the same, durable", "W4 5000 --hist 100000 --variant pipelined",
           "W4 5000 --hist 1000 --variant pipelined", 1.15, "candidate"),
    Target("W5 durable chain, pure, against an INSERT and commit each", "W5 20000 --variant pipelined" + FULL,
           "W5 2000 --variant raw" + FULL, 0.5),
    Target("W5 durable chain, strict, against the same", "W5 2000 --variant strict" + FULL,
           "W5 2000 --variant raw" + FULL, 3),
    Target("W5M 100 durable chains, strict, against group commit", "W5M 20000 --variant strict" + FULL,
           "W5M 20000 --variant group" + FULL, 2),
    Target("W5F durable fan-out, pure, against group commit", "W5F 20000 --variant pipelined" + FULL,
           "W5F 20000 --variant group" + FULL, 4),
    Target("W6 1,000 sleepers, against the ideal 500 ms", "W6 1000", "", 1.05, measure="seconds"),
    Target("W7 join, against a bare loop", "W7 5000", "W7 5000", 10),
    Target("W8 round trip in memory, against a bare loop", "W8 2000", "W8 2000", 20),
    Target("W8 durable round trip: commits", "W8 500 --variant strict" + FULL, "", 3, measure="commits"),
)  # fmt: skip
IDEAL = {"seconds": 0.5, "commits": 500.0}
"""What a run without a counterpart is compared with: 1,000 sleeps of 50 ms, 100 at a time; one commit a round trip."""


def run(program: Path, arguments: str) -> dict[str, float]:
    """Its JSON line."""
    done = subprocess.run([sys.executable, program, *arguments.split()], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{program.name} {arguments}: {done.stderr.strip().splitlines()[-1]}")
    line: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return line


def measured(target: Target, candidate: Path) -> tuple[float, float, float]:
    """One round: our value, the ratio, and the ratio of processor time (0 where there is none to compare with)."""
    programs = {"ours": (candidate, target.ours)}
    if target.against:
        floors = HERE / "floors.py"
        programs["theirs"] = (candidate if target.base == "candidate" else floors, target.against)
    lines = {who: run(*programs[who]) for who in random.sample(sorted(programs), len(programs))}
    ours = lines["ours"][target.measure]
    if "theirs" not in lines:
        return ours, ours / IDEAL[target.measure], 0.0
    cpu = lines["ours"]["cpu_us_per_delivery"] / lines["theirs"]["cpu_us_per_delivery"]
    return ours, ours / lines["theirs"][target.measure], cpu


def main() -> None:
    """Run all rounds, then print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="beginnings of names, separated by commas")
    parser.add_argument("--candidate", type=Path, default=HERE / "candidate.py")
    args = parser.parse_args()
    targets = [t for t in TARGETS if t.name.startswith(tuple(args.only.split(",")))]
    rounds: dict[str, list[tuple[float, float, float]]] = {t.name: [] for t in targets}
    for number in range(args.rounds):
        for target in targets:
            rounds[target.name].append(measured(target, args.candidate))
        print(f"round {number + 1} of {args.rounds} done", file=sys.stderr)
    print("| | ours | ratio | lowest to highest | processor time | target | |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for target in targets:
        values, ratios, cpu = zip(*rounds[target.name], strict=True)
        ratio = statistics.median(ratios)
        unit = {"us_per_delivery": "µs", "seconds": "s"}.get(target.measure, "")
        met = "met" if round(ratio, 2) <= target.limit else "missed"
        print(
            f"| {target.name} | {statistics.median(values):.3g} {unit} | {ratio:.2f} | "
            f"{min(ratios):.2f} to {max(ratios):.2f} | {statistics.median(cpu):.2f} | {target.limit:g} | {met} |"
        )


if __name__ == "__main__":
    main()
