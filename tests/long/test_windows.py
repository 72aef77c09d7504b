"""The core compiled for Windows, in Wine: every kernel against the reference, whole decoders bit for bit.

./dev test-long tests/long/test_windows.py        ten minutes on two cores, most of it compiling

It needs Debian's clang, g++-mingw-w64-x86-64-posix and wine64. Microsoft's own libraries are not in it: a
wheel's are, on the machine that builds it (.github/workflows/wheels.yml).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from long_results import RecordLongResult
from native_programs import BITS, ROOT, build_programs

pytestmark = [pytest.mark.long, pytest.mark.timeout(2 * 3600)]

TOOLCHAIN = f"--toolchain={ROOT}/cpp/toolchains/x86_64-windows-gnu.cmake"
WINE = shutil.which("wine64", path=f"{os.environ['PATH']}:/usr/lib/wine")


def test_the_core_is_the_same_on_windows(tmp_path: Path, record_long_result: RecordLongResult) -> None:
    for program, found in (("wine64", WINE), ("clang++", shutil.which("clang++"))):
        if found is None:
            pytest.skip(f"{program} is not installed")
    folder = build_programs("windows", TOOLCHAIN)

    def printed(program: str, *arguments: str) -> str:
        environment = os.environ | {"WINEPREFIX": str(tmp_path / "wine"), "WINEDEBUG": "-all", "DISPLAY": ""}
        command = [str(WINE), str(folder / f"{program}.exe"), *arguments]
        # Not through a pipe: Wine's server keeps it open for a while after the program has ended.
        with (tmp_path / "printed").open("w+b") as output:
            subprocess.run(command, env=environment, stdout=output, check=True, timeout=1200)
            output.seek(0)
            return output.read().decode().replace("\r\n", "\n")

    *isas, chosen = printed("kernel_equality", "0").splitlines()
    assert isas[0] == "reference"
    assert chosen == f"chosen: {isas[-1]}"
    for isa in isas:
        assert printed("decoder_bits", isa) == BITS.read_text()
    for program in ("thread_pool_stress", "decoder_allocations", "self_test_faults"):
        assert printed(program) == "ok\n"
    version = subprocess.run([str(WINE), "--version"], capture_output=True, text=True, check=True)
    record_long_result("windows", {"isas": isas, "wine": version.stdout.strip()})
