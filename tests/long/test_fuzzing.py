"""Every target of tests/fuzz for a long time, each in a process of its own.

./dev test-long tests/long/test_fuzzing.py           about 20 minutes on two cores
TERCET_FUZZ_SECONDS=3600 ./dev test-long tests/long/test_fuzzing.py

What breaks something stays in tests/fuzz/found, and its name is in the failure; mended, it joins the corpus.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fuzz_driver import Fuzzed, run
from fuzz_targets import TARGETS
from long_results import RecordLongResult

SECONDS = int(os.environ.get("TERCET_FUZZ_SECONDS") or 150)
"""For each target."""
PROCESSES = 2
FOUND = Path(__file__).parents[1] / "fuzz" / "found"

pytestmark = [pytest.mark.long, pytest.mark.timeout(0)]


def test_long_fuzzing(record_long_result: RecordLongResult) -> None:
    def fuzz(name: str) -> Fuzzed:
        return run([name], [f"-max_total_time={SECONDS}"], 10 * SECONDS + 600, FOUND / name)

    with ThreadPoolExecutor(PROCESSES) as pool:
        fuzzed = dict(zip(TARGETS, pool.map(fuzz, TARGETS), strict=True))
    failures = [f"{name}: {one.failure}" for name, one in fuzzed.items() if one.failure]
    assert not failures, "\n\n".join(failures)
    assert all(one.executions > 0 and one.coverage > 0 for one in fuzzed.values()), fuzzed
    figures = {
        name: {"inputs": one.executions, "edges": one.coverage, "kept": one.corpus}
        for name, one in fuzzed.items()
    }
    total = sum(one.executions for one in fuzzed.values())
    record_long_result(
        "fuzzing",
        {"inputs": total, "failures": 0, "seconds_each": SECONDS, "targets": figures},
    )
