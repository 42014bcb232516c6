"""The examples that a model answers: run by their scripts as their first lines say, and once over HTTP."""

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from examples import auth, phases, research

from stigmergy import AnalysisResult, Blackboard, Implementation, ValidationResult, View, WorkDiscovery, read, replay
from stigmergy.blackboard.events import Called
from stigmergy.models import Message, Request, Scripted
from stigmergy.testing import outputs
from tests.chat_server import ChatServer, Exchange, say
from tests.readme import ROOT, blocks
from tests.test_examples import grown, most_at_once, part

pytestmark = pytest.mark.anyio
WORK = (WorkDiscovery, AnalysisResult, Implementation, ValidationResult)
FOUND = (research.Question, research.SubQuestion, research.Finding, research.Article)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def branched(view: View) -> bool:
    """Whether one seed grew three parts, and a branch that nobody planned."""
    caching = {phases.CACHING: {"plan": {}, **part("Token cache for all routes")}}
    parts = {**part("OAuth login"), **part("JWT sessions", caching), **part("Role checks")}
    return grown(view) == {phases.TASK: {"plan": {}, **parts}}


# -- the three phases -------------------------------------------------------------------------------------------------


@pytest.mark.req("S3.84")
async def test_a_model_grows_the_workflow_that_the_functions_of_the_other_example_grow(tmp_path: Path) -> None:
    roster = phases.team()
    ok, text = await phases.work(roster, phases.TASK, tmp_path / "run.db")
    assert ok
    assert "10 activations: 10 done" in text
    with read(tmp_path / "run.db", WORK) as view:
        assert branched(view)
        assert most_at_once(view, "implementer") == 3
        assert view.report().cost == sum(Decimal(e.cost) for e in view.events() if isinstance(e, Called)) > 0
        assert auth.SEED.description == phases.TASK
    assert replay(tmp_path / "run.db", phases.team()).ok
    again = await phases.work(phases.team(), phases.TASK, tmp_path / "run.db")
    assert again[1].partition("\n")[2] == text.partition("\n")[2], "nothing is asked again"


@pytest.mark.xdist_group("litellm")
async def test_any_server_that_speaks_the_chat_api_answers_the_three_phases(tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        told = [Message(role=m["role"], text=m["content"]) for m in exchange.body["messages"]]
        reply = await phases.SCRIPT.complete(Request(model="openai/x", messages=tuple(told)))
        await say(reply.text)(exchange)

    async with ChatServer([answer]) as server:
        named = ["--model", "openai/x", "--base-url", server.url, "--store", str(tmp_path / "run.db")]
        done = await anyio.run_process([sys.executable, "-m", "examples.phases", *named], cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert "10 activations: 10 done" in done.stdout.decode()
    assert len(server.asked) == 10
    with read(tmp_path / "run.db", WORK) as view:
        assert branched(view)
        assert view.report().tokens == 160


async def test_the_phases_say_what_was_wrong_in_one_line() -> None:
    for arguments, said in (
        (("Another task",), "without a model only the task of the script"),
        (("--cost", "much"), "it is exact money"),
    ):
        done = run("examples.phases", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.xdist_group("litellm")
async def test_the_readme_asks_a_server_of_ones_own(tmp_path: Path) -> None:
    (block,) = (b for b in blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python") if "LiteLLM(" in b)
    reply = '{"outputs": [{"type": "Answer", "payload": {"text": "42"}}]}'
    async with ChatServer([say("Well."), say(reply)]) as server:
        assert block.count("http://127.0.0.1:11434/v1") == 1
        program = block.replace("http://127.0.0.1:11434/v1", server.url) + '\n\nprint(ask("What is 6 * 7?"))\n'
        (tmp_path / "ask.py").write_text(program, encoding="utf-8")
        done = await anyio.run_process([sys.executable, "ask.py"], cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (0, b"42\n"), done.stderr.decode()
    assert [exchange.body["model"] for exchange in server.asked] == ["qwen3", "qwen3"]


# -- the research -----------------------------------------------------------------------------------------------------


async def test_research_ends_with_an_article_whose_notes_are_sentences_of_the_library(tmp_path: Path) -> None:
    roster = research.team()
    ok, text = await research.research(roster, research.QUESTION, tmp_path / "run.db")
    assert ok
    with read(tmp_path / "run.db", FOUND) as view:
        findings = view.artifacts(research.Finding).payloads
        assert sorted(f.question for f in findings) == sorted(research.PARTS)
        for finding in findings:
            assert [research.sentence_of(name) for name in finding.notes] == [finding.answer]
            assert f"[{finding.notes[0]}] {finding.answer}" in text
        tools = [e.key for e in view.events() if isinstance(e, Called) and "/tool/" in e.key]
        assert len(tools) == 3 * len(findings), "each searched, read and noted"
        assert len(view.artifacts(research.Article)) == 1
    assert replay(tmp_path / "run.db", research.team()).ok


async def test_the_last_of_the_money_is_kept_for_the_article_and_more_money_goes_on(tmp_path: Path) -> None:
    store = tmp_path / "run.db"
    ok, text = await research.research(research.team(cost="0.02"), research.QUESTION, store)
    assert not ok
    assert text.startswith("budget spent")
    with read(store, FOUND) as view:
        some = len(view.artifacts(research.Finding))
        assert 0 < some < len(research.PARTS)
        assert len(view.artifacts(research.Article)) == 1
        assert view.report().cost <= Decimal("0.02")
    ok, _ = await research.research(research.team(), research.QUESTION, store)
    assert ok
    with read(store, FOUND) as view:
        assert len(view.artifacts(research.Finding)) == len(research.PARTS)


async def test_what_no_page_says_cannot_be_noted_and_no_invented_note_is_published() -> None:
    with pytest.raises(ValueError, match="does not say that"):
        research.note("ants", "Ants have a plan.")
    with pytest.raises(LookupError, match="there is no page 'wasps', but algorithms, ants,"):
        research.read_page("wasps")
    true = research.Finding(question="?", answer="!", notes=[research.note("ants", research.sentence_of("ants:2"))])
    invented = outputs(true).replace("ants:2", "ants:99")
    article = research.Article(title="!", text="!")
    model = Scripted([outputs(research.SubQuestion(text="?")), invented, outputs(true), outputs(article)])
    board = Blackboard(roster=research.team(), model=model)
    assert board.run_sync(research.Question(text="?")).ok
    assert board.one(research.Finding) == true
    assert "there is no note 'ants:99'" in model.asked[2].messages[-1].text


async def test_research_runs_as_its_first_lines_say() -> None:
    done = run("examples.research")
    assert done.returncode == 0
    assert "Work that directs the worker" in done.stdout
    assert run("examples.research", "--cost", "0.02").returncode == 1
    assert run("examples.research", "Why?").returncode == 2


@pytest.mark.req("S3.80")
@pytest.mark.parametrize(
    ("file", "agent", "seed"),
    [("phases", "analyzer", phases.task()), ("research", "planner", research.Question(text="Why?"))],
)
async def test_what_an_example_would_ask_can_be_seen(
    file: str, agent: str, seed: WorkDiscovery | research.Question, tmp_path: Path
) -> None:
    async with Blackboard(tmp_path / "run.db") as board:
        id = await board.publish(seed)
    command = Path(sys.executable).parent / "stigmergy"
    done = subprocess.run(
        [command, "prompt", f"examples/{file}.py:team", agent, str(id.id), "--store", tmp_path / "run.db"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f'You are the agent "{agent}".' in done.stdout
    assert ("YOU ARE AN ANALYSIS AGENT" in done.stdout) == (file == "phases"), "what its phase asks of it"
    assert json.dumps(seed.model_dump()["text" if file == "research" else "description"]) in done.stdout
