"""The package on processors that we do not have: no instruction runs that the processor lacks.

An emulator raises an illegal-instruction signal where a real processor would. This finds what the search
for weak symbols cannot: wide instructions in code that every processor runs.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.compiler

EMULATOR = shutil.which("qemu-x86_64")
PROGRAM = """
import json
from tercet.kernels.introspection import inspect_kernels
from tercet.kernels.isa import available_isas, choose_isa
failed = {isa: [row.operation for row in inspect_kernels(isa) if not row.passed] for isa in available_isas()}
print(json.dumps(failed))
print(choose_isa()[0])
"""


@pytest.mark.skipif(
    EMULATOR is None or platform.machine() not in ("x86_64", "AMD64"),
    reason="qemu-x86_64 is not installed, or this machine is no x86-64",
)
@pytest.mark.parametrize(
    ("processor", "isas"),
    [
        ("Nehalem", ["reference"]),
        ("Haswell", ["reference", "avx2"]),
        # The emulator has neither AVX-512 nor matrix tiles, whatever the model's name.
        ("Icelake-Server", ["reference", "avx2"]),
        ("max", ["reference", "avx2"]),
    ],
)
def test_an_older_processor_runs_what_it_can(processor: str, isas: list[str]) -> None:
    command = [EMULATOR or "", "-cpu", processor, sys.executable, "-c", PROGRAM]
    environment = {name: value for name, value in os.environ.items() if name != "TERCET_ISA"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    failed, chosen = done.stdout.splitlines()
    assert json.loads(failed) == {isa: [] for isa in isas}
    assert chosen == isas[-1]
