"""What `from tercet import ...` gives: the names of `__all__`, no others, each of them explained."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import tercet

ROOT = Path(__file__).resolve().parents[2]

# Every name, looked up in a fresh interpreter, so that no other test has imported a submodule before.
LIST_PUBLIC_NAMES = """
import sys, types, tercet
for name in tercet.__all__:
    getattr(tercet, name)
print([name for name, value in vars(tercet).items()
       if not name.startswith("_") and not isinstance(value, types.ModuleType)])
"""
# `from __future__ import annotations` and the flag for type checkers leave their names in any module.
TRACES = {"annotations", "TYPE_CHECKING"}


def test_nothing_is_importable_that_is_not_in_all() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIST_PUBLIC_NAMES], capture_output=True, text=True, check=True
    )
    public = set(ast.literal_eval(done.stdout)) - TRACES
    assert public == {name for name in tercet.__all__ if not name.startswith("_")}


def test_dir_shows_what_all_lists_in_order() -> None:
    assert dir(tercet) == sorted(tercet.__all__)
    assert len(set(tercet.__all__)) == len(tercet.__all__)


@pytest.mark.parametrize("name", tercet.__all__)
def test_every_name_is_there_and_explained(name: str) -> None:
    value = getattr(tercet, name)
    if name == "__version__":
        assert value.count(".") >= 2
        return
    docstring = inspect.getdoc(value)
    assert docstring
    assert not docstring.startswith(f"{name}(")  # what dataclasses write in want of one
    for member, attribute in vars(value).items():
        if not member.startswith("_") and inspect.isfunction(
            inspect.unwrap(getattr(attribute, "fget", attribute))
        ):
            assert inspect.getdoc(attribute), f"{name}.{member} has no docstring"


@pytest.mark.parametrize("name", tercet.__all__)
def test_every_name_stands_in_the_reference(name: str) -> None:
    pages = [ROOT / "docs" / "reference" / page for page in ("python.md", "errors.md")]
    assert name.startswith("_") or any(f"## {name}\n" in page.read_text(encoding="utf-8") for page in pages)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'tercet' has no attribute 'LMM'"):
        tercet.LMM  # noqa: B018


def test_the_version_is_that_of_the_package() -> None:
    assert f'version = "{tercet.__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
