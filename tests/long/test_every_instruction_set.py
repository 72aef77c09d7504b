"""The whole test suite again, on lesser instruction sets than this machine has.

./dev test-long tests/long/test_every_instruction_set.py            an hour on two cores
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest

from long_results import RecordLongResult
from native_programs import ROOT
from tercet.kernels.isa import available_isas

pytestmark = [pytest.mark.long, pytest.mark.timeout(3 * 3600)]


@pytest.mark.parametrize("isa", ["reference", "avx2", "neon"])
def test_the_whole_suite_passes(isa: str, record_long_result: RecordLongResult) -> None:
    if isa not in available_isas():
        pytest.skip(f"this machine has no {isa}")
    two_processes = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]  # as ./dev test
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *two_processes, "tests"],
        cwd=ROOT, env={**os.environ, "TERCET_ISA": isa, "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    record_long_result(
        f"suite-on-{isa}",
        {"TERCET_ISA": isa, "passed": int(passed[1]), "suite_seconds": round(time.monotonic() - started)},
    )
