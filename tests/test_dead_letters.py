"""Dead letters: all that is known of them, tried again as they were or edited, or given up."""

import asyncio

import pytest
from pydantic import BaseModel

from stigmergy import Blackboard, Context, Limits, Progress, Retry, WorkDiscovery, artifact_type, replay
from stigmergy.blackboard.errors import InvalidPayload, NotFound, PayloadTooLarge, PublishError, UnknownField
from stigmergy.blackboard.events import Published
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, numbers

pytestmark = pytest.mark.anyio


def halving(board: Blackboard, calls: list[int] | None = None) -> Blackboard:
    """The board, with an agent that cannot halve odd numbers."""

    def half(n: int) -> int:
        if calls is not None:
            calls.append(n)
        return n // 2

    @board.agent(retry=Retry(attempts=2, backoff=1))
    async def halve(a: A, ctx: Context) -> B:
        n = await ctx.call("half", half, a.n)
        if a.n % 2:
            raise ValueError(f"{a.n} is odd")
        return B(n=n)

    return board


@pytest.mark.req("S2.45", "S4.24")
async def test_a_dead_letter_holds_inputs_error_traceback_attempts_and_times(new_board: Boards) -> None:
    clock = VirtualClock()
    board = halving(new_board(clock=clock))
    await board.publish_many([A(n=2), A(n=3, key="x")])
    began = clock.now()
    await board.run_until_idle()
    [letter] = board.dead_letters()
    assert [a.payload for a in letter.inputs] == [A(n=3, key="x")]
    assert (letter.agent, letter.run, letter.repeats) == ("halve", "main", 0)
    assert letter.error is not None
    assert (letter.error.type, letter.error.message) == ("ValueError", "3 is odd")
    assert 'raise ValueError(f"{a.n} is odd")' in letter.error.traceback
    assert [(a.kind, a.at - began) for a in letter.attempts] == [("error", 0), ("error", 1)]
    assert (letter.created, letter.ended - began) == (began, 1)
    assert board.dead_letters(f"halve@{letter.id}") == (letter,)
    with pytest.raises(NotFound, match="no dead letter"):
        board.dead_letters(1)


@pytest.mark.req("S2.48")
async def test_tried_again_with_an_edited_input_it_works_on_that_and_nobody_else_is_offered_it(
    new_board: Boards,
) -> None:
    calls: list[int] = []
    board = halving(new_board(clock=VirtualClock()), calls)
    others: list[int] = []

    @board.agent
    async def other(a: A) -> None:
        others.append(a.n)

    await board.publish(A(n=3, key="x"))
    await board.run_until_idle()
    [letter] = board.dead_letters()
    await board.retry(letter.id, edited={"n": 4})
    report = await board.run_until_idle()
    assert (report.ok, report.dead, report.activations, numbers(board, B)) == (True, 0, 2, [2])
    assert calls == [3, 4]  # what was recorded for the old input is no answer for the new one
    assert others == [3]
    edited = board.artifacts(A)[-1]
    assert (edited.payload, edited.producer) == (A(n=4, key="x"), "person")
    told = str(board.why(board.artifacts(B)[0].id))
    assert f"in the place of {letter.inputs[0].id}" in told
    assert f"A@{letter.inputs[0].id}" in told
    assert (report.left.no_consumer, board.dead_letters()) == ((), ())
    assert replay(board, board).ok


async def test_an_edit_is_a_payload_or_fields_and_checked_before_anything_happens(new_board: Boards) -> None:
    board = new_board()

    @board.agent(by="key")
    async def pair(a: A, b: B) -> C:
        if a.n != b.n:
            raise ValueError("they differ")
        return C(n=a.n, key=a.key)

    await board.publish(A(n=1, key="k"))
    await board.publish(B(n=2, key="k"))
    await board.run_until_idle()
    [letter] = board.dead_letters()
    with pytest.raises(UnknownField, match="'size'"):
        await board.retry(letter.id, edited={"size": 3})
    with pytest.raises(UnknownField, match="0 inputs of type C"):
        await board.retry(letter.id, edited=C())
    with pytest.raises(InvalidPayload):
        await board.retry(letter.id, edited={"n": "many"})
    assert board.dead_letters() == (letter,)
    await board.retry(letter.id, edited=B(n=1, key="k"))
    await board.run_until_idle()
    assert [c.payload for c in board.artifacts(C)] == [C(n=1, key="k")]
    assert replay(board, board).ok


async def test_what_is_edited_is_stored_as_its_class_is_today(file_board: Boards, ending: str) -> None:
    def old() -> type[BaseModel]:
        class Page(BaseModel):
            url: str

        return Page

    def new() -> type[BaseModel]:
        @artifact_type(name="Page", version=2, upcast={1: lambda page: {"address": page["url"], "tries": 0}})
        class Page(BaseModel):
            address: str
            tries: int

        return Page

    seen: list[str] = []

    def reading(board: Blackboard, model: type[BaseModel]) -> Blackboard:
        async def read_it(page: BaseModel) -> None:
            seen.append(repr(page))
            if not getattr(page, "tries", 0):
                raise OSError("no network")

        board.agent("read").consumes(model).body(read_it)
        return board

    first, second = old(), new()
    board = reading(file_board(), first)
    await board.publish_many([first(url="a"), first(url="b")])
    await board.run_until_idle()
    board = reading(await file_board.after(ending, board), second)
    one, two = board.dead_letters()
    for wrong in ({"url": "c"}, {"tries": "many"}, second.model_construct(address="c", tries="many")):
        with pytest.raises((UnknownField, PublishError)):
            await board.retry(one.id, edited=wrong)
    await board.retry(one.id, edited=second(address="c", tries=1))
    await board.retry(two.id, edited={"tries": 2})
    assert (await board.run_until_idle()).ok
    assert seen[2:] == ["Page(address='c', tries=1)", "Page(address='b', tries=2)"]
    stored = [e for e in board.events() if isinstance(e, Published) and e.replaces]
    assert [(e.version, e.schema) for e in stored] == [(2, stored[0].schema)] * 2
    assert replay(board, board).ok


async def test_what_is_edited_obeys_the_limit_of_bytes(new_board: Boards) -> None:
    board = halving(new_board(clock=VirtualClock(), limits=Limits(payload_bytes=100)))
    await board.publish(A(n=1))
    await board.run_until_idle()
    [letter] = board.dead_letters()
    for large in ({"key": "x" * 200}, A(n=2, key="x" * 200)):
        with pytest.raises(PayloadTooLarge, match="payload_bytes=100"):
            await board.retry(letter.id, edited=large)
    assert board.dead_letters() == (letter,)


async def test_fields_are_edited_in_every_input_that_has_them(new_board: Boards) -> None:
    board = new_board()

    @board.agent(by="key")
    async def pair(a: A, b: B) -> C:
        if a.n + b.n != 10:
            raise ValueError("no ten")
        return C(n=a.n)

    await board.publish(A(n=1))
    await board.publish(B(n=2))
    await board.run_until_idle()
    await board.retry(board.dead_letters()[0].id, edited={"n": 5})
    await board.run_until_idle()
    assert numbers(board, C) == [5]


@pytest.mark.req("S2.49")
async def test_what_is_discarded_counts_as_skipped_and_no_longer_as_failed(new_board: Boards) -> None:
    board = halving(new_board(clock=VirtualClock()))
    board.add(Progress())
    await board.publish_many([A(n=1), A(n=2)])
    await board.run_until_idle()
    [letter] = board.dead_letters()
    await board.discard(letter.id, reason="odd ones are nobody's")
    report = await board.run_until_idle()
    assert (report.ok, report.dead, report.skipped, report.activations) == (True, 0, 1, 2)
    assert [aside.reason for aside in report.put_aside] == ["discarded: odd ones are nobody's"]
    progress = board.fold(Progress()).agents["halve"]
    assert (progress.done, progress.failed, progress.skipped, progress.open) == (1, 0, 1, 0)
    assert board.dead_letters() == ()
    for verb in (board.retry(letter.id), board.discard(letter.id, reason="again")):
        with pytest.raises(NotFound, match="already"):
            await verb
    assert replay(board, board).ok


async def test_work_that_is_discarded_is_done_for_what_comes_after_it(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def work(found: WorkDiscovery) -> None:
        if found.description == "bad":
            raise ValueError("bad")

    def discovery(description: str, work_id: str, *blocking: str) -> WorkDiscovery:
        return WorkDiscovery(description=description, phase="analysis", done_definition="done", work_id=work_id,
                             blocking_work_ids=list(blocking))  # fmt: skip

    await board.publish(discovery("bad", "one"))
    await board.run_until_idle()
    await board.discard(board.dead_letters()[0].id, reason="not needed")
    await board.publish(discovery("good", "two", "one"))
    report = await board.run_until_idle()
    assert (report.ok, report.done, report.skipped) == (True, 1, 1)


async def test_work_whose_input_is_edited_is_still_that_work(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def work(found: WorkDiscovery) -> None:
        if found.description == "bad":
            raise ValueError("bad")

    await board.publish(WorkDiscovery(description="bad", phase="analysis", done_definition="done", work_id="one"))
    await board.run_until_idle()
    await board.retry(board.dead_letters()[0].id, edited={"description": "good"})
    await board.publish(
        WorkDiscovery(description="next", phase="analysis", done_definition="done", blocking_work_ids=["one"])
    )
    report = await board.run_until_idle()
    assert (report.ok, report.done, report.open) == (True, 2, 0)


async def test_an_input_that_cannot_be_read_is_a_dead_letter_that_can_be_listed_and_edited_again(
    file_board: Boards, ending: str
) -> None:
    board = halving(file_board(clock=VirtualClock()))
    await board.publish(A(n=3))
    await board.run_until_idle()
    # Where the class is not known, as on the command line, an edit is not checked before the body runs.
    bare = await file_board.after(ending, board, clock=VirtualClock())
    await bare.retry(bare.dead_letters()[0].id, edited={"n": "many"})
    board = halving(await file_board.after(ending, bare, clock=VirtualClock()))
    assert (await board.run_until_idle()).dead == 1
    [letter] = board.dead_letters()
    assert letter.error is not None
    assert letter.error.type == "InvalidPayload"
    assert letter.inputs[0].payload.model_dump() == {"n": "many", "key": ""}
    await board.retry(letter.id, edited={"n": 6})
    assert (await board.run_until_idle()).ok
    assert numbers(board, B) == [3]


async def test_a_dead_letter_retried_while_the_board_runs_starts_at_once(new_board: Boards) -> None:
    board = new_board()
    broken, waits = [True], asyncio.Event()

    @board.agent
    async def work(a: A) -> B:
        if broken.pop():
            raise OSError("once")
        waits.set()
        return B()

    @board.agent
    async def busy(c: C) -> None:
        await waits.wait()

    await board.publish(A())
    await board.publish(C())
    run = asyncio.create_task(board.run_until_idle())
    while not board.dead_letters():
        await asyncio.sleep(0)
    broken.append(False)
    await board.retry(board.dead_letters()[0].id)
    assert (await run).ok
