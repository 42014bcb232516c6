"""Every Python block of the README and the docs runs as it stands, and every link leads somewhere."""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.readme import ROOT, blocks

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}:{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), "python"), 1)
]


@pytest.mark.req("S3.83")
def test_the_page_on_customizing_has_snippets_and_each_is_run() -> None:
    page = next(page for page in PAGES if page.name == "customize.md")
    sections = page.read_text(encoding="utf-8").split("\n## ")[1:]
    assert len(sections) >= 5
    snippets = [blocks(section, "python") for section in sections]
    assert all(len(some) == 1 for some in snippets)
    assert {some[0] for some in snippets} <= {block.values[0] for block in BLOCKS}


@pytest.mark.req("S3.83")
@pytest.mark.parametrize("block", BLOCKS)
def test_the_code_in_the_documentation_runs(block: str, tmp_path: Path) -> None:
    program = tmp_path / "block.py"
    program.write_text(block, encoding="utf-8")
    done = subprocess.run([sys.executable, "block.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


SHOWN = {
    "replay.md": ["import team"],
    "testing.md": [
        """
from stigmergy import Blackboard
from stigmergy.testing import VirtualClock
from team import Order, Receipt, assert_published, team

board = Blackboard(roster=team, clock=VirtualClock())
board.run_sync(Order(number="a", amount=5))
try:
    assert_published(board, Receipt, where={"number": "b"})
except AssertionError as error:
    print(f"AssertionError: {error}")
""",
        """
import team
from stigmergy import Blackboard
from stigmergy.testing import VirtualClock, make_test

board = Blackboard(roster=team.team, clock=VirtualClock())
board.run_sync(team.Question(text="?"))
print(make_test(board, team.team, board.artifacts(team.Answer)[0].ref), end="")
""",
    ],
}
"""Page -> for each output that it shows a program that prints it; the Python block before it is its module `team`."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_outputs_that_the_documentation_shows_are_what_comes_out(page: Path, tmp_path: Path) -> None:
    parts = page.read_text(encoding="utf-8").split("\n```text\n") if page.name != "design.md" else [""]
    for (before, after), program in zip(pairwise(parts), SHOWN.get(page.name, []), strict=True):
        (tmp_path / "team.py").write_text(blocks(before, "python")[-1], encoding="utf-8")
        (tmp_path / "shown.py").write_text(program, encoding="utf-8")
        done = subprocess.run([sys.executable, "shown.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert steady(done.stdout) == steady(after.partition("```")[0])


def steady(text: str) -> str:
    """Without durations, which vary."""
    return re.sub(r"[\d.]+ ms", "… ms", text)


def test_a_block_of_the_documentation_says_what_it_is() -> None:
    for page in PAGES:
        fences = re.findall(r"^```.*$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert "```" not in fences[::2], page.name


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as they stand in links."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)\s#]*)(?:#([^)\s]*))?\)", page.read_text(encoding="utf-8"))
    for path, anchor in links:
        there = page.parent / path if path else page
        assert there.exists(), f"{page.name} links to {path}, which is not there"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {path}#{anchor}; there is no such heading"
