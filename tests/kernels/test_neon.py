"""The NEON kernels, cross-compiled, in an emulator: each against the reference, whole decoders bit for bit.

Where there is an ARM processor, all other tests run these kernels too.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from native_programs import AARCH64, AARCH64_COMPILER, AARCH64_EMULATOR, BITS, build_programs, output_of

PROCESSORS = {
    "cortex-a53": ["reference", "neon"],  # Armv8.0: no dot products
    "neoverse-n1": ["reference", "neon", "neon_dotprod"],
}

pytestmark = [pytest.mark.compiler, pytest.mark.timeout(1200)]  # a compilation, on a machine that may be busy


@pytest.fixture(scope="module")
def programs() -> Path:
    for program in (AARCH64_COMPILER, AARCH64_EMULATOR[0]):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    return build_programs("aarch64", *AARCH64, "-DTERCET_WARNINGS_AS_ERRORS=ON")


def emulated(processor: str, program: Path, *arguments: str) -> str:
    return output_of([*AARCH64_EMULATOR, "-cpu", processor, program, *arguments])


@pytest.mark.parametrize("processor", PROCESSORS)
def test_every_kernel_equals_the_reference(programs: Path, processor: str) -> None:
    isas = PROCESSORS[processor]
    printed = emulated(processor, programs / "kernel_equality", "0")
    assert printed.splitlines() == [*isas, f"chosen: {isas[-1]}"]


@pytest.mark.parametrize("processor", PROCESSORS)
def test_decoders_give_the_bits_that_they_give_elsewhere(programs: Path, processor: str) -> None:
    assert emulated(processor, programs / "decoder_bits", PROCESSORS[processor][-1]) == BITS.read_text()
