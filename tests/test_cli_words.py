"""What the command line says: to terminals of any kind, to programs, and to people who mistype."""

import json
import os
import pty
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from stigmergy.cli import app
from tests.readme import ROOT, blocks
from tests.test_cli import TEAM, call, seeds

PROGRAM = "from stigmergy.cli import main; main()"
SHIP = """
from pydantic import BaseModel
from stigmergy import Context, Limits, Questions, Roster

class Order(BaseModel):
    n: int

class Urgent(Order):
    pass

class Way(BaseModel):
    by: str
    fast: bool = False

roster = Roster(components=[Questions()], limits=Limits(cost="2.00", depth=5))

@roster.agent(self_trigger=True)
async def again(order: Order) -> Order | Urgent | None:
    return Order(n=order.n + 1) if 0 < order.n < 50 else None

@roster.agent
async def ship(order: Order, ctx: Context) -> None:
    if order.n < 0:
        await ctx.ask("way", "How?", answer=Way)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with two teams and seeds, and it is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "team", raising=False)  # of a test before, in another folder
    for name in ("STIGMERGY_STORE", "STIGMERGY_TIMEOUT", "STIGMERGY_LIMIT"):
        monkeypatch.delenv(name, raising=False)
    Path("team.py").write_text(TEAM)
    Path("ship.py").write_text(SHIP)
    seeds("good.jsonl", "hello")
    seeds("mixed.jsonl", "hello", "bad")


def ship(*numbers: int) -> None:
    lines = [json.dumps({"type": "Order", "payload": {"n": n}}) for n in numbers]
    Path("orders.jsonl").write_text("\n".join(lines))
    call("run", "ship.py", "--seed", "orders.jsonl", "--store", "ship.db", "--quiet")


# -- for programs -----------------------------------------------------------------------------------------------------

IN_JSON = {
    "run": "run team.py --seed mixed.jsonl",
    "resume": "resume team.py --store run.db",
    "publish": "publish team.py --seed good.jsonl --store run.db",
    "check": "check team.py",
    "show": "show run.db",
    "tail": "tail run.db -n 1",
    "why": "why run.db 3",
    "why-not": "why-not run.db shout 3",
    "prompt": "prompt model.py teller 3 --store run.db",
    "replay": "replay run.db team.py",
    "make-test": "make-test run.db team.py 6",
    "dead-letters": "dead-letters run.db",
    "retry": "retry run.db 6",
    "discard": "discard run.db 6 --reason no",
    "cancel": "cancel run.db --run main",
    "answer": "answer ship.db HumanQuestion by=air",
    "verify": "verify run.db",
    "backup": "backup run.db copy.db",
    "erase": "erase run.db --before 5",
    "vacuum": "vacuum run.db",
    "doctor": "doctor run.db",
    "graph": "graph run.db",
    "export": "export run.db -o stream.jsonl",
}
MODEL = """
from team import Question, Answer
from stigmergy import Roster
from stigmergy.models import Scripted
roster = Roster(model=Scripted([]))
roster.agent("teller").consumes(Question).publishes(Answer)
"""


def test_every_command_is_asked_for_json_below() -> None:
    assert set(IN_JSON) == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", IN_JSON)
def test_every_command_prints_one_json_value_and_nothing_else(command: str) -> None:
    Path("model.py").write_text(MODEL)
    call("run", "team.py", "--seed", "mixed.jsonl", "--store", "run.db", "--quiet")
    words = IN_JSON[command].split()
    if command == "answer":
        ship(-1)
        [asked] = json.loads(call("show", "ship.db", "HumanQuestion", "--json").stdout)
        words[2] = str(asked["id"])
    done = call(*words, "--json")
    assert done.stderr == ""
    assert done.exit_code == (1 if command in ("run", "resume") else 0)
    assert isinstance(json.loads(done.stdout), dict | list)


def test_what_was_written_is_said_in_json_too() -> None:
    call("run", "team.py", "--seed", "good.jsonl", "--store", "run.db", "--quiet")
    assert json.loads(call("graph", "run.db", "-o", "run.svg", "--json").stdout) == {"wrote": "run.svg"}
    assert Path("run.svg").exists()
    made = json.loads(call("make-test", "run.db", "team.py", "4", "-o", "test_it.py", "--json").stdout)
    assert made == {"wrote": "test_it.py", "next": "pytest test_it.py"}
    proven = call("verify", "run.db", "--recover", "saved.db", "--json")
    assert (json.loads(proven.stdout)["saved"], proven.stderr) == ("saved.db", "")
    nodes = json.loads(call("graph", "run.db", "--json").stdout)["nodes"]
    assert {"kind": "agent", "name": "shout", "count": 1, "failed": 0} in nodes
    published = json.loads(call("publish", "team.py", "--seed", "good.jsonl", "--store", "run.db", "--json").stdout)
    assert [a["payload"]["text"] for a in published["published"]] == ["hello"]
    assert published["next"] == "stigmergy resume team.py --store run.db"


# -- what to do next --------------------------------------------------------------------------------------------------


def test_the_next_command_can_be_pasted() -> None:
    done = call("run", "ship.py:roster", "--seed", "-", "--store", "run.db", stdin='{"type":"Order","payload":{"n":1}}')
    assert done.exit_code == 4
    assert done.stdout.startswith("budget spent after ")
    [command] = {line.partition("stigmergy ")[2] for line in done.stdout.splitlines() if "not finished" in line}
    assert command == "resume ship.py:roster --store run.db --limit depth=…"
    assert call(*command.replace("…", "100").split()).exit_code == 0
    assert "stigmergy resume FILE --store run.db" not in call("show", "run.db").stdout


def test_a_board_in_memory_names_no_command_that_could_not_be_run() -> None:
    done = call("run", "team.py", "--seed", "mixed.jsonl")
    assert done.exit_code == 1
    assert "board.retry" not in done.stdout
    assert done.stdout.endswith("\n  nothing of this is kept: with --store run.db there is a command for each\n")


def test_limits_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STIGMERGY_LIMIT", "activations=1 cost=9.00")
    done = call("run", "team.py", "--seed", "mixed.jsonl")
    assert done.exit_code == 4
    assert "of $9.00" in done.stdout


def test_check_lists_the_settings_and_what_nobody_takes_for_its_base() -> None:
    done = call("check", "ship.py")
    assert "limits.cost=2.00" in done.stdout
    assert 'agent "again" publishes Urgent, which nobody consumes: what consumes Order gets that type' in done.stdout
    found = json.loads(call("check", "ship.py", "--json").stdout)
    assert (found["settings"]["limits.depth"], found["components"], len(found["doubts"])) == (5, ["questions"], 1)
    assert found["agents"][0]["consumes"] == ["Order"]
    assert json.loads(call("check", "team.py", "--json").stdout)["doubts"] == []


def test_a_deep_tree_stays_on_the_page_and_says_how_deep_it_is() -> None:
    ship(*(1 for _ in range(3)))
    call("resume", "ship.py", "--store", "ship.db", "--limit", "depth=100", "--quiet")
    lines = call("show", "ship.db", "--tree", "--limit", "0").stdout.splitlines()
    assert len(lines) == 150
    assert max(map(len, lines)) < 120
    assert any(line.strip().startswith("49: Order@") for line in lines)
    cut = call("show", "ship.db", "--tree", "--limit", "40").stdout.splitlines()
    assert cut[-1].lstrip(" │├└─0123456789:").startswith("… 11")
    report = call("show", "ship.db").stdout
    assert "stigmergy show ship.db --tree" in report


def test_what_is_not_remembered_of_a_tree_is_said_under_no_wrong_parent() -> None:
    ship(*(0 for _ in range(30)))
    lines = call("show", "ship.db", "--tree", "--limit", "30").stdout.splitlines()
    assert len(lines) == 30
    lines = call("show", "ship.db", "--tree", "--limit", "10").stdout.splitlines()
    assert lines[-1].split("  ")[0] == "… 20 more"


SESSION = """
from stigmergy import AnalysisResult, Roster, ValidationResult, WorkDiscovery
roster = Roster()

@roster.agent
async def analyze(work: WorkDiscovery) -> AnalysisResult:
    return AnalysisResult(plan="a plan", approved=work.description == "clear")

@roster.agent
async def validate(result: AnalysisResult) -> ValidationResult:
    if not result.approved:
        raise ValueError("unclear")
    return ValidationResult(passed=True)
"""


def test_the_session_at_the_top_of_the_page_runs_as_it_stands() -> None:
    Path("team.py").write_text(SESSION)
    lines = [
        {"type": "WorkDiscovery", "payload": {"description": d, "phase": "analysis", "done_definition": "A plan"}}
        for d in ("clear", "dim")
    ]
    Path("seeds.jsonl").write_text("\n".join(map(json.dumps, lines)))
    [session, *_] = blocks((ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), "sh")
    ran = set()
    for line in session.splitlines():
        words = shlex.split(line, comments=True)[1:]
        if "ValidationResult@41" in words:
            [result] = json.loads(call("show", "run.db", "ValidationResult", "--json").stdout)
            words[-1] = f"ValidationResult@{result['id']}"
        if words[0] == "retry":
            [letter] = json.loads(call("dead-letters", "run.db", "--json").stdout)
            words[-1] = str(letter["id"])
        done = call(*words)
        assert done.exit_code == (1 if words[0] in ("run", "resume") else 0), (line, done.output)
        ran.add(words[0])
    assert ran == {"check", "run", "show", "why", "retry", "resume", "graph"}


# -- slips of the pen -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("shw run.db", "UsageError: No such command 'shw'. Did you mean 'show'? See stigmergy --help."),
        ("run --bogus", "UsageError: No such option: --bogus. See stigmergy run --help."),
        ("run", "UsageError: Missing argument 'FILE[:NAME]'. See stigmergy run --help."),
        ("tail run.db -n x", "UsageError: Invalid value for '-n': "),
        ("show run.db --limit -1", "UsageError: Invalid value for '--limit': "),
        ("show run.db --where", "UsageError: Option '--where' requires an argument. See stigmergy"),
        ("run team.py --timeout soon", "UsageError: Invalid value for '--timeout' (env var: 'STIGMERGY_TIMEOUT'): "),
        ("show run.db Answr", "NotFound: no artifact here is a 'Answr'. Did you mean 'Answer'?"),
        ("show run.db Answer --where rihgt=true", "UnknownField: no Answer here has a field 'rihgt'. Did you mean "),
        ("show run.db --where rihgt=true", "UnknownField: no artifact here has a field 'rihgt'. Did you mean 'right'?"),
        ("check ship.py:rooster", "DefinitionError: ship.py has no 'rooster'. Did you mean 'roster'?"),
        ("check ship.py:zzz", "DefinitionError: ship.py has no 'zzz'. There is: Order, Urgent, Way, roster, again, "),
        ("run team.py --limit cost=-1", "DefinitionError: --limit cost=-1: give a number from 0, or none."),
    ],
)
def test_a_slip_is_one_line_with_the_way_out(line: str, said: str) -> None:
    call("run", "team.py", "--seed", "good.jsonl", "--store", "run.db", "--quiet")
    done = call(*line.split())
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.output
    assert done.stderr.startswith(said)


def test_nothing_asked_for_is_answered_with_the_list_of_commands() -> None:
    done = call()
    assert (done.exit_code, done.stdout) == (2, "")
    listed = [line for line in done.stderr.splitlines() if line.startswith("  ") and "..." in line]
    assert listed == [], "each command is described whole"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("byy=air", "UnknownField: the answer has no field 'byy'. Give by=….\n"),
        ("fast=true", "UnknownField: the answer lacks 'by'. Give by=….\n"),
        ("air", "UnknownField: the answer lacks 'by'. Give by=….\n"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_before_it_is_on_the_log(words: str, said: str) -> None:
    ship(-1)
    [asked] = json.loads(call("show", "ship.db", "HumanQuestion", "--json").stdout)
    done = call("answer", "ship.db", str(asked["id"]), words)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", said)
    assert call("answer", "ship.db", str(asked["id"]), "by=air").exit_code == 0


# -- terminals --------------------------------------------------------------------------------------------------------

SLOW = """
from pathlib import Path
import anyio
from pydantic import BaseModel
from stigmergy import Roster

class Tick(BaseModel):
    n: int

roster = Roster()

@roster.agent(name="Zähler_数える")
async def count(tick: Tick) -> None:
    while not Path("go").exists():
        await anyio.sleep(0.01)
    if tick.n == 2:
        raise ValueError("zu groß")
"""


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "PYTHONUTF8", "LC_ALL")}
    return {**kept, "PYTHONPATH": str(ROOT / "src"), **more}


@pytest.fixture
def ticks() -> None:
    """A team that waits to be let go."""
    Path("slow.py").write_text(SLOW, encoding="utf-8")
    Path("ticks.jsonl").write_text("\n".join(f'{{"type": "Tick", "payload": {{"n": {n}}}}}' for n in (1, 2)))


def read_until(terminal: int, wanted: str) -> bytes:
    shown = b""
    while wanted not in " ".join(shown.decode(errors="replace").split()):
        shown += os.read(terminal, 65_536)
    return shown


def until_it_is_closed(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            yield os.read(terminal, 65_536)
        except OSError:  # nobody has it any more
            return


@pytest.mark.parametrize(
    ("term", "width", "more"),
    [("xterm-256color", 100, {}), ("xterm", 24, {}), ("xterm", 100, {"NO_COLOR": "1"})],
    ids=["wide", "narrow", "no colour"],
)
def test_progress_is_shown_on_a_terminal_while_it_runs_and_is_gone_afterwards(
    ticks: None, term: str, width: int, more: dict[str, str]
) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", PROGRAM, "run", "slow.py", "--seed", "ticks.jsonl", "--json"]
    env = environment(TERM=term, COLUMNS=str(width), **more)
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = read_until(ours, "2 open")
        Path("go").touch()
        shown += b"".join(until_it_is_closed(ours))
        printed, _ = process.communicate()
    os.close(ours)
    assert "Zäh" in shown.decode()
    assert shown.rstrip().endswith(b"\x1b[2K"), "the last thing is that its lines are cleared"
    assert b"\x1b[?25h" in shown, "the cursor is back"
    assert (process.returncode, json.loads(printed)["dead"]) == (1, 1)
    if "NO_COLOR" in more:
        assert not any(f"\x1b[{colour}".encode() in shown for colour in (*range(30, 38), *range(90, 98)))


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_where_nothing_can_be_redrawn_nothing_is_shown_but_the_report(ticks: None, term: str) -> None:
    Path("go").touch()
    command = [sys.executable, "-c", PROGRAM, "run", "slow.py", "--seed", "ticks.jsonl"]
    env = environment(TERM=term)
    if term == "xterm":  # no terminal at all
        done = subprocess.run(command, env=env, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (1, b"")
        return
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b"".join(until_it_is_closed(ours))
        process.communicate()
    os.close(ours)
    assert shown.strip() == b""


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_letters_that_the_terminal_lacks_cost_no_report(ticks: None, encoding: str) -> None:
    Path("go").touch()
    for command, code in (("run slow.py --seed ticks.jsonl --store run.db", 1), ("show run.db", 0), ("tail run.db", 0)):
        line = [sys.executable, "-c", PROGRAM, *command.split()]
        done = subprocess.run(line, env=environment(PYTHONIOENCODING=encoding), capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (code, b"")
        if encoding == "latin-1":
            assert "Zähler_\\u6570" in done.stdout.decode("latin-1")


def test_columns_stand_under_each_other_also_in_wide_letters(ticks: None) -> None:
    Path("go").touch()
    lines = call("run", "slow.py", "--seed", "ticks.jsonl").stdout.splitlines()
    head = next(line for line in lines if line.startswith("  agent"))
    row = next(line for line in lines if line.startswith("  Zähler"))
    wide = 3
    assert head.index("done") + len("done") == row.index(" 1") + 2 + wide
