"""The programs of cpp/tests, built by CMake as a person would build them, without Python.

They are kept in build/programs, so that a second run compiles only what has changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BITS = ROOT / "cpp" / "tests" / "decoder_bits.txt"
"""What decoder_bits prints, on whatever machine."""

AARCH64 = (f"--toolchain={ROOT}/cpp/toolchains/aarch64-linux-gnu.cmake",)
AARCH64_COMPILER = "aarch64-linux-gnu-g++"
AARCH64_EMULATOR = ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu")


def build_programs(name: str, *options: str) -> Path:
    """The folder of the programs, up to date, configured with some more options under a name of its own."""
    cmake = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
    if cmake is None:
        pytest.skip("cmake is not installed, so no program can be compiled")
    folder = ROOT / "build" / "programs" / name
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # ninja is beside python
    configure = [
        "-S",
        str(ROOT),
        "-B",
        str(folder),
        "-G",
        "Ninja",
        "-DTERCET_MODULE=OFF",
        "-DTERCET_PROGRAMS=ON",
    ]
    for command in ([cmake, *configure, *options], [cmake, "--build", str(folder)]):
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path})
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return folder


def build_checked() -> Path:
    """The programs and libtercet under the address sanitizer, with the reference alone, which is compiled in
    seconds. All tests that want them have the same ones."""
    options = ("-DTERCET_SANITIZERS=address,undefined", "-DTERCET_REFERENCE_ONLY=ON", "-DTERCET_LIBRARY=ON")
    return build_programs("checked", *options)


def output_of(command: Sequence[str | Path]) -> str:
    """What a program prints; it must end well."""
    environment = {name: value for name, value in os.environ.items() if name != "TERCET_ISA"}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


def without_random_addresses() -> list[str]:
    """The start of a command for the thread sanitizer, which some kernels' address layouts confuse."""
    for command in (["setarch", "--addr-no-randomize"], []):
        if not command or (shutil.which(command[0]) and not subprocess.run([*command, "true"]).returncode):
            return command
    return []
