"""The figures of the dashboard: the samples of `/metrics`, summed over models and put in words.

Everything comes from one reading of the registry that `/metrics` prints, so the two always agree. Totals
only grow; the page makes rates and recent means of the difference between two readings.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from tercet.server.page.alerts import active_alerts

if TYPE_CHECKING:
    from tercet.service.service import Service

__all__ = ["Samples", "dashboard_figures"]

NOW = {
    "requests_running": "vllm:num_requests_running",
    "requests_waiting": "vllm:num_requests_waiting",
    "waiting_tokens": "tercet_queued_tokens",
    "response_cache_entries": "tercet_response_cache_entries",
    "resident_memory_bytes": "process_resident_memory_bytes",
}
TOTALS = {
    "requests": "tercet_requests_total",
    "cancelled": "tercet_requests_cancelled_total",
    "failed": "tercet_requests_failed_total",
    "prompt_tokens": "vllm:prompt_tokens_total",
    "generation_tokens": "vllm:generation_tokens_total",
    "preemptions": "vllm:num_preemptions_total",
    "prefix_cache_queries": "vllm:prefix_cache_queries_total",
    "prefix_cache_hits": "vllm:prefix_cache_hits_total",
    "response_cache_hits": "tercet_response_cache_hits_total",
    "response_cache_misses": "tercet_response_cache_misses_total",
}
HISTOGRAMS = {
    "time_to_first_token": "vllm:time_to_first_token_seconds",
    "between_tokens": "vllm:inter_token_latency_seconds",
    "whole_request": "vllm:e2e_request_latency_seconds",
}


class Samples:
    """The samples of one reading, by name."""

    def __init__(self, samples: Iterable[tuple[str, Mapping[str, str], float]]) -> None:
        self._by_name: dict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
        for name, labels, value in samples:
            self._by_name[name].append((labels, value))

    def total(self, name: str) -> float:
        """The sum over all labels; 0 if nothing was counted yet."""
        return sum(value for _, value in self._by_name[name])

    def highest(self, name: str) -> float:
        """The highest over all labels; 0 if there is none."""
        return max((value for _, value in self._by_name[name]), default=0.0)

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """The sums by one label."""
        sums: dict[str, float] = defaultdict(float)
        for labels, value in self._by_name[name]:
            sums[labels[label]] += value
        return dict(sums)

    def histogram(self, name: str) -> dict[str, Any]:
        """`buckets` as [upper limit, or null for none; number at or below it], `sum` and `count`."""
        limits = {float(limit): number for limit, number in self.by_label(f"{name}_bucket", "le").items()}
        buckets = [[None if limit == float("inf") else limit, limits[limit]] for limit in sorted(limits)]
        return {"buckets": buckets, "sum": self.total(f"{name}_sum"), "count": self.total(f"{name}_count")}


def endings(samples: Samples) -> dict[str, float]:
    """How many requests ended how; vLLM's "error" is told apart by our own kinds of failures."""
    finished = samples.by_label("vllm:request_success_total", "finished_reason")
    finished.pop("error", None)
    return {**finished, **samples.by_label("tercet_requests_failed_total", "kind")}


def dashboard_figures(service: Service) -> dict[str, Any]:
    """What `/dashboard.json` answers."""
    samples = Samples(service.metrics.samples())
    now = {name: samples.total(metric) for name, metric in NOW.items()}
    now["kv_cache_used"] = samples.highest("vllm:kv_cache_usage_perc")
    now["engine_tick_age_seconds"] = samples.highest("tercet_engine_tick_age_seconds")
    moment = time.time()
    return {
        "time": moment,
        "version": version("tercet"),
        "uptime_seconds": moment - samples.total("process_start_time_seconds"),
        "state": service.state,
        "problem": service.health.problem(),
        "models": [{"name": model.name, "context": model.llm.max_context} for model in service.pool.models],
        "now": now,
        "totals": {name: samples.total(metric) for name, metric in TOTALS.items()},
        "endings": endings(samples),
        "histograms": {name: samples.histogram(metric) for name, metric in HISTOGRAMS.items()},
        "alerts": active_alerts(now, service.settings),
    }
