"""What new users come up with: models with any field names and features, agents over anything that can be called."""

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, computed_field, create_model, field_validator

from stigmergy import Blackboard, Context, Limits, Progress, Retry, Roster, after, read
from stigmergy.blackboard.errors import BadType, DefinitionError, StigmergyError, StoreError
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, numbers
from tests.trouble import one_line

pytestmark = pytest.mark.anyio

T = TypeVar("T")


# -- models ------------------------------------------------------------------------------------------------------------


class EnvelopeWords(BaseModel):
    type: str = "a"
    id: int = 1
    payload: dict[str, int] = {"x": 1}
    key: str = "k"
    tags: list[str] = ["a"]
    run: str = "r"
    version: int = 2
    cause: int = 5
    seq: int = 9
    at: float = 0.5


class SchemaWords(BaseModel):
    """Words of pydantic's own schemas: what is in these fields is written losslessly all the same."""

    type: Literal["fields"] = "fields"
    metadata: bytes = b"\xff"
    default: bytes = b"\xfe"
    expected: frozenset[str] = frozenset("ab")
    fields: float = float("inf")
    choices: timedelta = timedelta(microseconds=1)


class ModelWords(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    model_name: str = "m"
    model_version: int = 1


class Color(Enum):
    RED = "r"


class Level(IntEnum):
    LOW = 1


@dataclass
class Point:
    x: int
    tags: list[str] = field(default_factory=list)


class Rich(BaseModel):
    color: Color = Color.RED
    levels: dict[Color, Level] = {Color.RED: Level.LOW}
    point: Point = Point(1, ["a"])
    on: date = date(2026, 1, 2)
    at: datetime = datetime(2026, 1, 2, 3, 4, 5, 6, timezone(timedelta(hours=5, minutes=30)))
    amount: Decimal = Decimal("1.10")
    where: Path = Path("a/b")
    who: UUID = UUID(int=7)
    pair: tuple[int, str] = (1, "a")
    names: set[str] = {"b", "a"}
    raw: bytes = b"\xff\0"
    either: int | str | float | None = "1"
    big: int = 10**30


class Cat(BaseModel):
    type: Literal["type"] = "type"
    raw: bytes = b"\xff"


class Dog(BaseModel):
    type: Literal["fields"] = "fields"
    raw: bytes = b"\xfe"


class Pets(BaseModel):
    one: Annotated[Cat | Dog, Field(discriminator="type")]
    all: list[Annotated[Cat | Dog, Field(discriminator="type")]]


class Box(BaseModel, Generic[T]):
    value: T


class Nested(BaseModel, Generic[T]):
    boxes: list[Box[T]]


class Numbers(RootModel[list[int]]):
    pass


class Aliased(BaseModel):
    x: int = Field(alias="the x")


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = 2

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.width**2


class Private(BaseModel):
    x: int = 1
    _seen: int = PrivateAttr(default=3)


class Trimmed(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)

    text: str


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Tree(BaseModel):
    children: list["Tree"] = []


class Nothing(BaseModel):
    pass


class Ünïcode(BaseModel):
    naïve: str = "日本語 🎉 \u202e <b>&amp;"


class Silent(BaseModel):
    """It cannot even be printed; that is its user's business, and no reason to fail."""

    x: int = 1

    def __repr__(self) -> str:
        raise ValueError("not for print")

    __str__ = __repr__


ODD: list[BaseModel] = [
    EnvelopeWords(), SchemaWords(), ModelWords(), Rich(), Pets(one=Dog(), all=[Cat(), Dog()]), Box[int](value=1),
    Box(value="untyped"), Nested[str](boxes=[Box[str](value="a")]), Numbers([1, 2]), Computed(),
    Aliased.model_validate({"the x": 1}), Private(), Trimmed(text=" a "),
    Open.model_validate({"type": 1, "extra": [None]}),
    Tree(children=[Tree(), Tree(children=[Tree()])]), Nothing(), Ünïcode(), Silent(),
]  # fmt: skip


@pytest.mark.parametrize("payload", ODD, ids=lambda p: type(p).__name__)
async def test_any_model_goes_through_a_board_and_can_be_looked_at(new_board: Boards, payload: BaseModel) -> None:
    model = type(payload)
    board = new_board()
    got: list[BaseModel] = []

    async def body(value: BaseModel) -> B:
        got.append(value)
        return B(n=7)

    board.agent("takes").consumes(model).publishes(B).body(body)
    published = await board.publish(payload)
    report = await board.run_until_idle()
    assert report.ok
    assert got == [payload]
    assert published.payload == board.one(model) == payload
    board = await new_board.reopened(board)
    artifact = board.artifacts(model)[0]
    assert artifact.payload == payload
    shown = [report, board, board.report(), board.artifacts(model), artifact, board.why(artifact.id), board.graph()]
    for each in shown:
        assert str(each)
        assert repr(each)
    assert board.report()._repr_html_()
    assert board.graph().mermaid()


@pytest.mark.parametrize("name", ["", " A", "A\nB", "A@1"])
def test_a_type_whose_name_no_id_can_hold_is_refused(name: str) -> None:
    with pytest.raises(BadType) as raised:
        Roster().agent("x").consumes(create_model(name, n=(int, 1)))
    assert "cannot name an artifact type" in str(raised.value)
    assert "\n" not in str(raised.value)


class Counting(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def one_more(cls, n: int) -> int:
        return n + 1


class Excluded(BaseModel):
    secret: str = Field(default="", exclude=True)


class TwoNames(BaseModel):
    n: int = Field(validation_alias="a", serialization_alias="b")


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (Counting(n=1), "Counting.n does not come back from JSON as it was: int came back as another value."),
        (Excluded(secret="s"), "Excluded.secret does not come back from JSON as it was: str came back as another"),
        (TwoNames.model_validate({"a": 1}), "TwoNames.a does not come back from JSON: it is required. Let its aliases"),
    ],
)
async def test_a_model_that_loses_something_is_told_what(new_board: Boards, payload: BaseModel, text: str) -> None:
    board = new_board()
    with pytest.raises(StigmergyError) as raised:
        await board.publish(payload)
    assert text in one_line(raised.value)
    assert board.artifacts().total == 0


async def test_a_generic_model_is_read_from_a_file_under_its_whole_name(file_board: Boards) -> None:
    board = file_board()
    await board.publish(Box[int](value=1))
    await board.publish(Box[str](value="a"))
    await board.close()
    with read(board._store.name, [Box[int]]) as view:
        assert [a.type_name for a in view.artifacts()] == ["Box[int]", "Box[str]"]
        assert view.one(Box[int]).value == 1


# -- agents ------------------------------------------------------------------------------------------------------------


async def by(factor: int, a: A) -> B:
    return B(n=a.n * factor)


class Worker:
    async def method(self, a: A) -> B:
        return B(n=a.n * 2)

    @classmethod
    def of_the_class(cls, a: A) -> B:
        return B(n=a.n * 2)

    @staticmethod
    def static(a: A) -> B:
        return B(n=a.n * 2)

    async def __call__(self, a: A) -> B:
        return B(n=a.n * 2)


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def around(*args: Any, **named: Any) -> Any:
        return await function(*args, **named)

    return around


@wrapped
async def decorated(a: A) -> B:
    return B(n=a.n * 2)


CALLABLES: list[Callable[..., Any]] = [
    functools.partial(by, 2), Worker().method, Worker.of_the_class, Worker.static, Worker(), decorated,
    lambda a: B(n=a.n * 2),
]  # fmt: skip


@pytest.mark.parametrize("function", CALLABLES, ids=lambda f: getattr(f, "__name__", type(f).__name__))
@pytest.mark.parametrize("fluently", [False, True])
async def test_whatever_can_be_called_can_be_a_body(
    new_board: Boards, function: Callable[..., Any], fluently: bool
) -> None:
    board = new_board()
    if fluently:
        board.agent("worker").consumes(A).publishes(B).body(function)
    elif getattr(function, "__name__", "") == "<lambda>":
        pytest.skip("a lambda says nothing of its types")
    else:
        board.agent(name="worker")(function)
    await board.publish(A(n=21))
    assert (await board.run_until_idle()).ok
    assert numbers(board, B) == [42]


async def test_agents_made_in_a_loop_are_agents_each(new_board: Boards) -> None:
    board = new_board()
    for factor in (1, 2, 3):
        board.agent(f"times {factor}").consumes(A).publishes(B).body(functools.partial(by, factor))
    await board.publish(A(n=1))
    assert (await board.run_until_idle()).ok
    assert sorted(numbers(board, B)) == [1, 2, 3]


async def test_a_context_says_whose_it_is(new_board: Boards) -> None:
    board = new_board()
    said: list[str] = []

    @board.agent
    async def speaks(a: A, ctx: Context) -> None:
        said.append(repr(ctx))

    seed = await board.publish(A())
    await board.run_until_idle()
    assert said == [f"Context(speaks@{seed.id + 1} on {seed.ref}, attempt 1)"]


@pytest.mark.parametrize("how", ["awaited", "run_sync", "in a thread", "asyncio.run in a thread"])
async def test_a_board_inside_its_own_body_is_refused_in_words(new_board: Boards, how: str) -> None:
    board = new_board()

    async def awaits(a: A) -> None:
        await board.publish(A())

    async def runs(a: A) -> None:
        board.run_sync(A())

    def runs_in_a_thread(a: A) -> None:
        board.run_sync(A())

    def a_loop_in_a_thread(a: A) -> None:
        asyncio.run(awaits(a))

    bodies = {"awaited": awaits, "run_sync": runs, "in a thread": runs_in_a_thread}
    board.agent("asks").consumes(A).body(bodies.get(how, a_loop_in_a_thread))
    await board.publish(A(n=1))
    [dead] = (await asyncio.wait_for(board.run_until_idle(), 20)).left.dead_letters
    assert dead.error is not None
    assert dead.error.type == "UseContext"
    assert "agent 'asks' uses the board inside its body. Return what it publishes" in dead.error.message
    assert numbers(board, A) == [1]


async def test_an_instance_for_a_class_is_named(new_board: Boards) -> None:
    board: Blackboard = new_board()
    uses: list[Callable[[], object]] = [
        lambda: board.agent("x").consumes(A()),  # type: ignore[call-overload]
        lambda: board.agent("y").consumes(A).publishes(B()),  # type: ignore[call-overload]
        lambda: board.artifacts(A()),  # type: ignore[call-overload]
    ]
    for use in uses:
        with pytest.raises(BadType) as raised:
            use()
        assert " is no artifact type. Give the class" in str(raised.value) or "Give a class" in str(raised.value)


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Limits(cost=2.0), "Limits(cost=2.0): it is exact money, as a text like"),  # type: ignore[arg-type]
        (lambda: Limits(cost="much"), "Limits(cost='much'): it is exact money"),
        (lambda: Limits(cost="-1"), "Limits(cost='-1'): it is exact money"),
        (lambda: Limits(cost="nan"), "Limits(cost='nan'): it is exact money"),
        (lambda: Limits(tokens=1.5), "Limits(tokens=1.5): it is a whole number from 0"),  # type: ignore[arg-type]
        (lambda: Limits(activations=-1), "Limits(activations=-1): it is a whole number from 0, or None"),
        (lambda: Limits(seconds=float("nan")), "Limits(seconds=nan): it is a number from 0, or None"),
        (lambda: Retry(attempts=0), "Retry(attempts=0): it is a whole number from 1."),
        (lambda: Retry(attempts="3"), "Retry(attempts='3'): it is a whole number"),  # type: ignore[arg-type]
        (lambda: Retry(backoff=-1), "Retry(backoff=-1): it is a number of seconds, from 0."),
        (lambda: Roster(concurrency=0), "concurrency=0; it is a whole number from 1."),
        (lambda: Blackboard(concurrency="2"), "concurrency='2'; it is a whole number"),  # type: ignore[arg-type]
        (lambda: Blackboard(limits={"cost": 2}), 'are none. Give Limits(cost="2.00"'),  # type: ignore[arg-type]
        (lambda: Roster(concurrency=True), "concurrency=True; it is a whole number from 1."),
        (lambda: Roster(context=5), "context=5 is no context provider: it has no provide(request)."),  # type: ignore[arg-type]
        (lambda: Blackboard(clock=5), "clock=5 is no clock: it has no now()."),  # type: ignore[arg-type]
        (lambda: Blackboard(run=""), "run='' names no run. Give a name, or leave it out."),
        (lambda: Roster(components=Progress()), "is no list of them. Write components=[…]."),  # type: ignore[arg-type]
        (lambda: Blackboard(components=Progress()), "is no list of them. Write"),  # type: ignore[arg-type]
        (lambda: Roster().agent(None), "None is no function. Define an agent over one, or by its"),  # type: ignore[call-overload]
        (lambda: Roster().agent("x").labels(""), 'agent "x": labels=\'\' is no name.'),
        (lambda: Roster().agent("x").publishes(A, tags=[5]), 'agent "x": tags=5 is no name.'),  # type: ignore[list-item]
        (lambda: after(1e12), "after() is 1e+12 s. Give more than zero and less than forever"),
        (lambda: Blackboard(roster=[by]), "is no Roster. Define the agents on one."),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_an_option_that_makes_no_sense_is_refused_where_it_is_written(make: Callable[[], object], text: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        make()
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("store", [None, "run.db"])
def test_a_durability_that_does_not_exist_is_refused_on_every_store(store: str | None) -> None:
    with pytest.raises(StoreError, match="durability is 'safe'"):
        Blackboard(store, durability="safe")  # type: ignore[arg-type]


async def test_who_wants_to_wait_beyond_all_dates_is_shown_all_the_same(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())

    @board.agent(retry=Retry(attempts=2))
    async def limited(a: A) -> None:
        error = OSError("come again much later")
        error.retry_after = 1e300  # type: ignore[attr-defined]
        raise error

    await board.publish(A())
    report = await board.run_until_idle()
    assert report.reason == "waiting"
    assert "at a time beyond all dates" in str(report)


@pytest.mark.parametrize("store", [5, b"run.db", ["run.db"]])
def test_what_is_no_store_is_refused_at_once(store: Any) -> None:
    with pytest.raises(StoreError) as raised:
        Blackboard(store)
    assert "is no store. Give a file name that ends in .db, a Path, a store, or nothing." in one_line(raised.value)


def test_a_roster_says_what_is_on_it() -> None:
    roster = Roster()
    roster.agent("worker").consumes(A).body(lambda a: None)
    assert repr(roster) == "Roster(1 agent, 0 components)"
