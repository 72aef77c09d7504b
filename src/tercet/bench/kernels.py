"""The ternary products alone: every packing, instruction set and number of tokens, from cache and from DRAM.

Two limits apply. With many tokens it is arithmetic: the share of the int8 dot-product peak that the
instruction set reaches in registers, which a kernel by lookup may pass. With few it is memory: gigabytes of
packed weights a second, against the best reader. A product from cache uses a matrix that stays in L2, one
from DRAM a matrix larger than any cache; where arithmetic would take too long for that, nothing is lost by
leaving it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tercet.bench.report import Axes, Column, Report
from tercet.bench.roofline import Roofline
from tercet.bench.session import Session
from tercet.bench.spread import Spread
from tercet.errors import ParameterError
from tercet.kernels.introspection import time_ternary_matmul
from tercet.kernels.isa import available_isas
from tercet.quantization.packings import PACKINGS
from tercet.quantization.packings import packing as packing_of

__all__ = ["KERNEL_COLUMNS", "bench_kernels"]

DEPTH = 2560  # that of bitnet-b1.58-2B-4T
CACHE_ROWS = 256  # a thread's share: 160 KB at two bits
DRAM_BYTES = 256 << 20
MOST_SECONDS = 1.0
"""For one product from DRAM; beyond it arithmetic is the limit anyway."""
REFERENCE = "reference"
_SERIES = ("isa", "packing", "place", "threads")

KERNEL_COLUMNS = (
    Column("isa", "kernels"),
    Column("packing", "packing"),
    Column("threads", "threads", "d"),
    Column("tokens", "tokens", "d"),
    Column("place", "weights in"),
    Column("runs", "GMAC/s, median [spread]", ".1f"),
    Column("peak_share", "share of the int8 peak", ".0%"),
    Column("weights_gb_per_second", "GB/s of weights", ".1f"),
    Column("bandwidth_share", "share of the bandwidth", ".0%"),
)


def bench_kernels(
    session: Session,
    isas: Sequence[str] = (),
    packings: Sequence[str] = (),
    tokens: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256),
    threads: Sequence[int] = (1,),
    dram_bytes: int = DRAM_BYTES,
) -> Report:
    """Time products of random matrices; by default all packings and instruction sets but the reference.

    Raises:
        ParameterError: there is no such packing, or a count is out of range.
        IsaError: this machine lacks an instruction set.
    """
    for name in packings:
        if name not in PACKINGS:
            raise ParameterError(f"packing must be one of {', '.join(PACKINGS)}, not {name!r}")
    fast = [isa for isa in available_isas() if isa != REFERENCE] or [REFERENCE]
    rows = [
        row
        for isa in isas or fast
        for packing in packings or PACKINGS
        for num_threads in threads
        for count in tokens
        for row in _rows(session, isa, packing, num_threads, count, dram_bytes)
    ]
    for row in rows:  # once the limits have been probed for the last time: the report prints those
        _add_shares(row, session.roofline(row["threads"], row["isa"]))
    return Report.of(
        session,
        "kernels",
        "Ternary products",
        KERNEL_COLUMNS,
        rows,
        Axes("tokens", "runs", "tokens", "GMAC/s", _SERIES, logarithmic=True),
        [
            f"Matrices of depth {DEPTH}. Activations are prepared in every product, where the packing wants "
            "that; a model prepares them once for several matrices."
        ],
    )


def _rows(
    session: Session, isa: str, packing: str, threads: int, tokens: int, dram_bytes: int
) -> list[dict[str, Any]]:
    session.progress(f"{isa}, {packing}, {threads} threads, {tokens} tokens")
    session.roofline(threads, isa).probe()
    cached = _row(session, isa, packing, threads, tokens, CACHE_ROWS * threads, "cache")
    bytes_a_row = packing_of(packing).packed_bytes(64, DEPTH) / 64
    dram_rows = int(dram_bytes / bytes_a_row) // 64 * 64
    if dram_rows * DEPTH * tokens / (cached["gmac_per_second"] * 1e9) > MOST_SECONDS:
        return [cached]
    return [cached, _row(session, isa, packing, threads, tokens, dram_rows, "DRAM")]


def _row(
    session: Session, isa: str, packing: str, threads: int, tokens: int, rows: int, place: str
) -> dict[str, Any]:
    work = rows * DEPTH * tokens
    short = work < 1 << 30
    bursts = session.runs * (16 if short else 1)  # the fastest of a few, where a product takes microseconds
    seconds = time_ternary_matmul(packing, rows, DEPTH, tokens, threads, bursts, isa)
    step = bursts // session.runs
    best = [min(seconds[begin : begin + step]) for begin in range(0, bursts, step)]
    rates = Spread.of([work / one / 1e9 for one in best])
    packed = packing_of(packing).packed_bytes(rows, DEPTH)
    speed = packed / (work / (rates.median * 1e9))
    return {
        "isa": isa,
        "packing": packing,
        "threads": threads,
        "tokens": tokens,
        "place": place,
        "rows": rows,
        "depth": DEPTH,
        "gmac_per_second": rates.median,
        "runs": rates,
        "weights_gb_per_second": speed / 1e9,
    }


def _add_shares(row: dict[str, Any], roofline: Roofline) -> None:
    speed = row["weights_gb_per_second"] * 1e9
    row["peak_share"] = row["gmac_per_second"] * 1e9 / roofline.int8_peak
    row["bandwidth_share"] = speed / roofline.bandwidth if row["place"] == "DRAM" else "from cache"
