"""The commands of people who look after a board: answer, dead-letters, retry, discard."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from stigmergy.cli import app

TEAM = """
from enum import StrEnum
from pydantic import BaseModel
from stigmergy import Context, Questions, Roster

class Order(BaseModel):
    n: int
    note: str = ""

class Shipped(BaseModel):
    n: int
    by: str

class Way(StrEnum):
    AIR = "air"
    SEA = "sea"

roster = Roster(components=[Questions()])

@roster.agent
async def ship(order: Order, ctx: Context) -> Shipped | None:
    if order.n < 0:
        raise ValueError("no such order")
    if order.n > 100 and not await ctx.ask("large", "Ship that many?"):
        return None
    return Shipped(n=order.n, by=await ctx.ask("way", "How?", answer=Way))
"""


@pytest.fixture(autouse=True)
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a team and seeds, and it is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "shipping.py").write_text(TEAM)


def seeded(*numbers: int) -> Result:
    lines = [json.dumps({"type": "Order", "payload": {"n": n}}) for n in numbers]
    Path("seeds.jsonl").write_text("\n".join(lines))
    return stigmergy("run shipping.py --seed seeds.jsonl --store run.db --quiet")


def stigmergy(line: str, *words: str) -> Result:
    return CliRunner().invoke(app, [*line.split(), *words])


def question(result: Result) -> int:
    """The question that the report names."""
    [line] = [line for line in result.stdout.splitlines() if "stigmergy answer" in line]
    return int(line.partition("HumanQuestion@")[2].partition(" ")[0])


@pytest.mark.req("S2.48", "S2.51")
def test_a_person_answers_what_the_report_shows_and_resumes() -> None:
    assert seeded(500).exit_code == 0
    shown = stigmergy("show run.db")
    assert "waiting after" in shown.stdout
    assert f"stigmergy answer run.db {question(shown)} true" in shown.stdout
    refused = stigmergy(f"answer run.db {question(shown)} perhaps")
    assert (refused.exit_code, refused.stderr) == (
        2, "NotAChoice: 'perhaps' is no answer to 'Ship that many?'. Choose one of true, false.\n"
    )  # fmt: skip
    answered = stigmergy(f"answer run.db {question(shown)} true")
    assert (answered.exit_code, answered.stdout) == (0, "")
    assert "stigmergy resume FILE --store run.db" in answered.stderr
    waiting = stigmergy("resume shipping.py --store run.db")
    assert waiting.exit_code == 0
    assert stigmergy(f"answer run.db HumanQuestion@{question(waiting)} sea").exit_code == 0
    done = stigmergy("resume shipping.py --store run.db")
    assert (done.exit_code, "nothing left to do" in done.stdout) == (0, True)
    assert '"sea"' in stigmergy("show run.db Shipped --json").stdout


@pytest.mark.req("S2.45")
def test_dead_letters_are_listed_inspected_retried_edited_and_discarded() -> None:
    seeded(-1, -2)
    listed = stigmergy("dead-letters run.db").stdout.splitlines()
    assert len(listed) == 2
    assert "ValueError: no such order" in listed[0]
    letters = json.loads(stigmergy("dead-letters run.db --json").stdout)
    assert [letter["inputs"][0]["payload"]["n"] for letter in letters] == [-1, -2]
    assert [letter["attempts"][0]["kind"] for letter in letters] == ["error", "error"]
    first, second = (letter["id"] for letter in letters)
    one = stigmergy(f"dead-letters run.db ship@{first}").stdout
    assert '{"n":-1,"note":""}' in one
    assert "attempt 1 after" in one
    assert "raise ValueError" in one
    refused = stigmergy(f"retry run.db {first} --set size=1")
    assert (refused.exit_code, "no input of ship@" in refused.stderr) == (2, True)
    assert stigmergy(f"retry run.db {first} --set n=1").exit_code == 0
    assert stigmergy(f"discard run.db {second} --reason", "a typing error").exit_code == 0
    assert stigmergy("dead-letters run.db").stdout == "no dead letters\n"
    resumed = stigmergy("resume shipping.py --store run.db")
    assert resumed.exit_code == 0
    assert "discarded: a typing error" in resumed.stdout
    again = stigmergy(f"discard run.db {second} --reason x")
    assert (again.exit_code, again.stderr.startswith(f"NotFound: ship@{second} was tried again already")) == (2, True)


def test_what_is_open_is_cancelled_by_its_activation_its_artifact_or_its_run() -> None:
    seeded(500, 600, 700, 800)
    shown = json.loads(stigmergy("show run.db --all --json").stdout)
    orders = [a["id"] for a in shown if a["type"] == "Order"]
    first, second = (next(a["payload"]["about"] for a in shown if a["root"] == order and a["id"] != order)
                     for order in orders[:2])  # fmt: skip
    done = stigmergy(f"cancel run.db ship@{first}")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "1 activation cancelled\n")
    done = stigmergy(f"cancel run.db Order@{orders[1]} --json --reason", "a typing error")
    assert json.loads(done.stdout) == {"cancelled": [second]}
    assert stigmergy(f"cancel run.db {first}").stderr == "nothing of it is open\n"
    assert stigmergy("cancel run.db --run main").stderr == "2 activations cancelled\n"
    resumed = stigmergy("resume shipping.py --store run.db")
    assert "nothing left to do" in resumed.stdout
    assert "a typing error" in resumed.stdout


@pytest.mark.parametrize("words", [[], ["99999"], ["Order@99999"], ["--run", "nope"], ["x"], ["3", "--reason", " "]])
def test_what_cannot_be_cancelled_is_said_in_one_line(words: list[str]) -> None:
    seeded(500)
    before = json.loads(stigmergy("show run.db --json").stdout)["open"]
    refused = stigmergy("cancel run.db", *words)
    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert json.loads(stigmergy("show run.db --json").stdout)["open"] == before


PAUSED = """
import asyncio
from pydantic import BaseModel
from stigmergy import Blackboard

class Order(BaseModel):
    n: int

board = Blackboard("night.db", run="night")

@board.agent
async def ship(order: Order) -> None: ...

async def main() -> None:
    async with board:
        await board.publish(Order(n=1))
        await board.pause()

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_resume_goes_on_with_a_run_that_was_paused_also_if_the_board_names_its_run() -> None:
    Path("night.py").write_text(PAUSED)
    subprocess.run([sys.executable, "night.py"], check=True)
    assert "1 open" in stigmergy("show night.db").stdout
    resumed = stigmergy("resume night.py --store night.db")
    assert (resumed.exit_code, "1 activation: 1 done" in resumed.stdout) == (0, True)
    Path("more.jsonl").write_text('{"type": "Order", "payload": {"n": 2}}')
    assert stigmergy("run night.py --seed more.jsonl --store night.db --quiet").exit_code == 0
    assert {a["run"] for a in json.loads(stigmergy("show night.db Order --json").stdout)} == {"night"}
