"""Texts that command a terminal, in what is published, raised, asked and decided: they are shown, and not obeyed."""

import json
import sys
from pathlib import Path

import pytest

from tests.test_cli import call

HOSTILE = "fine\x1b]0;owned\x07\x1b[2J\x9b31m\r\x08\x7f\u202egnp.exe\n\x1b[1A"
TEAM = f"""
from pydantic import BaseModel
from stigmergy import Context, Escalation, Retry, Roster

HOSTILE = {HOSTILE!r}

class Page(BaseModel):
    text: str

class Summary(BaseModel):
    title: str

roster = Roster(components=[Escalation()])

@roster.agent
async def asks(page: Page, ctx: Context) -> Summary:
    return Summary(title=await ctx.ask("title", page.text, answer=str))

@roster.agent(retry=Retry(attempts=2, backoff=0))
async def fails(page: Page) -> None:
    raise ValueError(page.text)

@roster.agent
async def copies(page: Page) -> Summary:
    return Summary(title=page.text)

"""


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a board that is full of them, and it is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("hostile.py").write_text(TEAM, encoding="utf-8")
    Path("pages.jsonl").write_text(json.dumps({"text": HOSTILE}), encoding="utf-8")
    call("run", "hostile.py", "--seed", "pages.jsonl", "--type", "Page", "--store", "run.db", "--quiet")
    cancelled = json.loads(call("show", "run.db", "HumanQuestion", "--json").stdout)[0]["payload"]["about"]
    call("cancel", "run.db", str(cancelled), "--reason", HOSTILE)


COMMANDS = (
    ["show", "run.db"],
    ["show", "run.db", "--all"],
    ["show", "run.db", "--tree"],
    ["show", "run.db", HOSTILE],
    ["tail", "run.db", "-n", "100"],
    ["dead-letters", "run.db"],
    ["dead-letters", "run.db", "DEAD"],
    ["why", "run.db", "DEAD"],
    ["why-not", "run.db", "fails", "Page"],
    ["why-not", "run.db", "asks", "Page"],
    ["answer", "run.db", "QUESTION", HOSTILE],
    ["graph", "run.db"],
    ["verify", HOSTILE],
    ["resume", "hostile.py", "--store", "run.db"],
)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:1] + words[2:]).split("\x1b")[0])
def test_what_is_printed_commands_no_terminal(board: None, words: list[str]) -> None:
    [letter] = json.loads(call("dead-letters", "run.db", "--json").stdout)
    question = json.loads(call("show", "run.db", "HumanQuestion", "--json").stdout)[-1]
    page = f"Page@{letter['inputs'][0]['id']}"
    ids = {"DEAD": str(letter["id"]), "QUESTION": str(question["id"]), "Page": page}
    done = call(*(ids.get(word, word) for word in words))
    assert done.output
    assert not {c for c in done.output if not c.isprintable()} - {"\n"}
