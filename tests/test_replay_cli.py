"""The commands that question a recorded run: replay, why-not, why --prov, show --at."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from stigmergy.cli import app

TEAM = """
from pydantic import BaseModel
from stigmergy import Roster

class Order(BaseModel):
    n: int
    city: str = "Oslo"

class Bill(BaseModel):
    n: int

def small(order: Order) -> bool:
    return order.n < LIMIT

async def bill(order: Order) -> Bill:
    return Bill(n=order.n)

roster = Roster()
roster.agent("bill").consumes(Order, where=small).publishes(Bill).body(bill)
"""


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recorded run of a team, and it is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("team.py").write_text(TEAM.replace("LIMIT", "100"))
    Path("picky.py").write_text(TEAM.replace("LIMIT", "2"))
    Path("seeds.jsonl").write_text("".join(json.dumps({"n": n}) + "\n" for n in (1, 5, 500)))
    done = call("run", "team.py", "--seed", "seeds.jsonl", "--type", "Order", "--store", "run.db", "--quiet")
    assert done.exit_code == 0, done.output
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_replay_says_that_all_is_equal_and_exits_with_0(recorded: Path) -> None:
    done = call("replay", "run.db", "team.py")
    assert done.exit_code == 0
    assert done.stdout.startswith("run.db: equal, ")
    assert json.loads(call("replay", "run.db", "team.py:roster", "--json").stdout)["ok"] is True


def test_replay_shows_the_first_difference_and_exits_with_1(recorded: Path) -> None:
    done = call("replay", "run.db", "picky.py")
    assert done.exit_code == 1
    second = json.loads(call("show", "run.db", "Order", "--json").stdout)[1]["id"]
    assert f"bill/0 took Order@{second} and does not now: its predicate small (picky.py:" in done.stdout
    shown = json.loads(call("replay", "run.db", "picky.py", "--json").stdout)
    assert (shown["ok"], shown["first"]["cause"]) == (False, "predicate")
    assert call("replay", "run.db", "picky.py", "--until", "2").exit_code == 0


def test_replay_of_nothing_or_with_nothing_is_an_error_and_writes_nothing(recorded: Path) -> None:
    assert call("replay", "no.db", "team.py").exit_code == 3
    assert call("replay", "run.db", "no.py").exit_code == 2
    before = Path("run.db").read_bytes()
    call("replay", "run.db", "team.py")
    assert Path("run.db").read_bytes() == before
    assert not Path("no.db").exists()


def test_why_not_names_the_test_when_it_is_given_the_file(recorded: Path) -> None:
    orders = json.loads(call("show", "run.db", "Order", "--json").stdout)
    assert [o["payload"]["n"] for o in orders] == [1, 5, 500]
    small, large = str(orders[0]["id"]), str(orders[2]["id"])
    done = call("why-not", "run.db", "bill", large)
    assert done.exit_code == 0
    assert done.stdout.strip().endswith(f"stigmergy why-not run.db bill {large} FILE")
    done = call("why-not", "run.db", "bill", f"Order@{large}", "team.py")
    assert f"bill did not take Order@{large}: its predicate small (team.py:" in done.stdout
    assert "completed in" in call("why-not", "run.db", "bill", small).stdout
    assert "is ready" in call("why-not", "run.db", "bill", small, "--at", small).stdout
    assert json.loads(call("why-not", "run.db", "bill", large, "team.py", "--json").stdout)["took"] is False
    assert call("why-not", "run.db", "nobody", large).exit_code == 2


def test_why_gives_the_lineage_as_prov(recorded: Path) -> None:
    [bill, _] = json.loads(call("show", "run.db", "Bill", "--json").stdout)
    document = json.loads(call("why", "run.db", str(bill["id"]), "--prov").stdout)
    assert f"board:artifact.{bill['id']}" in document["entity"]
    assert document["wasDerivedFrom"]


def test_show_at_shows_report_artifacts_and_tree_as_they_were(recorded: Path) -> None:
    bill = json.loads(call("show", "run.db", "Bill", "--json").stdout)[0]["id"]
    past = str(bill - 2)  # one before is its completion, which is the same decision
    assert json.loads(call("show", "run.db", "Bill", "--at", past, "--json").stdout) == []
    assert json.loads(call("show", "run.db", "--at", past, "--json").stdout)["done"] == 0
    assert json.loads(call("show", "run.db", "--at", str(bill), "--json").stdout)["done"] == 1
    assert "Bill" not in call("graph", "run.db", "--at", past).stdout and "Bill" in call("graph", "run.db").stdout
    assert "Bill" not in call("export", "run.db", "--at", past).stdout and "Bill" in call("export", "run.db").stdout
    assert "Bill" not in call("show", "run.db", "--tree", "--at", past).stdout
    assert "Bill" in call("show", "run.db", "--tree", "--at", str(bill)).stdout
    assert json.loads(call("show", "run.db", "--at", "2020-01-01", "--json").stdout)["seeds"] == 0
    assert call("show", "run.db", "--at", "yesterday").exit_code == 2
