"""The rules of the house that a program can check."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent.parent / "src" / "stigmergy"
MODULES = sorted(SOURCES.rglob("*.py"))
BLACKBOARD = SOURCES / "blackboard"
PURE = [
    *(BLACKBOARD / f"{name}.py" for name in ("events", "definitions", "artifact", "component", "question")),
    *(BLACKBOARD / "core").glob("*.py"),
    *(BLACKBOARD / "stores" / f"{name}.py" for name in ("rows", "encoding")),
    *(SOURCES / "components").glob("*.py"),
]
IMPURE = {
    "time",
    "random",
    "uuid",
    "secrets",
    "os",
    "io",
    "socket",
    "asyncio",
    "anyio",
    "threading",
    "sqlite3",
    "aiosqlite",
}
SUFFIXES = (
    "Manager",
    "Handler",
    "Engine",
    "Processor",
    "Service",
    "Helper",
    "Util",
    "Utils",
    "Factory",
    "Orchestrator",
)
LAYERS = {
    "blackboard": {"blackboard"},
    "agents": {"agents", "blackboard"},
    "phases": {"phases", "blackboard"},
    "components": {"components", "blackboard"},
}


FLOORS = ["", "payloads", "stores", "core", "reading", "replaying"]
"""The folders of the blackboard, each on those before it; `shell` stands on the core and on nothing above."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", PURE, ids=lambda p: p.stem)
def test_the_core_and_the_components_import_no_clock_no_randomness_and_no_io(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path)} & IMPURE


@pytest.mark.parametrize("package", LAYERS)
def test_packages_import_only_what_stands_below_them(package: str) -> None:
    for path in (SOURCES / package).rglob("*.py"):
        used = {name.split(".")[1] for name in imports(path) if name.startswith("stigmergy.")}
        assert used <= LAYERS[package], path.name


@pytest.mark.parametrize("folder", [*FLOORS[1:], "shell"])
def test_folders_of_the_blackboard_import_only_the_floors_below(folder: str) -> None:
    below = {*FLOORS[: FLOORS.index(folder) + 1]} if folder != "shell" else {"", "payloads", "stores", "core", "shell"}
    for path in (BLACKBOARD / folder).glob("*.py"):
        parts = [name.split(".") for name in imports(path) if name.startswith("stigmergy.blackboard.")]
        assert {p[2] if len(p) > 3 else "" for p in parts} <= below, path.name


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_files_functions_and_names_stay_small_and_plain(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 460
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name
        if isinstance(node, ast.ClassDef):
            assert not node.name.endswith(SUFFIXES), node.name


ONLY_IN = {
    # From the process of the board to a child that it started itself, through a pipe that nobody else has.
    "ForkingPickler": {"apart.py"},
    "import_module": {"apart.py"},
    # The file that somebody names on the command line.
    "spec_from_file_location": {"loading.py"},
    "exec_module": {"loading.py"},
}
"""What could run what it reads, and where it may: never on anything that comes from a log, a model or a seed."""


def called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_nothing_is_unpickled_evaluated_or_imported_by_a_name_in_data(path: Path) -> None:
    forbidden = {
        "pickle",
        "marshal",
        "shelve",
        "dill",
        "cloudpickle",
        "joblib",
        "yaml",
        "runpy",
        "code",
        "imp",
        "pkgutil",
    }
    assert not imports(path) & forbidden
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            assert name != "ForkingPickler" or path.name in ONLY_IN[name], node.lineno
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "compile", "__import__", "globals", "locals"}, node.lineno
        assert ast.unparse(node.func) not in {"os.system", "os.popen"}, node.lineno
        assert not any(k.arg == "shell" for k in node.keywords), node.lineno
        by_name = called(node) in ONLY_IN and not all(isinstance(a, ast.Constant) for a in node.args)
        assert not by_name or path.name in ONLY_IN[called(node)], node.lineno


def test_litellm_is_imported_in_one_file() -> None:
    imported = re.compile(r"^\s*(import|from) litellm|import_module\(\"litellm", re.MULTILINE)
    assert [path.name for path in MODULES if imported.search(path.read_text(encoding="utf-8"))] == ["litellm.py"]


IMPORT_ONLY = """
import logging, socket, sys
at_start = {name.partition(".")[0] for name in sys.modules}
class Refused(socket.socket):
    def __init__(self, *_, **__): raise AssertionError("a socket was opened")
socket.socket = Refused
before = (list(logging.root.handlers), logging.root.level, set(logging.root.manager.loggerDict))
import stigmergy
assert (list(logging.root.handlers), logging.root.level) == before[:2]
own = set("stigmergy aiosqlite anyio pydantic pydantic_core".split())
own |= set("annotated_types sniffio typing_extensions typing_inspection".split())  # what these need
tops = {name.partition(".")[0] for name in sys.modules if not name.startswith("_")}
others = tops - sys.stdlib_module_names - own - at_start
assert not others, others
models = "litellm json_repair mcp opentelemetry httpx openai tiktoken".split()
models += [f"stigmergy.agents.models.{name}" for name in "scripted recorded cached paced fallback tracing".split()]
assert not [name for name in models if name in sys.modules]
import structlog
assert not structlog.is_configured()
"""


def test_importing_is_light_silent_and_touches_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ONLY], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


MODELS_ONLY = """
import sys
import stigmergy.models as models
public = {name: getattr(models, name) for name in models.__all__ if name != "Traced"}
assert not {"litellm", "opentelemetry", "mcp"} & set(sys.modules)
assert models.Traced.__name__ == "Traced"
"""


def test_importing_models_imports_nothing_that_is_an_extra() -> None:
    done = subprocess.run([sys.executable, "-c", MODELS_ONLY], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_tree_of_errors_names_them_all() -> None:
    defined = [node for path in MODULES for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)]
    bases = {node.name: {base.id for base in node.bases if isinstance(base, ast.Name)} for node in defined}
    family = {"StigmergyError"}
    while more := {name for name, of in bases.items() if of & family} - family:
        family |= more
    drawn = ast.get_docstring(tree(BLACKBOARD / "errors.py")) or ""
    assert set(re.findall(r"\w+", drawn)) >= family
