"""Fuzzing, guided by what the code does: every target for a few seconds. tests/long has hours of it.

The inputs of corpus/ are always tried, since each of them once reached something new, or broke something.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz_driver import CORPUS, run
from fuzz_targets import TARGETS

RUNS = 3_000
SECONDS = 15
TIMEOUT = 300


@pytest.fixture(autouse=True)
def _with_atheris() -> None:
    pytest.importorskip("atheris", reason="the fuzzer is missing: atheris is made for Linux on x86-64")


def test_no_bytes_break_what_reads_them(tmp_path: Path) -> None:
    options = [f"-runs={RUNS}", f"-max_total_time={SECONDS}", "-seed=1"]
    fuzzed = run(list(TARGETS), options, TIMEOUT, tmp_path)
    assert not fuzzed.failure, fuzzed.failure
    assert fuzzed.executions > len(list(CORPUS.glob("*/*")))
    assert fuzzed.coverage > 1_500, "the fuzzer does not see our code"


def test_every_corpus_has_a_target_and_is_small() -> None:
    files = [path for path in CORPUS.glob("*/*") if path.is_file()]
    assert {path.parent.name for path in files} <= set(TARGETS)
    assert sum(path.stat().st_size for path in files) < 1_000_000


def test_an_input_that_breaks_something_is_told_and_kept(tmp_path: Path) -> None:
    """The target `broken` fails on purpose."""
    fuzzed = run(["broken"], ["-runs=1000"], TIMEOUT, tmp_path)
    assert "ZeroDivisionError" in fuzzed.failure
    assert [path for path in tmp_path.iterdir() if path.name.startswith("crash-")]
