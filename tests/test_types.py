"""Payloads come back from JSON as they were, or are refused with the field named."""

import dataclasses
import json
import math
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    SecretStr,
    SerializeAsAny,
    computed_field,
    field_serializer,
    field_validator,
    model_validator,
)

from stigmergy.blackboard.errors import BadType, InvalidPayload, NotRoundTrippable, TypeClash, UnknownType
from stigmergy.blackboard.opaque import Opaque
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.blackboard.payloads.types import artifact_type, check_text, plain, type_of

T = TypeVar("T")


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


class Inner(BaseModel):
    raw: bytes = b""
    x: float = 0.0


class Special(Inner):
    more: int = 0


@dataclasses.dataclass
class Point:
    x: float
    raw: bytes = b""


class Order(BaseModel):
    id: int
    text: str = ""


class Box(BaseModel, Generic[T]):
    item: T


class Node(BaseModel):
    name: str
    children: list["Node"] = []


class Everything(BaseModel):
    i: int = 0
    f: float = 0.0
    b: bool = True
    s: str = ""
    raw: bytes = b""
    when: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    day: date = date(2026, 1, 1)
    span: timedelta = timedelta(0)
    uid: uuid.UUID = uuid.UUID(int=0)
    money: Decimal = Decimal("0.10")
    color: Color = Color.RED
    level: Level = Level.LOW
    word: Word = Word.YES
    names: set[str] = set()
    fixed: frozenset[int] = frozenset()
    pair: tuple[int, str] = (1, "a")
    many: tuple[bytes, ...] = ()
    table: dict[str, list[Inner]] = {}
    by_number: dict[int, float] = {}
    either: int | str | None = None
    kind: Literal["a", "b"] = "a"
    inner: Inner = Inner()
    point: Point = Point(0.0)
    ip: IPv4Address = IPv4Address("127.0.0.1")
    path: Path = Path("/tmp")
    box: Box[bytes] = Box[bytes](item=b"")
    tree: Node = Node(name="root")
    anything: Any = None


def round_trip(payload: BaseModel) -> BaseModel:
    codec = type_of(type(payload))
    copy, data = codec.encode(payload)
    assert type(copy) is type(payload)
    json.loads(data)
    again, same = codec.encode(copy)
    assert same == data
    assert repr(again) == repr(copy) == repr(codec.decode(data))
    return copy


# -- what comes back ---------------------------------------------------------------------------------------------------

numbers = st.floats()
anywhere = st.datetimes(timezones=st.just(UTC) | st.just(timezone(timedelta(hours=-3, minutes=-30))))
everything = st.builds(
    Everything,
    i=st.integers(),
    f=numbers,
    b=st.booleans(),
    s=st.text(),
    raw=st.binary(),
    when=anywhere | st.datetimes(),
    day=st.dates(),
    span=st.timedeltas(timedelta(days=-999_999), timedelta(days=999_999)),
    uid=st.uuids(),
    money=st.decimals(allow_nan=False, allow_infinity=False),
    color=st.sampled_from(Color),
    names=st.sets(st.text()),
    fixed=st.frozensets(st.integers()),
    pair=st.tuples(st.integers(), st.text()),
    many=st.lists(st.binary()).map(tuple),
    table=st.dictionaries(st.text(), st.lists(st.builds(Inner, raw=st.binary(), x=numbers), max_size=2), max_size=2),
    by_number=st.dictionaries(st.integers(), numbers, max_size=2),
    either=st.none() | st.integers() | st.text(),
    inner=st.builds(Inner, raw=st.binary(), x=numbers),
    point=st.builds(Point, x=numbers, raw=st.binary()),
    box=st.builds(Box[bytes], item=st.binary()),
    anything=st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()),
)


@given(everything)
def test_every_value_that_json_can_hold_comes_back(payload: Everything) -> None:
    copy = round_trip(payload)
    assert isinstance(copy, Everything)
    assert copy is not payload
    assert copy.raw == payload.raw
    assert copy.when == payload.when
    assert copy.span == payload.span
    assert str(copy.money) == str(payload.money)
    assert repr(copy.f) == repr(payload.f)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_infinities_and_nan_come_back_also_inside(value: float) -> None:
    class Nested(BaseModel):
        x: float
        inner: Inner
        many: list[float | None]
        table: dict[str, float]

    payload = Nested(x=value, inner=Inner(x=value), many=[value, None], table={"k": value})
    assert repr(round_trip(payload)) == repr(payload)
    assert b"null" in type_of(Nested).encode(payload)[1]


def test_bytes_are_base64_whatever_the_model_says() -> None:
    class Hex(BaseModel):
        model_config = ConfigDict(ser_json_bytes="hex", val_json_bytes="hex", ser_json_inf_nan="null")
        raw: bytes
        inner: Inner
        x: float

    payload = Hex(raw=b"\xff\x00", inner=Inner(raw=b"\xfe"), x=math.inf)
    copy, data = type_of(Hex).encode(payload)
    assert copy == payload
    assert json.loads(data) == {"raw": "_wA=", "inner": {"raw": "_g==", "x": 0.0}, "x": "Infinity"}


def test_times_keep_their_microseconds_whatever_the_model_says() -> None:
    class Coarse(BaseModel):
        model_config = ConfigDict(ser_json_temporal="milliseconds", ser_json_timedelta="float")
        when: datetime
        span: timedelta

    payload = Coarse(when=datetime(2026, 1, 1, 0, 0, 0, 123_457, UTC), span=timedelta(days=9_999, microseconds=1))
    assert round_trip(payload) == payload


def test_equal_sets_are_written_alike() -> None:
    class Tagged(BaseModel):
        tags: set[str]
        pairs: frozenset[tuple[int, bytes]]
        loose: set[str] | None = None

    words = [str(n) for n in range(100)]
    one = Tagged(tags=set(words), pairs=frozenset({(2, b"\xff"), (10, b"")}), loose={"b", "a"})
    two = Tagged(tags={*words[::-1]}, pairs=frozenset({(10, b""), (2, b"\xff")}), loose={"a", "b"})
    assert round_trip(one) == one
    assert type_of(Tagged).encode(one)[1] == type_of(Tagged).encode(two)[1]
    assert json.loads(type_of(Tagged).encode(one)[1])["tags"] == sorted(words)


def test_computed_fields_are_not_stored_and_do_not_disturb() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)
        n: int

        @computed_field  # type: ignore[prop-decorator]
        @property
        def double(self) -> int:
            return 2 * self.n

    copy, data = type_of(Strict).encode(Strict(n=4))
    assert copy == Strict(n=4)
    assert data == b'{"n":4}'


def test_aliases_and_extra_fields_and_root_models_come_back() -> None:
    class Aliased(BaseModel):
        model_config = ConfigDict(extra="allow")
        long_name: int = Field(alias="longName")

    class Numbers(RootModel[list[float]]):
        pass

    payload = Aliased.model_validate({"longName": 1, "other": [1, {"a": None}]})
    assert round_trip(payload) == payload
    assert type_of(Aliased).encode(payload)[1] == b'{"longName":1,"other":[1,{"a":null}]}'
    assert round_trip(Numbers([1.5, 2.5])) == Numbers([1.5, 2.5])


def test_unions_of_models_come_back_as_the_member_they_were() -> None:
    class A(BaseModel):
        kind: Literal["a"] = "a"
        n: int = 0

    class B(BaseModel):
        kind: Literal["b"] = "b"
        n: int = 0

    class Holder(BaseModel):
        tagged: Annotated[A | B, Field(discriminator="kind")]
        plain: Inner | Order

    payload = Holder(tagged=B(n=3), plain=Order(id=1))
    copy = round_trip(payload)
    assert isinstance(copy, Holder)
    assert type(copy.tagged) is B
    assert type(copy.plain) is Order


def test_the_copy_shares_nothing_with_what_was_given() -> None:
    class Listing(BaseModel):
        model_config = ConfigDict(frozen=True)
        items: list[str]

    given_one = Listing(items=["a"])
    copy, data = type_of(Listing).encode(given_one)
    given_one.items.append("b")
    assert copy == Listing(items=["a"])
    assert type_of(Listing).decode(data) == copy


# -- what is refused ---------------------------------------------------------------------------------------------------


class Loose(BaseModel):
    anything: Any = None
    base: Inner = Inner()
    shown: SerializeAsAny[Inner] = Inner()
    listed: list[Inner] = []
    by_name: dict[str, Inner] = {}
    secret: SecretStr = SecretStr("")
    hidden: str = Field(default="", exclude=True)
    set_or_list: list[str] | set[str] = []
    tuple_or_list: list[int] | tuple[int, ...] = []
    number: int = 0
    text: str = ""
    deep: dict[str, list[dict[str, Any]]] = {}
    keyed: dict[tuple[int, int], int] = {}
    _mine: int = PrivateAttr(default=0)


def private(value: int) -> Loose:
    payload = Loose()
    payload._mine = value
    return payload


def changed(**values: object) -> Loose:
    payload = Loose()
    for name, value in values.items():
        setattr(payload, name, value)
    return payload


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Loose(anything=Order(id=1)), "Loose.anything"),
        (lambda: Loose(anything={1, 2}), "Loose.anything"),
        (lambda: Loose(anything=(1, 2)), "Loose.anything"),
        (lambda: Loose(anything=b"\xff"), "Loose.anything"),
        (lambda: Loose(anything=math.inf), "Loose.anything"),
        (lambda: Loose(anything=object()), "Loose.anything"),
        (lambda: Loose(anything=lambda: 1), "Loose.anything"),
        (lambda: Loose(anything=datetime(2026, 1, 1)), "Loose.anything"),
        (lambda: Loose(base=Special(more=1)), "Loose.base"),
        (lambda: Loose(shown=Special(more=1)), "Loose.shown"),
        (lambda: Loose(listed=[Inner(), Special(more=1)]), "Loose.listed.1"),
        (lambda: Loose(by_name={"a": Inner(), "b": Special()}), "Loose.by_name.b"),
        (lambda: Loose(secret=SecretStr("hunter2")), "Loose.secret"),
        (lambda: Loose(hidden="hunter2"), "Loose.hidden"),
        (lambda: Loose(set_or_list={"a"}), "Loose.set_or_list"),
        (lambda: Loose(tuple_or_list=(1,)), "Loose.tuple_or_list"),
        (lambda: Loose(deep={"a": [{}, {"b": {"c": {1}}}]}), "Loose.deep.a.1.b.c"),
        (lambda: Loose(deep={"a": [{}, {"b": {"c": object()}}]}), "Loose.deep.a.1.b.c"),
        (lambda: Loose(text="\ud800"), "Loose.text"),
        (lambda: Loose(deep={"a": [{}, {"b": "\ud800"}]}), "Loose.deep.a.1.b"),
        (lambda: Loose(keyed={(1, 2): 3}), "Loose.keyed.1,2.[key]"),
        (lambda: private(1), "Loose._mine"),
        (lambda: changed(number="five"), "Loose.number"),
        (lambda: changed(number="5"), "Loose.number"),
        (lambda: changed(listed=[Inner(), 7]), "Loose.listed.1"),
    ],
)  # fmt: skip
def test_what_would_come_back_different_is_refused_by_name(make: Callable[[], Loose], field: str) -> None:
    with pytest.raises(NotRoundTrippable) as caught:
        type_of(Loose).encode(make())
    assert str(caught.value).startswith(f"{field} "), str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_validator_that_changes_its_own_result_is_refused() -> None:
    class Shouting(BaseModel):
        text: str

        @field_validator("text")
        @classmethod
        def louder(cls, text: str) -> str:
            return text + "!"

    with pytest.raises(NotRoundTrippable, match=r"^Shouting\.text does not come back from JSON as it was"):
        type_of(Shouting).encode(Shouting(text="a"))


def test_code_of_the_user_that_raises_is_a_refusal() -> None:
    class Picky(BaseModel):
        n: int
        made: int = 0

        @model_validator(mode="after")
        def only_once(self) -> Self:
            if self.n > 5:
                raise KeyError("too much")
            return self

    class Mute(BaseModel):
        inner: dict[str, Inner]
        text: str = ""

        @field_serializer("text")
        def no(self, text: str) -> str:
            raise LookupError("no words")

    class Stubborn(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        n: Annotated[Any, BeforeValidator(lambda value: Unequal())]

        @field_serializer("n")
        def written(self, n: object) -> str:
            return "n"

    with pytest.raises(NotRoundTrippable, match="KeyError"):
        type_of(Picky).encode(Picky.model_construct(n=6))
    with pytest.raises(NotRoundTrippable, match=r"^Mute\.text cannot be written"):
        type_of(Mute).encode(Mute(inner={"a": Inner()}))
    with pytest.raises(NotRoundTrippable):
        type_of(Stubborn).encode(Stubborn(n=1))


class Unequal:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


def test_aliases_that_read_and_write_differently_are_refused() -> None:
    class Crossed(BaseModel):
        n: int = Field(validation_alias=AliasChoices("a", "b"), serialization_alias="c")

    with pytest.raises(NotRoundTrippable, match=r"^Crossed\.a does not come back from JSON: it is required"):
        type_of(Crossed).encode(Crossed.model_validate({"a": 1}))


def test_an_instance_of_a_subclass_is_not_written_as_its_base() -> None:
    with pytest.raises(NotRoundTrippable, match="Special came back as Inner"):
        type_of(Inner).encode(Special())


# -- types -------------------------------------------------------------------------------------------------------------


def test_a_type_knows_its_name_version_and_the_fields_the_board_cares_about() -> None:
    @artifact_type(name="work", version=3, upcast={1: dict, 2: dict})
    class Work(BaseModel):
        work_id: str | None = None
        blocking_work_ids: list[str] = []
        priority: str = "low"
        phase: str = ""

    found = type_of(Work)
    assert (found.name, found.version, found.model) == ("work", 3, Work)
    assert (found.has_work, found.has_blocking, found.has_priority, found.has_phase) == (True,) * 4
    assert (found.has_parent, found.has_tags) == (False, False)
    assert sorted(found.upcasts) == [1, 2]
    assert type_of(Work) is found

    class Sub(Work):
        pass

    assert (type_of(Sub).name, type_of(Sub).version, dict(type_of(Sub).upcasts)) == ("Sub", 1, {})
    assert type_of(Sub).model is Sub
    assert type_of(Box[int]).name == "Box[int]"


def test_the_decorator_works_after_the_type_was_used() -> None:
    class Late(BaseModel):
        n: int = 0

    assert type_of(Late).name == "Late"
    artifact_type(name="late")(Late)
    assert type_of(Late).name == "late"


@pytest.mark.parametrize("no_model", [int, BaseModel, "Order", None, Order(id=1), list[int]])
def test_only_models_are_types(no_model: Any) -> None:
    with pytest.raises(BadType, match="is no artifact type"):
        type_of(no_model)


def test_a_model_with_an_unknown_annotation_is_no_type() -> None:
    class Dangling(BaseModel):
        other: "Nowhere"  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(BadType, match="Dangling cannot be used"):
        type_of(Dangling)


@pytest.mark.parametrize(
    "bad",
    [
        *({"name": name} for name in ("", "a b", "a@1", "a\nb", 5)),
        *({"version": version} for version in (0, -1, True, 1.5, "2", None)),
        *({"version": 2, "upcast": upcast} for upcast in ({2: dict}, {"1": dict}, {0: dict}, {1: 5}, [dict], 5)),
        {"upcast": {1: dict}},
    ],
    ids=str,
)
def test_names_and_versions_that_cannot_work_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(BadType, match="@artifact_type"):
        artifact_type(**bad)


def define(field_type: Any, *, version: int = 1, doc: str = "", **more: Any) -> type[BaseModel]:
    """A class Score, defined again as in a notebook cell."""

    class Score(BaseModel):
        __doc__ = doc
        value: field_type = Field(description=doc, **more)

    return artifact_type(version=version)(Score)


def test_a_class_that_is_defined_again_replaces_the_old_one() -> None:
    table = TypeTable()
    first, second = define(float, doc="Once."), define(float, doc="Twice.")
    old = table.add(first)
    new = table.add(second)
    assert old.schema == new.schema
    assert len(old.schema) == 16
    assert table.get("Score") is new
    _, data = old.encode(first(value=1.0))
    assert type(table.decode("Score", 1, data)) is second


def test_two_classes_with_one_name_and_other_fields_clash() -> None:
    table = TypeTable()
    table.add(define(float))
    with pytest.raises(
        TypeClash, match=r"two classes are called Score and their fields differ \(value: float / value: int\)"
    ):
        table.add(define(int))
    with pytest.raises(TypeClash, match="defaults or constraints"):
        table.add(define(float, gt=0))
    assert table.add(define(int, version=2)).version == 2
    with pytest.raises(TypeClash):
        table.add(define(float))


def test_a_field_called_description_counts() -> None:
    class A(BaseModel):
        description: str = ""
        title: str = ""

    class B(BaseModel):
        description: str = ""

    assert type_of(A).schema != type_of(artifact_type(name="A")(B)).schema


# -- reading what is stored --------------------------------------------------------------------------------------------


def upgraded() -> type[BaseModel]:
    @artifact_type(
        version=3,
        upcast={1: lambda old: {**old, "unit": "m"}, 2: lambda old: {"length": old["size"], "unit": old["unit"]}},
    )
    class Size(BaseModel):
        length: float
        unit: str

    return Size


def test_old_versions_are_brought_up_step_by_step() -> None:
    table = TypeTable()
    size = table.add(upgraded()).model
    expected = size(length=2, unit="m")
    assert table.decode("Size", 1, b'{"size":2}') == expected
    assert table.decode("Size", 2, b'{"size":2,"unit":"m"}') == expected
    assert table.decode("Size", 3, b'{"length":2,"unit":"m"}') == expected


@pytest.mark.parametrize(
    ("version", "data", "match"),
    [
        (4, b"{}", "Size version 4 is newer than this program's version 3"),
        (2, b"{}", "Size version 2 cannot be read: the upcast from version 2 raised KeyError: 'size'"),
        (0, b"{}", "there is no upcast from version 0"),
        (3, b'{"unit":"m"}', r"Size\.length: it is required\. It was stored when Size had other fields"),
    ],
)
def test_what_cannot_be_read_says_why(version: int, data: bytes, match: str) -> None:
    table = TypeTable()
    table.add(upgraded())
    with pytest.raises(InvalidPayload, match=match):
        table.decode("Size", version, data)


def test_an_unknown_type_is_read_as_what_it_is() -> None:
    payload = TypeTable().decode("Unheard", 7, b'{"a":[1,null]}')
    assert isinstance(payload, Opaque)
    assert payload.root == {"a": [1, None]}


# -- seed files --------------------------------------------------------------------------------------------------------


class Task(BaseModel):
    model_config = ConfigDict(extra="forbid")
    description: str
    priority: Literal["low", "medium", "high", "critical"] = "medium"
    color: Color = Color.RED
    size: int = 1
    items: list[Inner] = []


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (
            {"description": "a", "priority": "urgent"},
            "Task.priority: 'urgent' is not one of low, medium, high, critical.",
        ),
        ({"description": "a", "color": "green"}, "Task.color: 'green' is not one of red, blue."),
        ({}, "Task.description: it is required."),
        ({"description": "a", "prioriti": "low"}, "Task.prioriti: there is no such field; did you mean 'priority'."),
        ({"description": "a", "zzz": "low"}, "Task.zzz: there is no such field."),
        ({"description": "a", "items": [{}, {"x": "no"}]}, "Task.items.1.x: Input should be a valid number"),
        ({"size": "no"}, "Task.description: it is required (1 more)."),
        ([], "Task: "),
        (None, "Task: "),
    ],
)
def test_a_wrong_seed_is_named_by_line_and_field(payload: object, message: str) -> None:
    table = TypeTable()
    table.add(Task)
    with pytest.raises(InvalidPayload) as caught:
        table.parse("Task", 1, payload, where="seeds.jsonl:7")
    assert str(caught.value).startswith(f"seeds.jsonl:7: {message}")
    assert "\n" not in str(caught.value)


def test_a_seed_is_read_as_json_of_any_version() -> None:
    table = TypeTable()
    table.add(Task)
    table.add(upgraded())
    found = table.parse(
        "Task", 1, {"description": "a", "color": "blue", "items": [{"raw": "_w==", "x": "NaN"}]}, where="-:1"
    )
    assert isinstance(found, Task)
    assert found.color is Color.BLUE
    assert found.items[0].raw == b"\xff"
    assert table.parse("Size", 1, {"size": 2}, where="-:1") == table.decode("Size", 1, b'{"size":2}')


def test_an_unknown_type_in_a_seed_file_gets_a_suggestion() -> None:
    table = TypeTable()
    with pytest.raises(UnknownType, match="Known are: none"):
        table.parse("Task", 1, {}, where="s:1")
    table.add(Task)
    table.add(Order)
    with pytest.raises(UnknownType, match=r"^s:1: there is no artifact type 'Tsk'\. Did you mean 'Task'\?$"):
        table.parse("Tsk", 1, {}, where="s:1")
    with pytest.raises(UnknownType, match="Known are: Order, Task"):
        table.parse("zzzz", 1, {}, where="s:1")


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["a", "", 0, 1, -(10**30), None, 1.5])
def test_scalars_are_their_own_key(value: object) -> None:
    assert plain(value) == value
    assert type(plain(value)) is type(value)


def test_keys_are_equal_exactly_when_their_json_is() -> None:
    assert plain(1) != plain(True)
    assert plain(0) != plain(False)
    assert plain(True) == plain(True)
    assert plain("1") != plain(1)
    assert plain(1.0) == plain(1)
    assert json.dumps(plain(1.0)) == json.dumps(plain(1))
    assert plain(math.nan) == plain(math.nan)
    assert plain([1]) != plain([True])
    assert plain([1, "a"]) != plain('[1,"a"]')
    assert plain({"a": 1, "b": 2}) == plain({"b": 2, "a": 1})
    assert plain({"x", "y", "z"}) == plain(frozenset({"z", "y", "x"}))
    assert plain(Order(id=1)) == plain({"id": 1, "text": ""})
    assert plain((1, 2)) == plain([1, 2])
    assert plain(Color.RED) == "red"
    assert plain(Level.LOW) == 1
    assert plain(Word.YES) == "yes"
    assert type(plain(Word.YES)) is str
    assert plain(b"\xff") == plain(b"\xff")
    assert plain(uuid.UUID(int=1)) == str(uuid.UUID(int=1))
    assert plain(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00Z"


@given(everything)
def test_every_field_can_be_a_key_and_says_the_same_after_storage(payload: Everything) -> None:
    copy = round_trip(payload)
    for name in Everything.model_fields:
        key = plain(getattr(payload, name))
        assert hash(key) == hash(plain(getattr(copy, name)))
        assert key == plain(getattr(copy, name))


@pytest.mark.parametrize("bad", ["a\0b", "\ud800", "é\udfff"])
def test_names_that_no_file_can_hold_are_refused_early(bad: str) -> None:
    with pytest.raises(InvalidPayload, match=r"^key .* cannot be stored"):
        check_text("key", bad)
    check_text("key", "é 🌍 \n")
