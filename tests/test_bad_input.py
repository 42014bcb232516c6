"""What users get wrong: a typed error in one line that says what to do, and the board goes on as it was."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

import pytest
from pydantic import BaseModel

from stigmergy import Blackboard, Completion, PhaseContextProvider, WorkDiscovery, read
from stigmergy.blackboard import errors
from stigmergy.blackboard.errors import StigmergyError
from stigmergy.blackboard.events import Redriven
from tests.boards import A, B, Boards, C, numbers
from tests.trouble import goes_on, one_line, with_a_witness

pytestmark = pytest.mark.anyio


# -- what is published -------------------------------------------------------------------------------------------------


def work(**fields: Any) -> WorkDiscovery:
    return WorkDiscovery(**{"description": "d", "phase": "analysis", "done_definition": "x", **fields})


def described(text: str) -> WorkDiscovery:
    return work().model_copy(update={"description": text})


class Anything(BaseModel):
    value: Any = None


def looped() -> Anything:
    loop = Anything()
    loop.value = loop
    return loop


REFUSED: list[tuple[str, Callable[[], Any], type[StigmergyError], str]] = [
    ("unknown phase", lambda: work(phase="anlysis"), errors.UnknownPhase, "Did you mean 'analysis'?"),
    ("empty description", lambda: described(""), errors.NotRoundTrippable, "should have at least 1 character"),
    ("blank description", lambda: described(" "), errors.NotRoundTrippable, "must not be blank"),
    ("long description", lambda: described("x" * 10_001), errors.NotRoundTrippable, "at most 10000 characters"),
    ("unknown parent", lambda: work(parent_work_id="gone"), errors.UnknownWork, "has no such work_id"),
    ("blocks itself", lambda: work(work_id="a", blocking_work_ids=["a"]), errors.BlockingCycle, "a -> a. Remove"),
    ("wrong type", lambda: A().model_copy(update={"n": "three"}), errors.NotRoundTrippable, "A.n does not come back"),
    ("a function", lambda: Anything(value=len), errors.NotRoundTrippable, "Anything.value cannot be written as JSON"),
    ("a cycle", looped, errors.NotRoundTrippable, "Anything.value cannot be written as JSON"),
    ("lone surrogate", lambda: A(key="\ud800"), errors.NotRoundTrippable, "A.key cannot be written as JSON"),
    ("a set of bytes", lambda: Anything(value={b"\xff"}), errors.NotRoundTrippable, "Anything.value"),
    ("100 MB", lambda: A(key="x" * 100_000_000), errors.PayloadTooLarge, "Store large data in a file"),
    ("a class", lambda: A, errors.BadType, "Give an instance: A(…)"),
    ("a dictionary", lambda: {"n": 1}, errors.BadType, "Use a subclass of pydantic.BaseModel"),
    ("nothing", lambda: None, errors.BadType, "Use a subclass of pydantic.BaseModel"),
]  # fmt: skip


@pytest.mark.parametrize(("payload", "error", "text"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
async def test_what_cannot_be_published_is_refused_whole(
    new_board: Boards, payload: Callable[[], Any], error: type[StigmergyError], text: str
) -> None:
    board = with_a_witness(new_board(context=PhaseContextProvider()))
    await board.publish(A(n=1))
    for payloads in ([payload()], [A(n=2), payload()]):
        with pytest.raises(error) as raised:
            await board.publish_many(payloads)
        assert text in one_line(raised.value)
    assert numbers(board, A) == [1]
    await goes_on(board)


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"key": 5}, "key 5 is int. It is a text: give a str."),
    ({"key": "\0"}, "key '\\x00' has a character that cannot be stored"),
    ({"tags": [5]}, "tag 5 is int"),
    ({"tags": None}, "tags=None are no tags. Give a list of texts."),
    ({"run": 5}, "run 5 is int"),
    ({"priority": "urgent"}, "priority 'urgent' is not one of low, medium, high, critical."),
    ({"priority": ["high"]}, "priority ['high'] is not one of low, medium, high, critical."),
    ({"visibility": "me"}, "visibility='me' is none of private(…), labelled(…), tenant(…), after(…)."),
]


@pytest.mark.parametrize(("options", "text"), OPTIONS, ids=[str(o[0]) for o in OPTIONS])
async def test_options_that_make_no_sense_are_refused(new_board: Boards, options: dict[str, Any], text: str) -> None:
    board = with_a_witness(new_board())
    with pytest.raises(StigmergyError) as raised:
        await board.publish(A(), **options)
    assert text in one_line(raised.value)
    await goes_on(board)


async def test_of_several_payloads_the_refused_one_is_told(new_board: Boards) -> None:
    board = new_board()
    with pytest.raises(errors.DuplicateWork) as raised:
        await board.publish_many([work(work_id="a"), work(work_id="b"), work(work_id="b")])
    assert raised.value.position == 2
    assert board.artifacts().total == 0


async def test_the_same_work_with_the_same_key_is_published_once(new_board: Boards) -> None:
    class Job(BaseModel):
        work_id: str

    board = new_board()
    once = await board.publish(Job(work_id="a"), key="k")
    assert (await board.publish(Job(work_id="a"), key="k")).id == once.id


async def test_work_that_waits_for_an_unknown_id_is_named_at_idle(new_board: Boards) -> None:
    board = with_a_witness(new_board())
    board.agent("worker").consumes(WorkDiscovery).body(lambda item: None)
    blocked = await board.publish(work(work_id="b", blocking_work_ids=["gone"]))
    report = await board.run_until_idle()
    assert report.reason == "deadlock"
    assert report.detail == f"1 can never start; worker@{blocked.id + 1} waits for work 'gone'"
    await board.publish(work(work_id="gone"))
    assert (await board.run_until_idle()).reason == "idle"
    await goes_on(board)


# -- verbs and reads ---------------------------------------------------------------------------------------------------

Ask = Callable[[Any], Any]
"""A board is asked for something that no type checker would let pass."""

ASKED: list[tuple[str, Ask, type[StigmergyError], str]] = [
    ("count of none", lambda b: b.run_until(B, count=0), errors.DefinitionError, "count=0; it is a whole number"),
    ("count of text", lambda b: b.run_until(B, count="two"), errors.DefinitionError, "count='two'"),
    ("goal of no type", lambda b: b.run_until("B"), errors.BadType, "'B' is no artifact type"),
    ("goal of no field", lambda b: b.run_until(B, where={"m": 1}), errors.UnknownField, "it has no such field"),
    ("no time", lambda b: b.run_until_idle(timeout=0), errors.DefinitionError, "timeout= is 0 s. Give more than zero"),
    ("time as text", lambda b: b.run_until_idle(timeout="5"), errors.DefinitionError, "Give seconds or a timedelta."),
    ("horizon behind", lambda b: b.run_until_idle(horizon=-1), errors.DefinitionError, "horizon= is -1 s."),
    ("cancel nothing", lambda b: b.cancel(99), errors.NotFound, "99 is no activation."),
    ("cancel an artifact", lambda b: b.cancel(1), errors.NotFound, "1 is no activation."),
    ("cancel a word", lambda b: b.cancel("it"), errors.NotFound, "Ids are written 12 or Type@12."),
    ("retry nothing", lambda b: b.retry(99), errors.NotFound, "99 is no activation."),
    ("retry a word", lambda b: b.retry("it"), errors.NotFound, "Ids are written 12 or Type@12."),
    ("one for many", lambda b: b.publish_many(A()), errors.BadType, "A(n=0, key='') is no list of them."),
    ("none for many", lambda b: b.publish_many(None), errors.BadType, "None is no list of them."),
    ("lists in a list", lambda b: b.publish_many([[A()]]), errors.BadType, "list is no artifact type."),
    ("no such file", lambda b: b.publish_file("no.jsonl"), errors.SeedError, "no.jsonl cannot be read: No such file"),
    ("watch after a word", lambda b: anext(b.watch("x")), errors.NotFound, "after='x' is no position."),
    ("no name", lambda b: b.publish_file(None), errors.SeedError, "None is no file name. Give that of a .jsonl"),
    ("NUL in a name", lambda b: b.publish_file("a\0.json"), errors.SeedError, "cannot be read: embedded null byte."),
    ("type of seeds", lambda b: b.publish_file("a.json", type_name=A), errors.SeedError, "Give the name of"),
    ("no seed file", lambda b: b.publish_file("no.csv"), errors.SeedError, "seed files end in .jsonl or .json."),
]  # fmt: skip
READ: list[tuple[str, Ask, type[StigmergyError], str]] = [
    ("get a word", lambda b: b.get("it"), errors.NotFound, "'it' is no id. Ids are written 12 or Type@12."),
    ("get a number", lambda b: b.get(1.5), errors.NotFound, "1.5 is no id."),
    ("get nothing", lambda b: b.get(99), errors.NotFound, "there is no artifact 99: the last position is"),
    ("why nothing", lambda b: b.why(99), errors.NotFound, "there is nothing at 99."),
    ("yesterday", lambda b: b.at("yesterday"), errors.NotFound, "Give a position, or a datetime."),
    ("one of none", lambda b: b.one(B), errors.NotExactlyOne, "one B was asked for; there is none."),
    ("no filter of anything", lambda b: b.artifacts(where=5), errors.BadFilter, "filters by 5; where= takes a mapping"),
    ("no filter of a name", lambda b: b.artifacts("X", where=["n"]), errors.BadFilter, "filters by 'n'; where= takes"),
    ("a moment of bool", lambda b: b.at(True), errors.NotFound, "True is no moment of a board."),
    ("events after a word", lambda b: b.events("x"), errors.NotFound, "after='x' is no position."),
    ("no agent", lambda b: b.find(5), errors.NotFound, "There is no agent 5."),
    ("fold a class", lambda b: b.fold(Completion), errors.BadComponent, "Give an instance of a class derived from"),
    ("limit of bool", lambda b: b.artifacts(A, limit=True), errors.BadFilter, "limit=True is no number."),
    ("no filter", lambda b: b.artifacts(A, where="n"), errors.BadFilter, "where= takes a mapping"),
    ("no type", lambda b: b.artifacts(5), errors.BadType, "Give a class, or the name of one."),
    ("producer", lambda b: b.artifacts(A, producer=5), errors.BadFilter, "producer=5 is no agent or component."),
    ("tags", lambda b: b.artifacts(A, tags=5), errors.BadFilter, "tags=5 are no tags."),
    ("limit of text", lambda b: b.artifacts(A, limit="x"), errors.BadFilter, "limit='x' is no number."),
    ("a picture of no form", lambda b: b.graph().save("a.png"), errors.BadFileName, "a.png has an unknown ending."),
    ("a picture without name", lambda b: b.graph().save(None), errors.BadFileName, "None is no file name."),
    ("a picture nowhere", lambda b: b.graph().save("no/a.svg"), errors.BadFileName, "No such file or directory"),
    ("a picture with NUL", lambda b: b.graph().save("a\0.svg"), errors.BadFileName, "cannot be written: embedded null"),
    ("no file to read", lambda b: read(cast("Any", None)), errors.StoreError, "None is no board file. Give its name."),
    ("limit", lambda b: b.artifacts(A, limit=-1), errors.BadFilter, "limit=-1 lists nothing."),
]


@pytest.mark.parametrize(("ask", "error", "text"), [a[1:] for a in ASKED], ids=[a[0] for a in ASKED])
async def test_a_verb_says_what_is_wrong_with_its_arguments(
    new_board: Boards, ask: Ask, error: type[StigmergyError], text: str
) -> None:
    board = with_a_witness(new_board())
    await board.publish(A(n=1))
    with pytest.raises(error) as raised:
        await ask(board)
    assert text in one_line(raised.value)
    await goes_on(board)


async def test_positions_before_the_first_and_after_the_last_are_the_ends_of_the_log(new_board: Boards) -> None:
    board = with_a_witness(new_board())
    await board.publish(A(n=1))
    await board.run_until_idle()
    everything = list(board.events())
    assert list(board.events(-5)) == everything
    assert list(board.events(10**30)) == []
    assert [await anext(board.watch(-5))] == everything[:1]
    assert board.at(-5).last == board.at(datetime(1, 1, 1)).last == 0
    assert board.at(10**30).last == board.last
    assert numbers(board.at(10**30), C) == [1]


@pytest.mark.parametrize(("ask", "error", "text"), [a[1:] for a in READ], ids=[a[0] for a in READ])
async def test_a_read_says_what_is_wrong_with_its_arguments(
    new_board: Boards, ask: Ask, error: type[StigmergyError], text: str
) -> None:
    board = new_board()
    await board.publish(A(n=1))
    with pytest.raises(error) as raised:
        ask(board)
    assert text in one_line(raised.value)


async def test_a_goal_whose_filter_raises_ends_the_run_and_loses_nothing(new_board: Boards) -> None:
    board = with_a_witness(new_board())
    await board.publish_many([A(n=n) for n in range(20)])
    with pytest.raises(errors.BadFilter, match=r"where= raised ZeroDivisionError for C@\d+: division") as raised:
        await asyncio.wait_for(board.run_until(C, where=lambda c: c.n < 1 / 0), 20)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    assert (await board.run_until_idle()).reason == "idle"
    assert sorted(numbers(board, C)) == list(range(20))


async def test_several_dead_letters_are_tried_again_all_or_none(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def fails(a: A) -> None:
        raise ValueError("no")

    await board.publish_many([A(), A()])
    first, second = (d.activation for d in (await board.run_until_idle()).left.dead_letters)
    with pytest.raises(errors.NotFound):
        await board.retry(first, 1)
    assert (await board.run_until_idle()).dead == 2
    assert not any(isinstance(e, Redriven) for e in board.events())
    await board.retry(first, f"fails@{second}", first)
    assert (await board.run_until_idle()).dead == 2
    assert sum(isinstance(e, Redriven) for e in board.events()) == 2
    with pytest.raises(errors.NotFound, match="was tried again already"):
        await board.retry(first)


@pytest.mark.parametrize("closing", [False, True], ids=["new agent", "close"])
async def test_watching_outlives_a_new_agent_and_ends_when_the_board_is_closed(
    new_board: Boards, closing: bool
) -> None:
    board: Blackboard = with_a_witness(new_board())
    await board.publish(A(n=1))
    kinds: list[str] = []
    watched = asyncio.Event()

    async def watch() -> None:
        async for event in board.watch():
            kinds.append(type(event).__name__)
            if kinds.count("Completed") == 2:
                watched.set()

    watching = asyncio.create_task(watch())
    await board.run_until_idle()
    board.agent("late").consumes(A).body(lambda a: None)
    await board.publish(A(n=2))
    await board.run_until_idle()
    await asyncio.wait_for(watched.wait(), 10)
    if closing:
        await board.close()
        await asyncio.wait_for(watching, 10)
        assert kinds[-1] == "Closed"
    watching.cancel()


async def test_why_takes_an_artifact(new_board: Boards) -> None:
    board, other = with_a_witness(new_board()), new_board()
    a = await board.publish(A(n=1))
    b = await with_a_witness(other).publish(B(n=1))
    await board.run_until_idle()
    assert str(board.why(a)) == str(board.why(a.id)) == str(board.why(a.ref))
    assert str(board.why_not("witness", a)) == str(board.why_not("witness", a.id))
    with pytest.raises(errors.NotFound, match=f"there is no B@{b.id}"):
        board.why(b)


async def test_a_body_may_run_another_board_and_is_refused_its_own(new_board: Boards) -> None:
    board, other = new_board(), with_a_witness(new_board())
    told: list[str] = []

    @board.agent
    async def asks(a: A) -> B:
        inside = with_a_witness(Blackboard())
        await inside.publish(A(n=a.n))
        await inside.run_until_idle()
        await other.publish(A(n=10 * a.n))
        await other.run_until_idle()
        with pytest.raises(errors.UseContext) as raised:
            await board.publish(A())
        told.append(one_line(raised.value))
        return B(n=sum(numbers(inside, C) + numbers(other, C)))

    @board.agent
    async def after_it(a: A) -> None:
        with pytest.raises(errors.UseContext, match="agent 'after_it' uses the board"):
            board.run_sync()

    await board.publish(A(n=1))
    report = await board.run_until_idle()
    assert (report.dead, report.done) == (0, 2)
    assert numbers(board, B) == [11]
    [told_once] = told
    assert told_once.startswith("agent 'asks' uses the board inside its body. ")


async def test_a_body_of_a_board_inside_a_body_may_not_use_the_outer_one(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def outer(a: A) -> None:
        inside = Blackboard()

        @inside.agent
        async def inner(b: B) -> None:
            with pytest.raises(errors.UseContext, match="agent 'outer' uses the board"):
                await board.publish(A())

        await inside.publish(B())
        (await inside.run_until_idle()).raise_for_failures()

    await board.publish(A())
    assert (await board.run_until_idle()).ok
    await goes_on(with_a_witness(board))


# -- predicates --------------------------------------------------------------------------------------------------------


async def test_a_predicate_that_nobody_awaits_is_a_dead_letter_and_lets_nothing_pass(new_board: Boards) -> None:
    board = with_a_witness(new_board())
    ran: list[int] = []

    async def large(a: A) -> bool:
        return a.n > 5

    board.agent("picky").consumes(A, where=lambda a: large(a)).body(lambda a: ran.append(a.n))  # type: ignore[arg-type,return-value]
    board.agent("pair").consumes(A, B, where=[lambda x: large(x)]).body(lambda a, b: ran.append(a.n))  # type: ignore[list-item,arg-type,return-value]
    await board.publish(A(n=1))
    report = await board.run_until_idle()
    assert [(d.agent, d.error.type) for d in report.left.dead_letters if d.error] == [
        ("picky", "BadFilter"),
        ("pair", "BadFilter"),
    ]
    assert "a filter of 'picky' raised: coroutine is no answer" in str(report)
    assert ran == []
    with pytest.raises(errors.BadFilter, match="coroutine is no answer"):
        list(board.artifacts(A, where=lambda a: large(a)))  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("error", [ValueError("no"), RecursionError(), MemoryError()], ids=lambda e: type(e).__name__)
async def test_a_predicate_that_raises_is_a_dead_letter(new_board: Boards, error: Exception) -> None:
    board = with_a_witness(new_board())

    def refuses(a: A) -> bool:
        if a.n == 1:
            raise error
        return False

    board.agent("picky").consumes(A, where=refuses).body(lambda a: None)
    await board.publish(A(n=1))
    report = await board.run_until_idle()
    [dead] = report.left.dead_letters
    assert (dead.agent, dead.reason) == ("picky", "filter raised")
    assert dead.error is not None
    assert dead.error.type == type(error).__name__
    await goes_on(board)
