"""Filters: what is indexed, what is checked when they are written, and what passes them."""

from datetime import UTC, date, datetime
from enum import Enum
from functools import partial
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, computed_field

from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.core.where import accepts, matches, parse_where
from stigmergy.blackboard.definitions import Slot, Where
from stigmergy.blackboard.errors import BadFilter, UnknownField


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    size: int


class Work(BaseModel):
    phase: Literal["analysis", "build"] = "analysis"
    title: str = ""
    n: int = 0
    score: Annotated[float, Field(ge=0, le=1)] = 0.0
    done: bool = False
    color: Color = Color.RED
    due: date | None = None
    files: list[str] = []
    part: Part = Part(size=1)
    kind_: str = Field(default="", alias="kind")

    @property
    def long(self) -> bool:
        return len(self.title) > 10

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2 * self.n


def passes(where: Any, work: Work) -> bool:
    return matches(parse_where(Work, where), work)


def test_no_filter_lets_everything_pass() -> None:
    assert parse_where(Work, None) == Where()
    assert passes(None, Work())


def test_a_mapping_is_equality_on_every_field() -> None:
    where = {"phase": "analysis", "n": 3}
    assert passes(where, Work(n=3))
    assert not passes(where, Work(n=4))
    assert not passes(where, Work(n=3, phase="build"))


@pytest.mark.parametrize("several", [{"analysis", "build"}, ["analysis", "build"], ("analysis", "build")])
def test_several_values_mean_any_of_them(several: Any) -> None:
    assert passes({"phase": several}, Work(phase="analysis"))
    assert passes({"phase": several}, Work(phase="build"))


def test_a_callable_is_a_predicate_and_a_list_needs_all() -> None:
    assert passes(lambda w: w.n > 1, Work(n=2))
    both = [{"phase": "build"}, lambda w: w.n > 1, lambda w: w.n < 5]
    assert passes(both, Work(phase="build", n=2))
    assert not passes(both, Work(phase="build", n=5))
    assert not passes(both, Work(phase="analysis", n=2))


def test_two_mappings_for_one_field_must_both_hold() -> None:
    assert passes([{"n": {1, 2}}, {"n": {2, 3}}], Work(n=2))
    assert not passes([{"n": {1, 2}}, {"n": {2, 3}}], Work(n=1))


def test_only_equality_is_indexed_and_its_fields_are_sorted() -> None:
    def test(work: Work) -> bool:
        return work.n > 0

    parsed = parse_where(Work, [{"title": "x", "n": 3}, test])
    assert parsed == Where(equals=(("n", (3,)), ("title", ("x",))), predicates=(test,))


def test_values_of_every_kind_are_compared_as_the_field_holds_them() -> None:
    work = Work(color=Color.BLUE, due=date(2026, 11, 20), files=["a", "b"], part=Part(size=3), done=True, score=1)
    assert passes({"color": Color.BLUE}, work)
    assert passes({"color": "blue"}, work)
    assert passes({"due": date(2026, 11, 20)}, work)
    assert passes({"due": "2026-11-20"}, work)
    assert passes({"due": {None, "2026-11-20"}}, work)
    assert passes({"files": [["a", "b"]]}, work)
    assert passes({"part": Part(size=3)}, work)
    assert passes({"part": {"size": 3}}, work)
    assert passes({"done": "true"}, work)
    assert passes({"score": 1}, work)
    assert not passes({"due": None}, work)


def test_a_field_with_an_alias_is_named_as_in_python() -> None:
    assert passes({"kind_": "x"}, Work(kind="x"))
    with pytest.raises(UnknownField, match="Its Python name is 'kind_'"):
        parse_where(Work, {"kind": "x"})


def test_an_unknown_field_is_named_with_the_nearest_one_and_the_place() -> None:
    with pytest.raises(UnknownField) as caught:
        parse_where(Work, {"phse": "analysis"}, 'agent "analyzer"', "team.py:14")
    assert str(caught.value) == (
        "agent \"analyzer\" filters Work by 'phse'; it has no such field. Did you mean 'phase'?    team.py:14"
    )


def test_an_unknown_field_that_resembles_none_lists_what_there_is() -> None:
    with pytest.raises(UnknownField, match="There is: phase, title"):
        parse_where(Work, {"zzzzzz": 1})


@pytest.mark.parametrize("name", ["double", "long"])
def test_what_is_computed_and_not_stored_needs_a_function(name: str) -> None:
    with pytest.raises(UnknownField, match=f"computed.*lambda x: x.{name}"):
        parse_where(Work, {name: 4})


def test_a_value_that_the_field_can_never_have_is_refused() -> None:
    with pytest.raises(BadFilter, match=r"Work.phase by 'analysys', a value it never has: .*'analysis' or 'build'"):
        parse_where(Work, {"phase": "analysys"}, 'agent "analyzer"')
    with pytest.raises(BadFilter, match=r"Work.score by 1.5"):
        parse_where(Work, {"score": 1.5})
    with pytest.raises(BadFilter, match="'build '"):
        parse_where(Work, {"phase": {"analysis", "build "}})


@pytest.mark.parametrize("where", [{"phase": set()}, [{"n": 1}, {"n": 2}]])
def test_a_filter_that_nothing_can_pass_is_refused(where: Any) -> None:
    with pytest.raises(BadFilter, match="nothing would ever pass"):
        parse_where(Work, where)


async def later(work: Work) -> bool:
    return True


class Later:
    async def __call__(self, work: Work) -> bool:
        return False


@pytest.mark.parametrize("where", ["phase", 3, Work, later, Later(), partial(later), [["phase"]]])
def test_what_is_no_filter_is_refused(where: Any) -> None:
    with pytest.raises(BadFilter, match=r"where= takes a mapping"):
        parse_where(Work, where)


def test_what_would_have_to_be_awaited_is_not_read_as_yes() -> None:
    with pytest.raises(BadFilter, match="coroutine is no answer: a filter is a plain function"):
        passes(lambda w: later(w), Work(n=1))


def test_a_raising_predicate_is_not_read_as_no() -> None:
    with pytest.raises(ZeroDivisionError):
        passes(lambda w: 1 / w.n > 1, Work(n=0))


class Value(BaseModel):
    x: int | float | bool | str | list[int] | datetime | None


@given(
    st.integers()
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.text()
    | st.none()
    | st.datetimes(timezones=st.just(UTC))
)
def test_a_payload_passes_the_filter_made_of_its_own_value(x: Any) -> None:
    value = Value(x=x)
    assert matches(parse_where(Value, {"x": value.x}), value)


def artifact(work: Work, producer: str = "outside", tags: tuple[str, ...] = ()) -> Artifact[Work]:
    return Artifact(1, work, "Work", 1, producer, 0, 1, "r", tags, "medium", None, 0.0)


def test_a_slot_accepts_by_type_producer_tags_and_filter() -> None:
    slot = Slot(
        "Work", Work, where=parse_where(Work, {"n": 1}), producers=frozenset({"ada"}), tags=frozenset({"x", "y"})
    )
    assert accepts(slot, artifact(Work(n=1), "ada", ("y",)))
    assert not accepts(slot, artifact(Work(n=2), "ada", ("y",)))
    assert not accepts(slot, artifact(Work(n=1), "bob", ("y",)))
    assert not accepts(slot, artifact(Work(n=1), "ada", ("z",)))
    assert not accepts(Slot("Other", Work), artifact(Work()))
