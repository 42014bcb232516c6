"""Names that look like paths or code stay names: whatever is written goes where the user said, and nowhere else."""

import ast
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from stigmergy import Blackboard, Context, StigmergyError, artifact_type, backup, read, recover, verify
from stigmergy.agents.models.cached import Cached
from stigmergy.agents.models.model import Message, Request
from stigmergy.agents.models.recorded import Recorded
from stigmergy.agents.models.scripted import Scripted
from stigmergy.cli import app
from stigmergy.testing import play
from tests.boards import A

pytestmark = pytest.mark.anyio

NASTY = [
    "../outside", "/tmp/outside", "..", "a/../../outside", "C:\\outside", "..\\outside", "~/outside", "con",
    "-o outside",
    "$(touch outside)", "`touch outside`", "x; touch outside", "'; import os; os.mkdir('outside') #",
    '"""\nopen("outside", "w")\n"""', "\\", "{0.__class__}", "%s%n", "outside\nline", "‮edisstuo", "é" * 200,
]  # fmt: skip


def everything_under(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def call(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.output


TEAM = """
from pydantic import BaseModel
from stigmergy import Roster, artifact_type

@artifact_type(name={type!r})
class Nasty(BaseModel):
    text: str = ""

roster = Roster()

async def body(x: Nasty) -> Nasty | None:
    return Nasty(text=x.text + "!") if len(x.text) < 400 else None

roster.agent({agent!r}).consumes(Nasty).publishes(Nasty).body(body)
"""


async def roster_of(name: str) -> tuple[str, str]:
    """The name for an agent and a type, or another where it is refused as one."""
    agent, kind = name, name
    board = Blackboard()
    try:
        board.agent(name).consumes(A).body(lambda a: None)
    except StigmergyError:
        agent = "agent"
    try:

        @artifact_type(name=name)
        class Nasty(BaseModel):
            text: str = ""

        await board.publish(Nasty())
    except StigmergyError:
        kind = "Nasty"
    await board.close()
    return agent, kind


@pytest.mark.parametrize("name", NASTY)
async def test_names_on_a_board_lead_nowhere(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "deep" / "work"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    agent, kind = await roster_of(name)
    Path("team.py").write_text(TEAM.format(agent=agent, type=kind), encoding="utf-8")
    board = Blackboard(work / "run.db")

    @artifact_type(name=kind)
    class Nasty(BaseModel):
        text: str = ""

    async def body(x: Nasty, ctx: Context) -> None:
        async def effect() -> str:
            return name

        await ctx.call(name, effect)

    board.agent(agent).consumes(Nasty).body(body)
    for options in ({"run": name}, {"key": name}, {"tags": [name]}):
        try:
            await board.publish(Nasty(text=name), **options)
        except StigmergyError:
            await board.publish(Nasty(text=name))
    report = await board.run_until_idle()
    await board.close()
    assert report.done == 3
    activation = next(e.seq for e in read(work / "run.db").events() if type(e).__name__ == "Activated")
    for suffix in ("svg", "html", "mmd", "dot"):
        call("graph", "run.db", "-o", f"g.{suffix}")
    call("export", "run.db", "-o", "stream.jsonl")
    (
        call("show", "run.db", "--all"),
        call("show", "run.db", "--tree"),
        call("tail", "run.db"),
        call("why", "run.db", activation),
    )
    call("make-test", "run.db", "team.py", activation, "-o", "test_it.py")
    ast.parse(Path("test_it.py").read_text(encoding="utf-8"))
    backup("run.db", "copy.db")
    assert recover("copy.db", "again.db").seal == verify("run.db").seal
    found = everything_under(tmp_path)
    shutil.rmtree(work / "__pycache__", ignore_errors=True)
    assert found - {"deep", "deep/work"} - {f for f in found if "__pycache__" in f} <= {
        f"deep/work/{file}"
        for file in (
            "team.py", "run.db", "run.db-wal", "run.db-shm", "run.db.lock", "g.svg", "g.html", "g.mmd", "g.dot",
            "stream.jsonl", "test_it.py", "copy.db", "copy.db-wal", "copy.db-shm", "again.db", "again.db-wal",
            "again.db-shm",
        )
    }  # fmt: skip


@pytest.mark.parametrize("name", NASTY)
async def test_names_of_models_and_what_is_asked_lead_nowhere(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "deep"
    model: Any = Scripted(lambda request: name)
    model.name = name
    kept = Recorded(Cached(model, folder / "cache"), folder / "cassette.jsonl", mode="once")
    reply = await kept.complete(Request(model=name, messages=(Message(role="user", text=name),)))
    assert reply.text == name
    files = {p for p in folder.rglob("*") if p.is_file()}
    [cached] = files - {folder / "cassette.jsonl"}
    assert cached.parent.parent == folder / "cache"
    assert set(cached.stem) <= set("0123456789abcdef")
    assert everything_under(tmp_path) == {str(p.relative_to(tmp_path)) for p in (folder, *folder.rglob("*"))}


@pytest.mark.parametrize("name", NASTY)
def test_a_stream_with_such_names_is_played_or_refused_whole(tmp_path: Path, name: str, capsys: Any) -> None:
    import json

    stream = tmp_path / "stream.jsonl"
    stream.write_text(json.dumps({"type": name, "payload": {}, "key": name, "tags": [name]}) + "\n", encoding="utf-8")
    before = everything_under(tmp_path)
    with pytest.raises(StigmergyError):
        play(Blackboard(), stream)
    assert everything_under(tmp_path) == before
