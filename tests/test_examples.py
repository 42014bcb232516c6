"""The examples run as their first lines say, and the authentication example grows the tree it was told of."""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable

import pytest
from examples import auth

from stigmergy import AnalysisResult, Blackboard, Implementation, ValidationResult, View, WorkDiscovery
from stigmergy.blackboard.events import Activated, Claimed, Completed, Published
from tests.readme import ROOT

Tree = dict[str, "Tree"]


def run(module: str) -> str:
    command = [sys.executable, "-m", module]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_hello_answers() -> None:
    assert run("examples.hello").endswith("HELLO\n")


@pytest.mark.req("S3.79")
def test_auth_says_what_ran_and_where_the_cached_route_came_from() -> None:
    summary, _, reason = run("examples.auth").rpartition("\n\n")
    assert "10 done" in summary
    steps = [line.lstrip(" └─").partition("@")[0] for line in reason.splitlines()]
    work = ["WorkDiscovery", "WorkDiscovery"]  # a part, and what it is a part of
    assert steps == ["ValidationResult", "Implementation", *work, "Implementation", *work]


def title(payload: object) -> str:
    match payload:
        case WorkDiscovery():
            return payload.description
        case AnalysisResult():
            return "plan"
        case Implementation():
            return f"built {payload.summary}"
        case ValidationResult():
            return "passed" if payload.passed else "failed"
    raise AssertionError(payload)


def grown(board: View) -> Tree:
    """What grew from what, read from the log; the order of siblings does not count."""
    inputs = {event.seq: event.inputs[0] for event in board.events() if isinstance(event, Activated)}
    nodes: dict[int, Tree] = {0: {}}
    for artifact in board.artifacts():
        nodes[artifact.id] = nodes[inputs.get(artifact.cause, 0)][title(artifact.payload)] = {}
    return nodes[0]


def part(name: str, extra: Tree | None = None) -> Tree:
    return {f"Implement: {name}": {f"built {name}": {"passed": {}, **(extra or {})}}}


@pytest.mark.req("S3.3")
def test_one_seed_grows_three_parts_and_a_branch_that_nobody_planned() -> None:
    board = Blackboard(roster=auth.roster)
    report = board.run_sync(auth.SEED)
    caching: Tree = {auth.CACHING.description: {"plan": {}, **part("Token cache for all routes")}}
    parts = {**part("OAuth login"), **part("JWT sessions", caching), **part("Role checks")}
    assert grown(board) == {auth.SEED.description: {"plan": {}, **parts}}
    assert report.ok
    assert report.left.count == 0
    assert most_at_once(board, "implementer") == 3


def most_at_once(board: View, agent: str) -> int:
    """How many activations of an agent ran beside each other."""
    asked = {event.seq for event in board.events() if isinstance(event, Activated) and event.agent == agent}
    return max(_running(board, asked))


def _running(board: View, asked: set[int]) -> Iterable[int]:
    count = 0
    for event in board.events():
        if event.cause in asked:
            count += isinstance(event, Claimed) - isinstance(event, Completed)
            yield count


@pytest.mark.req("S2.60")
def test_all_phases_and_the_loop_between_them_are_in_the_picture_and_in_the_trace_as_they_ran() -> None:
    board = Blackboard(roster=auth.roster)
    board.run_sync(auth.SEED)
    events = list(board.events())
    types = {e.seq: e.type for e in events if isinstance(e, Published)}
    went = Counter((e.producer, e.type) for e in events if isinstance(e, Published))
    went.update((types[id], e.agent) for e in events if isinstance(e, Activated) for id in e.inputs)
    picture = board.graph()
    assert {(e.source[1], e.target[1]): e.count for e in picture.edges} == dict(went)
    agents = {node.name for node in picture.nodes if node.kind == "agent"}
    assert agents == {"analyzer", "implementer", "validator"}
    assert went["validator", "WorkDiscovery"] == 1, "the loop: validation finds work for analysis"
    assert drawn(picture.mermaid()) == dict(went)
    used: set[tuple[str, str]] = set()
    made: set[tuple[str, str]] = set()
    for artifact in board.artifacts():
        trace = json.loads(board.why(artifact.id).to_prov())
        used |= {(r["prov:activity"], r["prov:entity"]) for r in trace.get("used", {}).values()}
        made |= {(r["prov:entity"], r["prov:activity"]) for r in trace.get("wasGeneratedBy", {}).values()}
    publishing = {e.cause for e in events if isinstance(e, Published)}
    assert used == {
        (f"board:activation.{e.seq}", f"board:artifact.{id}")
        for e in events if isinstance(e, Activated) and e.seq in publishing for id in e.inputs
    }  # fmt: skip
    assert made == {
        (f"board:artifact.{e.seq}", f"board:activation.{e.cause}")
        for e in events if isinstance(e, Published) and e.cause
    }  # fmt: skip


def drawn(mermaid: str) -> dict[tuple[str, str], int]:
    """The arrows of a Mermaid text, by the names of their ends."""
    names = dict(re.findall(r"(\w+)[\[({]+\"(\w+)", mermaid))
    return {(names[a], names[b]): int(n) for a, n, b in re.findall(r"(\w+) -->\|(\d+)\| (\w+)", mermaid)}
