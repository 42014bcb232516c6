"""Seed files and streams: every line is checked before anything is published."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from stigmergy import Blackboard, WorkDiscovery, artifact_type, labelled, private
from stigmergy.blackboard.errors import SeedError
from stigmergy.blackboard.events import Visibility
from stigmergy.blackboard.payloads.table import TypeTable
from stigmergy.seeds import Seed, read_seeds, save_seeds, write_stream
from tests.boards import A, B, Boards

pytestmark = pytest.mark.anyio
GOOD = {"type": "A", "payload": {"n": 1}}


class Named(BaseModel):
    label: str = Field(validation_alias=AliasChoices("label", "title"))


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


@artifact_type(version=2, upcast={1: lambda old: {"name": old["title"]}})
class Renamed(BaseModel):
    name: str


def table() -> TypeTable:
    types = TypeTable()
    for model in (A, B, WorkDiscovery, Named, Open, Renamed):
        types.add(model)
    return types


def write(path: Path, *lines: object, name: str = "seeds.jsonl") -> Path:
    file = path / name
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return file


def read(path: Path, **options: Any) -> list[Seed]:
    return list(read_seeds(path, table(), **options))


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(SeedError) as raised:
        read(path, **options)
    return str(raised.value).replace(str(path.parent) + "/", "")


def test_a_line_needs_only_its_type_and_payload(tmp_path: Path) -> None:
    [seed] = read(write(tmp_path, GOOD))
    assert seed == Seed(A(n=1), "A", None, (), None, None, 0.0, "", 1)


def test_all_fields_of_a_line_are_read(tmp_path: Path) -> None:
    line = {
        **GOOD, "version": 1, "key": "k", "tags": ["ops", "night"], "priority": "high", "at": 1.5,
        "visibility": {"agents": ["x"], "labels": ["l"], "tenant": "t", "after": 3},
    }  # fmt: skip
    [seed] = read(write(tmp_path, line))
    assert (seed.key, seed.tags, seed.priority, seed.at) == ("k", ("ops", "night"), "high", 1.5)
    assert seed.visibility == Visibility(agents=["x"], labels=["l"], tenant="t", after=3)


def test_blank_lines_a_byte_order_mark_and_other_line_ends_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "seeds.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n  \n" + json.dumps(GOOD).encode())
    assert [seed.line for seed in read(file)] == [1, 4]


def test_a_json_file_holds_one_object_or_a_list_and_errors_name_the_line_of_the_item(tmp_path: Path) -> None:
    assert len(read(write(tmp_path, json.dumps(GOOD, indent=2), name="one.json"))) == 1
    assert len(read(write(tmp_path, [GOOD, GOOD], name="list.json"))) == 2
    assert read(write(tmp_path, "[]", name="none.json")) == []
    file = write(tmp_path, json.dumps([GOOD, {"type": "A", "payload": {"n": "x"}}], indent=2), name="bad.json")
    assert refusal(file).startswith("bad.json:8: A.n: ")


def test_with_a_type_each_line_is_the_bare_payload(tmp_path: Path) -> None:
    assert [s.payload for s in read(write(tmp_path, {"n": 1}, {"n": 2}), type_name="A")] == [A(n=1), A(n=2)]
    assert read(write(tmp_path, {"name": "new"}), type_name="Renamed")[0].payload == Renamed(name="new")
    assert refusal(write(tmp_path, {"n": 1}), type_name="Nope").startswith("seeds.jsonl:1: there is no artifact type")


WORK = {"description": "Rotate keys", "phase": "analysis", "done_definition": "Done"}
WRONG: list[tuple[object, str]] = [
    (
        {"type": "WorkDiscovery", "payload": {**WORK, "priority": "urgent"}},
        "WorkDiscovery.priority: 'urgent' is not one of low, medium, high, critical. Nothing was published.",
    ),
    ({**GOOD, "tgas": []}, "there is no field 'tgas'. Did you mean 'tags'? Nothing was published."),
    ({**GOOD, "priority": "urgent"}, "priority: 'urgent' is not one of low, medium, high, critical. Nothing"),
    ({"type": "A"}, "payload is missing. Nothing was published."),
    ({"payload": {}}, "type is missing. Nothing was published."),
    ({"type": "Aa", "payload": {}}, "there is no artifact type 'Aa'. Did you mean 'A'? Nothing was published."),
    ({"type": "A", "payload": {"m": 1}}, "A.m: there is no such field. Nothing was published."),
    ({"type": "A", "payload": {"keyy": "x"}}, "A.keyy: there is no such field. Did you mean 'key'? Nothing"),
    ({"type": "A", "payload": [1]}, "A: "),
    ({**GOOD, "tags": "ops"}, "tags: "),
    ({**GOOD, "at": "1.5"}, "at: "),
    ({**GOOD, "at": -1}, "at: "),
    ({**GOOD, "version": 2}, "A version 2 is newer than this program's version 1."),
    ({**GOOD, "visibility": {"agent": ["x"]}}, "there is no field 'visibility.agent'."),
    ({**GOOD, "visibility": {"agents": []}}, "visibility.agents: "),
    ("[1, 2]", 'this is a list. A line is an object: {"type": …, "payload": …}. Nothing was published.'),
    ('"text"', "this is a string."),
    ("{", "this is not JSON: "),
    ('{"type": "A", "payload": {"n": NaN}}', "this is not JSON: "),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), WRONG)
def test_a_wrong_line_is_named_with_what_is_wrong(tmp_path: Path, line: object, message: str) -> None:
    assert refusal(write(tmp_path, GOOD, "", line)).startswith(f"seeds.jsonl:3: {message}")


def test_all_wrong_lines_are_named_the_first_in_full(tmp_path: Path) -> None:
    file = write(tmp_path, "{", GOOD, {"type": "B"}, "x")
    message = refusal(file)
    assert message.startswith("seeds.jsonl:1: this is not JSON")
    assert message.endswith("Nothing was published. Lines 3, 4 are wrong too.")
    assert refusal(write(tmp_path, "{", GOOD, "x")).endswith(" Line 3 is wrong too.")


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    for name in ("seeds.jsonl", "seeds.json"):
        file = tmp_path / name
        file.write_bytes(b'{"type": "A", "payload": {"key": "\xff"}}')
        assert "this is not JSON" in refusal(file)


def test_times_never_go_back_and_stay_where_they_were_when_left_out(tmp_path: Path) -> None:
    file = write(tmp_path, {**GOOD, "at": 1}, GOOD, {**GOOD, "at": 1.5})
    assert [seed.at for seed in read(file)] == [1, 1, 1.5]
    file = write(tmp_path, {**GOOD, "at": 2}, {**GOOD, "at": 1.5})
    assert refusal(file).startswith("seeds.jsonl:2: at is 1.5, before the line above it (2).")


def test_a_model_that_takes_any_field_or_an_alias_is_taken_at_its_word(tmp_path: Path) -> None:
    lines = ({"type": "Open", "payload": {"any": 1}}, {"type": "Named", "payload": {"title": "t"}})
    assert len(read(write(tmp_path, *lines))) == 2


def test_an_older_version_is_brought_up_to_date(tmp_path: Path) -> None:
    file = write(tmp_path, {"type": "Renamed", "payload": {"title": "old"}, "version": 1})
    assert read(file)[0].payload == Renamed(name="old")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.jsonl") == "no.jsonl cannot be read: No such file or directory."
    assert refusal(tmp_path / "seeds.yaml") == "seeds.yaml: seed files end in .jsonl or .json."


def test_recorded_outputs_are_counted_and_given_only_when_asked_for(tmp_path: Path) -> None:
    header = {"stigmergy": "stream/1", "start": "2026-11-20T12:00:00Z", "types": {"A": 1}}
    seeds = read_seeds(write(tmp_path, header, GOOD, {**GOOD, "producer": "copy", "id": 3, "cause": 2}), table())
    assert (seeds.count, seeds.recorded, len(list(seeds)), len(list(seeds.all()))) == (1, 1, 1, 2)
    assert seeds.start is not None
    assert [s.producer for s in seeds.all()] == ["", "copy"]
    assert "is not a header" in refusal(write(tmp_path, {"stigmergy": "stream/2"}))


def test_what_comes_through_a_pipe_is_kept_and_recognised(tmp_path: Path) -> None:
    pretty = json.dumps([GOOD, GOOD], indent=1)
    for text, count in ((json.dumps(GOOD) + "\n" + json.dumps(GOOD), 2), (pretty, 2), (json.dumps(GOOD, indent=1), 1)):
        file = save_seeds(io.BytesIO(text.encode()), tmp_path)
        assert len(read(file)) == count
    assert refusal(save_seeds(io.BytesIO(b"{"), tmp_path), name="stdin").startswith("stdin: this is not JSON")


async def test_a_file_is_published_whole_or_not_at_all(new_board: Boards, tmp_path: Path) -> None:
    board = new_board()
    board.agent("copy").consumes(A).publishes(B).body(copy)
    with pytest.raises(SeedError):
        await board.publish_file(write(tmp_path, GOOD, GOOD, {"type": "A", "payload": {"n": "x"}}))
    assert board.artifacts().total == 0
    lines = {**GOOD, "key": "once", "tags": ["t"], "priority": "high", "visibility": {"agents": ["copy"]}}
    [made] = await board.publish_file(write(tmp_path, lines, {**GOOD, "producer": "copy"}))
    assert (made.payload, made.key, made.tags, made.priority) == (A(n=1), "once", ("t",), "high")
    assert made.visibility == private("copy")


async def test_what_was_published_can_be_written_and_published_again(new_board: Boards, tmp_path: Path) -> None:
    board = new_board()
    board.agent("copy").consumes(A).publishes(B).body(copy)
    await board.publish(A(n=1), key="k", tags=["ops"], priority="low")
    await board.publish(A(n=2, key="“ü”"), visibility=labelled("x"))
    await board.run_until_idle()
    out = io.StringIO()
    assert write_stream(board, out) == 3
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert (lines[0]["stigmergy"], lines[0]["types"]) == ("stream/1", {"A": 1, "B": 1})
    [made] = board.artifacts(B)
    assert lines[3] | {"at": 0, "time": ""} == {
        "type": "B", "payload": {"n": 1, "key": ""}, "at": 0, "id": made.id, "producer": "copy", "cause": made.cause,
        "inputs": [board.artifacts(A)[0].id], "time": "",
    }  # fmt: skip
    again = Blackboard()
    again.agent("copy").consumes(A).publishes(B).body(copy)
    await again.publish_file(write(tmp_path, out.getvalue()))
    was = [(a.payload, a.key, a.tags, a.priority, a.visibility) for a in board.artifacts(A)]
    assert [(a.payload, a.key, a.tags, a.priority, a.visibility) for a in again.artifacts(A)] == was


async def test_an_empty_board_writes_an_empty_stream() -> None:
    out = io.StringIO()
    assert (write_stream(Blackboard(), out), out.getvalue()) == (0, "")


async def copy(a: A) -> B:
    return B(n=a.n)
