"""Search for a good pipeline: `python -m examples.model_search [DATA.csv --target COLUMN | diabetes | …]`."""

import argparse
import asyncio
import subprocess
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from stigmergy import Blackboard, StigmergyError
from stigmergy.blackboard.errors import KeyReused
from stigmergy.blackboard.events import Published

from examples.model_search.agents import seed_of, team
from examples.model_search.artifacts import Verdict
from examples.model_search.data import BUNDLED, DataError, Dataset, load
from examples.model_search.report import as_text, best_of, leaderboard, write_best


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m examples.model_search", description=__doc__)
    made.add_argument("data", nargs="?", default="diabetes", help=f"a CSV file, or one of {', '.join(BUNDLED)}")
    made.add_argument("--target", help="the column to predict; needed for a CSV file")
    made.add_argument("--out", type=Path, default=Path("model_search_out"), help="folder for what is found")
    made.add_argument("--store", type=Path, help="board file (.db); the same command goes on where it was stopped")
    made.add_argument("--budget", type=int, default=30, help="how many pipelines may be tried (default 30)")
    made.add_argument("--seed", type=int, default=0, help="of the folds, the held-out rows and the models")
    return made


async def search(data: Dataset, out: Path, store: Path | None, budget: int) -> str:
    """Run the search to its end, or go on with it, and write what it found into the folder.

    Returns:
        what to tell people.

    Raises:
        DataError: the store holds a search of something else.
    """
    async with Blackboard(store, roster=team(data, out / "pipelines", budget)) as board:
        try:
            await board.publish(seed_of(data, budget), key="search")
        except KeyReused:
            raise DataError(
                f"{store}: this is a search of other data, or with another --seed or --budget. Use another --store."
            ) from None
        progress = asyncio.create_task(_show_verdicts(board))
        report = await board.run_until_idle()
        progress.cancel()
        with suppress(asyncio.CancelledError):
            await progress
        report.raise_for_failures()
        rows = leaderboard(board, data)
        text = as_text(board, data, rows)
        (out / "leaderboard.txt").write_text(text + "\n", encoding="utf-8")
        picture = board.graph().save(out / "workflow.svg")
        best = write_best(best_of(rows), data, out)
        headline = str(report).partition("\n\n  WorkDiscovery")[0]
        return f"\n{headline}\n\n{text}\n\npicture  {picture}\nbest     {best}"


async def _show_verdicts(board: Blackboard) -> None:
    count = 0
    async for event in board.watch():
        if isinstance(event, Published) and event.type == "Verdict":
            verdict = Verdict.model_validate_json(event.payload)
            count += 1
            score = "    -   " if verdict.mean is None else f"{verdict.mean:8.4f}"
            word = "accepted" if verdict.accepted else "rejected"
            print(f"{count:4}  {word}  {verdict.votes:>4} {score}  {verdict.label}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 2 after one line about what was wrong with the input."""
    options = parser().parse_args(arguments)
    warnings.filterwarnings("ignore", module="sklearn")  # a pipeline that converges badly gets a bad score
    try:
        if options.budget < 1:
            raise DataError(f"--budget {options.budget}: nothing could be tried. Use 1 or more.")
        data = load(options.data, options.target, options.seed, options.out)
        options.out.mkdir(parents=True, exist_ok=True)
        kind = "classes" if data.columns.classify else "numbers"
        print(f"{data.name}: {data.rows:,} rows, target {data.columns.target!r} ({kind})")
        for name, why in data.ignored.items():
            print(f"  not used: {name} ({why})")
        print(asyncio.run(search(data, options.out, options.store, options.budget)), flush=True)
    except (DataError, StigmergyError) as error:
        print(error, file=sys.stderr)
        return 2
    return subprocess.run([sys.executable, str(options.out / "best_pipeline.py")], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
