"""From a `Spec` to a scikit-learn pipeline, and from the pipeline to the Python source that makes it again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import isfunction, signature
from itertools import takewhile
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import SelectPercentile, f_classif, f_regression
from sklearn.impute import SimpleImputer
from sklearn.linear_model import HuberRegressor, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    OneHotEncoder,
    PolynomialFeatures,
    PowerTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVC, SVR

from examples.model_search.artifacts import FamilyName, Spec
from examples.model_search.scoring import Columns

PENALTY = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
LEAF = (1, 2, 3, 5, 8, 13, 20, 30, 50)


@dataclass(frozen=True)
class Family:
    """A kind of model: its classes, fixed options, and the ladders on which its parameters move.

    Attributes:
        start: parameter -> the rung where the search begins.
        ladders: parameter -> its rungs, from the smallest value to the largest.
        stricter: parameter -> the direction (+1 or -1) in which the model becomes less flexible.
        scaled_target: the meaning of its parameters depends on the unit of the target, so the target is scaled.
        trees: needs no scaling.
        random: takes a `random_state`.
    """

    regressor: type[Any] | None
    classifier: type[Any] | None
    options: Mapping[str, object] = field(default_factory=dict)
    start: Mapping[str, float] = field(default_factory=dict)
    ladders: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    stricter: Mapping[str, int] = field(default_factory=dict)
    scaled_target: bool = False
    trees: bool = False
    random: bool = False


FAMILIES: Mapping[FamilyName, Family] = {
    "dummy": Family(DummyRegressor, DummyClassifier),
    "linear": Family(LinearRegression, None),
    "ridge": Family(Ridge, None, {}, {"alpha": 10.0}, {"alpha": PENALTY}, {"alpha": +1}),
    "lasso": Family(
        Lasso, None, {"max_iter": 50_000}, {"alpha": 0.01}, {"alpha": PENALTY}, {"alpha": +1}, scaled_target=True
    ),
    "huber": Family(
        HuberRegressor, None, {"max_iter": 5_000}, {"alpha": 0.1}, {"alpha": PENALTY}, {"alpha": +1}, scaled_target=True
    ),
    "logistic": Family(
        None, LogisticRegression, {"max_iter": 5_000}, {"C": 1.0}, {"C": PENALTY}, {"C": -1}
    ),
    "svm": Family(
        SVR, SVC, {}, {"C": 1.0, "gamma": 0.1}, {"C": PENALTY, "gamma": PENALTY}, {"C": -1, "gamma": -1},
        scaled_target=True,
    ),
    "neighbours": Family(
        KNeighborsRegressor, KNeighborsClassifier, {},
        {"n_neighbors": 13}, {"n_neighbors": (3, 5, 8, 13, 20, 30, 50)}, {"n_neighbors": +1},
    ),
    "forest": Family(
        ExtraTreesRegressor, ExtraTreesClassifier, {"n_estimators": 60},
        {"min_samples_leaf": 1, "max_features": 0.5}, {"min_samples_leaf": LEAF, "max_features": (0.2, 0.5, 1.0)},
        {"min_samples_leaf": +1}, trees=True, random=True,
    ),
    "boosting": Family(
        HistGradientBoostingRegressor, HistGradientBoostingClassifier, {"max_iter": 80},
        {"max_leaf_nodes": 16, "learning_rate": 0.1, "min_samples_leaf": 20},
        {"max_leaf_nodes": (3, 4, 8, 16, 32), "learning_rate": (0.03, 0.1, 0.3), "min_samples_leaf": LEAF},
        {"max_leaf_nodes": -1, "min_samples_leaf": +1}, trees=True, random=True,
    ),
}  # fmt: skip


DUMMY = Spec(family="dummy")
"""Always the mean, or the most frequent class: the baseline of the baselines."""


def plain_linear(classify: bool) -> Spec:
    """The baseline that every accepted pipeline has beaten, itself or through the one it improves on."""
    return Spec(family="logistic", params={"C": 1.0}) if classify else Spec(family="linear")


def start(family: FamilyName, inputs: int) -> Spec:
    """Where the search begins in a family; a kernel's width depends on how many inputs there are."""
    kind = FAMILIES[family]
    params = dict(kind.start)
    if "gamma" in params:
        params["gamma"] = min(PENALTY, key=lambda rung: abs(rung - 1 / max(1, inputs)))
    return Spec(family=family, params=params, scale="none" if kind.trees else "standard")


def move(spec: Spec, parameter: str, steps: int) -> Spec | None:
    """The spec with one parameter moved along its ladder; None beyond the last rung."""
    ladder = FAMILIES[spec.family].ladders[parameter]
    rung = ladder.index(spec.params[parameter]) + steps
    if not 0 <= rung < len(ladder):
        return None
    return spec.model_copy(update={"params": {**spec.params, parameter: ladder[rung]}})


def build(spec: Spec, columns: Columns) -> Any:
    """The whole pipeline, unfitted. All preprocessing is inside it, so it learns from the rows it is fitted on only."""
    if spec.blend is None:
        return _single(spec, columns)
    pair = [("first", _single(spec, columns)), ("second", build(spec.blend, columns))]
    return VotingClassifier(pair, voting="soft") if columns.classify else VotingRegressor(pair)


def _single(spec: Spec, columns: Columns) -> Any:
    kind = FAMILIES[spec.family]
    model_class = kind.classifier if columns.classify else kind.regressor
    if model_class is None:
        raise ValueError(f"{spec.family} is not for {'classes' if columns.classify else 'numbers'}")
    options: dict[str, object] = {**kind.options, **spec.params}
    if spec.balanced:
        options["class_weight"] = "balanced"
    if kind.random:
        options["random_state"] = columns.seed
    steps = [("inputs", _inputs(spec, columns)), *_reduction(spec, columns), ("model", model_class(**options))]
    if columns.classify or not (spec.even_target or kind.scaled_target):
        return Pipeline(steps)
    target = PowerTransformer() if spec.even_target else StandardScaler()
    return TransformedTargetRegressor(regressor=Pipeline(steps), transformer=target)


def _inputs(spec: Spec, columns: Columns) -> ColumnTransformer:
    scalers = {"standard": StandardScaler, "robust": RobustScaler, "power": PowerTransformer}
    curves = {"squares": PolynomialFeatures(include_bias=False), "splines": SplineTransformer(n_knots=4)}
    numbers: list[tuple[str, Any]] = [
        ("fill", SimpleImputer(strategy="median", add_indicator=spec.flag_missing, keep_empty_features=True))
    ]
    if spec.scale != "none":
        numbers.append(("scale", scalers[spec.scale]()))
    if spec.curve != "none":
        numbers += [("curve", curves[spec.curve]), ("scale_again", StandardScaler())]
    classes = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5, sparse_output=False)
    parts = [("numbers", Pipeline(numbers), list(columns.numbers)), ("categories", classes, list(columns.categories))]
    return ColumnTransformer([part for part in parts if part[2]])


def _reduction(spec: Spec, columns: Columns) -> list[tuple[str, Any]]:
    if spec.reduce == "components":
        return [("reduce", PCA(n_components=0.95))]
    if spec.reduce == "select":
        return [("reduce", SelectPercentile(f_classif if columns.classify else f_regression, percentile=50))]
    return []


def source(thing: Any, indent: int, known: Mapping[str, str]) -> str:
    """Python source that makes this estimator again, with the parameters that differ from their defaults.

    Args:
        indent: how deep the text that it stands in is indented, in steps of four spaces.
        known: `repr` of a value -> what to write in its place.
    """
    if repr(thing) in known:
        return known[repr(thing)]
    pad, inner = " " * 4 * indent, " " * 4 * (indent + 1)
    if isinstance(thing, BaseEstimator):
        usual = _defaults(type(thing))
        chosen = {k: v for k, v in thing.get_params(deep=False).items() if repr(v) != repr(usual[k])}
        parts = [f"{k}={source(v, indent + 1, known)}" for k, v in chosen.items()]
        return _wrapped(f"{type(thing).__name__}(", parts, ")", pad, inner)
    if isinstance(thing, list | tuple):
        left, right = ("[", "]") if isinstance(thing, list) else ("(", ")")
        return _wrapped(left, [source(item, indent + 1, known) for item in thing], right, pad, inner)
    return str(thing.__name__) if isfunction(thing) else repr(thing)


def imports(thing: Any) -> str:
    """The import lines that `source(thing)` needs."""
    return "\n".join(f"from {module} import {name}" for module, name in sorted(_names(thing)))


def _wrapped(left: str, parts: list[str], right: str, pad: str, inner: str) -> str:
    line = left + ", ".join(parts) + right
    if len(line) + len(pad) <= 100 and "\n" not in line:
        return line
    return left + "".join(f"\n{inner}{part}," for part in parts) + f"\n{pad}{right}"


def _defaults(kind: type[BaseEstimator]) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in signature(kind).parameters.items()}


def _names(thing: Any) -> set[tuple[str, str]]:
    """Public module and name of every class and function in it."""
    if isinstance(thing, list | tuple):
        return set().union(*(_names(item) for item in thing))
    if isfunction(thing):
        return {(_public(thing.__module__), thing.__name__)}
    if not isinstance(thing, BaseEstimator):
        return set()
    inside = (_names(value) for value in thing.get_params(deep=False).values())
    return {(_public(type(thing).__module__), type(thing).__name__)}.union(*inside)


def _public(module: str) -> str:
    return ".".join(takewhile(lambda part: not part.startswith("_"), module.split(".")))
