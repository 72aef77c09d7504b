"""The table of docs/reference/security.md: every row names tests, and every test that is named exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "security.md"
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split(" | "))
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| requirement"))
]


@cache
def functions_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def test_there_is_a_table() -> None:
    assert len(ROWS) > 60


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:60] for row in ROWS])
def test_the_tests_of_a_row_exist(row: tuple[str, ...]) -> None:
    _, _, cited = row
    names = re.findall(r"`([^`]+)`", cited)
    assert names
    path = None
    for name in names:
        file, _, function = name.partition("::")
        if file:
            path = ROOT / file
        assert path is not None, name
        assert path.is_file(), name
        if function:
            assert function in functions_of(path), name
