"""Reading rows, splitting them and scoring a pipeline, from fixed seeds.

Every pipeline's own file begins with a copy of this module, so that it scores itself exactly as the search did.
Therefore nothing here may import anything but the standard library, numpy, pandas and scikit-learn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold, train_test_split

MAX_ROWS = 3_000
HELD_OUT = 0.2
SPLITS, REPEATS = 5, 2


@dataclass(frozen=True)
class Columns:
    """Which columns are used, and how.

    Attributes:
        classify: the target is a class, scored by balanced accuracy; else a number, scored by R2.
        seed: of the sample, the held-out part, the folds and the models.
    """

    target: str
    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    classify: bool
    sep: str = ","
    decimal: str = "."
    seed: int = 0


@dataclass(frozen=True)
class Folds:
    """Cross-validation on the development rows: one score per fold, and each row's prediction in the first repeat."""

    test: Any
    train: Any
    error: Any
    predicted: Any


def read_rows(path: Path, columns: Columns) -> tuple[pd.DataFrame, pd.Series]:
    """Inputs and target; of a large file a seeded sample of `MAX_ROWS` rows. Infinite numbers count as missing."""
    table = pd.read_csv(path, sep=columns.sep, decimal=columns.decimal, low_memory=False, skipinitialspace=True)
    if len(table) > MAX_ROWS:
        table = table.sample(MAX_ROWS, random_state=columns.seed).sort_index()
    inputs = pd.DataFrame(index=range(len(table)))
    for name in columns.numbers:
        inputs[name] = table[name].to_numpy(dtype=float, na_value=np.nan)
    for name in columns.categories:
        inputs[name] = table[name].map(str, na_action="ignore").astype(object).to_numpy()
    target = table[columns.target].map(str) if columns.classify else table[columns.target].astype(float)
    return inputs.replace([np.inf, -np.inf], np.nan), target.reset_index(drop=True)


def development_rows(y: pd.Series, columns: Columns) -> tuple[Any, Any]:
    """Positions of the development rows, and of the rows held out from everything but one vote."""
    groups = y if columns.classify else None
    parts = train_test_split(np.arange(len(y)), test_size=HELD_OUT, random_state=columns.seed, stratify=groups)
    return np.sort(parts[0]), np.sort(parts[1])


def folds(y: pd.Series, columns: Columns) -> list[tuple[Any, Any]]:
    """The same folds for every pipeline; with rare classes there are fewer of them."""
    if columns.classify:
        splits = max(2, min(SPLITS, int(y.value_counts().min())))
        kind: Any = RepeatedStratifiedKFold(n_splits=splits, n_repeats=REPEATS, random_state=columns.seed)
    else:
        kind = RepeatedKFold(n_splits=SPLITS, n_repeats=REPEATS, random_state=columns.seed)
    return list(kind.split(np.zeros(len(y)), y))


def score(y: Any, predicted: Any, columns: Columns) -> float:
    """Balanced accuracy or R2; 1 is perfect."""
    return float(balanced_accuracy_score(y, predicted) if columns.classify else r2_score(y, predicted))


def fitted(model: Any, x: pd.DataFrame, y: pd.Series, columns: Columns) -> Callable[[pd.DataFrame], Any]:
    """Fit a fresh copy of the whole pipeline, and return what predicts from rows.

    Where it cannot be fitted, or says no finite number (a target that was made even may have none to go back to), it
    counts as having said what the dummy says. So every pipeline has a score on the same rows.
    """
    otherwise = y.mode()[0] if columns.classify else float(y.mean())
    try:
        ready = clone(model).fit(x, y)
    except ValueError:
        return lambda rows: np.full(len(rows), otherwise)

    def predict(rows: pd.DataFrame) -> Any:
        guess = ready.predict(rows)
        return guess if columns.classify else np.where(np.isfinite(guess), guess, otherwise)

    return predict


def cross_validate(model: Any, x: pd.DataFrame, y: pd.Series, columns: Columns) -> Folds:
    """Fit a fresh copy of the whole pipeline on every fold, so that nothing of the test rows leaks into it."""
    test, train, error, predicted = [], [], [], np.empty(len(y), dtype=object)
    parts = folds(y, columns)
    for number, (inside, outside) in enumerate(parts):
        predict = fitted(model, x.iloc[inside], y.iloc[inside], columns)
        guess = predict(x.iloc[outside])
        test.append(score(y.iloc[outside], guess, columns))
        train.append(score(y.iloc[inside], predict(x.iloc[inside]), columns))
        wrong = guess != y.iloc[outside].to_numpy() if columns.classify else guess - y.iloc[outside].to_numpy()
        error.append(float(np.mean(wrong) if columns.classify else np.sqrt(np.mean(wrong**2))))
        if number * REPEATS < len(parts):
            predicted[outside] = guess
    return Folds(np.array(test), np.array(train), np.array(error), predicted)
