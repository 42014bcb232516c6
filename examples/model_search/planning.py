"""What to try because of a finding. Plans are short: whatever works is followed further by its own discoveries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from examples.model_search.artifacts import DatasetProfile, Spec
from examples.model_search.pipelines import FAMILIES, move, plain_linear, start


@dataclass(frozen=True)
class Situation:
    """What a plan is made for: the data, the pipeline that the finding is about (the plain one at first), and the
    one that it was compared with."""

    profile: DatasetProfile
    spec: Spec
    other: Spec

    @property
    def classify(self) -> bool:
        return self.profile.task == "classification"

    @property
    def inputs(self) -> int:
        return self.profile.numbers + self.profile.categories

    @property
    def plain(self) -> Spec:
        return plain_linear(self.classify)

    def variant(self, **changes: object) -> Spec:
        """The pipeline in question with something changed."""
        return self.spec.model_copy(update=changes)


def plan(kind: str, situation: Situation) -> list[Spec]:
    """The pipelines worth trying, without the one in question.

    Args:
        kind: of the finding; a key of `PLANS`.
    """
    specs = PLANS[kind](situation)
    return [spec for spec in dict.fromkeys(specs) if spec not in (situation.spec, situation.plain)]


def _first_look(s: Situation) -> list[Spec]:
    specs = [start("forest", s.inputs)]
    if not s.classify:
        specs.append(start("ridge", s.inputs))
        if 0 < s.profile.numbers <= 20:
            specs.append(start("lasso", s.inputs).model_copy(update={"curve": "squares"}))
    if s.profile.rows <= 3_000:
        specs.append(start("svm", s.inputs))
    if s.inputs <= 30 and s.profile.numbers >= s.profile.categories:
        specs.append(start("neighbours", s.inputs))
    if s.profile.rows >= 200:
        specs.append(start("boosting", s.inputs))
    return specs


def _skewed_target(s: Situation) -> list[Spec]:
    return [s.variant(even_target=True), start("forest", s.inputs).model_copy(update={"even_target": True})]


def _outliers(s: Situation) -> list[Spec]:
    linear = s.plain if s.classify else start("huber", s.inputs)
    return [linear.model_copy(update={"scale": "robust"})]


def _correlated_inputs(s: Situation) -> list[Spec]:
    strict = move(s.plain, "C", -2) if s.classify else start("ridge", s.inputs)
    return [s.variant(reduce="components"), *([strict] if strict else [])]


def _many_inputs(s: Situation) -> list[Spec]:
    return [
        s.variant(reduce="select"),
        s.plain.model_copy(update={"reduce": "select"}) if s.classify else start("lasso", s.inputs),
    ]


def _class_imbalance(s: Situation) -> list[Spec]:
    return [s.variant(balanced=True), start("forest", s.inputs).model_copy(update={"balanced": True})]


def _missing_values(s: Situation) -> list[Spec]:
    return [s.variant(flag_missing=True), start("boosting", s.inputs)]


def _neighbourhood(s: Situation) -> list[Spec]:
    moved = [move(s.spec, name, step) for name in FAMILIES[s.spec.family].ladders for step in (-1, +1)]
    return [spec for spec in moved if spec]


def _stricter(s: Situation) -> list[Spec]:
    """Every parameter alone two rungs towards less flexibility, and all together one rung."""
    directions = FAMILIES[s.spec.family].stricter
    alone = [move(s.spec, name, 2 * step) for name, step in directions.items()]
    together: Spec | None = s.spec
    for name, step in directions.items():
        together = move(together, name, step) if together else None
    return [spec for spec in (*alone, together) if spec]


def _curves(s: Situation) -> list[Spec]:
    """A penalised linear model with bends, and all else as in the pipeline in question."""
    curve = "squares" if s.profile.numbers <= 20 else "splines"
    models = [start("lasso", s.inputs), start("ridge", s.inputs)]
    return [s.variant(family=model.family, params=model.params, curve=curve) for model in models]


PLANS: Mapping[str, Callable[[Situation], list[Spec]]] = {
    "first_look": _first_look,
    "skewed_target": _skewed_target,
    "outliers": _outliers,
    "correlated_inputs": _correlated_inputs,
    "class_imbalance": _class_imbalance,
    "missing_values": _missing_values,
    "many_inputs": _many_inputs,
    "skewed_inputs": lambda s: [s.variant(scale="power")],
    "promising": _neighbourhood,
    "near_miss": _neighbourhood,
    "over_fitting": _stricter,
    "other_errors": lambda s: [s.variant(blend=s.other)],
    "curved_residuals": _curves,
    "weak_class": lambda s: [s.variant(balanced=True)],
    "skewed_errors": lambda s: [s.variant(even_target=True)],
}
