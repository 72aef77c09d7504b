"""The limits of the machine, measured in the same run as what is compared with them.

Bandwidth is the best that any of several readers gets: one stream with and without prefetches, four far-apart
streams, all on huge pages where the system gives them. It drifts on shared machines, so it is measured again
before every timed run, and the best of all counts: a share of the roofline errs towards too low.
"""

from __future__ import annotations

from typing import Any

from tercet.kernels.introspection import int8_peak, lookup_peak, read_bandwidth

__all__ = ["Roofline"]

PROBE_BYTES = 512 << 20  # well beyond any cache
PROBE_PASSES = 3
PEAK_SECONDS = 0.05


class Roofline:
    """The best rates seen so far with some threads and kernels."""

    def __init__(self, threads: int, isa: str, probe_bytes: int = PROBE_BYTES) -> None:
        self.threads = threads
        self.isa = isa
        self._probe_bytes = probe_bytes
        self._readers: dict[str, float] = {}
        self._int8 = 0.0
        self._lookups = 0.0

    def probe(self) -> None:
        """Measure again; what is better than before replaces it."""
        rates = read_bandwidth(self._probe_bytes, self.threads, PROBE_PASSES, self.isa)
        for name, rate in rates.items():
            self._readers[name] = max(rate, self._readers.get(name, 0.0))
        self._int8 = max(self._int8, int8_peak(self.threads, PEAK_SECONDS, self.isa))
        self._lookups = max(self._lookups, lookup_peak(self.threads, PEAK_SECONDS, self.isa))

    @property
    def bandwidth(self) -> float:
        """Bytes a second of the best reader."""
        return self._readers[self.reader]

    @property
    def reader(self) -> str:
        """The best reader's name."""
        if not self._readers:
            self.probe()
        return max(self._readers, key=self._readers.__getitem__)

    @property
    def int8_peak(self) -> float:
        """Multiply-adds a second of int8 dot products in registers."""
        if not self._int8:
            self.probe()
        return self._int8

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "threads": self.threads,
            "isa": self.isa,
            "bandwidth_gb_per_second": self.bandwidth / 1e9,
            "readers_gb_per_second": {name: rate / 1e9 for name, rate in self._readers.items()},
            "int8_gmac_per_second": self.int8_peak / 1e9,
            "lookups_g_per_second": self._lookups / 1e9,
        }

    def described(self) -> str:
        """One line for people."""
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return (
            f"{threads}, {self.isa}: reads {self.bandwidth / 1e9:.1f} GB/s ({self.reader}), "
            f"{self.int8_peak / 1e9:.0f} G int8 multiply-adds/s, {self._lookups / 1e9:.0f} G look-ups/s"
        )
