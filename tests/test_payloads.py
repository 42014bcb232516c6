"""Every kind of value that a payload may have comes through publish, body, context, store and reopening as it was."""

import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from ipaddress import IPv4Address
from itertools import count
from pathlib import PurePosixPath
from types import ModuleType
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

import pytest
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, RootModel, SecretStr

from stigmergy import Blackboard, artifact_type, read
from stigmergy.blackboard.errors import (
    BadType,
    InvalidPayload,
    NotRoundTrippable,
    PublishError,
    StigmergyError,
    TypeClash,
)
from tests.boards import B, Boards

pytestmark = pytest.mark.anyio
T = TypeVar("T")


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Rank(IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: float


@dataclass(frozen=True)
class Span:
    start: int
    end: int


class Leaf(BaseModel):
    n: int


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    good: bool


class Page(BaseModel, Generic[T]):
    items: list[T]


class Tree(BaseModel):
    name: str
    children: list["Tree"] = []


class Sample(BaseModel):
    value: Any = None


def sample(annotation: Any) -> type[Sample]:
    """A model whose field has that type."""
    return type("Sample", (Sample,), {"__annotations__": {"value": annotation}, "__module__": __name__})


VALUES: dict[str, tuple[Any, Any]] = {
    "datetime": (datetime, datetime(2026, 11, 20, 14, 30, 1, 123456)),
    "datetime with zone": (datetime, datetime(2026, 11, 20, 14, 30, tzinfo=UTC)),
    "datetime with offset": (
        datetime,
        datetime(2026, 11, 20, 14, 30, tzinfo=timezone(timedelta(hours=-5, minutes=-30))),
    ),
    "date": (date, date(2026, 2, 28)),
    "time": (time, time(23, 59, 59, 999999)),
    "timedelta": (timedelta, timedelta(days=-1, microseconds=1)),
    "uuid": (UUID, UUID("12345678-1234-5678-1234-567812345678")),
    "decimal": (Decimal, Decimal("1234567890.1234567890123456789")),
    "decimal exponent": (Decimal, Decimal("1E-30")),
    "bytes": (bytes, b"\x00\xff\xfe raw \x80"),
    "set": (set[int], {3, 1, 2}),
    "frozenset": (frozenset[str], frozenset({"a", "b"})),
    "tuple": (tuple[int, str, Leaf], (1, "a", Leaf(n=2))),
    "endless tuple": (tuple[int, ...], (1, 2, 3)),
    "named tuple": (Point, Point(1, 2.5)),
    "dataclass": (Span, Span(1, 2)),
    "enum": (Color, Color.BLUE),
    "int enum": (Rank, Rank.HIGH),
    "enum keys": (dict[Color, int], {Color.RED: 1}),
    "int keys": (dict[int, str], {1: "one", -2: "minus two"}),
    "uuid keys": (dict[UUID, int], {UUID(int=7): 7}),
    "nested": (dict[str, list[Leaf]], {"a": [Leaf(n=1), Leaf(n=2)], "b": []}),
    "recursive": (Tree, Tree(name="a", children=[Tree(name="b", children=[Tree(name="c")])])),
    "generic": (Page[Leaf], Page[Leaf](items=[Leaf(n=1)])),
    "generic of dates": (Page[date], Page[date](items=[date(2026, 1, 1)])),
    "discriminated union": (Annotated[Cat | Dog, Field(discriminator="kind")], Dog(good=True)),
    "plain union": (Cat | Dog, Cat(lives=9)),
    "union of scalars, int": (int | str | None, 7),
    "union of scalars, digits": (int | str | None, "7"),
    "union of scalars, none": (int | str | None, None),
    "optional": (Leaf | None, None),
    "literal": (Literal["a", 1, True], 1),
    "bool in a union": (bool | int, True),
    "big int": (int, 2**80),
    "float": (float, 0.1 + 0.2),
    "infinity": (float, float("-inf")),
    "unicode": (str, 'naïve 漢字 🌍 \u2028 \\u0000 "quoted" \n\t'),
    "nul character": (str, "a\0b"),
    "long text": (str, "é" * 100_000),
    "url": (AnyUrl, AnyUrl("https://example.org/a?b=c")),
    "address": (IPv4Address, IPv4Address("127.0.0.1")),
    "path": (PurePosixPath, PurePosixPath("a/b.txt")),
    "json": (Any, {"a": [1, 2.5, None, True, "x", {"deep": []}]}),
    "empty": (dict[str, list[set[int]]], {}),
}


@pytest.mark.req("S3.57")
@pytest.mark.parametrize("name", VALUES)
async def test_a_value_comes_through_publish_body_and_reopening_as_it_was(new_board: Boards, name: str) -> None:
    annotation, value = VALUES[name]
    model = sample(annotation)
    output: type[Sample] = type("Output", (model,), {"__module__": __name__})
    seen: list[Any] = []

    def define(board: Blackboard) -> None:
        async def pass_on(given: Sample) -> Any:
            seen.append(given.value)
            return output(value=given.value)

        board.agent("pass_on").consumes(model).publishes(output).body(pass_on)

    board = new_board()
    define(board)
    made = await board.publish(model(value=value))
    report = await board.run_until_idle()
    report.raise_for_failures()

    again = await new_board.reopened(board)
    define(again)
    await again.publish(model(value=value))
    await again.run_until_idle()
    values = [
        made.payload.value,
        *seen,
        *(a.payload.value for view in (board, again) for kind in (model, output) for a in view.artifacts(kind)),
    ]
    assert len(values) >= 6
    for got in values:
        assert got == value
        assert type(got) is type(value)


async def test_not_a_number_comes_through(new_board: Boards) -> None:
    class Measure(BaseModel):
        value: float

    board = new_board()
    await board.publish(Measure(value=float("nan")))
    assert board.one(Measure).value != board.one(Measure).value


async def test_aliases_defaults_and_field_order_come_through(new_board: Boards) -> None:
    class Record(BaseModel):
        model_config = ConfigDict(populate_by_name=True, extra="allow")
        user_name: str = Field(alias="userName")
        n: int = 3

    board = new_board()
    seen: list[Record] = []

    @board.agent
    async def take(record: Record) -> None:
        seen.append(record)

    record = Record.model_validate({"userName": "x", "more": [1]})
    await board.publish(record)
    (await board.run_until_idle()).raise_for_failures()
    assert seen == [record]
    assert seen[0].model_extra == {"more": [1]}


async def test_a_root_model_may_be_an_artifact(new_board: Boards) -> None:
    class Numbers(RootModel[list[int]]):
        pass

    board = new_board()

    @board.agent
    async def total(numbers: Numbers) -> B:
        return B(n=sum(numbers.root))

    await board.publish(Numbers([1, 2, 3]))
    await board.run_until_idle()
    assert board.one(B).n == 6


class Secretive(BaseModel):
    password: SecretStr


class Dropping(BaseModel):
    shown: int = 1
    dropped: int = Field(default=2, exclude=True)


class Base(BaseModel):
    n: int = 0


class Derived(Base):
    more: int = 1


class Holder(BaseModel):
    base: Base


class Loose(BaseModel):
    value: Any


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (Secretive(password=SecretStr("x")), "password"),
        (Dropping(dropped=5), "dropped"),
        (Holder(base=Derived(more=7)), "base"),
        (Loose(value={1, 2}), "value"),
        (Loose(value=(1, 2)), "value"),
        (Loose(value=datetime(2026, 1, 1)), "value"),
        (Loose(value=object()), "value"),
    ],
    ids=["secret", "excluded", "subclass in a field", "set as any", "tuple as any", "date as any", "object"],
)
async def test_what_would_not_come_back_as_it_was_is_refused_by_its_field(
    new_board: Boards, payload: BaseModel, field: str
) -> None:
    board = new_board()
    with pytest.raises((NotRoundTrippable, PublishError), match=field) as caught:
        await board.publish(payload)
    assert isinstance(caught.value, PublishError)
    await board.publish(B())
    assert board.artifacts().total == 1


async def test_a_raised_version_reads_what_the_old_class_wrote(new_board: Boards) -> None:
    @artifact_type(name="Order")
    class OldOrder(BaseModel):
        amount: int

    @artifact_type(name="Order", version=2, upcast={1: lambda old: {"cents": old["amount"] * 100}})
    class NewOrder(BaseModel):
        cents: int

    board = new_board()
    await board.publish(OldOrder(amount=3))
    await board.run_until_idle()

    again = await new_board.reopened(board)
    seen: list[int] = []

    async def read(orders: list[NewOrder]) -> None:
        seen.extend(order.cents for order in orders)

    again.agent("read").consumes(NewOrder, batch=2, since="start").body(read)
    await again.publish(NewOrder(cents=5))
    (await again.run_until_idle()).raise_for_failures()
    assert seen == [300, 5]
    assert [a.payload.cents for a in again.artifacts(NewOrder)] == [300, 5]


async def test_artifacts_of_a_type_that_this_program_has_no_class_for_are_readable_json(new_board: Boards) -> None:
    board = new_board()
    made = await board.publish(Leaf(n=4))
    again = await new_board.reopened(board)
    [artifact] = again.artifacts("Leaf")
    assert artifact.id == made.id
    assert artifact.payload.model_dump() == {"n": 4}


# -- a class that is defined again -------------------------------------------------------------------------------------


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Runs code as the cells of one notebook: what they define are names of one module."""
    notebook = ModuleType("notebook_of_test")
    monkeypatch.setitem(sys.modules, notebook.__name__, notebook)
    run = count(1)

    def cell(code: str, **names: object) -> dict[str, Any]:
        notebook.__dict__.update(names)
        exec(compile(textwrap.dedent(code), f"<cell {next(run)}>", "exec"), notebook.__dict__)
        return notebook.__dict__

    return cell


SCORE = """
    from pydantic import BaseModel
    class Score(BaseModel):
        value: {kind} = 0
"""
GRADE = """
    @board.agent
    async def grade(score: Score) -> None:
        seen.append((score.value, type(score) is Score))
"""
COUNT = """
    @board.agent(name="count")
    async def count_them(score: Score) -> None: ...
"""


async def test_a_class_may_be_edited_and_defined_again_on_an_open_board(
    new_board: Boards, cell: Callable[..., dict[str, Any]]
) -> None:
    board = new_board()
    seen: list[tuple[object, bool]] = []
    names = cell(SCORE.format(kind="int"), board=board, seen=seen)
    cell(GRADE)
    await board.publish(names["Score"](value=1))
    await board.run_until_idle()

    cell(SCORE.format(kind="float"))
    with pytest.raises(
        TypeClash,
        match=r'\(value: int / value: float\)\. The first is from before .* run the definition of agent "grade" again',
    ):
        await board.publish(names["Score"](value=2.5))
    cell(GRADE)
    await board.publish(names["Score"](value=2.5))
    assert (await board.run_until_idle()).ok
    assert seen == [(1, True), (2.5, True)]
    assert [a.value for a in board.artifacts(names["Score"]).payloads] == [1.0, 2.5]


async def test_whoever_still_uses_a_class_of_before_is_named(
    new_board: Boards, cell: Callable[..., dict[str, Any]]
) -> None:
    board = new_board()
    names = cell(SCORE.format(kind="int"), board=board, seen=[])
    old = names["Score"]
    cell(GRADE)
    cell(COUNT)
    await board.publish(old(value=1))
    cell(SCORE.format(kind="float"))
    cell(GRADE)
    for refused in (board.run_until_idle(), board.publish(names["Score"](value=2.5))):
        with pytest.raises(TypeClash, match=r'The second is from before .*: run the definition of agent "count" again'):
            await refused
    cell(COUNT)
    with pytest.raises(
        TypeClash, match=r"\(value: float / value: int\)\. The second is .*: make the payload anew, or raise"
    ):
        await board.publish(old(value=1))
    assert (await board.run_until_idle()).done == 2


async def test_a_file_is_read_with_the_types_of_a_roster(file_board: Boards) -> None:
    board = file_board()

    @board.agent
    async def take(leaf: Leaf) -> None: ...

    await board.publish(Leaf(n=4))
    with read(board._store.name, types=board.types) as view:
        assert view.get(view.artifacts("Leaf")[0].id).payload == Leaf(n=4)
    for types in (Leaf, ["Leaf"], 5):
        with pytest.raises(BadType):
            read(board._store.name, types=types)  # type: ignore[arg-type]


# -- refused -----------------------------------------------------------------------------------------------------------


async def test_what_was_read_from_a_board_cannot_be_published_as_it_stands(new_board: Boards) -> None:
    board = new_board()
    made = await board.publish(Leaf(n=4))
    with pytest.raises(BadType, match=rf"{made.ref} is on a board already. Give its payload"):
        await board.publish(made)  # type: ignore[type-var]
    again = await new_board.reopened(board)
    with pytest.raises(BadType, match=r"an Opaque payload has lost its type. Import its class"):
        await again.publish(again.get(made.id).payload)
    assert again.artifacts().total == 1


@pytest.mark.parametrize(
    ("upcast", "text"),
    [
        (lambda old: None, "the upcast to version 2 gives no valid Order: Input should be an object"),
        (lambda old: {"cents": "many"}, "the upcast to version 2 gives no valid Order.cents: "),
        (lambda old: {"cents": object()}, "the upcast from version 1 raised PydanticSerializationError: "),
        (lambda old: {"cents": old["price"]}, "the upcast from version 1 raised KeyError: 'price'. Mend it."),
    ],
    ids=["nothing", "invalid", "no data", "raises"],
)
async def test_an_upcast_that_is_wrong_is_named_and_the_board_stays_as_it_is(
    new_board: Boards, upcast: Callable[[Any], Any], text: str
) -> None:
    def order(fields: dict[str, Any], **options: Any) -> type[BaseModel]:
        return artifact_type(name="Order", **options)(type("Order", (BaseModel,), {"__annotations__": fields}))

    board = new_board()
    made = await board.publish(order({"amount": int})(amount=3))
    again = await new_board.reopened(board)
    now = order({"cents": int}, version=2, upcast={1: upcast})
    again.agent("read").consumes(now, since="start").body(lambda order: None)
    for ask in (again.run_until_idle, lambda: list(again.artifacts(now)), lambda: again.get(made.id)):
        with pytest.raises(InvalidPayload) as raised:
            answer: Any = ask()
            await answer
        assert str(raised.value).startswith("Order version 1 cannot be read: " + text)
        assert "\n" not in str(raised.value)
    last = await new_board.reopened(again)
    assert [a.payload.model_dump() for a in last.artifacts("Order")] == [{"amount": 3}]


@pytest.mark.parametrize("payload", ["text", 7, {"n": 1}, Leaf, None], ids=["text", "number", "dict", "class", "none"])
async def test_what_is_no_model_cannot_be_published(new_board: Boards, payload: Any) -> None:
    board = new_board()
    with pytest.raises(BadType, match="is no artifact"):
        await board.publish(payload)
    assert board.artifacts().total == 0


async def test_a_payload_that_was_made_around_its_validation_is_refused(new_board: Boards) -> None:
    board = new_board()
    with pytest.raises(PublishError, match=r"Leaf\.n"):
        await board.publish(Leaf.model_construct(**{"n": "no number"}))  # type: ignore[arg-type]
    assert board.artifacts().total == 0


@pytest.mark.parametrize(
    "options",
    [{"tags": ["\ud800"]}, {"run": "a\0b"}, {"review_by": "\ud800"}, {"priority": "urgent"}, {"key": "\0"}],
    ids=lambda options: next(iter(options)),
)
async def test_an_option_without_a_sensible_value_is_refused(new_board: Boards, options: dict[str, Any]) -> None:
    board = new_board()
    with pytest.raises(StigmergyError):
        await board.publish(Leaf(n=1), **options)
    assert board.artifacts().total == 0


async def test_two_classes_of_one_name_cannot_be_mixed(new_board: Boards) -> None:
    def define(kind: type) -> type[BaseModel]:
        class Score(BaseModel):
            value: kind  # type: ignore[valid-type]

        return Score

    board = new_board()
    await board.publish(define(int)(value=1))
    with pytest.raises(TypeClash, match="two classes are called Score"):
        await board.publish(define(str)(value="x"))
    await board.publish(define(int)(value=2))
    assert board.artifacts("Score").total == 2
