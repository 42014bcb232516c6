"""What a search came to: the leaderboard, and the best pipeline's file."""

from dataclasses import dataclass
from pathlib import Path

from examples.model_search.artifacts import Baseline, Candidate, Spec, Verdict
from examples.model_search.data import Dataset
from examples.model_search.standalone import fitted_score, held_out_score, render
from stigmergy import View

SHOWN = 12


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard. `votes` is empty for a baseline."""

    label: str
    mean: float
    spread: float
    error: float
    votes: str
    accepted: bool
    because: str
    spec: Spec


def leaderboard(board: View) -> list[Row]:
    """Every pipeline that was scored and both baselines, on the same folds, the best mean first."""
    specs = {c.spec.digest: c.spec for c in board.artifacts(Candidate).payloads}
    rows = [
        Row(b.name, b.mean, b.spread, b.error, "", False, "baseline", b.spec)
        for b in board.artifacts(Baseline).payloads
    ]
    rows += [
        Row(v.label, v.mean, v.spread, v.error, v.votes, v.accepted, v.because, specs[v.digest])
        for v in board.artifacts(Verdict).payloads
        if v.mean is not None and v.spread is not None and v.error is not None
    ]
    return sorted(rows, key=lambda row: (-row.mean, row.label))


def best_of(rows: list[Row]) -> Row:
    """The best mean among what was accepted and the baselines: what leads by noise alone is no progress."""
    return next(row for row in rows if row.accepted or not row.votes)


def leaderboard_text(rows: list[Row], data: Dataset) -> str:
    """The leaderboard, for people."""
    best = best_of(rows)
    metric, error = ("balanced accuracy", "wrong") if data.columns.classify else ("R2", "RMSE")
    shown = [row for i, row in enumerate(rows) if i < SHOWN or not row.votes or row is best]
    width = min(70, max(len(row.label) for row in shown))
    lines = [f"      {'pipeline':{width}}  {metric:>17}  {error:>8}  votes  {'file':8}  because of"]
    for row in shown:
        mark = "best" if row is best else "ok" if row.accepted else ""
        label = row.label if len(row.label) <= width else row.label[: width - 1] + "…"
        score = f"{row.mean:.4f} ± {row.spread:.4f}"
        file = row.spec.digest if row.votes else ""
        lines.append(
            f"{mark:>4}  {label:{width}}  {score:>17}  {_plain(row.error):>8}  {row.votes:>5}  {file:8}  {row.because}"
        )
    if len(rows) > len(shown):
        lines.append(f"      … {len(rows) - len(shown)} more")
    accepted, tried = sum(row.accepted for row in rows), sum(bool(row.votes) for row in rows)
    lines += ["", f"{accepted} of {tried} pipelines beat what they improve on by more than noise, in 2 of 3 votes"
              " (cross-validation, bootstrap, held-out rows)."]  # fmt: skip
    if not best.votes:
        lines.append(f"So the {best.label} baseline stays the best that can be defended.")
    compared = list(dict.fromkeys([best, *(row for row in rows if not row.votes)]))
    scores = ", ".join(f"{row.label} {held_out_score(row.spec, data):.4f}" for row in compared)
    lines.append(f"On the {len(data.held_y):,} held-out rows, which one vote of three has seen: {scores}.")
    return "\n".join(lines)


def _plain(error: float) -> str:
    return f"{error:,.0f}" if error >= 1_000 else f"{error:.4g}"


def write_best(row: Row, data: Dataset, folder: Path) -> Path:
    """Write the best pipeline's file, with the scores that it must find again when it is run by itself."""
    recorded = {"fitted": fitted_score(row.spec, data), "mean": row.mean, "spread": row.spread}
    path = folder / "best_pipeline.py"
    path.write_text(render(row.spec, data, folder, recorded), encoding="utf-8")
    return path
