"""The matrix of guarantees names tests that are there."""

import ast
import re

from tests.readme import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)


def test_every_guarantee_names_a_test_that_exists() -> None:
    assert len(NAMED) >= 10
    for file, name in NAMED:
        module = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        defined = {n.name for n in module.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in defined, f"{file} has no {name}"


def test_every_row_of_the_matrix_says_how_it_is_proved() -> None:
    rows = [line for line in PAGE.partition("## ")[0].splitlines() if line.startswith("| ")][2:]
    assert rows
    for row in rows:
        assert "::" in row or "not tested" in row, row
