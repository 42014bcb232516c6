"""Looking at the data, and at what a pipeline does with it, and saying what is worth investigating."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from examples.model_search.artifacts import CrossValidation, DatasetProfile, Priority, Spec
from examples.model_search.data import Dataset
from examples.model_search.pipelines import FAMILIES
from examples.model_search.validate import MIN_GAIN, scored_folds


@dataclass(frozen=True)
class Finding:
    """Something worth investigating: what kind of thing, how it shows, and how urgent it is."""

    kind: str
    text: str
    priority: Priority = "medium"


def profile(data: Dataset) -> DatasetProfile:
    """Measure the development rows; the held-out rows are not looked at."""
    x, y, columns = data.x, data.y, data.columns
    numbers = x[list(columns.numbers)]
    skews = numbers.skew().abs()
    target_skew, extreme, shares = None, _extreme(numbers), {}
    if columns.classify:
        shares = {str(k): round(float(v), 4) for k, v in sorted(y.value_counts(normalize=True).items())}
    else:
        target_skew = round(_skew(y.to_numpy(dtype=float)), 4)
        extreme = max(extreme, _extreme(y.to_frame()))
    return DatasetProfile(
        name=data.name, target=columns.target, task="classification" if columns.classify else "regression",
        rows=len(y), numbers=len(columns.numbers), categories=len(columns.categories),
        missing=round(float(x.isna().to_numpy().mean()), 4), extreme=round(extreme, 4),
        skewed_inputs=int((skews > 1.5).sum()), correlated=_correlated(numbers),
        target_skew=target_skew, class_shares=shares,
    )  # fmt: skip


def data_findings(p: DatasetProfile) -> list[Finding]:
    """What the profile alone suggests to investigate. The first look at model families is always worth it."""
    found = [Finding("first_look", f"Which families of models suit {p.rows} rows of {p.name}", "high")]
    if p.target_skew is not None and abs(p.target_skew) > 1:
        found.append(Finding("skewed_target", f"The target is skewed ({p.target_skew:+.1f})", "high"))
    if p.extreme > 0.01:
        found.append(Finding("outliers", f"Up to {p.extreme:.1%} of a column's values are far outside"))
    if p.correlated:
        first, second, r = p.correlated[0]
        more = f" and {len(p.correlated) - 1} more pairs" if len(p.correlated) > 1 else ""
        found.append(Finding("correlated_inputs", f"Inputs say the same: {first} ~ {second} ({r:+.2f}){more}"))
    if p.class_shares and min(p.class_shares.values()) < 0.5 / len(p.class_shares):
        rare, share = min(p.class_shares.items(), key=lambda item: item[1])
        found.append(Finding("class_imbalance", f"Class {rare} has only {share:.1%} of the rows", "high"))
    if p.missing > 0:
        found.append(Finding("missing_values", f"{p.missing:.1%} of the input values are missing"))
    if p.numbers + p.categories > p.rows / 10:
        found.append(Finding("many_inputs", f"{p.numbers + p.categories} inputs are many for {p.rows} rows"))
    if p.skewed_inputs > 0:
        found.append(Finding("skewed_inputs", f"{p.skewed_inputs} inputs are skewed", "low"))
    return found


def pipeline_findings(data: Dataset, scored: CrossValidation, *, accepted: bool) -> list[Finding]:
    """What the cross-validation of a pipeline suggests to investigate next; nothing if it is hopeless.

    Hopeless: behind its reference by more than twice the noise.
    """
    spec, reference = scored.candidate.spec, scored.candidate.reference
    if scored.ahead < -2 * scored.noise:
        return []
    found = error_findings(data, spec) if accepted or scored.ahead > 0 else []
    ahead = f"{scored.ahead:+.3f} against {reference.label}, noise {scored.noise:.3f}"
    if accepted:
        found.append(Finding("promising", f"{spec.label} was accepted: {ahead}", "high"))
    elif scored.ahead > MIN_GAIN:
        found.append(Finding("near_miss", f"{spec.label} was nearly accepted: {ahead}"))
    gap = scored.train - scored.mean
    if gap > max(0.03, scored.spread, (1 - scored.mean) / 4) and FAMILIES[spec.family].stricter:
        rows = f"{scored.train:.2f} on known rows, {scored.mean:.2f} on new ones"
        found.append(Finding("over_fitting", f"{spec.label} over-fits: {rows}"))
    if scored.ahead > -scored.noise and _differ(data, spec, reference):
        text = f"{spec.label} errs elsewhere than {reference.label}: they may do better together"
        found.append(Finding("other_errors", text))
    return found


def error_findings(data: Dataset, spec: Spec) -> list[Finding]:
    """Patterns in what a pipeline gets wrong; also asked about the plain linear baseline."""
    return _class_findings(data, spec) if data.columns.classify else _residual_findings(data, spec)


def _differ(data: Dataset, spec: Spec, reference: Spec) -> bool:
    """Whether two pipelines are wrong in different places, so that their average may be better than both."""
    if spec.blend is not None:
        return False
    one, other = scored_folds(data, spec).predicted, scored_folds(data, reference).predicted
    truth = data.y.to_numpy()
    if not data.columns.classify:
        return float(np.corrcoef((one - truth).astype(float), (other - truth).astype(float))[0, 1]) < 0.97
    if "svm" in (spec.family, reference.family):  # gives no probabilities to average
        return False
    wrong, also = one != truth, other != truth
    return int(np.sum(wrong | also)) >= 10 and np.sum(wrong & also) < 0.5 * np.sum(wrong | also)


def _class_findings(data: Dataset, spec: Spec) -> list[Finding]:
    """A class that is recognised much less often than the others."""
    right = pd.Series(scored_folds(data, spec).predicted == data.y.to_numpy()).groupby(data.y.to_numpy()).mean()
    if spec.balanced or spec.family == "neighbours" or right.min() > right.mean() - 0.15:
        return []
    return [
        Finding("weak_class", f"{spec.label} recognises {right.idxmin()} in only {right.min():.0%} of its rows", "high")
    ]


def _residual_findings(data: Dataset, spec: Spec) -> list[Finding]:
    """Errors that still follow a pattern."""
    residuals = data.y.to_numpy(dtype=float) - scored_folds(data, spec).predicted.astype(float)
    found = []
    if spec.curve == "none" and FAMILIES[spec.family].ladders.keys() <= {"alpha"}:
        name, r = _strongest_bend(data.x[list(data.columns.numbers)], residuals)
        if abs(r) > 3 / np.sqrt(len(residuals)):
            found.append(Finding("curved_residuals", f"Errors of {spec.label} bend with {name} ({r:+.2f})", "high"))
    skew = _skew(residuals)
    if abs(skew) > 1 and not spec.even_target:
        found.append(Finding("skewed_errors", f"Errors of {spec.label} are skewed ({skew:+.1f})", "high"))
    return found


def _strongest_bend(numbers: pd.DataFrame, residuals: np.ndarray) -> tuple[str, float]:
    """The product of two inputs (or square of one) that the residuals follow most, and their correlation."""
    filled = ((numbers - numbers.median()) / numbers.std()).fillna(0.0).iloc[:, :30]
    best = ("", 0.0)
    for i, first in enumerate(filled.columns):
        for second in filled.columns[i:]:
            r = float(np.corrcoef(filled[first] * filled[second], residuals)[0, 1])
            if abs(r) > abs(best[1]):
                best = (f"{first} x {second}", r)
    return best


def _skew(values: np.ndarray) -> float:
    return float(np.mean(((values - values.mean()) / values.std()) ** 3))


def _extreme(numbers: pd.DataFrame) -> float:
    """The largest share, over columns, of values more than three interquartile ranges outside the middle half."""
    low, high = numbers.quantile(0.25), numbers.quantile(0.75)
    width = high - low
    outside = (numbers < low - 3 * width) | (numbers > high + 3 * width)
    shares = outside.mean()[width > 0]
    return float(shares.max()) if len(shares) else 0.0


def _correlated(numbers: pd.DataFrame) -> list[tuple[str, str, float]]:
    """Pairs of inputs with |r| > 0.85, strongest first, at most ten."""
    table = numbers.corr().to_numpy()
    names = list(numbers.columns)
    pairs = [(names[i], names[j], round(float(table[i, j]), 4)) for i in range(len(names)) for j in range(i)]
    return sorted((p for p in pairs if abs(p[2]) > 0.85), key=lambda p: (-abs(p[2]), p[0], p[1]))[:10]
