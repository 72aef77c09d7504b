"""The NEON kernels, cross-compiled, in an emulator: each against the reference, whole decoders bit for bit,
and the shipped model, which tells the story that it tells here.

Where there is an ARM processor, all other tests run these kernels too; tests/long/test_arm64.py puts the
Python package onto one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from native_programs import AARCH64, AARCH64_COMPILER, AARCH64_EMULATOR, BITS, ROOT, build_programs, output_of
from tercet import LLM

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
    return build_programs("aarch64", *AARCH64, "-DTERCET_WARNINGS_AS_ERRORS=ON", "-DTERCET_LIBRARY=ON")


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


def test_the_shipped_model_tells_its_story(programs: Path, shipped_model: Path, tmp_path: Path) -> None:
    """The example of the C library, on the smallest of these processors."""
    prompt, story = "Once upon a time", tmp_path / "tell"
    source = ["-x", "c", ROOT / "examples" / "c" / "tell.c", "-I", ROOT / "cpp" / "capi", "-DTERCET_STATIC"]
    library = ["-x", "none", programs / "cpp" / "capi" / "libtercet.a", "-lstdc++", "-lm", "-pthread"]
    output_of([AARCH64_COMPILER, *source, *library, "-o", story])
    told = emulated("cortex-a53", story, str(shipped_model), prompt, "0")
    with LLM(shipped_model) as llm:
        assert told == prompt + llm.generate(prompt, temperature=0, max_tokens=80).text + "\n"
