"""Hypothesis strategies: payloads and artifacts of a model, streams, and small rosters. Needs `stigmergy[testing]`."""

from collections.abc import Sequence
from itertools import accumulate, count
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from hypothesis import reject
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from stigmergy.agents.roster import Roster
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.errors import NotRoundTrippable
from stigmergy.blackboard.payloads.types import type_of
from stigmergy.testing.envelopes import artifact
from stigmergy.testing.streams import line

M = TypeVar("M", bound=BaseModel)


def payloads(model: type[M], /, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[M]:
    """Valid payloads of a model that can be published.

    Args:
        fields: strategies for fields whose type does not say enough.
    """

    @st.composite
    def build(draw: st.DrawFn) -> M:
        values = {
            name: draw(fields[name] if name in fields else _of_field(info))
            for name, info in model.model_fields.items()
            if name in fields or info.is_required() or draw(st.booleans())
        }
        try:
            made = model.model_validate(values, by_name=True, by_alias=True)
            type_of(model).encode(made)
        except (ValidationError, NotRoundTrippable):
            reject()
        return made

    return build()


def artifacts(model: type[M], /, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Artifact[M]]:
    """Payloads in envelopes, with ids and producers of their own."""
    names = st.sampled_from(["outside", "someone", "somebody else"])
    return st.builds(_in_envelope, payloads(model, **fields), st.integers(1, 1_000_000), names)


def _in_envelope(payload: M, id: int, producer: str) -> Artifact[M]:
    return artifact(payload, id=id, producer=producer, cause=0 if producer == "outside" else id + 1)


@st.composite
def streams(
    draw: st.DrawFn, first: type[BaseModel] | st.SearchStrategy[BaseModel],
    *more: type[BaseModel] | st.SearchStrategy[BaseModel], max_size: int = 20,
) -> list[str]:  # fmt: skip
    """Lines to `play`: payloads from outside, at times that never go back.

    Args:
        first, more: models, or strategies for payloads.
        max_size: lines at most.
    """
    of_all = st.one_of([payloads(m) if isinstance(m, type) else m for m in (first, *more)])
    drawn = draw(st.lists(of_all, max_size=max_size))
    gaps = draw(st.lists(st.sampled_from([0.0, 0.25, 1.0, 60.0]), min_size=len(drawn), max_size=len(drawn)))
    return [line(payload, at=at) for payload, at in zip(drawn, accumulate(gaps), strict=True)]


@st.composite
def rosters(draw: st.DrawFn, first: type[BaseModel], /, *more: type[BaseModel], max_agents: int = 4) -> Roster:
    """Small rosters whose agents consume one of these types and publish some of those after it, so that every run ends.

    An agent publishes the same payloads whenever it runs. There is one, "witness", that takes all types and publishes
    nothing, so that every type is known.
    """
    models = (first, *more)
    roster = Roster()
    numbers = count(1)
    for _ in range(draw(st.integers(1, max_agents))):
        place = draw(st.integers(0, len(models) - 1))
        later = models[place + 1 :]
        publishes = draw(st.lists(st.sampled_from(later), max_size=2, unique=True)) if later else []
        said = [draw(payloads(model)) for model in publishes]
        builder: Any = roster.agent(f"agent{next(numbers)}").consumes(models[place])
        for model in publishes:
            builder = builder.publishes(model)
        builder.body(_saying(said))
    witness: Any = roster.agent("witness")
    for model in models:
        witness = witness.consumes(model)
    witness.body(_saying(()))
    return roster


def _saying(payloads: Sequence[BaseModel]) -> Any:
    async def body(_: Any) -> Any:
        return list(payloads)

    return body


def _of_field(info: FieldInfo) -> st.SearchStrategy[Any]:
    kind: Any = info.annotation
    for limit in info.metadata:
        if isinstance(pattern := getattr(limit, "pattern", None), str):
            return st.from_regex(pattern)
    limits = [limit for limit in info.metadata if type(limit).__module__ == "annotated_types"]
    return _of(Annotated[(kind, *limits)] if limits else kind)


def _of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of an annotation; hypothesis knows all but the limits inside models, so that models are built here."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return st.deferred(lambda: payloads(kind))
    inner = [part for part in get_args(kind) if part is not Ellipsis]
    origin = get_origin(kind)
    if not any(_holds_model(part) for part in inner):
        return st.from_type(kind)
    if origin in (Union, UnionType):
        return st.one_of([st.none() if part is NoneType else _of(part) for part in inner])
    if origin is Annotated:
        return _of(inner[0])
    if origin is tuple:
        ends = get_args(kind)[-1] is Ellipsis
        return st.lists(_of(inner[0])).map(tuple) if ends else st.tuples(*map(_of, inner))
    if origin is dict:
        return st.dictionaries(_of(inner[0]), _of(inner[1]), max_size=3)
    if origin in (set, frozenset):
        return (st.sets if origin is set else st.frozensets)(_of(inner[0]), max_size=3)
    return st.lists(_of(inner[0]), max_size=3)


def _holds_model(kind: Any) -> bool:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return True
    return any(_holds_model(part) for part in get_args(kind))
