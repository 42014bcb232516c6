"""Three ways to ask whether a pipeline is better than another one by more than noise.

The rules, and why three: each is fooled by other accidents.

- *cross-validation*: ahead on average over 2 x 5 shared folds by more than one standard error of the difference,
  corrected for the overlap of the training parts (Nadeau and Bengio 2003);
- *bootstrap*: ahead in at least 12 of 15 resamples, each scored on the rows that it left out;
- *held out*: fitted on all development rows, ahead on the rows nobody else looks at, by more than one standard error.

A gain below 0.003 of the score is not worth another pipeline, however certain it is. A voter accepts a pipeline that is
better in this sense than both its reference and the dummy: what beats a bad model may still be worthless.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from sklearn.utils import resample

from examples.model_search.artifacts import Spec
from examples.model_search.data import Dataset
from examples.model_search.pipelines import build
from examples.model_search.scoring import REPEATS, Folds, cross_validate, fitted, folds, score

MIN_GAIN = 0.003
RESAMPLES = 15
ENOUGH = 12


@dataclass(frozen=True)
class Opinion:
    """What one method says: how far ahead of the other one, and how much of that may be noise."""

    accept: bool
    ahead: float
    noise: float
    reason: str


@lru_cache(maxsize=512)
def scored_folds(data: Dataset, spec: Spec) -> Folds:
    """Cross-validation of a spec, remembered."""
    return cross_validate(build(spec, data.columns), data.x, data.y, data.columns)


def by_cross_validation(data: Dataset, spec: Spec, reference: Spec) -> Opinion:
    """Paired differences on the shared folds."""
    difference = scored_folds(data, spec).test - scored_folds(data, reference).test
    splits = len(folds(data.y, data.columns)) // REPEATS
    ahead = float(np.mean(difference))
    noise = float(np.sqrt((1 / len(difference) + 1 / (splits - 1)) * np.var(difference, ddof=1)))
    reason = f"ahead by {ahead:+.4f} over {len(difference)} folds, noise {noise:.4f}"
    return Opinion(ahead > max(noise, MIN_GAIN), ahead, noise, reason)


def by_bootstrap(data: Dataset, spec: Spec, reference: Spec) -> Opinion:
    """Wins among resamples."""
    difference = _bootstrap(data, spec) - _bootstrap(data, reference)
    wins, ahead = int(np.sum(difference > 0)), float(np.mean(difference))
    noise = float(np.std(difference, ddof=1))
    reason = f"ahead in {wins} of {RESAMPLES} resamples, {ahead:+.4f} on average"
    return Opinion(wins >= ENOUGH and ahead > MIN_GAIN, ahead, noise, reason)


def by_held_out(data: Dataset, spec: Spec, reference: Spec) -> Opinion:
    """Row by row on the held-out part, in units of the score."""
    difference = _row_losses(data, reference) - _row_losses(data, spec)
    ahead = float(np.mean(difference))
    noise = float(np.std(difference, ddof=1) / np.sqrt(len(difference)))
    reason = f"ahead by {ahead:+.4f} on {len(difference)} held-out rows, noise {noise:.4f}"
    return Opinion(ahead > max(noise, MIN_GAIN), ahead, noise, reason)


@lru_cache(maxsize=512)
def _bootstrap(data: Dataset, spec: Spec) -> Any:
    scores = []
    for number in range(RESAMPLES):
        groups = data.y if data.columns.classify else None
        chosen = resample(np.arange(len(data.y)), random_state=1_000 * data.columns.seed + number, stratify=groups)
        left_out = np.setdiff1d(np.arange(len(data.y)), chosen)
        predict = fitted(build(spec, data.columns), data.x.iloc[chosen], data.y.iloc[chosen], data.columns)
        scores.append(score(data.y.iloc[left_out], predict(data.x.iloc[left_out]), data.columns))
    return np.array(scores)


@lru_cache(maxsize=512)
def _row_losses(data: Dataset, spec: Spec) -> Any:
    """One loss per held-out row, whose mean is 1 - score."""
    truth = data.held_y.to_numpy()
    guess = fitted(build(spec, data.columns), data.x, data.y, data.columns)(data.held_x)
    if not data.columns.classify:
        return (guess - truth) ** 2 / np.var(truth)
    counts = data.held_y.value_counts()
    weights = data.held_y.map(len(truth) / (len(counts) * counts)).to_numpy()
    return (guess != truth) * weights
