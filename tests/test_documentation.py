"""Every Python block of the README and the docs runs as it stands."""

import subprocess
import sys
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
