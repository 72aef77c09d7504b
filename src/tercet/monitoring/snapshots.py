"""What the service did in one window of time, and how it stood at the end of it.

A `Snapshot` keeps what can be added up (counts, and the distributions of durations) and what can only be
read (memory, requests that run). Rates, averages and quantiles follow from these, as properties, so that no
figure can contradict another. None means "not measured" or "of nothing": a rate of zero requests is no rate.

    snapshot.error_rate                 0.05, or None if no request ended
    snapshot.latency_p95_seconds        3.2, or None
    snapshot.figures()                  every field and property by name, in seconds, bytes and shares
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tercet.monitoring.distribution import Distribution

__all__ = ["COUNTS", "DISTRIBUTIONS", "GAUGES", "RATES", "TIMES", "Snapshot"]

COUNTS = (
    *("requests", "succeeded", "failed", "cancelled", "cache_hits", "cache_misses"),
    *("prompt_tokens", "cached_prompt_tokens", "generated_tokens", "decoded_tokens"),
)
"""What happened within the window."""
GAUGES = (
    *("resident_memory_bytes", "mapped_memory_bytes", "gpu_memory_bytes"),
    *("process_cpu_percent", "machine_cpu_percent"),
    *("active_requests", "queued_requests", "queued_tokens"),
    *("queue_used", "kv_cache_used", "engine_tick_age_seconds"),
)
"""What was read at the end of the window; of the processors: their mean over it."""
RATES = (
    *("prompt_tokens_per_second", "generated_tokens_per_second", "generating_tokens_per_second"),
    *("cache_hit_rate", "error_rate"),
)
DISTRIBUTIONS = ("latency", "first_token", "inter_token")
TIMES = tuple(
    f"{name}_{figure}_seconds" for name in DISTRIBUTIONS for figure in ("average", "p50", "p95", "p99")
)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One window. Durations are in seconds, `_used` and `_rate` are shares from 0 to 1.

    Attributes:
        time: when it ended, in seconds since 1970.
        period_seconds: how long it was.
        requests: that arrived, refused ones included.
        succeeded: that were answered.
        failed: that were refused, or ended with an error or out of time.
        cancelled: that their callers gave up; neither a success nor a failure.
        cache_hits: answered from the cache of responses.
        cache_misses: looked for there in vain.
        prompt_tokens: of prompts, cached ones included.
        cached_prompt_tokens: those that the prefix cache held.
        generated_tokens: of answers that the model made.
        decoded_tokens: those after the first piece of each answer.
        generating_seconds: for how long at least one answer was between its first piece and its end.
        latency: from arrival to end, of the requests that the model answered.
        first_token: from arrival to the first piece.
        inter_token: from piece to piece.
        resident_memory_bytes: of the process, in RAM.
        mapped_memory_bytes: the part of it that are pages of mapped files: weights, libraries.
        gpu_memory_bytes: in use on the machine's GPUs, by all programs.
        process_cpu_percent: of the processors that the process may use; 100 is all of them.
        machine_cpu_percent: of the machine's processors, by all programs.
        active_requests: that share the steps of an engine.
        queued_requests: that wait to run.
        queued_tokens: that these need computed.
        queue_used: how much of the queue they fill.
        kv_cache_used: in the model that has the least room.
        engine_tick_age_seconds: since the thread of an engine last showed that it lives; the longest of all.
        energy_joules: that all processors of the machine took in the window.
    """

    time: float
    period_seconds: float
    requests: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int | None = None
    cache_hits: int = 0
    cache_misses: int = 0
    prompt_tokens: int | None = None
    cached_prompt_tokens: int | None = None
    generated_tokens: int = 0
    decoded_tokens: int = 0
    generating_seconds: float = 0.0
    latency: Distribution = field(default_factory=Distribution)
    first_token: Distribution = field(default_factory=Distribution)
    inter_token: Distribution = field(default_factory=Distribution)
    resident_memory_bytes: int | None = None
    mapped_memory_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    process_cpu_percent: float | None = None
    machine_cpu_percent: float | None = None
    active_requests: int | None = None
    queued_requests: int | None = None
    queued_tokens: int | None = None
    queue_used: float | None = None
    kv_cache_used: float | None = None
    engine_tick_age_seconds: float | None = None
    energy_joules: float | None = None

    @property
    def prompt_tokens_per_second(self) -> float | None:
        """Over the whole window, pauses included."""
        return _ratio(self.prompt_tokens, self.period_seconds)

    @property
    def generated_tokens_per_second(self) -> float | None:
        """Over the whole window, pauses included."""
        return _ratio(self.generated_tokens, self.period_seconds)

    @property
    def generating_tokens_per_second(self) -> float | None:
        """While something generated, all answers together; None if nothing did."""
        return _ratio(self.decoded_tokens, self.generating_seconds)

    @property
    def cache_hit_rate(self) -> float | None:
        """Of the requests that were looked for in the cache of responses."""
        return _ratio(self.cache_hits, self.cache_hits + self.cache_misses)

    @property
    def error_rate(self) -> float | None:
        """Of the requests that ended, those that were cancelled left out."""
        return _ratio(self.failed, self.succeeded + self.failed)

    def __getattr__(self, name: str) -> float | None:
        """`latency_average_seconds`, `first_token_p95_seconds` and the others of `TIMES`."""
        if name not in TIMES:
            raise AttributeError(f"a snapshot has no {name!r}")
        distribution, figure, _ = name.rsplit("_", 2)
        spread: Distribution = getattr(self, distribution)
        return spread.average if figure == "average" else spread.quantile(int(figure[1:]) / 100)

    def figures(self) -> dict[str, float | int | None]:
        """Every number by its name: what an export has of a snapshot."""
        own = [one.name for one in fields(self) if one.name not in DISTRIBUTIONS]
        return {name: getattr(self, name) for name in (*own, *RATES, *TIMES)}

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` makes the same snapshot of, fit for JSON."""
        values: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        for name in DISTRIBUTIONS:
            spread = values[name]
            values[name] = [spread.count, spread.total, {str(k): n for k, n in spread.classes.items()}]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Snapshot:
        """The snapshot that `to_dict` told of; what a later version has added is passed over."""
        known = {one.name: values[one.name] for one in fields(cls) if one.name in values}
        for name in DISTRIBUTIONS:
            if name in known:
                count, total, classes = known[name]
                known[name] = Distribution(count, total, {int(k): n for k, n in classes.items()})
        return cls(**known)


def _ratio(part: float | None, whole: float) -> float | None:
    return part / whole if part is not None and whole > 0 else None
