"""Several answers to one question, of which one is published."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json

from stigmergy.agents.models.errors import BadReply, ModelError
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.errors import DefinitionError
from stigmergy.blackboard.payloads.types import type_of

Outputs = Sequence[BaseModel]
Score = Callable[[Outputs, Sequence[Artifact[Any]]], float]
"""How good outputs are for these inputs; the higher the better."""


def scores(found: Sequence[Outputs | None], inputs: Sequence[Artifact[Any]], score: Score | None) -> list[float | None]:
    """How good each answer is; None for those that there are not.

    Args:
        score: by default a vote: how many answers are the same, the order of their outputs aside.

    Raises:
        DefinitionError: a score is no finite number.
    """
    if score is None:
        votes = Counter(_ballot(outputs) for outputs in found if outputs is not None)
        return [None if outputs is None else float(votes[_ballot(outputs)]) for outputs in found]
    return [None if outputs is None else _finite(score(outputs, inputs)) for outputs in found]


def best(found: Sequence[Outputs | None], given: Sequence[float | None]) -> Outputs:
    """The outputs with the highest score; of equals the first."""
    there = [(-math.inf if value is None else value, outputs) for value, outputs in zip(given, found, strict=True)
             if outputs is not None]  # fmt: skip
    return max(there, key=lambda pair: pair[0])[1]


def why_none(failures: Sequence[ModelError]) -> ModelError:
    """The failure to raise: one that time may mend, since then nothing is bought again, or else a bad reply."""
    mendable = [f for f in failures if f.retryable and not isinstance(f, BadReply)]
    return next(iter(mendable or [f for f in failures if isinstance(f, BadReply)] or failures))


def _finite(value: object) -> float:
    if not (isinstance(value, int | float) and math.isfinite(value)):
        raise DefinitionError(f"Ask(score=…) gave {value!r}. It gives a finite number, the higher the better.")
    return float(value)


def _ballot(outputs: Outputs) -> tuple[bytes, ...]:
    said = ([type_of(type(payload)).name, payload.model_dump(mode="json", by_alias=True)] for payload in outputs)
    return tuple(sorted(to_json(item) for item in said))
