"""Run by the continuous check beside the installed wheel, with the sources out of the way; not part of the suite."""

import json
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stigmergy.testing.plugin import OpenBoard

HERE = Path(__file__).parent
COMMAND = Path(sys.executable).parent / "stigmergy"


def run(*command: str | Path) -> str:
    return subprocess.run(command, cwd=HERE, check=True, capture_output=True, text=True).stdout


def test_the_wheel_is_what_is_tested() -> None:
    import stigmergy

    assert "site-packages" in str(stigmergy.__file__)
    assert (Path(stigmergy.__file__).parent / "py.typed").exists()


def test_the_wheel_holds_the_library_and_nothing_else() -> None:
    tops = {Path(f).parts[0] for f in distribution("stigmergy").files or () if not str(f).startswith("..")}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"stigmergy"}


def test_hello_runs() -> None:
    assert "HELLO" in run(sys.executable, "-m", "examples.hello")


def test_the_examples_that_a_script_answers_run() -> None:
    assert "10 activations: 10 done" in run(sys.executable, "-m", "examples.phases")
    assert "[ants:5]" in run(sys.executable, "-m", "examples.research", "--store", "research.db")
    finding = str(json.loads(run(COMMAND, "show", "research.db", "Finding", "--json"))[0]["id"])
    asked = run(COMMAND, "prompt", "examples/research.py:team", "writer", finding, "--store", "research.db")
    assert "Writes the article" in asked


def test_the_pytest_plugin_is_there(open_board: "OpenBoard") -> None:
    assert open_board(store="sqlite").run_sync().ok


def test_the_command_line_runs_reads_and_explains_a_board() -> None:
    run(COMMAND, "--version")
    seed = {"description": "Build authentication", "phase": "analysis", "done_definition": "A plan", "work_id": "auth"}
    (HERE / "seeds.json").write_text(json.dumps({"type": "WorkDiscovery", "payload": seed}), encoding="utf-8")
    run(COMMAND, "run", "examples/auth.py", "--seed", "seeds.json", "--store", "auth.db")
    artifacts = json.loads(run(COMMAND, "show", "auth.db", "--json"))
    assert artifacts
    assert "WorkDiscovery" in run(COMMAND, "graph", "auth.db")


def test_every_test_of_the_page_on_testing_passes_with_the_extra_alone(tmp_path: Path) -> None:
    page = (HERE / "testing.md").read_text(encoding="utf-8")
    found = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert any("async def test_" in block for block in found)
    for number, block in enumerate(found, 1):
        (tmp_path / f"test_block{number}.py").write_text(block, encoding="utf-8")
    assert re.search(r"\d+ passed", run(sys.executable, "-m", "pytest", "-q", "-W", "error", tmp_path))


def test_a_recorded_activation_becomes_a_test_that_passes(tmp_path: Path) -> None:
    (HERE / "questions.jsonl").write_text('{"type": "Question", "payload": {"text": "hello"}}\n', encoding="utf-8")
    run(COMMAND, "run", "examples/hello.py", "--seed", "questions.jsonl", "--store", "hello.db")
    answer = json.loads(run(COMMAND, "show", "hello.db", "Answer", "--json"))[0]["id"]
    run(COMMAND, "make-test", "hello.db", "examples/hello.py", str(answer), "-o", "test_hello.py")
    assert "1 passed" in run(sys.executable, "-m", "pytest", "-q", "test_hello.py")
