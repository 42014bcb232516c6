"""Writing a pipeline as a Python file that runs by itself, scores itself and checks itself."""

from inspect import getsource
from os.path import relpath
from pathlib import Path

from examples.model_search import scoring
from examples.model_search.artifacts import Spec
from examples.model_search.data import Dataset
from examples.model_search.pipelines import build, imports, source

MAIN = '''
def main() -> int:
    """Score the pipeline on DATA, or on the CSV file that is named; 1 if a score is not the recorded one."""
    warnings.filterwarnings("ignore", module="sklearn")
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / DATA
    x, y = read_rows(path, COLUMNS)
    rows, held_out = development_rows(y, COLUMNS)
    x, y, held_x, held_y = x.iloc[rows], y.iloc[rows], x.iloc[held_out], y.iloc[held_out]
    name = "balanced accuracy" if COLUMNS.classify else "R2"
    predict = fitted(pipeline(), x, y, COLUMNS)
    found = {"fitted": score(y, predict(x), COLUMNS)}
    print(f"held-out {name}: {score(held_y, predict(held_x), COLUMNS):.4f} on {len(held_y)} rows")
    if "mean" in RECORDED:
        test = cross_validate(pipeline(), x, y, COLUMNS).test
        found.update(mean=float(test.mean()), spread=float(test.std()))
        print(f"cross-validated {name}: {found['mean']:.4f} +- {found['spread']:.4f} on {len(y)} rows")
    wrong = [f"{key} is {found[key]:.6f}, recorded {value:.6f}" for key, value in RECORDED.items()
             if abs(found[key] - value) > 1e-4]
    print("check: " + ("; ".join(wrong) + ". Other data, or other library versions?" if wrong else "as recorded"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
'''


def render(spec: Spec, data: Dataset, folder: Path, recorded: dict[str, float]) -> str:
    """The text of the file.

    Args:
        folder: where it will stand; the data are named from there.
        recorded: the scores that it must find again: "fitted", and "mean" and "spread" once it was cross-validated.
    """
    model = build(spec, data.columns)
    known = {repr(list(getattr(data.columns, name))): f"list(COLUMNS.{name})" for name in ("numbers", "categories")}
    data_file = relpath(data.path.resolve(), folder.resolve())
    shared = getsource(scoring).partition('"""\n\n')[2]
    return f'''"""{spec.label}: predicts {data.columns.target!r} of {data.name}.

Run it with the data it was made for, or name another CSV file with the same columns.
"""

import sys
import warnings
{imports(model)}
{shared}

COLUMNS = {data.columns!r}
DATA = {data_file!r}
RECORDED = {recorded!r}


def pipeline():
    """The whole pipeline, unfitted."""
    return {source(model, 1, known)}

{MAIN}'''


def fitted_score(spec: Spec, data: Dataset) -> float:
    """The score on the rows it was fitted on: quick to compute, and different for every different pipeline.

    Raises:
        ValueError: it cannot learn from half of the rows, so that some vote on it would fail.
    """
    model = build(spec, data.columns)
    model.fit(data.x[::2], data.y[::2]).predict(data.x[1::2])
    predict = scoring.fitted(model, data.x, data.y, data.columns)
    return round(scoring.score(data.y, predict(data.x), data.columns), 6)


def held_out_score(spec: Spec, data: Dataset) -> float:
    """The score on the held-out rows, fitted on all others."""
    predict = scoring.fitted(build(spec, data.columns), data.x, data.y, data.columns)
    return scoring.score(data.held_y, predict(data.held_x), data.columns)
