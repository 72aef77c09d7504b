"""The skip rule of tests/plugins/strict_skips.py, tried on small test folders of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
SKIPS_ON_GPU = 'import pytest\ndef test_it():\n    pytest.skip("no GPU here")\n'


def run_pytest(
    folder: Path, source: str, *options: str, ci: str = "", allowed: str | None = None
) -> tuple[int, str]:
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_small.py").write_text(source)
    if allowed is not None:
        (folder / "tests").mkdir()
        (folder / "tests" / "allowed_skips.txt").write_text(allowed)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "strict_skips", "-p", "no:cacheprovider", *options]
    environment = {**os.environ, "PYTHONPATH": str(PLUGINS), "CI": ci}
    done = subprocess.run([*command, "."], cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_a_skip_with_a_reason_passes_on_a_laptop(tmp_path: Path) -> None:
    status, output = run_pytest(tmp_path, SKIPS_ON_GPU)
    assert status == 0, output


@pytest.mark.parametrize("how", ["--strict-skips", "CI"])
def test_a_skip_that_is_not_in_the_list_fails_in_ci(tmp_path: Path, how: str) -> None:
    status, output = run_pytest(
        tmp_path, SKIPS_ON_GPU, *([how] if how != "CI" else []), ci="true" if how == "CI" else ""
    )
    assert status == 1, output
    assert "test_small.py::test_it: no GPU here" in output


def test_a_listed_skip_passes_in_ci(tmp_path: Path) -> None:
    status, output = run_pytest(
        tmp_path, SKIPS_ON_GPU, ci="true", allowed="# comment\nno GPU*  # CI has none\n"
    )
    assert status == 0, output


def test_the_judgement_reaches_skips_of_xdist_workers(tmp_path: Path) -> None:
    status, output = run_pytest(tmp_path, SKIPS_ON_GPU, "-n", "1", ci="true")
    assert status == 1, output
    assert "no GPU here" in output


def test_a_module_that_skips_itself_is_judged_too(tmp_path: Path) -> None:
    source = 'import pytest\npytest.importorskip("a_module_that_is_missing")\ndef test_it(): pass\n'
    source += "def test_other(): pass\n"
    (tmp_path / "test_second.py").write_text("def test_second(): pass\n")
    status, output = run_pytest(tmp_path, source, ci="true")
    assert status == 1, output
    assert "a_module_that_is_missing" in output


@pytest.mark.parametrize("source", ["import pytest\n@pytest.mark.skip\ndef test_it(): pass\n"])
def test_a_bare_skip_fails_everywhere(tmp_path: Path, source: str) -> None:
    status, output = run_pytest(tmp_path, source)
    assert status == 1, output
    assert "does not say what is missing" in output


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    source = "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_it(): raise ValueError\n"
    status, output = run_pytest(tmp_path, source, ci="true")
    assert status == 0, output
