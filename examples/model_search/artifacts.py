"""What the agents of the search leave on the board, beside work discoveries, votes and tallies.

Nothing here holds a time, a path of this machine or the order in which things ended, so that the same search leaves
the same artifacts however its agents are scheduled.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Priority = Literal["low", "medium", "high", "critical"]
SHORT = {
    "learning_rate": "rate", "max_features": "features", "max_leaf_nodes": "leaves", "min_samples_leaf": "leaf",
    "n_neighbors": "k",
}  # fmt: skip
FamilyName = Literal[
    "dummy", "linear", "ridge", "lasso", "huber", "logistic", "svm", "neighbours", "forest", "boosting"
]


class _Payload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spec(_Payload):
    """One pipeline, completely: what is not said here is the same for all.

    Attributes:
        params: of the model; each stands on a rung of its ladder, so that equal pipelines have equal specs.
        scale: what is done to numbers before the model sees them.
        curve: terms added so that a linear model can bend.
        reduce: how inputs are made fewer.
        flag_missing: tell the model where a number was missing.
        even_target: make a skewed target even before fitting (regression).
        balanced: give rare classes more weight (classification).
        blend: another pipeline, with whose predictions this one's are averaged.
    """

    family: FamilyName
    params: dict[str, float | int] = Field(default_factory=dict)
    scale: Literal["none", "standard", "robust", "power"] = "standard"
    curve: Literal["none", "squares", "splines"] = "none"
    reduce: Literal["none", "components", "select"] = "none"
    flag_missing: bool = False
    even_target: bool = False
    balanced: bool = False
    blend: Spec | None = None

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def digest(self) -> str:
        """Equal for equal pipelines: the name under which a pipeline is tried once."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def label(self) -> str:
        """How people read it."""
        scaled = {"robust": ["robust scale"], "power": ["power scale"]}.get(self.scale, [])
        words = [*scaled, *(value for value in (self.curve, self.reduce) if value != "none")]
        flags = {"missing flags": self.flag_missing, "even target": self.even_target, "balanced": self.balanced}
        words += [name for name, is_set in flags.items() if is_set]
        values = ", ".join(f"{SHORT.get(name, name)}={value:g}" for name, value in sorted(self.params.items()))
        alone = self.family + (f"({values})" if values else "") + (f" + {', '.join(words)}" if words else "")
        return f"{alone} averaged with {self.blend.label}" if self.blend else alone


class DatasetProfile(_Payload):
    """What was measured on the development rows. Shares are between 0 and 1; None where it does not apply."""

    name: str
    target: str
    task: Literal["regression", "classification"]
    rows: int
    numbers: int
    categories: int
    missing: float
    extreme: float
    skewed_inputs: int
    correlated: list[tuple[str, str, float]]
    target_skew: float | None = None
    class_shares: dict[str, float] = Field(default_factory=dict)


class Plan(_Payload):
    """What an analysis came to: which pipelines are worth trying because of one discovery."""

    because: str
    plan: str
    candidates: list[str]


class About(_Payload):
    """What a discovery says of the pipeline that it is about, in its metadata.

    Attributes:
        reference: what pipelines must beat that are tried because of it.
        other: what it was compared with itself.
        promise: its score.
    """

    spec: Spec
    reference: Spec
    other: Spec
    promise: float


class Candidate(_Payload):
    """A pipeline to try, what it must beat to be accepted, and the discovery that led to it.

    `promise` is the score of the pipeline that the discovery is about: the best are followed first.
    """

    spec: Spec
    reference: Spec
    because: str
    priority: Priority
    promise: float


class FittedPipeline(_Payload):
    """A pipeline that was built, fitted on the development rows, written to a file and checked there."""

    candidate: Candidate
    label: str
    file: str
    score_when_fitted: float


class CrossValidation(_Payload):
    """How a pipeline does on the folds that all share. `ahead` and `noise` are against its reference."""

    subject: int
    candidate: Candidate
    mean: float
    spread: float
    train: float
    error: float
    ahead: float
    noise: float


class Baseline(_Payload):
    """What every pipeline is compared with in the end."""

    name: str
    spec: Spec
    mean: float
    spread: float
    error: float


class Verdict(_Payload):
    """What became of a candidate, and the work that was found while it was judged."""

    digest: str
    label: str
    accepted: bool
    votes: str
    mean: float | None
    spread: float | None
    error: float | None
    because: str
    found: list[str]
    reason: str
