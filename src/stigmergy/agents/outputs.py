"""From what `.publishes()` or a return annotation says to declared outputs."""

from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypedDict, TypeVar

from pydantic import BaseModel

from stigmergy.agents.subscribe import names
from stigmergy.blackboard.core.visibility import Named, checked_visibility, name_of
from stigmergy.blackboard.core.where import Filter, parse_where, written_at
from stigmergy.blackboard.definitions import AgentSpec, Output
from stigmergy.blackboard.errors import DefinitionError, UndeclaredOutput, WrongFanOut
from stigmergy.blackboard.events import Visibility
from stigmergy.blackboard.payloads.types import type_of

T = TypeVar("T")


class Publishing(TypedDict, Generic[T], total=False):
    """Options of `.publishes()` for one type.

    Attributes:
        visibility: who may see it: `private(…)`, `labelled(…)`, `tenant(…)`, `after(…)`.
        tags: every such artifact gets these.
        fan_out: how many of this type one activation must publish, or (least, most).
        where: outputs that do not pass are left out.
        review_by: held until a component releases it; only this agent, or component, is offered it before.
    """

    visibility: Visibility | None
    tags: str | Iterable[str]
    fan_out: int | tuple[int, int] | None
    where: Filter[T] | None
    review_by: str | Named


def plain_outputs(models: Sequence[type[BaseModel]], review_by: str | Named = "") -> tuple[Output, ...]:
    """These types, without other options."""
    reviewer = _reviewer(review_by)
    return tuple(Output(type_of(model).name, model, review_by=reviewer) for model in models)


def output(
    model: type[BaseModel],
    visibility: Visibility | None,
    tags: str | Iterable[str],
    fan_out: int | tuple[int, int] | None,
    where: Filter[Any] | None,
    review_by: str | Named = "",
    *,
    subject: str,
    place: str,
) -> Output:
    """One checked output.

    Raises:
        UnknownField, BadFilter, BadType, DefinitionError: it cannot work as written.
    """
    at = written_at(place)
    if visibility is not None:
        checked_visibility(visibility, f"{subject}: visibility=", at)
    least_most = (fan_out, fan_out) if isinstance(fan_out, int) else fan_out
    if least_most is not None and not _is_range(least_most):
        way_out = "Give a number, or (least, most)."
        raise DefinitionError(f"{subject}: fan_out={fan_out!r} for {model.__name__} cannot be met. {way_out}{at}")
    if review_by and visibility is not None and visibility.after:
        text = f"{subject}: {model.__name__} is to be reviewed and delayed by after(). A review is a delay already"
        raise DefinitionError(f"{text}: leave one of them out.{at}")
    filtered = parse_where(model, where, subject, place)
    return Output(
        type_of(model).name,
        model,
        visibility,
        names(tags, f"{subject}: tags=", place),
        least_most,
        filtered,
        _reviewer(review_by),
    )


def declared(spec: AgentSpec, payload: BaseModel, did: str = "returned") -> Output:
    """How the agent declares what is to be published.

    Raises:
        UndeclaredOutput: not at all.
        BadType: it is no artifact.
    """
    name = type_of(type(payload)).name
    output = spec.output(name)
    if output is None:
        others = " | ".join(o.type_name for o in spec.outputs) or "nothing"
        raise UndeclaredOutput(
            f"{spec.name!r} {did} {name} but publishes {others}. Add it to .publishes() or to the annotation."
        )
    return output


def check_fan_out(spec: AgentSpec, output: Output, made: int, *, so_far: bool = False) -> None:
    """Check how many of this type an activation makes, or has made so far.

    Raises:
        WrongFanOut: it is another number than declared.
    """
    least, most = output.fan_out or (0, made)
    if made > most or (made < least and not so_far):
        wanted = str(least) if least == most else f"{least} to {most}"
        raise WrongFanOut(f"{spec.name!r} made {made} {output.type_name}, but its fan_out is {wanted}.")


def _reviewer(given: str | Named) -> str:
    return name_of(given) if given != "" else ""


def _is_range(given: object) -> bool:
    counts = given if isinstance(given, tuple) and len(given) == 2 else (-1, -1)
    return all(type(n) is int for n in counts) and 0 <= counts[0] <= counts[1]
