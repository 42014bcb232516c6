"""What is made to be too much: JSON bombs, hostile filters, masses of subscriptions, members and outputs.

A budget is hit, the error is of the family and one short line, and the board goes on.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, JsonValue, field_validator

from stigmergy import Blackboard, Context, HumanQuestion, Limits, Questions, Roster
from stigmergy.blackboard.errors import BadFilter, PayloadTooLarge, StigmergyError
from stigmergy.blackboard.events import Expired
from tests.boards import A, B, Boards, C, lines_for, numbers
from tests.test_cli import call

pytestmark = pytest.mark.anyio

KEYS = 100_000
LONG = pytest.mark.long, pytest.mark.timeout(600)


class Anything(BaseModel):
    value: JsonValue = None
    count: int = 0


def deep(levels: int, *, mapping: bool = False) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value} if mapping else [value]
    return value


def many(keys: int) -> Any:
    return {f"key {n}": n for n in range(keys)}


BOMBS: dict[str, Callable[[], Any]] = {
    "lists in lists": lambda: deep(100_000),
    "objects in objects": lambda: deep(100_000, mapping=True),
    "a little too deep": lambda: deep(201),
    "many keys": lambda: many(KEYS),
    "infinite": lambda: float("inf"),
    "many digits": lambda: 10**100_000,
}
TEXTS: dict[str, Callable[[], str]] = {
    "lists in lists": lambda: "[" * 100_000 + "]" * 100_000,
    "never closed": lambda: "[" * 1_000_000,
    "objects in objects": lambda: '{"a":' * 100_000 + "1" + "}" * 100_000,
    "many keys": lambda: json.dumps(many(KEYS)),
    "a large exponent": lambda: "1e400",
    "a large negative one": lambda: "-1e+400",
    "a long fraction": lambda: "9" * 400 + ".5",
    "many digits": lambda: "9" * 100_000,
    "no number": lambda: "NaN",
}


def small(board: Blackboard) -> Blackboard:
    """The board, with an agent that takes anything."""

    @board.agent
    async def take(a: Anything) -> B:
        return B(n=a.count)

    return board


def short_line(error: BaseException) -> None:
    assert isinstance(error, StigmergyError)
    assert "\n" not in str(error)
    assert len(str(error)) < 2_000


async def works_on(board: Blackboard) -> None:
    """Nothing of the bomb is there, and what comes next is worked on."""
    assert board.artifacts(Anything).total == 0
    await board.publish(Anything(count=3))
    report = await board.run_until_idle()
    assert (report.ok, numbers(board, B)) == (True, [3])


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_bomb_is_refused_by_publish(new_board: Boards, bomb: str) -> None:
    board = small(new_board(limits=Limits(payload_bytes=1_000_000)))
    with pytest.raises(StigmergyError) as raised:
        await board.publish(Anything.model_construct(value=BOMBS[bomb](), count=0))
    short_line(raised.value)
    await works_on(board)


async def test_what_is_too_large_is_refused_before_the_costly_part_reading_it_back(new_board: Boards) -> None:
    read = 0

    class Counted(BaseModel):
        keys: dict[str, int]

        @field_validator("keys")
        @classmethod
        def count(cls, keys: dict[str, int]) -> dict[str, int]:
            nonlocal read
            read += 1
            return keys

    board = new_board(limits=Limits(payload_bytes=100_000))
    large, small = ({str(i): i for i in range(n)} for n in (100_000, 10))
    with pytest.raises(PayloadTooLarge, match="payload_bytes=100_000") as raised:
        await board.publish_many([Counted.model_construct(keys=small), Counted.model_construct(keys=large)])
    assert (read, raised.value.position, board.artifacts().total) == (1, 1, 0)
    with pytest.raises(PayloadTooLarge, match="payload_bytes=100_000"):
        await board.publish(Counted.model_construct(keys=large))
    assert read == 1


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_bomb_that_a_body_returns_is_its_dead_letter_or_waits_for_a_higher_limit(
    new_board: Boards, bomb: str
) -> None:
    board = small(new_board(limits=Limits(payload_bytes=1_000_000)))

    @board.agent
    async def throw(c: C) -> Anything:
        return Anything.model_construct(value=BOMBS[bomb](), count=0)

    await board.publish(C())
    report = await board.run_until_idle()
    if bomb == "many keys":
        assert (report.reason, report.open, report.dead) == ("budget", 1, 0)
        await board.cancel(report.left.unfinished[0].oldest)
    else:
        assert (report.reason, report.open, report.dead) == ("idle", 0, 1)
        await board.discard(report.left.dead_letters[0].activation, reason="a bomb")
    await works_on(board)


@pytest.mark.parametrize("bomb", TEXTS)
@pytest.mark.parametrize("ending", [".jsonl", ".json"])
async def test_a_bomb_in_a_seed_file_is_refused_by_its_line(
    new_board: Boards, tmp_path: Path, bomb: str, ending: str
) -> None:
    board = small(new_board(limits=Limits(payload_bytes=1_000_000)))
    seeds = tmp_path / f"seeds{ending}"
    seeds.write_text(f'{{"type": "Anything", "payload": {{"value": {TEXTS[bomb]()}}}}}')
    with pytest.raises(StigmergyError, match=r"seeds\.jsonl?.*Nothing was published") as raised:
        await board.publish_file(seeds)
    short_line(raised.value)
    await works_on(board)


async def test_numbers_that_only_look_large_and_repeated_keys_are_read_as_json_says(
    new_board: Boards, tmp_path: Path
) -> None:
    board = small(new_board())
    seeds = tmp_path / "seeds.jsonl"
    values = ["1e308", "1e-400", '"1e400"', "9" * 400, '{"a": 1, "a": 2}']
    seeds.write_text("\n".join(f'{{"type": "Anything", "payload": {{"value": {value}}}}}' for value in values))
    await board.publish_file(seeds)
    found = [a.value for a in board.artifacts(Anything).payloads]
    assert found == [1e308, 0.0, "1e400", int("9" * 400), {"a": 2}]  # of equal keys the last one counts


def roster() -> Roster:
    """For the command line."""
    team = Roster(limits=Limits(payload_bytes=1_000_000))

    @team.agent
    async def take(a: Anything) -> None: ...

    return team


@pytest.mark.parametrize("bomb", TEXTS)
def test_a_bomb_is_refused_by_the_command_line_in_one_line(tmp_path: Path, bomb: str) -> None:
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text(f'{{"type": "Anything", "payload": {{"value": {TEXTS[bomb]()}}}}}')
    said = call("publish", f"{__file__}:roster", "--seed", str(seeds), "--store", str(tmp_path / "run.db"))
    assert (said.exit_code, said.stdout, said.stderr.count("\n")) == (2, "", 1)
    assert "seeds.jsonl:1: " in said.stderr
    assert len(said.stderr) < 2_000


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_bomb_is_no_answer(new_board: Boards, bomb: str) -> None:
    board = small(new_board(components=[Questions()], limits=Limits(payload_bytes=1_000_000)))

    @board.agent
    async def ask(c: C, ctx: Context) -> A:
        return A(n=int(await ctx.ask("it", "What?", answer=int)))

    await board.publish(C())
    await board.run_until_idle()
    question = board.artifacts(HumanQuestion)[0].id
    with pytest.raises(StigmergyError) as raised:
        await board.answer(question, BOMBS[bomb]())
    short_line(raised.value)
    await board.answer(question, 5)
    await board.run_until_idle()
    assert numbers(board, A) == [5]
    await works_on(board)


# -- filters: there is no language of them, so that there is nothing to inject into ------------------------------------

HOSTILE = [
    "(a+)+$", "{0.__class__.__mro__}", "%s%n", "__import__('os').system('false')", "' OR 1=1 --",
    "x'); DROP TABLE events;--", "$.key", "*", "a" * 100_000 + "!",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
async def test_a_hostile_text_in_a_filter_is_a_value_that_is_compared(new_board: Boards, text: str) -> None:
    board = new_board()
    seen: list[str] = []

    async def take(a: A) -> None:
        seen.append(a.key)

    board.agent("take").consumes(A, where={"key": text}).body(take)
    await board.publish_many([A(key="aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"), A(key=text), A(key="")])
    await board.run_until_idle()
    assert seen == [text]
    assert [a.payload.key for a in board.artifacts(A, where={"key": text})] == [text]
    assert board.artifacts(A).total == 3
    with pytest.raises(BadFilter):
        board.agent("other").consumes(A, where=text)  # type: ignore[arg-type]


# -- masses ------------------------------------------------------------------------------------------------------------


async def lines_to_publish(board: Blackboard) -> int:
    """How many lines of the core are executed while an artifact is published and offered."""
    await board.run_until_idle()
    return await lines_for(board.publish(A(n=7)), part="blackboard/core/")


def subscribed(board: Blackboard, subscriptions: int) -> Blackboard:
    async def take(a: A) -> B:
        return B(n=a.n)

    for first in range(0, subscriptions, 500):
        whole: Any = board.agent(f"agent {first}")
        for n in range(first, first + 500):
            whole = whole.consumes(A, where={"n": n})
        whole.publishes(B).body(take)
    return board


@pytest.mark.parametrize("subscriptions", [5_000, pytest.param(100_000, marks=LONG)])
async def test_an_artifact_costs_as_much_among_masses_of_subscriptions_as_among_few(
    new_board: Boards, subscriptions: int
) -> None:
    few, masses = subscribed(new_board(), 500), subscribed(new_board(), subscriptions)
    lines = await lines_to_publish(few)
    assert 50 < lines < 500
    assert abs(await lines_to_publish(masses) - lines) < 20
    for board in (few, masses):
        await board.run_until_idle()
        assert numbers(board, B) == [7]


@pytest.mark.parametrize("members", [5_000, pytest.param(100_000, marks=LONG)])
async def test_masses_under_one_key_are_one_batch_or_are_let_go_on_record(new_board: Boards, members: int) -> None:
    board = new_board(limits=Limits(activations=None))
    sizes: list[int] = []

    async def whole(batch: list[A]) -> B:
        sizes.append(len(batch))
        return B(n=len(batch))

    async def never(left: A, right: C) -> None: ...

    board.agent("whole").consumes(A, batch=members, by="key", max_waiting=members).publishes(B).body(whole)
    board.agent("never").consumes(A, C, by="key", max_waiting=100).body(never)
    await board.publish_many([A(n=n, key="k") for n in range(members)])
    await board.run_until_idle()
    assert (sizes, numbers(board, B)) == ([members], [members])
    let_go = [e for e in board.events() if isinstance(e, Expired)]
    assert {e.subscription for e in let_go} == {"never/0"}
    assert sum(len(e.artifacts) for e in let_go) == members - 100


@pytest.mark.parametrize("outputs", [20_000, pytest.param(100_000, marks=LONG)])
async def test_masses_of_outputs_end_at_the_limit_and_with_the_limit_lifted_are_all_there(
    new_board: Boards, outputs: int
) -> None:
    def giving(board: Blackboard) -> Blackboard:
        @board.agent
        async def give(c: C) -> list[A]:
            return [A(n=n) for n in range(outputs)]

        return board

    board = giving(new_board())
    await board.publish(C())
    assert (await board.run_until_idle()).detail == f"fan_out {outputs:,} of 1,000 for agent give"
    assert board.artifacts(A).total == 0
    board = giving(await new_board.reopened(board, limits=Limits(fan_out=None)))
    assert (await board.run_until_idle()).ok
    assert board.artifacts(A).total == outputs


@pytest.mark.parametrize("size", [10_000_000, pytest.param(100_000_000, marks=LONG)])
async def test_a_huge_output_ends_at_the_limit_and_with_the_limit_lifted_is_there(new_board: Boards, size: int) -> None:
    def giving(board: Blackboard) -> Blackboard:
        @board.agent
        async def give(c: C) -> A:
            return A(key="x" * size)

        return board

    board = giving(new_board())
    await board.publish(C())
    assert (await board.run_until_idle()).detail.startswith("payload_bytes ")
    board = giving(await new_board.reopened(board, limits=Limits(payload_bytes=None)))
    report = await board.run_until_idle()
    assert report.ok
    assert len(str(report)) < 5_000
    assert len(board.one(A).key) == size
