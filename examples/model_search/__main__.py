"""Search for a good pipeline: `python -m examples.model_search [DATA.csv --target COLUMN | diabetes | …]`."""

import argparse
import asyncio
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from examples.model_search.agents import seed_of, team
from examples.model_search.artifacts import Baseline, Verdict
from examples.model_search.data import BUNDLED, DataError, Dataset, load
from examples.model_search.report import best_of, leaderboard, leaderboard_text, write_best
from examples.model_search.story import story_of, story_svg, story_text
from stigmergy import Blackboard, StigmergyError
from stigmergy.blackboard.errors import KeyReused
from stigmergy.models import LiteLLM, Model, Price

FILES = {
    "best_pipeline.py": "best pipeline",
    "pipelines": "all pipelines",
    "leaderboard.txt": "leaderboard",
    "discoveries.svg": "what led to what",
    "workflow.svg": "who did what",
}


class Outcome(NamedTuple):
    """What to tell people, and whether all of the search ran."""

    text: str
    complete: bool


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m examples.model_search", description=__doc__)
    made.add_argument("data", nargs="?", default="diabetes", help=f"a CSV file, or one of {', '.join(BUNDLED)}")
    made.add_argument("--target", help="the column to predict; needed for a CSV file")
    made.add_argument("--out", type=Path, default=Path("model_search_out"), help="folder for what is found")
    made.add_argument("--store", type=Path, help="board file (.db); the same command goes on where it was stopped")
    made.add_argument("--budget", type=int, default=30, help="how many pipelines may be tried (default 30)")
    made.add_argument("--model", default="", help="a language model as the analyst, as in openai/gpt-4.1")
    made.add_argument("--base-url", default="", help="of your own server: it speaks the OpenAI chat API and is free")
    made.add_argument("--cost", default="1.00", help="dollars that the model may take (default 1.00)")
    made.add_argument("--seed", type=int, default=0, help="of the folds, the held-out rows and the models")
    return made


async def search(
    data: Dataset, out: Path, store: Path | None, budget: int, model: Model | None = None, cost: str | None = None
) -> Outcome:
    """Run the search to its end, or go on with it, and write what it found into the folder.

    Raises:
        DataError: the store holds a search of something else.
        RunFailed: it failed before there was anything to compare with.
    """
    roster = team(data, out / "pipelines", budget, _tell, model=model, cost=cost)
    async with Blackboard(store, roster=roster) as board:
        try:
            await board.publish(seed_of(data, budget, model.name if model else ""), key="search")
        except KeyReused:
            raise DataError(
                f"{store}: this is a search of other data, or with another --seed, --budget or --model. "
                "Use another --store."
            ) from None
        report = await board.run_until_idle()
        if not len(board.artifacts(Baseline)):
            report.raise_for_failures()
        return Outcome("\n\n".join(["", str(report), *_results(board, data, out)]), report.ok)


def asked_model(name: str, base_url: str) -> Model | None:
    """The model of this name, if one is named; a server of one's own costs nothing."""
    free = Price("0", "0") if base_url else None
    return LiteLLM(name, api_base=base_url or None, price=free) if name else None


def _results(board: Blackboard, data: Dataset, out: Path) -> list[str]:
    """Write what was found into the folder, and say it."""
    rows, story = leaderboard(board), story_of(board)
    best = best_of(rows)
    lines, text = story.lines(), leaderboard_text(rows, data)
    (out / "leaderboard.txt").write_text(f"{text}\n\n{story_text(lines)}\n", encoding="utf-8")
    (out / "discoveries.svg").write_text(story_svg(lines, f"What led to what: {data.name}"), encoding="utf-8")
    replace(board.graph(), title=f"Who did what: {data.name}").save(out / "workflow.svg")
    write_best(best, data, out)
    seen = [work.description for name, work in story.discoveries.items() if name.endswith(":data")]
    noticed = ["What was noticed in the data:", *(f"  -> {text}" for text in seen)]
    kinds = Counter(name.partition(":")[0] for name in story.discoveries)
    found = "Discoveries: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    way = ["How the best was found:", *(f"  -> {step}" for step in story.way_to(best.spec.digest))]
    files = "\n".join(f"{what:18}{out / name}" for name, what in FILES.items())
    return [text, "\n".join(noticed), found, *(["\n".join(way)] if best.votes else []), files]


def _tell(verdict: Verdict) -> None:
    score = "   -" if verdict.mean is None else f"{verdict.mean:.4f}"
    print(f"  {'accepted' if verdict.accepted else 'rejected'} {verdict.votes}  {score}  {verdict.label}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the search that the arguments say.

    Returns:
        0; or 1 if something failed on the way, 2 after one line about what was wrong with the input, 130 if it was
        stopped by hand.
    """
    options = parser().parse_args(arguments)
    warnings.filterwarnings("ignore", module="sklearn")  # a pipeline that converges badly gets a bad score
    try:
        if options.budget < 1:
            raise DataError(f"--budget {options.budget}: nothing could be tried. Use 1 or more.")
        data = load(options.data, options.target, options.seed, options.out)
        options.out.mkdir(parents=True, exist_ok=True)
        kind = "classes" if data.columns.classify else "numbers"
        rows = f"{data.rows:,} rows" if data.rows == data.total_rows else f"{data.rows:,} of {data.total_rows:,} rows"
        print(f"{data.name}: {rows}, target {data.columns.target!r} ({kind})")
        for name, why in data.ignored.items():
            print(f"  not used: {name} ({why})")
        model = asked_model(options.model, options.base_url)
        cost = options.cost if model else None
        found = asyncio.run(search(data, options.out, options.store, options.budget, model, cost))
        print(found.text, flush=True)
    except (DataError, StigmergyError, OSError) as error:
        place = f"{error.filename}: {error.strerror}." if isinstance(error, OSError) and error.filename else error
        print(place, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "stopped" + (f"; the same command goes on from {options.store}" if options.store else ""), file=sys.stderr
        )
        return 130
    best = options.out / "best_pipeline.py"
    print(f"\nThe file alone: python {best}", flush=True)
    code = subprocess.run([sys.executable, str(best)], check=False).returncode
    if not found.complete:
        print("not all of the search ran: the report above says what is left", file=sys.stderr)
    return code or (0 if found.complete else 1)


def _silent(*_: object, **__: object) -> None:
    """scikit-learn switches warning filters for the whole process, so between threads no filter holds."""


if __name__ == "__main__":
    warnings.showwarning = _silent
    sys.exit(main())
