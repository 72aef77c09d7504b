"""What the kernels are and what the machine can do at best: for `tercet doctor`, `tercet bench` and tests.

Rates are measured in C++ on the threads that a model would use, with the kernels' own instructions. They
are the best of several tries, since other programs can only make a machine slower. Compare them with a
kernel in the same run.
"""

from __future__ import annotations

from typing import NamedTuple

from tercet import _core

__all__ = [
    "OperationReport",
    "clock_rate",
    "cpu_features",
    "cpu_name",
    "inspect_kernels",
    "int8_peak",
    "lookup_peak",
    "read_bandwidth",
    "time_ternary_matmul",
]


class OperationReport(NamedTuple):
    """One operation of a kernel table."""

    operation: str
    provided_by: str
    """The instruction set, that is the folder of cpp/src/kernels, whose kernel is used."""
    passed: bool
    """Whether the self-test found it equal to the reference, to the last bit."""
    detail: str
    """What differed, or an empty string."""


def cpu_name() -> str:
    """Return the processor's own name for itself."""
    return _core.cpu_name()


def cpu_features() -> list[str]:
    """Return the features that our instruction sets ask for and this machine has, as compilers spell them."""
    return _core.cpu_features()


def inspect_kernels(isa: str | None = None) -> list[OperationReport]:
    """Self-test the kernels of an instruction set and report on each operation, failed ones included.

    Raises:
        IsaError: this machine lacks the instruction set.
    """
    return [OperationReport(*row) for row in _core.inspect_kernels(isa)]


def read_bandwidth(buffer_bytes: int, threads: int, repeats: int, isa: str | None = None) -> dict[str, float]:
    """Return bytes a second of each way of reading memory, the best of `repeats` passes over a buffer.

    `plain` is one sequential stream for each thread, `prefetched` the same with prefetches into L2 running
    ahead, `streams` four far-apart streams with prefetches. The best of the three is what a kernel is
    measured against. The buffer, shared out among the threads, should be much larger than the last cache.

    Raises:
        ParameterError: less than 64 KiB for each thread, or repeats or threads out of range.
        IsaError: this machine lacks the instruction set.
    """
    return _core.read_bandwidth(buffer_bytes, threads, repeats, isa)


def int8_peak(threads: int, seconds: float, isa: str | None = None) -> float:
    """Return multiply-adds a second of int8 dot products in registers, all threads together.

    Raises:
        ParameterError: threads or seconds out of range.
        IsaError: this machine lacks the instruction set.
    """
    return _core.int8_peak(threads, seconds, isa)


def lookup_peak(threads: int, seconds: float, isa: str | None = None) -> float:
    """Return bytes a second that are looked up in tables in registers, all threads together.

    Raises:
        ParameterError: threads or seconds out of range.
        IsaError: this machine lacks the instruction set.
    """
    return _core.lookup_peak(threads, seconds, isa)


def clock_rate() -> float:
    """Return cycles a second of one core that is busy, measured by a chain of additions of a cycle each."""
    return _core.clock_rate()


def time_ternary_matmul(
    packing: str, rows: int, depth: int, tokens: int, threads: int, repeats: int, isa: str | None = None
) -> list[float]:
    """Return seconds of each of `repeats` products of a random packed matrix with random activations.

    A product comes before them as a warm-up. Activations are prepared in each, for packings that want that.

    Raises:
        ParameterError: a size out of range, or an unknown packing.
        IsaError: this machine lacks the instruction set.
    """
    return _core.time_ternary_matmul(packing, rows, depth, tokens, threads, repeats, isa)
