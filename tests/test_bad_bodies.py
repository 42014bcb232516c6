"""What bodies do wrong: the activation fails with a typed error in one line, and everything else goes on."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from pydantic import BaseModel

from stigmergy import Blackboard, Roster
from stigmergy.blackboard.errors import BadSignature, WrongLoop
from stigmergy.blackboard.events import Failed
from stigmergy.blackboard.reading.leftovers import DeadLetter
from tests.boards import A, B, Boards, numbers
from tests.trouble import goes_on, one_line, with_a_witness

pytestmark = pytest.mark.anyio


class Anything(BaseModel):
    value: Any = None


class MoreB(B):
    """A subclass of what is declared: another type."""


def with_a_bad_one(board: Blackboard, body: Callable[[A], Any], **limits: Any) -> Blackboard:
    """A board whose agent "bad" does it with the first A, and nothing with those that come later."""

    async def bad(a: A) -> Any:
        return None if a.n == 77 else await body(a)

    def bad_in_a_thread(a: A) -> Any:
        return None if a.n == 77 else body(a)

    fits = bad if asyncio.iscoroutinefunction(body) else bad_in_a_thread
    board.agent("bad").limits(**limits).consumes(A).publishes(B).publishes(Anything).body(fits)
    return with_a_witness(board)


async def the_dead_letter(board: Blackboard) -> DeadLetter:
    """Run on one A: the bad activation is the only one that failed, and the next works."""
    await board.publish(A(n=1))
    report = await asyncio.wait_for(board.run_until_idle(), 20)
    assert report.reason == "idle"
    [dead] = report.left.dead_letters
    assert dead.agent == "bad"
    await goes_on(board)
    return dead


# -- what they return --------------------------------------------------------------------------------------------------


async def later() -> B:
    return B()


def some() -> Iterator[B]:
    yield B()


async def some_later() -> AsyncIterator[B]:
    yield B()


def endless_list() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


def deep(levels: int) -> Anything:
    value = Anything()
    for _ in range(levels):
        value = Anything(value=value)
    return value


PLAIN = "Return pydantic models, a list of them, or None."
RETURNED: list[tuple[str, Callable[[], Any], str, str]] = [
    ("a number", lambda: 5, "UndeclaredOutput", f"'bad' returned <int>. {PLAIN}"),
    ("false", lambda: False, "UndeclaredOutput", f"'bad' returned <bool>. {PLAIN}"),
    ("a text", lambda: "B", "UndeclaredOutput", f"'bad' returned <str>. {PLAIN}"),
    ("a dictionary", lambda: {"n": 1}, "UndeclaredOutput", f"'bad' returned <dict>. {PLAIN}"),
    ("an exception", lambda: ValueError("no"), "UndeclaredOutput", f"'bad' returned <ValueError>. {PLAIN}"),
    ("a class", lambda: B, "UndeclaredOutput", "'bad' returned the class B. Return an instance of it."),
    ("a coroutine", later, "UndeclaredOutput", "a coroutine that was not awaited. Return what awaiting it gives."),
    ("a generator", some, "UndeclaredOutput", "'bad' returned a generator. Return a list of what it yields."),
    ("an async one", some_later, "UndeclaredOutput", "'bad' returned a generator. Return a list of what it yields."),
    ("another type", A, "UndeclaredOutput", "'bad' returned A but publishes B | Anything. Add it to .publishes()"),
    ("a subclass", MoreB, "UndeclaredOutput", "'bad' returned MoreB but publishes B | Anything."),
    ("one of two", lambda: [B(), A()], "UndeclaredOutput", "'bad' returned A but publishes B | Anything."),
    ("lists of lists", lambda: [[[B()]]], "UndeclaredOutput", "'bad' returned lists in lists of lists."),
    ("a list of itself", endless_list, "UndeclaredOutput", "'bad' returned lists in lists of lists."),
    ("not valid", lambda: B().model_copy(update={"n": "x"}), "NotRoundTrippable", "B.n does not come back from JSON:"),
    ("a tuple", lambda: Anything(value=(1,)), "NotRoundTrippable", "Anything.value does not come back from JSON as"),
    ("number keys", lambda: Anything(value={1: 2}), "NotRoundTrippable", "the key 1, int, which is no text, did not"),
    ("an object", lambda: Anything(value=object()), "NotRoundTrippable", "Anything.value cannot be written as JSON"),
    ("too deep", lambda: deep(5_000), "NotRoundTrippable", "cannot be written as JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("returned", "error", "text"), [r[1:] for r in RETURNED], ids=[r[0] for r in RETURNED])
async def test_what_cannot_be_published_fails_the_activation_and_publishes_nothing(
    new_board: Boards, returned: Callable[[], Any], error: str, text: str
) -> None:
    async def body(a: A) -> Any:
        return returned()

    board = with_a_bad_one(new_board(), body)
    dead = await the_dead_letter(board)
    assert dead.error is not None
    assert dead.error.type == error
    assert text in dead.error.message
    assert "\n" not in dead.error.message
    assert len(dead.error.message) < 400
    assert dead.error.traceback == ""  # it is the return value that is wrong, no line of code
    assert (board.artifacts(B).total, board.artifacts(Anything).total) == (0, 0)


@pytest.mark.parametrize("body", [some, some_later])
def test_a_body_that_yields_is_refused_where_it_is_defined(body: Callable[..., Any]) -> None:
    with pytest.raises(
        BadSignature, match='agent "yields": its body yields, but outputs get on the board all'
    ) as raised:
        Roster().agent("yields").consumes(A).publishes(B).body(body)
    assert "\n" not in str(raised.value)


async def test_what_a_failed_report_raises_is_of_the_family(new_board: Boards) -> None:
    async def body(a: A) -> Any:
        return 5

    board = with_a_bad_one(new_board(), body)
    await board.publish(A())
    report = await board.run_until_idle()
    with pytest.raises(Exception, match="bad") as raised:
        report.raise_for_failures()
    one_line(raised.value)


# -- what they raise ---------------------------------------------------------------------------------------------------


class Wordless(Exception):
    def __str__(self) -> str:
        raise SystemExit("no words")


class NoText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class Unprintable(Exception):
    def __repr__(self) -> str:
        raise KeyboardInterrupt


class OddNotes(Exception):
    __notes__ = 5  # type: ignore[assignment]


class Strange(BaseException):
    """Neither an exception nor anything that asyncio knows."""


RAISED: list[tuple[BaseException, str, str]] = [
    (ValueError("no good"), "ValueError", "no good"),
    (ValueError("two\nlines\0 and \ud800"), "ValueError", "two\nlines\0 and ?"),
    (ValueError("x" * 10_000_000), "ValueError", "(10,000,000 characters)"),
    (Wordless(), "Wordless", "its message cannot be read (SystemExit)"),
    (NoText(), "NoText", "its message cannot be read (TypeError)"),
    (Unprintable("said"), "Unprintable", "said"),
    (OddNotes("said"), "OddNotes", "said"),
    (Strange("said"), "Strange", "said"),
    (ExceptionGroup("two", [ValueError("a"), OSError("b")]), "ExceptionGroup", "two (2 sub-exceptions)"),
    (BaseExceptionGroup("one", [KeyboardInterrupt()]), "BaseExceptionGroup", "one (1 sub-exception)"),
    (RecursionError("deep"), "RecursionError", "deep"),
    (MemoryError(), "MemoryError", ""),
    (StopAsyncIteration("of all things"), "StopAsyncIteration", "of all things"),
    (StopIteration("of all things"), "RuntimeError", "StopIteration"),
    (GeneratorExit("of all things"), "GeneratorExit", "of all things"),
    (SystemExit(3), "SystemExit", "3"),
    (KeyboardInterrupt("by hand"), "KeyboardInterrupt", "by hand"),
    (asyncio.CancelledError("by hand"), "CancelledError", "by hand"),
    (asyncio.InvalidStateError("by hand"), "InvalidStateError", "by hand"),
    (TimeoutError("by hand"), "TimeoutError", "by hand"),
]


@pytest.mark.parametrize("where", ["loop", "thread"])
@pytest.mark.parametrize(("error", "kind", "text"), RAISED, ids=[type(r[0]).__name__ for r in RAISED])
async def test_whatever_a_body_raises_is_its_own_dead_letter(
    new_board: Boards, where: str, error: BaseException, kind: str, text: str
) -> None:
    async def on_the_loop(a: A) -> None:
        raise error

    def in_a_thread(a: A) -> None:
        raise error

    board = with_a_bad_one(new_board(), on_the_loop if where == "loop" else in_a_thread)
    dead = await the_dead_letter(board)
    assert dead.error is not None
    assert dead.error.type == kind
    assert text in dead.error.message
    assert len(dead.error.message) < 5_000
    assert "test_bad_bodies.py" in dead.error.traceback
    again = await new_board.reopened(board)
    assert again.report().dead == 1
    assert str(again.report())


async def test_an_exception_whose_traceback_cannot_be_written_is_recorded_without(new_board: Boards) -> None:
    async def body(a: A) -> None:
        error = SyntaxError("made by hand")
        error.text, error.lineno = 5, 1  # type: ignore[assignment]
        raise error

    dead = await the_dead_letter(with_a_bad_one(new_board(), body))
    assert dead.error is not None
    assert (dead.error.type, dead.error.message[:12]) == ("SyntaxError", "made by hand")
    assert dead.error.traceback == "its traceback cannot be written (AttributeError)"


async def test_a_body_that_never_stops_calling_itself_is_a_dead_letter(new_board: Boards) -> None:
    async def body(a: A) -> Any:
        return await body(a)

    dead = await the_dead_letter(with_a_bad_one(new_board(), body))
    assert dead.error is not None
    assert (dead.error.type, dead.error.message) == ("RecursionError", "maximum recursion depth exceeded")


# -- what they do to the loop ------------------------------------------------------------------------------------------


async def cancels_itself(a: A) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel("by itself")
    await asyncio.sleep(0)


async def closes_the_loop(a: A) -> None:
    asyncio.get_running_loop().close()


async def runs_the_loop(a: A) -> None:
    never = later()
    try:
        asyncio.get_running_loop().run_until_complete(never)
    finally:
        never.close()


async def leaves_a_task_that_fails(a: A) -> None:
    async def fails() -> None:
        raise OSError("in a group")

    async with asyncio.TaskGroup() as group:
        group.create_task(fails())


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (cancels_itself, "CancelledError", "by itself"),
        (closes_the_loop, "RuntimeError", "Cannot close a running event loop"),
        (runs_the_loop, "RuntimeError", "This event loop is already running"),
        (leaves_a_task_that_fails, "ExceptionGroup", "unhandled errors in a TaskGroup (1 sub-exception)"),
    ],
)
async def test_what_a_body_does_to_the_loop_is_its_own_failure(
    new_board: Boards, body: Callable[[A], Awaitable[None]], kind: str, text: str
) -> None:
    board = with_a_bad_one(new_board(), body)
    dead = await the_dead_letter(board)
    assert dead.error is not None
    assert (dead.error.type, dead.error.message) == (kind, text)
    assert sum(isinstance(e, Failed) for e in board.events()) == 1


async def stops_the_loop(a: A) -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0)


async def exits_in_a_task(a: A) -> None:
    async def leaves() -> None:
        raise SystemExit("from a task")

    left = asyncio.create_task(leaves())
    await asyncio.wait([left])


async def cancels_everything(a: A) -> None:
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("body", "error"),
    [(stops_the_loop, RuntimeError), (exits_in_a_task, SystemExit), (cancels_everything, asyncio.CancelledError)],
)
def test_a_body_that_ends_the_loop_ends_the_run_and_its_work_stays_open(
    new_board: Boards, body: Callable[[A], Awaitable[None]], error: type[BaseException]
) -> None:
    ran: list[int] = []

    async def once(a: A) -> None:
        ran.append(a.n)
        if len(ran) == 1:
            await body(a)

    board = new_board()
    board.agent("bad").consumes(A).body(once)
    with pytest.raises(error):
        board.run_sync(A(n=1))
    assert ran == [1]
    assert board.report().open == 1
    report = board.run_sync(A(n=2))
    assert (report.reason, report.dead, report.done) == ("idle", 0, 2)
    assert ran == [1, 1, 2]


# -- those that hang ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["loop", "thread"])
async def test_a_body_that_hangs_is_given_up_at_its_timeout(new_board: Boards, where: str) -> None:
    let_go = threading.Event()

    async def on_the_loop(a: A) -> None:
        await asyncio.Event().wait()

    def in_a_thread(a: A) -> None:
        let_go.wait(30)

    board = with_a_bad_one(new_board(), on_the_loop if where == "loop" else in_a_thread, timeout=0.05)
    dead = await the_dead_letter(board)
    let_go.set()
    assert dead.error is not None
    assert (dead.error.type, dead.error.message) == ("TimeoutError", "no result after 0.05 s")


@pytest.mark.parametrize("where", ["loop", "thread"])
async def test_a_body_that_hangs_does_not_outlive_the_time_of_the_run(new_board: Boards, where: str) -> None:
    let_go = threading.Event()

    async def on_the_loop(a: A) -> None:
        if not let_go.is_set():
            await asyncio.Event().wait()

    def in_a_thread(a: A) -> None:
        let_go.wait(30)

    board = with_a_bad_one(new_board(), on_the_loop if where == "loop" else in_a_thread)
    await board.publish(A(n=1))
    report = await asyncio.wait_for(board.run_until_idle(timeout=0.1), 20)
    assert (report.reason, report.dead, report.open) == ("timeout", 0, 1)
    let_go.set()
    assert (await board.run_until_idle()).reason == "idle"
    await goes_on(board)


# -- in a process of their own -----------------------------------------------------------------------------------------

apart = Roster()


@apart.agent(isolate="process", timeout=20)
def bad(a: A) -> B | None:
    match a.key:
        case "":
            return B(n=a.n)
        case "exit":
            raise SystemExit(7)
        case "hard exit":
            os._exit(7)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "interrupt":
            raise KeyboardInterrupt
        case "wordless":
            raise Wordless
        case "function":
            return lambda: 1  # type: ignore[return-value]
        case "number":
            return 5  # type: ignore[return-value]
    return None


@pytest.mark.parametrize(
    ("key", "kind", "text"),
    [
        ("exit", "SystemExit", "7"),
        ("hard exit", "ProcessDied", "(exit code 7). What it wrote to stderr may say why."),
        ("kill", "ProcessDied", "(signal SIGKILL)."),
        ("interrupt", "KeyboardInterrupt", ""),
        ("wordless", "Wordless", "its message cannot be read (SystemExit)"),
        ("function", "NotSendable", "the body returned <function>, which cannot be sent"),
        ("number", "UndeclaredOutput", "'bad' returned <int>."),
    ],
)
async def test_what_a_body_does_to_its_process_is_its_own_failure(
    file_board: Boards, key: str, kind: str, text: str
) -> None:
    board = with_a_witness(file_board(apart))
    await board.publish(A(n=1, key=key))
    [dead] = (await asyncio.wait_for(board.run_until_idle(), 30)).left.dead_letters
    assert dead.error is not None
    assert dead.error.type == kind
    assert text in dead.error.message
    await goes_on(board)
    assert numbers(board, B) == [77]


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------


def the_user_interrupts() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def stopped_in_good_order(board: Blackboard) -> bool:
    """The only attempt was interrupted, which is no failure, and its work is open."""
    [failed] = [e for e in board.events() if isinstance(e, Failed)]
    report = board.report()
    return (failed.kind, report.open, report.dead) == ("interrupted", 1, 0)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_stops_run_sync_in_good_order_also_when_it_hits_a_body_that_computes(
    new_board: Boards, times: int
) -> None:
    board = new_board()
    ran: list[int] = []

    @board.agent
    async def computes(a: A) -> None:
        ran.append(a.n)
        if len(ran) == 1:
            for _ in range(times):
                the_user_interrupts()
            await asyncio.Event().wait()

    with pytest.raises(KeyboardInterrupt):
        board.run_sync(A(n=1))
    assert stopped_in_good_order(board)
    report = board.run_sync()
    assert (report.reason, report.done, ran) == ("idle", 1, [1, 1])


async def test_ctrl_c_stops_run_sync_in_good_order_also_where_a_loop_runs(new_board: Boards) -> None:
    """As in a notebook: a loop runs in the main thread, which waits for another loop in another thread."""
    board = new_board()
    began = threading.Event()
    ran: list[int] = []

    @board.agent
    async def slow(a: A) -> None:
        ran.append(a.n)
        if len(ran) == 1:
            began.set()
            await asyncio.Event().wait()

    def interrupt() -> None:
        began.wait(20)
        the_user_interrupts()

    default = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            board.run_sync(A(n=1))
    finally:
        signal.signal(signal.SIGINT, default)
    assert stopped_in_good_order(board)
    report = await board.run_until_idle()
    assert (report.reason, report.done, ran) == ("idle", 1, [1, 1])


def test_a_board_that_a_stopped_loop_left_in_mid_run_can_be_closed_and_opened_again(file_board: Boards) -> None:
    """As when a Ctrl-C lands in a loop that was run without `asyncio.run`."""
    board = file_board()
    loop = asyncio.new_event_loop()

    @board.agent
    async def stops(a: A) -> None:
        if a.n == 1:
            loop.stop()
            await asyncio.Event().wait()

    async def program() -> None:
        await board.publish(A(n=1))
        await board.run_until_idle()

    left = loop.create_task(program())
    loop.run_forever()
    with pytest.raises(WrongLoop, match="in the middle of a verb by an event loop that stopped") as raised:
        board.run_sync()
    one_line(raised.value)
    asyncio.run(board.close())
    again = Blackboard(board._store.name)
    assert (again.report().open, numbers(again, A)) == (1, [1])
    again.agent("stops").consumes(A).body(lambda a: None)
    assert again.run_sync().done == 1
    asyncio.run(again.close())
    left.cancel()
    with suppress(asyncio.CancelledError):
        loop.run_until_complete(left)
    loop.close()
