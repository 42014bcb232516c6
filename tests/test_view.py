"""Looking at a board: lists, single artifacts, past positions, proofs, and files of other processes."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import BaseModel

from stigmergy import Artifact, Blackboard, Opaque, Retry, Roster, after, artifact_type, read
from stigmergy.blackboard.errors import BadFilter, NotExactlyOne, NotFound, StoreError, UnknownField
from stigmergy.blackboard.events import Published
from stigmergy.blackboard.reading.artifacts import PAGE
from stigmergy.blackboard.reading.proof import STEPS
from stigmergy.testing import VirtualClock
from tests.boards import A, B, Boards, C, numbers

pytestmark = pytest.mark.anyio


class Score(BaseModel):
    name: str
    value: Decimal
    id: int = 0


async def hundred(new_board: Boards, count: int = 600) -> Blackboard:
    """A board with so many A, an agent's B for the first three, and one C."""
    board = new_board()
    board.agent("copy").consumes(A, where=lambda a: a.n < 3).publishes(B).body(copy)
    await board.publish_many([A(n=n, key="even" if n % 2 == 0 else "odd") for n in range(count)])
    await board.publish(C(), tags=["ops", "night"])
    await board.run_until_idle()
    return board


async def copy(a: A) -> B:
    return B(n=a.n)


# -- lists ----------------------------------------------------------------------------------------------------------


@pytest.mark.req("S3.55")
async def test_a_list_filters_limits_and_counts_what_it_leaves_out(new_board: Boards) -> None:
    board = await hundred(new_board)
    odd = board.artifacts(A, where={"key": "odd"}, limit=10)
    assert (len(odd), odd.total) == (10, 300)
    assert [a.payload.n for a in odd] == list(range(1, 20, 2))
    assert repr(odd) == "Artifacts[A](10 of 300)"
    assert repr(board.artifacts(A)) == "Artifacts[A](600)"


async def test_a_list_is_a_sequence_of_artifacts(new_board: Boards) -> None:
    board = await hundred(new_board)
    found = board.artifacts(A)
    assert isinstance(found, Sequence)
    assert [found[i].payload.n for i in (0, PAGE - 1, PAGE, 599, -1, -600, 3)] == [0, PAGE - 1, PAGE, 599, 599, 0, 3]
    assert [a.payload.n for a in found[2:8:3]] == [2, 5]
    assert [a.payload.n for a in reversed(found)][:2] == [599, 598]
    for outside in (600, -601):
        with pytest.raises(IndexError):
            found[outside]
    assert found
    assert not board.artifacts(A, where={"n": 10_000})


async def test_the_last_of_a_limited_list_is_within_the_limit(new_board: Boards) -> None:
    found = (await hundred(new_board)).artifacts(A, limit=5)
    assert (found[-1].payload.n, [a.payload.n for a in reversed(found)]) == (4, [4, 3, 2, 1, 0])
    with pytest.raises(IndexError):
        found[5]


async def test_a_list_stays_as_it_was_when_the_board_goes_on(new_board: Boards) -> None:
    board = await hundred(new_board)
    before = board.artifacts(A)
    await board.publish(A(n=1000))
    assert (len(before), before[-1].payload.n, len(board.artifacts(A))) == (600, 599, 601)


async def test_filters_by_producer_tag_run_and_predicate_narrow_together(new_board: Boards) -> None:
    board = await hundred(new_board)
    await board.publish(A(n=7), run="other")
    assert numbers(board, B) == [0, 1, 2]
    assert board.artifacts(B, producer="copy").total == 3
    assert board.artifacts(B, producer=board.agents[0]).total == 3
    assert board.artifacts(A, producer="copy").total == 0
    assert board.artifacts(producer="outside").total == 602
    assert board.artifacts(tags="ops")[0].type_name == "C"
    assert board.artifacts(tags=("night", "day")).total == 1
    assert board.artifacts(A, run="other").payloads == [A(n=7)]
    assert board.artifacts(A, where=lambda a: a.n > 597).total == 2
    assert board.artifacts(A, where=[{"key": "odd"}, lambda a: a.n > 597]).payloads == [A(n=599, key="odd")]
    assert board.artifacts(A, where={"n": {1, 2}}).total == 2


async def test_a_filter_that_can_never_pass_is_an_error(new_board: Boards) -> None:
    board = await hundred(new_board, 1)
    with pytest.raises(UnknownField, match="Did you mean 'key'"):
        board.artifacts(A, where={"kez": "odd"})
    with pytest.raises(BadFilter):
        board.artifacts(A, where={"n": "many"})


async def test_an_artifact_that_is_held_is_listed_when_it_is_released(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    board.agent("copy").consumes(A).publishes(B).body(copy)
    await board.publish(A(n=1), visibility=after(30))
    assert (board.artifacts(A).total, len(list(board.artifacts(A))), board.artifacts(A, held=True).total) == (0, 0, 1)
    await board.run_until_idle()
    assert board.artifacts(A).payloads == [A(n=1)]


async def test_rows_are_what_a_data_frame_takes(new_board: Boards) -> None:
    board = new_board()
    made = await board.publish(Score(name="tree", value=Decimal("0.9"), id=7), tags=["best"])
    found = board.artifacts(Score)
    assert found.rows() == [
        {"id": made.id, "producer": "outside", "name": "tree", "value": Decimal("0.9"), "payload.id": 7}
    ]
    assert found.rows("name", "payload.id", "tags") == [{"name": "tree", "payload.id": 7, "tags": ("best",)}]


async def test_a_list_shows_itself_as_a_table_with_escaped_cells(new_board: Boards) -> None:
    board = new_board()
    await board.publish_many([Score(name=f"<b>{i}</b>", value=Decimal(1)) for i in range(30)])
    html = board.artifacts(Score)._repr_html_()
    assert "<b>" not in html
    assert "&lt;b&gt;19&lt;/b&gt;" in html
    assert "… 10 more" in html
    assert board.artifacts(A)._repr_html_() == "<p>no artifacts</p>"


# -- one artifact ---------------------------------------------------------------------------------------------------


async def test_one_gives_the_payload_or_says_how_many_there_are_and_which(new_board: Boards) -> None:
    board = await hundred(new_board)
    assert board.one(C) == C()
    assert board.one(A, where={"n": 5}).key == "odd"
    with pytest.raises(NotExactlyOne, match=r"one B was asked for; there are 3: B@\d+, B@\d+, B@\d+\. Narrow it"):
        board.one(B)
    with pytest.raises(NotExactlyOne, match=r"one A with \{'n': -1\} was asked for; there is none among 600"):
        board.one(A, where={"n": -1})


async def test_get_takes_a_number_a_text_or_a_reference(new_board: Boards) -> None:
    board = new_board()
    made = await board.publish(A(n=3))
    for id_ in (made.id, str(made.id), f"A@{made.id}", f"memory:{made.id}" if new_board.kind == "memory" else made.id):
        assert board.get(id_) == made
    for wrong, why_not in (
        (10_000, "the last position is"),
        (1, "1 is Opened"),
        (f"B@{made.id}", f"is A@{made.id}"),
        ("twelve", "is no id"),
    ):
        with pytest.raises(NotFound, match=why_not):
            board.get(wrong)


async def test_an_envelope_says_who_published_it_and_where_it_descends_from(new_board: Boards) -> None:
    board = await hundred(new_board, 1)
    [seed, made] = [board.artifacts(A)[0], board.artifacts(B)[0]]
    assert (made.producer, made.root, made.run, made.depth) == ("copy", seed.id, "main", 1)
    assert (seed.producer, seed.root, seed.cause) == ("outside", seed.id, 0)


# -- the past -------------------------------------------------------------------------------------------------------


@pytest.mark.req("S3.59")
async def test_the_board_can_be_seen_as_it_was_at_a_position_or_a_time(new_board: Boards) -> None:
    clock = VirtualClock()
    board = new_board(clock=clock)
    board.agent("copy").consumes(A).publishes(B).body(copy)
    first = await board.publish(A(n=1))
    await board.run_until_idle()
    clock.advance(60)
    second = await board.publish(A(n=2))
    await board.run_until_idle()
    then = board.at(first.id)
    assert (numbers(then, A), numbers(then, B), then.report().done) == ([1], [], 0)
    at_time = board.at(datetime.fromtimestamp(second.at - 1, UTC))
    assert (numbers(at_time, A), numbers(at_time, B)) == ([1], [1])
    assert numbers(board.at(datetime.fromtimestamp(second.at, UTC)), A) == [1, 2]
    assert numbers(board.at(datetime(2000, 1, 1, tzinfo=UTC)), A) == []
    assert board.at(10_000).report() == board.report()
    with pytest.raises(NotFound):
        then.get(second.id)


async def test_a_past_position_never_cuts_a_decision_in_two(new_board: Boards) -> None:
    board = new_board()

    @board.agent
    async def three(a: A) -> list[B]:
        return [B(n=1), B(n=2), B(n=3)]

    await board.publish(A())
    await board.run_until_idle()
    for made in board.artifacts(B):
        assert numbers(board.at(made.id), B) == [1, 2, 3]
        assert board.at(made.id).report().done == 1


async def test_events_are_read_in_order_from_any_position(new_board: Boards) -> None:
    board = await hundred(new_board, 3)
    every = [e.seq for e in board.events()]
    assert every == sorted(set(every))
    assert [e.seq for e in board.events(after=every[4])] == every[5:]
    assert sum(isinstance(e, Published) for e in board.events()) == board.artifacts().total


# -- proofs ---------------------------------------------------------------------------------------------------------


async def test_a_proof_leads_from_an_artifact_back_to_the_seeds(new_board: Boards) -> None:
    board = new_board()
    board.agent("copy").consumes(A).publishes(B).body(copy)

    @board.agent(by="n")
    async def join(a: A, b: B) -> C:
        return C(n=a.n)

    seed = await board.publish(A(n=5))
    await board.run_until_idle()
    made = board.artifacts(C)[0]
    proof = board.why(made.ref)
    assert [(s.name, s.parent) for s in proof.steps] == [
        (made.ref, -1), (seed.ref, 0), (board.artifacts(B)[0].ref, 0), (seed.ref, 2),
    ]  # fmt: skip
    text = str(proof)
    assert "by join@" in text
    assert "from 2 inputs with key 5" in text
    assert text.splitlines()[1].startswith("├─ A@")
    assert text.splitlines()[3].startswith("   └─ A@")
    assert text.splitlines()[3].endswith("explained above")
    assert json.loads(proof.to_json())["steps"][0]["name"] == made.ref
    assert proof._repr_html_().startswith("<pre>C@")


async def test_a_dead_letter_is_explained_by_its_error_attempts_and_inputs(new_board: Boards) -> None:
    board = new_board()

    @board.agent(retry=Retry(attempts=3, backoff=0))
    async def break_(a: A) -> None:
        raise ValueError("no <good>")

    await board.publish(A())
    report = await board.run_until_idle()
    dead = report.left.dead_letters[0].activation
    text = str(board.why(f"break_@{dead}"))
    assert text.splitlines()[0].split("  ")[0] == f"break_@{dead}"
    assert "dead letter: ValueError: no <good>, 3 failed attempts (ValueError)" in text
    assert text.splitlines()[1].startswith("└─ A@")
    assert "&lt;good&gt;" in board.why(dead)._repr_html_()


async def test_a_held_artifact_is_explained_by_who_held_and_released_it(new_board: Boards) -> None:
    board = new_board(clock=VirtualClock())
    board.agent("copy").consumes(A).publishes(B).body(copy)
    made = await board.publish(A(), visibility=after(5))
    assert "held by visibility" in str(board.why(made.id))
    await board.run_until_idle()
    assert "held by visibility, released by visibility" in str(board.why(made.id))


async def test_a_proof_of_a_long_chain_stops_and_says_where(new_board: Boards) -> None:
    board = new_board()

    @board.agent(self_trigger=True)
    async def count(a: A) -> A | None:
        return A(n=a.n + 1) if a.n < STEPS + 50 else None

    await board.publish(A())
    await board.run_until_idle()
    proof = board.why(board.artifacts(A)[-1].id)
    assert len(proof.steps) == STEPS
    assert f"the ancestors of {proof.cut[0]} are left out" in str(proof)


async def test_what_has_no_history_is_not_explained(new_board: Boards) -> None:
    board = await hundred(new_board, 1)
    for id_, message in ((1, "follows from nothing"), (10_000, "there is nothing at 10000"), ("A@1", "nothing")):
        with pytest.raises(NotFound, match=message):
            board.why(id_)
    with pytest.raises(NotFound, match=r"there is no B@3: 3 is about A@3"):
        board.why("B@3")


# -- files ----------------------------------------------------------------------------------------------------------


@artifact_type(name="Score", version=2, upcast={1: lambda old: {**old, "label": old["name"]}})
class NewScore(BaseModel):
    name: str
    label: str
    value: Decimal


async def test_a_file_is_read_without_its_types_and_with_newer_ones(tmp_path: Path) -> None:
    board = Blackboard(tmp_path / "run.db")
    await board.publish(Score(name="tree", value=Decimal("0.90")))
    await board.close()
    with read(tmp_path / "run.db") as view:
        [found] = view.artifacts()
        assert isinstance(found.payload, Opaque)
        assert view.artifacts("Score", where={"name": "tree"}).total == 1
        assert view.artifacts("Score", where={"name": "bush"}).total == 0
        assert view.artifacts(where={"no_such_field": 1}).total == 0
        assert view.one(Score).value == Decimal("0.90")
        assert view.one(NewScore).label == "tree"
        assert repr(view) == f"View({str(tmp_path / 'run.db')!r})"
    with read(tmp_path / "run.db", types=[NewScore]) as view:
        assert isinstance(view.get(found.id).payload, NewScore)


async def test_a_file_that_another_board_runs_can_be_read(tmp_path: Path) -> None:
    board = Blackboard(tmp_path / "run.db")
    await board.publish(A(n=1))
    with read(tmp_path / "run.db") as view:
        assert numbers(view, A) == [1]
        await board.publish(A(n=2))
        assert numbers(view, A) == [1, 2]
    await board.close()


def test_a_file_that_is_not_there_is_not_made_by_reading_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        read(tmp_path / "no.db").report()
    assert list(tmp_path.iterdir()) == []


def test_a_board_in_memory_is_read_after_its_loop_has_ended() -> None:
    board = Blackboard(roster=Roster())
    board.run_sync(A(n=1))
    found: list[Artifact[A]] = list(board.artifacts(A))
    assert found[0].as_type(A) == A(n=1)
