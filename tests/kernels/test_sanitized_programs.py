"""The core under sanitizers: no read out of bounds, nothing undefined, no race. tests/long has the long form.

The programs' operands lie in memory of exactly their size, so a kernel that reads a byte too far is found.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from native_programs import BITS, build_checked, build_programs, output_of, without_random_addresses

pytestmark = [pytest.mark.compiler, pytest.mark.timeout(1200)]  # a compilation, on a machine that may be busy


@pytest.fixture(scope="module")
def checked() -> Path:
    """The reference alone; the long form has all instruction sets."""
    return build_checked()


@pytest.fixture(scope="module")
def raced() -> Path:
    return build_programs("raced", "-DTERCET_SANITIZERS=thread", "-DTERCET_REFERENCE_ONLY=ON")


def test_decoders_under_the_address_sanitizer(checked: Path) -> None:
    assert output_of([checked / "decoder_bits"]) == BITS.read_text()


def test_a_step_allocates_nothing(checked: Path) -> None:
    assert output_of([checked / "decoder_allocations"]) == "ok\n"


def test_packing_and_floats_under_the_address_sanitizer(checked: Path) -> None:
    assert output_of([checked / "kernel_equality", "0"]) == "reference\nchosen: reference\n"


def test_the_thread_pool_has_no_race(raced: Path) -> None:
    assert output_of([*without_random_addresses(), raced / "thread_pool_stress"]) == "ok\n"


def test_decoders_have_no_race(raced: Path) -> None:
    assert output_of([*without_random_addresses(), raced / "decoder_bits"]) == BITS.read_text()
