"""The command line: what it prints where, its exit codes, and what it refuses in one line."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from stigmergy.cli import app
from stigmergy.version import VERSION

TEAM = '''
"""A small team."""
import asyncio
from pathlib import Path
from pydantic import BaseModel
from stigmergy import Limits, Roster

class Question(BaseModel):
    text: str
    level: int = 1

class Answer(BaseModel):
    text: str
    right: bool = True

roster = Roster(limits=Limits(cost="5.00"))

@roster.agent
async def shout(question: Question) -> Answer:
    if question.text == "bad":
        raise ValueError("no good")
    if question.text == "slow":
        Path("started").touch()
        await asyncio.sleep(60)
    return Answer(text=question.text.upper())

def made(loud: bool, times: int = 1) -> Roster:
    other = Roster()
    @other.agent(name=f"shout{times}")
    async def shout_again(question: Question) -> Answer:
        return Answer(text=(question.text.upper() if loud else question.text) * times)
    return other
'''


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a team and seeds, and it is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "team", raising=False)  # of a test before, in another folder
    for name in ("STIGMERGY_STORE", "STIGMERGY_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "team.py").write_text(TEAM)
    seeds("good.jsonl", "hello")
    seeds("mixed.jsonl", "hello", "bad")
    seeds("slow.jsonl", "slow")
    return tmp_path


def seeds(name: str, *texts: str) -> None:
    lines = [json.dumps({"type": "Question", "payload": {"text": text}}) for text in texts]
    Path(name).write_text("\n".join(lines))


def call(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=stdin)


def run_good() -> None:
    assert call("run", "team.py", "--seed", "good.jsonl", "--store", "run.db").exit_code == 0


# -- run ------------------------------------------------------------------------------------------------------------


def test_a_run_prints_its_report_on_stdout_and_nothing_on_stderr(team: Path) -> None:
    done = call("run", "team.py", "--seed", "good.jsonl")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("idle after ")
    assert '  └─ Answer@7 "HELLO"  shout\n' in done.stdout
    assert "1 seed, 2 artifacts   1 activation: 1 done   $0.00 of $5.00" in done.stdout


def test_a_run_with_failures_exits_with_1_and_names_the_next_command(team: Path) -> None:
    done = call("run", "team.py", "--seed", "mixed.jsonl", "--store", "my run.db")
    assert done.exit_code == 1
    assert "ValueError: no good  stigmergy retry 'my run.db' 6" in done.stdout


def test_json_is_all_that_stdout_gets(team: Path) -> None:
    done = call("run", "team.py", "--seed", "mixed.jsonl", "--json")
    assert json.loads(done.stdout)["dead"] == 1
    assert (done.exit_code, done.stderr) == (1, "")


def test_quiet_prints_nothing(team: Path) -> None:
    done = call("run", "team.py", "--seed", "good.jsonl", "--quiet")
    assert (done.exit_code, done.output) == (0, "")


def test_a_limit_on_the_command_line_replaces_that_of_the_file_and_exits_with_4(team: Path) -> None:
    done = call("run", "team.py", "--seed", "mixed.jsonl", "--limit", "activations=1", "--limit", "cost=2.00")
    assert done.exit_code == 4
    assert done.stdout.startswith("budget spent after")
    assert "of $2.00" in done.stdout


def test_a_timeout_exits_with_4_and_what_is_open_goes_on_with_resume(team: Path) -> None:
    done = call("run", "team.py", "--seed", "slow.jsonl", "--store", "run.db", "--timeout", "0.05")
    assert done.exit_code == 4
    assert "1 activation not finished" in done.stdout
    assert "stigmergy resume team.py --store run.db" in done.stdout
    (team / "team.py").write_text(TEAM.replace("sleep(60)", "sleep(0)"))
    done = call("resume", "team.py", "--store", "run.db", "--json")
    assert (done.exit_code, json.loads(done.stdout)["done"]) == (0, 1)


def test_seeds_come_from_several_files_and_from_stdin(team: Path) -> None:
    line = json.dumps({"type": "Question", "payload": {"text": "piped"}})
    done = call("run", "team.py", "--seed", "good.jsonl", "--seed", "-", "--json", stdin=line)
    assert json.loads(done.stdout)["seeds"] == 2
    done = call("run", "team.py", "--seed", "-", "--type", "Question", "--json", stdin='[{"text": "a"}, {"text": "b"}]')
    assert json.loads(done.stdout)["seeds"] == 2


def test_a_wrong_seed_is_one_line_on_stderr_before_anything_is_opened(team: Path) -> None:
    Path("bad.jsonl").write_text('{"type": "Question", "payload": {"tex": "x"}}')
    done = call("run", "team.py", "--seed", "good.jsonl", "--seed", "bad.jsonl", "--store", "run.db")
    assert (done.exit_code, done.stdout, Path("run.db").exists()) == (2, "", False)
    assert done.stderr == "SeedError: bad.jsonl:1: Question.text: it is required. Nothing was published.\n"
    done = call("run", "team.py", "--seed", "-", stdin="{")
    assert done.stderr.startswith("SeedError: stdin: this is not JSON")


def test_recorded_outputs_of_a_stream_are_skipped_and_counted(team: Path) -> None:
    run_good()
    assert call("export", "run.db", "-o", "stream.jsonl").stderr == "wrote 2 artifacts to stream.jsonl\n"
    done = call("run", "team.py", "--seed", "stream.jsonl", "--json")
    assert done.stderr == "stream.jsonl: 1 recorded outputs skipped\n"
    assert json.loads(done.stdout)["seeds"] == 1


def test_publish_runs_nothing(team: Path) -> None:
    done = call("publish", "team.py", "--seed", "good.jsonl", "--store", "run.db")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "run it with: stigmergy resume team.py --store run.db" in done.stderr
    assert "not finished  shout: 1 ready" in call("show", "run.db").stdout
    assert call("resume", "team.py", "--store", "run.db").exit_code == 0
    assert call("publish", "team.py", "--seed", "good.jsonl").exit_code == 2


def test_retry_opens_a_dead_letter_for_the_next_run(team: Path) -> None:
    call("run", "team.py", "--seed", "mixed.jsonl", "--store", "run.db")
    done = call("retry", "run.db", "shout@6")
    assert (done.exit_code, done.stderr[:24]) == (0, "1 will be tried again by")
    (team / "team.py").write_text(TEAM.replace('"bad"', '"worse"'))
    assert call("resume", "team.py", "--store", "run.db").exit_code == 0
    done = call("retry", "run.db", "9999")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)


# -- what FILE[:NAME] may be ----------------------------------------------------------------------------------------


def test_a_function_is_called_with_settings_read_as_its_annotations_say(team: Path) -> None:
    done = call("check", "team.py:made", "--set", "loud=true", "--set", "times=3")
    first, settings, last = done.stdout.splitlines()
    assert (done.exit_code, first) == (0, "Agent('shout3': Question -> Answer)")
    assert settings.startswith("Settings(concurrency=8, limits.activations=100000, ")
    assert last == "1 agent, 2 artifact types: no errors"
    for arguments, message in (
        ((), "team.py:made needs loud. Give --set loud=…"),
        (("--set", "loud=true", "--set", "time=3"), "no parameter 'time'. Did you mean 'times'?"),
        (("--set", "loud=true", "--set", "times=x"), "--set times: "),
        (("--set", "loud"), "--set loud: write it as name=value."),
        (("--set", "loud=@no.txt"), "--set: no.txt cannot be read"),
    ):
        done = call("check", "team.py:made", *arguments)
        assert (done.exit_code, message in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("", "none.py", "none.py has no Roster and no Blackboard."),
        (
            "from stigmergy import Roster\na = Roster(); b = Roster()",
            "two.py",
            "two.py has several: a, b. Say which: two",
        ),
        ("x = 1", "one.py:x", "one.py:x is int."),
        ("x = 1", "one.py:y", "one.py has no 'y'. There is: x."),
        ("def f(): return 1", "f.py:f", "f.py:f returned int."),
        ("import nothing_like_this", "imp.py", "imp.py:1 cannot be loaded: ModuleNotFoundError: No module named"),
        ("x = 1\nx = = 2", "syn.py", "syn.py:2 cannot be loaded: SyntaxError"),
        ("import sys\nsys.exit(3)", "out.py", "out.py:2 cannot be loaded: SystemExit: 3"),
        (
            "from stigmergy import Blackboard\nboard = Blackboard()\nboard.run_sync(\n)\n",
            "runs.py",
            "runs.py runs its board on import: put lines 3-4 under `if __name__ == '__main__':`.",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(team: Path, text: str, target: str, message: str) -> None:
    Path(target.partition(":")[0]).write_text(text)
    done = call("check", target)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"DefinitionError: {message}")


def test_of_several_the_one_called_board_is_meant_and_a_file_may_import_its_neighbours(team: Path) -> None:
    Path("more.py").write_text(
        "from team import roster\nfrom stigmergy import Blackboard\n"
        "assert __name__ == 'more'\nboard = Blackboard('own.db', roster=roster)\n"
    )
    assert call("run", "more.py", "--seed", "good.jsonl", "--store", "given.db").exit_code == 0
    assert (Path("given.db").exists(), Path("own.db").exists()) == (True, False)
    assert call("run", "more.py", "--seed", "good.jsonl").exit_code == 0
    assert Path("own.db").exists()


def test_check_refuses_an_agent_that_could_never_run(team: Path) -> None:
    Path("empty.py").write_text("from stigmergy import Roster\nroster = Roster()\nroster.agent('x')\n")
    done = call("check", "empty.py")
    assert (done.exit_code, done.stderr[:7]) == (2, "NoBody:")


@pytest.mark.parametrize(
    ("limit", "message"),
    [("cst=2", "no such limit. Did you mean 'cost'"), ("tokens=x", "tokens=x: "), ("cost", "name=value"),
     ("cost=much", "cost=much: give a number"), ("tokens=1.5", "tokens=1.5: ")],
)  # fmt: skip
def test_a_wrong_limit_is_refused(team: Path, limit: str, message: str) -> None:
    done = call("run", "team.py", "--limit", limit)
    assert done.exit_code == 2
    assert message in done.stderr


def test_with_traceback_the_error_itself_comes_out(team: Path) -> None:
    done = call("check", "nowhere.py", "--traceback")
    assert type(done.exception).__name__ == "DefinitionError"


# -- looking --------------------------------------------------------------------------------------------------------


def test_show_prints_the_report_artifacts_or_the_tree(team: Path) -> None:
    run_good()
    assert call("show", "run.db").stdout.startswith("idle after ")
    assert json.loads(call("show", "run.db", "--json").stdout)["done"] == 1
    [line] = call("show", "run.db", "Answer").stdout.splitlines()
    assert line.split("  ")[0].startswith("Answer@")
    assert "shout" in line
    assert len(call("show", "run.db", "--all").stdout.splitlines()) == 2
    assert call("show", "run.db", "--all", "--limit", "1").stdout.splitlines()[1] == "… 1 more; --limit 0 shows all"
    tree = call("show", "run.db", "--tree").stdout.splitlines()
    assert tree[0].startswith('Question@3 "hello"')
    assert tree[1].startswith("└─ Answer@")
    assert call("show", "run.db", "Answer", "--producer", "nobody").stdout == "no such artifacts\n"


def test_artifacts_are_filtered_by_json_values_and_shown_as_json(team: Path) -> None:
    run_good()
    found = json.loads(call("show", "run.db", "Answer", "--where", "right=true", "--json").stdout)
    assert found[0]["payload"] == {"text": "HELLO", "right": True}
    assert json.loads(call("show", "run.db", "Answer", "--where", "right=false", "--json").stdout) == []
    assert json.loads(call("show", "run.db", "--producer", "outside", "--json").stdout)[0]["type"] == "Question"
    assert json.loads(call("show", "run.db", "--all", "--at", "3", "--json").stdout)[0]["id"] == 3
    assert call("show", "run.db", "--at", "yesterday").exit_code == 2
    assert call("show", "run.db", "--where", "right").exit_code == 2


def test_tail_prints_the_last_events(team: Path) -> None:
    run_good()
    lines = call("tail", "run.db", "-n", "3").stdout.splitlines()
    assert [line.split()[3] for line in lines] == ["Published", "Idled", "Closed"]
    events = [json.loads(line) for line in call("tail", "run.db", "--after", "0", "--json").stdout.splitlines()]
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert next(e for e in events if e["event"] == "Published")["payload"] == {"text": "hello", "level": 1}


def test_tail_prints_also_a_time_beyond_all_dates(team: Path) -> None:
    much_later = TEAM.replace('ValueError("no good")', "type('Busy', (Exception,), {'retry_after': 1e15})")
    much_later = much_later.replace("@roster.agent", "@roster.agent(retry=Retry(attempts=2))", 1)
    Path("team.py").write_text(much_later.replace("import Limits, ", "import Limits, Retry, "))
    assert call("run", "team.py", "--seed", "mixed.jsonl", "--store", "run.db").exit_code == 0
    done = call("tail", "run.db")
    assert (done.exit_code, "retry_at=1e+15" in done.stdout) == (0, True)


def test_why_explains_and_graph_draws(team: Path) -> None:
    run_good()
    [answer] = json.loads(call("show", "run.db", "Answer", "--json").stdout)
    assert "└─ Question@3" in call("why", "run.db", f"Answer@{answer['id']}").stdout
    assert json.loads(call("why", "run.db", str(answer["id"]), "--json").stdout)["steps"][1]["name"] == "Question@3"
    assert call("graph", "run.db").stdout.startswith("flowchart LR\n")
    assert call("graph", "run.db", "-o", "run.svg").stderr == "wrote run.svg\n"
    assert Path("run.svg").read_text().startswith("<svg ")
    done = call("graph", "run.db", "-o", "run.png")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    done = call("why", "run.db", "999")
    assert (done.exit_code, done.stderr) == (2, "NotFound: there is nothing at 999. The last position is 9.\n")


def test_a_store_that_cannot_be_used_exits_with_3(team: Path) -> None:
    for arguments in (
        ("show", "no.db"), ("show", "team.py"), ("resume", "team.py", "--store", "no.db"), ("tail", "no.db"),
        ("graph", "no.db"), ("why", "no.db", "1"), ("retry", "no.db", "1"), ("export", "no.db"),
    ):  # fmt: skip
        done = call(*arguments)
        assert (done.exit_code, done.stderr.count("\n")) == (3, 1), arguments
    assert not Path("no.db").exists()


def test_help_lists_the_commands_and_the_exit_codes() -> None:
    text = " ".join(call("--help").stdout.split())
    for command in ("run", "resume", "publish", "check", "show", "tail", "why", "retry", "graph", "export"):
        assert f" {command} " in text
    for code in ("0 all went well", "1 it ended", "2 usage", "3 the store", "4 stopped", "130 interrupted"):
        assert code in text
    assert call("--version").stdout == f"stigmergy {VERSION}\n"


# -- as processes ---------------------------------------------------------------------------------------------------

COMMAND = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom stigmergy.cli import main; main()"
)


def start(*arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join((str(Path(__file__).parent.parent / "src"), os.environ.get("PYTHONPATH", "")))
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_loses_nothing_and_says_how_to_go_on(team: Path, stop: signal.Signals) -> None:
    with start("tail", "run.db") as early:
        assert early.wait(30) == 3
    with start("run", "team.py", "--seed", "slow.jsonl", "--store", "run.db") as process:
        while not Path("started").exists():
            assert process.poll() is None
        process.send_signal(stop)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted. Go on with: stigmergy resume team.py --store run.db\n"
    assert call("tail", "run.db", "-n", "1").stdout.split()[3] == "Closed"
    report = json.loads(call("show", "run.db", "--json").stdout)
    assert (report["open"], report["dead"], report["left"]["unfinished"][0]["agent"]) == (1, 0, "shout")


def test_a_board_that_another_process_runs_is_busy_and_can_be_followed(team: Path) -> None:
    with start("run", "team.py", "--seed", "slow.jsonl", "--store", "run.db") as process:
        while not Path("started").exists():
            assert process.poll() is None
        busy = call("resume", "team.py", "--store", "run.db")
        assert (busy.exit_code, busy.stderr[:10]) == (3, "BoardBusy:")
        last = json.loads(call("tail", "run.db", "-n", "1", "--json").stdout)["seq"]
        with start("tail", "run.db", "--after", str(last), "--follow", "--json") as follower:
            assert follower.stdout is not None
            process.send_signal(signal.SIGTERM)
            kinds = [json.loads(follower.stdout.readline())["event"] for _ in range(2)]
            follower.send_signal(signal.SIGINT)
            assert follower.wait(30) == 130
        process.communicate(timeout=30)
    assert kinds == ["Failed", "Closed"]


def test_a_closed_pipe_is_no_error(team: Path) -> None:
    run_good()
    with start("tail", "run.db", "--after", "0") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(30) == 0
