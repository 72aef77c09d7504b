"""The shape of the source tree: who may import whom, how long a file may be, what a file may be called.

The layers themselves stand in pyproject.toml ([tool.importlinter]); docs/architecture.md explains them and
test_docs.py compares the two. Each test collects every offender, so that one run shows all there is to mend.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for folder in ("src", "cpp", "tests", "docs", "recipes", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".cpp", ".hpp", ".cmake"}
] + [ROOT / "dev", ROOT / "CMakeLists.txt"]
PACKAGE = ROOT / "src" / "tercet"

MAX_LINES = 400
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def modules() -> dict[Path, ast.Module]:
    """Every module of the package, parsed."""
    paths = [path for path in SOURCES if path.suffix == ".py" and path.is_relative_to(PACKAGE)]
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def walk(modules: dict[Path, ast.Module]) -> Iterator[tuple[Path, str, ast.AST]]:
    """Every syntax node with its file and its place as `file:line`."""
    for path, tree in modules.items():
        for node in ast.walk(tree):
            yield path, f"{shown(path)}:{getattr(node, 'lineno', 1)}", node


def imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def test_imports_keep_the_contracts() -> None:
    # Through the interpreter that runs the tests: a program named lint-imports may be another environment's.
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", program, "--no-cache", "--no-logo"]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_core_is_imported_by_kernels_alone(modules: dict[Path, ast.Module]) -> None:
    """import-linter cannot see this one: `_core` is a compiled module."""
    elsewhere = [
        where
        for path, where, node in walk(modules)
        if not path.is_relative_to(PACKAGE / "kernels")
        if any(name.split(".")[-1] == "_core" for name in imported_names(node))
    ]
    assert not elsewhere


def test_no_source_file_is_long() -> None:
    """Beyond this a file holds two things; the second deserves its own name."""
    lengths = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert not {name: length for name, length in lengths.items() if length > MAX_LINES}


def test_file_names_say_something() -> None:
    """A file is named after a noun of the field."""
    assert not [shown(path) for path in SOURCES if path.stem in EMPTY_NAMES]


def test_every_module_explains_itself(modules: dict[Path, ast.Module]) -> None:
    """The docstring of a module is the page that one wants to read first."""
    assert not [shown(path) for path, tree in modules.items() if not ast.get_docstring(tree)]


def test_errors_are_neither_asserted_nor_swallowed(modules: dict[Path, ast.Module]) -> None:
    """`assert` vanishes under -O, a bare `except` hides Ctrl-C."""
    nodes = list(walk(modules))
    assert not [where for _, where, node in nodes if isinstance(node, ast.Assert)]
    assert not [where for _, where, node in nodes if isinstance(node, ast.ExceptHandler) and not node.type]


def test_nothing_is_unpickled(modules: dict[Path, ast.Module]) -> None:
    """A pickle runs code when it is read, and torch.load reads pickles unless told otherwise."""
    imports = [where for _, where, node in walk(modules) if "pickle" in imported_names(node)]
    loads = [
        where
        for _, where, node in walk(modules)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
        if "weights_only=True" not in [ast.unparse(keyword) for keyword in node.keywords]
    ]
    assert not imports
    assert not loads
