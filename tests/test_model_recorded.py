"""Cassettes: recorded once, replayed for ever."""

import json
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from pydantic import ValidationError

from stigmergy.agents.models.errors import BadCassette, NotRecorded, RateLimited
from stigmergy.agents.models.model import Estimate, Message, OutputSchema, Reply, Request, ToolCall, ToolSpec, Usage
from stigmergy.agents.models.recorded import Recorded
from stigmergy.agents.models.scripted import Scripted
from stigmergy.blackboard.errors import DefinitionError

pytestmark = pytest.mark.anyio

PAID = Reply(text="yes", usage=Usage(input=5, output=1), cost=Decimal("0.01"), model="m-2026")


def asking(text: str, **more: object) -> Request:
    return Request.model_validate({"model": "scripted", "messages": [{"role": "user", "text": text}], **more})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cassettes" / "run.jsonl"


async def test_what_was_recorded_once_is_replayed_without_the_model_at_no_cost(path: Path) -> None:
    model = Scripted([PAID], estimate=Estimate(tokens=9, cost=Decimal(1)))
    recording = Recorded(model, path, mode="once")
    assert recording.estimate(asking("a")).tokens == 9
    assert await recording.complete(asking("a")) == PAID
    replaying = Recorded(None, path)
    assert replaying.name == "scripted"
    pieces: list[str] = []
    reply = await replaying.complete(asking("a"), pieces.append)
    assert reply == Reply(text="yes", reused=True, cost=Decimal(0), usage=Usage(), model="m-2026")
    assert pieces == ["yes"]
    assert replaying.estimate(asking("a")) == Estimate()
    again = Recorded(model, path, mode="once")
    assert again.estimate(asking("a")) == Estimate()
    assert (await again.complete(asking("a"))).reused
    assert len(model.asked) == 1


async def test_equal_requests_get_their_replies_in_order_and_then_the_last_one(path: Path) -> None:
    recording = Recorded(Scripted(["one", "two"]), path, mode="once")
    for _ in range(2):
        await recording.complete(asking("a"))
    replaying = Recorded(None, path)
    assert [(await replaying.complete(asking("a"))).text for _ in range(4)] == ["one", "two", "two", "two"]
    longer = Recorded(Scripted(["three"]), path, mode="once")
    assert [(await longer.complete(asking("a"))).text for _ in range(3)] == ["one", "two", "three"]


CHANGED: dict[str, object] = {
    "messages": [{"role": "user", "text": "b"}], "model": "other", "temperature": 0.1, "max_tokens": 9, "seed": 1,
    "options": {"top_p": 0.5}, "output": OutputSchema(name="X", json_schema={"type": "object"}),
    "tools": [ToolSpec(name="t", description="", parameters={})],
}  # fmt: skip


@pytest.mark.parametrize("field", CHANGED)
async def test_every_part_of_a_request_counts(path: Path, field: str) -> None:
    assert set(CHANGED) == set(Request.model_fields)
    await Recorded(Scripted(["yes"]), path, mode="once").complete(asking("a"))
    with pytest.raises(NotRecorded):
        await Recorded(None, path).complete(asking("a", **{field: CHANGED[field]}))


async def test_a_miss_shows_the_nearest_recorded_request_in_one_line_and_the_whole_difference(path: Path) -> None:
    recording = Recorded(Scripted(["1", "2"]), path, mode="once")
    await recording.complete(asking("Sum the\nfigures of May\nplease"))
    await recording.complete(asking("Something else"))
    with pytest.raises(NotRecorded) as missed:
        await Recorded(None, path).complete(asking("Sum the\nfigures of June\nplease", seed=3))
    text = str(missed.value)
    assert "the nearest has 'figures of May' where this has 'figures of June'" in text
    assert "\n" not in text
    assert missed.value.difference.splitlines() == [
        "@@ -4 +4 @@", "-figures of May", "+figures of June", "@@ -5,0 +6 @@", "+seed: 3",
    ]  # fmt: skip
    assert not missed.value.retryable


async def test_an_empty_cassette_says_how_to_record(path: Path) -> None:
    with pytest.raises(NotRecorded, match='mode="once"'):
        await Recorded(None, path).complete(asking("a"))


async def test_all_asks_everything_anew_and_replaces_the_file(path: Path) -> None:
    old = Recorded(Scripted(["old", "gone"]), path, mode="once")
    await old.complete(asking("a"))
    await old.complete(asking("b"))
    anew = Recorded(Scripted(["new", "newer"]), path, mode="all")
    assert len(path.read_text().splitlines()) == 2  # nothing is lost before something is there
    assert [(await anew.complete(asking("a"))).text for _ in range(2)] == ["new", "newer"]
    assert [json.loads(line)["reply"]["text"] for line in path.read_text().splitlines()] == ["new", "newer"]


async def test_failures_are_not_recorded(path: Path) -> None:
    model = Recorded(Scripted([RateLimited("wait"), "yes"]), path, mode="once")
    with pytest.raises(RateLimited):
        await model.complete(asking("a"))
    assert (await model.complete(asking("a"))).text == "yes"
    assert (await Recorded(None, path).complete(asking("a"))).text == "yes"


async def test_many_at_once_are_recorded_whole_and_each_gets_its_own(path: Path) -> None:
    recording = Recorded(Scripted(lambda request: request.messages[0].text * 2000), path, mode="once")
    async with anyio.create_task_group() as tasks:
        for n in range(50):
            tasks.start_soon(recording.complete, asking(f"{n} "))
    replaying = Recorded(None, path)
    for n in range(50):
        assert (await replaying.complete(asking(f"{n} "))).text == f"{n} " * 2000


async def test_a_line_that_was_being_written_when_its_process_died_is_recorded_again(path: Path) -> None:
    recording = Recorded(Scripted(["one", "two"]), path, mode="once")
    await recording.complete(asking("a"))
    await recording.complete(asking("b"))
    path.write_bytes(path.read_bytes()[:-20])
    assert (await Recorded(None, path).complete(asking("a"))).text == "one"
    await Recorded(Scripted(["again"]), path, mode="once").complete(asking("b"))
    assert (await Recorded(None, path).complete(asking("b"))).text == "again"


async def test_a_broken_line_is_named(path: Path) -> None:
    await Recorded(Scripted(["one"]), path, mode="once").complete(asking("a"))
    path.write_text(path.read_text() + '{"request": 1}\n')
    with pytest.raises(BadCassette, match=r"run.jsonl:2 is no recorded reply"):
        Recorded(None, path)


async def test_the_file_is_readable_and_the_same_for_the_same_requests(path: Path, tmp_path: Path) -> None:
    reply = Reply(tool_calls=(ToolCall(id="1", name="t", arguments="{}"),), finish="tool_calls", cost=Decimal("0.10"))
    request = Request(model="scripted", messages=(Message(role="user", text="é?"),), options={"b": 1, "a": 2})
    await Recorded(Scripted([reply]), path, mode="once").complete(request)
    assert path.read_text(encoding="utf-8") == (
        '{"request": {"messages": [{"role": "user", "text": "é?"}], "model": "scripted", "options": {"a": 2, "b": 1}}, '
        '"reply": {"cost": "0.10", "finish": "tool_calls", "model": "scripted", '
        '"tool_calls": [{"arguments": "{}", "id": "1", "name": "t"}]}}\n'
    )


@pytest.mark.parametrize("name", ["api_key", "extra_headers", "Authorization"])
def test_secrets_are_no_part_of_a_request_and_so_of_no_cassette(name: str) -> None:
    with pytest.raises(ValidationError, match="does not belong to a request"):
        asking("a", options={name: "sk-secret"})


def test_a_mode_that_cannot_work_is_refused(path: Path) -> None:
    with pytest.raises(DefinitionError, match="needs a model"):
        Recorded(None, path, mode="once")
    with pytest.raises(DefinitionError, match='one of "none"'):
        Recorded(None, path, mode="always")  # type: ignore[arg-type]
