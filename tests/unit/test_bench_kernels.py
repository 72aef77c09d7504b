"""Products are measured against both limits of the machine."""

from __future__ import annotations

import pytest

from tercet.bench.kernels import bench_kernels
from tercet.bench.scaling import thread_counts
from tercet.bench.session import Session
from tercet.errors import ParameterError


def test_from_cache_and_from_dram() -> None:
    session = Session(runs=2, probe_bytes=1 << 20)
    rows = bench_kernels(session, ["reference"], ["two_bit"], [1, 3], [1], dram_bytes=1 << 16).rows
    assert [(row["tokens"], row["place"]) for row in rows] == [
        (1, "cache"), (1, "DRAM"), (3, "cache"), (3, "DRAM"),
    ]  # fmt: skip
    for row in rows:
        speed = row["gmac_per_second"]
        assert row["weights_gb_per_second"] == pytest.approx(speed / 4 / row["tokens"])
        assert row["peak_share"] == pytest.approx(speed * 1e9 / session.roofline(1, "reference").int8_peak)
    with pytest.raises(ParameterError, match="packing must be one of"):
        bench_kernels(session, ["reference"], ["seven"])


def test_threads_double_up_to_all() -> None:
    assert [thread_counts(most) for most in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]
