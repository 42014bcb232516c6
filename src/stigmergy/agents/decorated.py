"""A typed function is an agent: what it takes is what it consumes, what it returns is what it publishes."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import ParamSpec, TypeVar

from pydantic import BaseModel

from stigmergy.agents.agent import FunctionAgent, Means
from stigmergy.agents.call import call_shape
from stigmergy.agents.caller import Origin, caller
from stigmergy.agents.outputs import plain_outputs
from stigmergy.agents.signature import Models, Signature, read_signature
from stigmergy.agents.subscribe import BATCH, Wanted, subscription
from stigmergy.blackboard.core.visibility import Named
from stigmergy.blackboard.core.where import written_at
from stigmergy.blackboard.definitions import AgentSpec
from stigmergy.blackboard.errors import BadSignature

P = ParamSpec("P")
R = TypeVar("R")


def decorated(
    function: Callable[P, R], spec: AgentSpec, means: Means, origin: Origin, wanted: Wanted, review_by: str | Named = ""
) -> FunctionAgent[P, R]:
    """The agent that a function describes.

    Args:
        spec: all but what is consumed and published.
        wanted: `by`, `within`, `batch` and `max_waiting` as given; the types come from the signature.
        review_by: who reviews all that it publishes.

    Raises:
        BadSignature: a parameter or the return annotation does not say which artifacts are meant.
    """
    subject, place = f'agent "{spec.name}"', origin.place
    signature = read_signature(function, subject=subject, place=place, names=caller().f_locals)
    outputs = _checked(signature, subject, written_at(place))
    many = any(p.many for p in signature.inputs)
    if wanted.batch is not None and not many:
        raise BadSignature(f"{subject}: batch= needs one list[T] parameter.{written_at(place)}")
    if many:
        wanted = replace(wanted, batch=BATCH if wanted.batch is None else wanted.batch)
    declared = list(product(*(p.models for p in signature.inputs)))
    subscriptions = []
    for i, types in enumerate(declared):
        optional = tuple(model for model, p in zip(types, signature.inputs, strict=True) if p.optional)
        said = replace(wanted, types=types, optional=optional)
        subscriptions.append(subscription(said, f"{spec.name}/{i}", subject, place))
    call = call_shape(signature, subscriptions, declared, subject=subject, place=place)
    spec = replace(spec, subscriptions=tuple(subscriptions), outputs=plain_outputs(outputs, review_by))
    return FunctionAgent(spec, replace(means, call=call, is_async=signature.is_async), origin, function)


def _checked(signature: Signature, subject: str, at: str) -> Models:
    """The outputs, once every annotation is known to name artifact types."""
    if not signature.inputs:
        raise BadSignature(
            f"{subject} consumes nothing: no parameter is an artifact type. Write x: A or a: A, b: B.{at}"
        )
    for p in signature.inputs:
        if not p.models:
            text = f"{subject}: parameter {p.name!r} does not say which artifact it takes"
            raise BadSignature(f"{text}. Annotate it: A, A | B, Artifact[A], list[A], A | None or Context.{at}")
        if BaseModel in p.models:
            raise BadSignature(
                f"{subject}: parameter {p.name!r} is BaseModel, which is every type. Name the types.{at}"
            )
        if p.grouped:
            text = f"{subject}: parameter {p.name!r} takes groups. Define it with .consumes(A, B, groups=…).body"
            raise BadSignature(f"{text}.{at}")
        if p.many and len(signature.inputs) > 1:
            text = f"{subject}: parameter {p.name!r} is a batch, so it must be the only input"
            raise BadSignature(f"{text}. Collect in one agent and join in another.{at}")
    if signature.outputs is None or BaseModel in signature.outputs:
        may_be = "-> A, A | B, A | None, list[A | B], or -> None if it publishes nothing"
        raise BadSignature(f"{subject}: its return annotation does not say what it publishes. Write {may_be}.{at}")
    return signature.outputs
