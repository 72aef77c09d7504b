"""Every kernel of every instruction set under sanitizers, over many shapes, and decoders with 1 to 3 threads.

./dev test-long tests/long/test_sanitizers.py            ten minutes on two cores, most of it compiling
"""

from __future__ import annotations

import time

import pytest

from long_results import RecordLongResult
from native_programs import BITS, build_programs, output_of, without_random_addresses
from tercet.kernels.isa import available_isas

ROUNDS = 3

pytestmark = [pytest.mark.long, pytest.mark.timeout(2 * 3600)]


def test_no_kernel_reads_or_writes_out_of_bounds(record_long_result: RecordLongResult) -> None:
    folder = build_programs("checked-all", "-DTERCET_SANITIZERS=address,undefined")
    isas = available_isas()
    started = time.monotonic()
    printed = output_of([folder / "kernel_equality", str(ROUNDS)])
    assert printed.splitlines() == [*isas, f"chosen: {isas[-1]}"]
    assert output_of([folder / "decoder_bits"]) == BITS.read_text()
    figures = {"sanitizers": "address, undefined", "isas": isas, "rounds": ROUNDS}
    record_long_result("bounds", {**figures, "run_seconds": round(time.monotonic() - started)})


def test_no_thread_races_with_another(record_long_result: RecordLongResult) -> None:
    folder = build_programs("raced-all", "-DTERCET_SANITIZERS=thread")
    started = time.monotonic()
    assert output_of([*without_random_addresses(), folder / "thread_pool_stress"]) == "ok\n"
    assert output_of([*without_random_addresses(), folder / "decoder_bits"]) == BITS.read_text()
    figures = {"sanitizers": "thread", "isas": available_isas()}
    record_long_result("races", {**figures, "run_seconds": round(time.monotonic() - started)})
