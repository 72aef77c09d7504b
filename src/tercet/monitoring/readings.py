"""What has been counted so far, read at one moment: the difference of two readings is a snapshot.

`service_reading` reads the counts of a service; a `Tally` is told of every request by a program that has an
engine of its own. Any thread may read them while they count on: the sums of windows are always exact.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tercet.monitoring.distribution import Distribution
from tercet.monitoring.machine import MachineReading
from tercet.monitoring.metrics import Histogram, ServiceMetrics, queue_used
from tercet.monitoring.snapshots import COUNTS, DISTRIBUTIONS, Snapshot

__all__ = ["Reading", "Tally", "service_reading", "snapshot_between"]

_HISTOGRAMS = {
    "latency": "vllm:e2e_request_latency_seconds",
    "first_token": "vllm:time_to_first_token_seconds",
    "inter_token": "vllm:inter_token_latency_seconds",
}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Counts since the beginning, under the names of `snapshots.COUNTS` and `DISTRIBUTIONS`.

    `gauges` are those of the engines; what is not measured is left out of any of the three.
    """

    counts: Mapping[str, int]
    generating_seconds: float
    distributions: Mapping[str, Distribution]
    gauges: Mapping[str, float] = field(default_factory=dict)


def service_reading(metrics: ServiceMetrics) -> Reading:
    """Read a service: its requests, over all models, and its engines."""
    models = [counted for _, counted in list(metrics.models.items())]
    engines = list(metrics.engines.values())
    stats = [engine.stats() for engine in engines]
    gauges: dict[str, float] = {}
    if engines:
        gauges = {
            "active_requests": sum(one.num_running for one in engines),
            "queued_requests": sum(one.num_waiting for one in engines),
            "queued_tokens": sum(one.num_queued_tokens for one in engines),
            "queue_used": max(queue_used(one) for one in engines),
            "kv_cache_used": max(one.owned_blocks / max(one.num_blocks, 1) for one in stats),
            "engine_tick_age_seconds": max(one.tick_age_seconds for one in engines),
        }
    counts = {
        "requests": sum(one.requests for one in models),
        "succeeded": sum(one.succeeded for one in models),
        "failed": sum(one.failed for one in models),
        "cancelled": sum(one.ended["cancelled"] for one in models),
        "cache_hits": sum(one.cache_hits for one in models),
        "cache_misses": sum(one.cache_misses for one in models),
        "prompt_tokens": sum(one.prompt_tokens for one in models),
        "cached_prompt_tokens": sum(one.cached_prompt_tokens for one in models),
        "generated_tokens": sum(one.generated_tokens for one in models),
        "decoded_tokens": sum(one.decoded_tokens for one in models),
    }
    return Reading(
        counts=counts,
        generating_seconds=metrics.generating.seconds,
        distributions={
            name: sum((one.histograms[histogram].distribution() for one in models), Distribution())
            for name, histogram in _HISTOGRAMS.items()
        },
        gauges=gauges,
    )


class Tally:
    """Requests of an engine that is not ours, as its program tells of them; any thread may."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        names = ("requests", "succeeded", "failed", "cache_hits", "cache_misses")
        self._counts = dict.fromkeys((*names, "generated_tokens", "decoded_tokens"), 0)
        self._latency = Histogram(())
        self._generating = 0.0
        self._covered_until = float("-inf")

    def record(self, success: bool, seconds: float, tokens: int, cache_hit: bool) -> None:
        """Count a request that has just ended, so many seconds after it began."""
        with self._lock:
            counts = self._counts
            counts["requests"] += 1
            counts["succeeded" if success else "failed"] += 1
            counts["cache_hits" if cache_hit else "cache_misses"] += 1
            counts["generated_tokens"] += tokens
            if success:
                self._latency.observe(seconds)
            if tokens and not cache_hit:
                counts["decoded_tokens"] += tokens
                now = self._clock()
                # Requests that ran at one time share it: what an earlier one has covered is not added again.
                self._generating += min(seconds, now - self._covered_until)
                self._covered_until = now

    def reading(self) -> Reading:
        """What has been counted."""
        with self._lock:
            return Reading(
                counts=dict(self._counts),
                generating_seconds=self._generating,
                distributions={"latency": self._latency.distribution()},
            )


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One look at everything: the requests, the machine, the energy, and when that was."""

    time: float
    elapsed: float
    """By a clock that nobody sets."""
    reading: Reading
    machine: MachineReading
    joules: float | None


def snapshot_between(before: Moment, after: Moment) -> Snapshot:
    """What happened between two moments, and how things stood at the second."""
    seconds = max(after.elapsed - before.elapsed, 0.0)
    then, now = before.machine, after.machine
    first, last = before.reading, after.reading
    busy = ticks = joules = None
    if now.machine_busy is not None and then.machine_busy is not None:
        busy = now.machine_busy - then.machine_busy
    if now.machine_ticks is not None and then.machine_ticks is not None:
        ticks = now.machine_ticks - then.machine_ticks
    if after.joules is not None and before.joules is not None:
        joules = after.joules - before.joules
    cpu_seconds = now.process_cpu_seconds - then.process_cpu_seconds
    values: dict[str, float | Distribution | None] = {
        name: last.counts[name] - first.counts.get(name, 0) for name in COUNTS if name in last.counts
    }
    for name in DISTRIBUTIONS:
        if name in last.distributions:
            values[name] = last.distributions[name] - first.distributions.get(name, Distribution())
    return Snapshot(
        time=after.time,
        period_seconds=seconds,
        generating_seconds=last.generating_seconds - first.generating_seconds,
        resident_memory_bytes=now.resident_memory_bytes,
        mapped_memory_bytes=now.mapped_memory_bytes,
        gpu_memory_bytes=now.gpu_memory_bytes,
        process_cpu_percent=100 * cpu_seconds / (seconds * now.processors) if seconds > 0 else None,
        machine_cpu_percent=100 * busy / ticks if busy is not None and ticks else None,
        energy_joules=joules,
        **values,  # type: ignore[arg-type]
        **last.gauges,  # type: ignore[arg-type]
    )
