"""The counts of a service in the text that Prometheus reads, and as rows for a program.

Both are made from the same pass over the same numbers, so they never differ.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import HistogramMetricFamily, Metric

from tercet.engine.memory import peak_resident_bytes, resident_bytes
from tercet.engine.stats import EngineStats
from tercet.monitoring.catalogue import CATALOGUE, FAILURES, FINISHED_REASONS, REJECTIONS
from tercet.monitoring.machine import processors
from tercet.monitoring.metrics import Histogram, ModelMetrics, ServiceMetrics, queue_used
from tercet.security.counts import SecurityCounts

__all__ = ["Sample", "render", "samples"]

Labels = tuple[str, ...]
Value = float | Histogram
Sample = tuple[str, dict[str, str], float]

_ENDED_AS = {"abort": ("cancelled", "content_filter"), "error": ("error", "deadline")}
"""vLLM's words for how a request ended, where ours differ."""
_WITHOUT_SUFFIX = "llamacpp:n_tokens_max"
"""llama.cpp calls it a counter, and the library would give a counter's name the suffix `_total`."""


def render(metrics: ServiceMetrics) -> tuple[bytes, str]:
    """The text, and its content type."""
    families = list(_families(metrics))
    text = generate_latest(_Families(one for one in families if one.name != _WITHOUT_SUFFIX))
    for family in families:
        if family.name == _WITHOUT_SUFFIX:
            (sample,) = family.samples
            lines = f"# HELP {family.name} {family.documentation}\n# TYPE {family.name} counter\n"
            text += f"{lines}{family.name} {sample.value}\n".encode()
    return text, CONTENT_TYPE_LATEST


def samples(metrics: ServiceMetrics) -> list[Sample]:
    """(name, labels, value) of every sample, in the order of the text."""
    return [
        (sample.name, dict(sample.labels), float(sample.value))
        for family in _families(metrics)
        for sample in family.samples
    ]


class _Families:
    """What the library takes for a registry: something with families to collect."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """The families."""
        return self._families


def _families(metrics: ServiceMetrics) -> Iterator[Metric]:
    values = _values(metrics)
    for spec in CATALOGUE:
        found = values.get(spec.name, {})
        if spec.kind == "histogram":
            histogram = HistogramMetricFamily(spec.name, spec.help, labels=spec.labels)
            for labels, value in found.items():
                if isinstance(value, Histogram):
                    histogram.add_metric(labels, value.cumulative(), value.sum)
            yield histogram
            continue
        name = spec.name.removesuffix("_total") if spec.kind == "counter" else spec.name
        family = Metric(name, spec.help, spec.kind)
        for labels, value in found.items():
            if not isinstance(value, Histogram):
                family.add_sample(spec.name, dict(zip(spec.labels, labels, strict=True)), value)
        yield family


def _values(metrics: ServiceMetrics) -> dict[str, dict[Labels, Value]]:
    """Name of a metric -> its labels -> its value, all at this moment."""
    values: dict[str, dict[Labels, Value]] = {spec.name: {} for spec in CATALOGUE}
    for model, counted in metrics.models.items():
        _add_requests(values, model, counted)
    stats = {name: engine.stats() for name, engine in metrics.engines.items()}
    for model, engine in metrics.engines.items():
        _add_engine(values, model, stats[model])
        values["vllm:num_requests_running"][model, "0"] = engine.num_running
        values["vllm:num_requests_waiting"][model, "0"] = engine.num_waiting
        most = str(engine.engine.limits.max_sequences)
        adapters = [",".join(engine.adapter_names(running=running)) for running in (True, False)]
        values["vllm:lora_requests_info"][(most, *adapters)] = time.time()
        values["tercet_queued_tokens"][model,] = engine.num_queued_tokens
        values["tercet_engine_tick_age_seconds"][model,] = engine.tick_age_seconds
        values["tercet_engine_restarts_total"][model,] = engine.num_restarts
    running = sum(engine.num_running for engine in metrics.engines.values())
    waiting = sum(engine.num_waiting for engine in metrics.engines.values())
    plain: dict[str, float | Histogram | None] = {
        **_llamacpp(list(metrics.models.values()), list(stats.values())),
        "llamacpp:requests_processing": running,
        "llamacpp:requests_deferred": waiting,
        "tercet_response_cache_entries": metrics.cache.num_entries if metrics.cache else 0,
        "tercet_response_cache_errors_total": metrics.cache.num_errors if metrics.cache else 0,
        "tercet_queue_used": max((queue_used(engine) for engine in metrics.engines.values()), default=0.0),
        "tercet_decoded_tokens_total": sum(one.decoded_tokens for one in metrics.models.values()),
        "tercet_generating_seconds_total": metrics.generating.seconds,
        "tercet_processors": processors(),
        "process_cpu_seconds_total": time.process_time(),
        "tercet_unknown_fields_total": metrics.unknown_fields,
        "tercet_event_loop_lag_seconds": metrics.event_loop_lag,
        "process_resident_memory_bytes": resident_bytes(),
        "process_peak_resident_memory_bytes": peak_resident_bytes(),
        "process_open_fds": _open_files(),
        "process_start_time_seconds": metrics.began_at,
    }
    for name, value in plain.items():
        if value is not None:
            values[name][()] = value
    for code, count in metrics.http_responses.items():
        values["tercet_http_responses_total"][code,] = count
    if metrics.security is not None:
        _add_security(values, metrics.security)
    return values


def _add_security(values: dict[str, dict[Labels, Value]], counts: SecurityCounts) -> None:
    for kind, count in counts.events.items():
        values["tercet_security_events_total"][kind,] = count
    for reason, count in counts.blocked.items():
        values["tercet_security_blocked_total"][reason,] = count
    for (action, category), count in counts.content.items():
        values["tercet_security_content_total"][action, category] = count
    values["tercet_security_blocked_last_hour"][()] = counts.blocked_last_hour
    values["tercet_security_clients"][()] = counts.unique_clients
    values["tercet_audit_errors_total"][()] = counts.audit_errors
    for name, value in counts.configuration.items():
        if value is None or isinstance(value, int):
            values["tercet_security_setting"][name,] = math.inf if value is None else float(value)
    if profile := counts.configuration.get("profile"):
        values["tercet_security_profile"][profile,] = 1.0


def _add_requests(values: dict[str, dict[Labels, Value]], model: str, counted: ModelMetrics) -> None:
    for kind in FAILURES:
        count = counted.refused[kind] + (counted.ended[kind] if kind in FAILURES[:3] else 0)
        values["tercet_requests_failed_total"][model, kind] = count
    values["tercet_requests_total"][model,] = counted.requests
    if not model:  # requests for models that there are not
        return
    own = (model, "0")
    for name, histogram in counted.histograms.items():
        values[name][own] = histogram
    values["vllm:prompt_tokens_total"][own] = counted.prompt_tokens
    values["vllm:prompt_tokens_cached_total"][own] = counted.cached_prompt_tokens
    values["vllm:generation_tokens_total"][own] = counted.generated_tokens
    for reason in FINISHED_REASONS:
        endings = _ENDED_AS.get(reason, (reason,))
        count = sum(counted.ended[ending] for ending in endings)
        values["vllm:request_success_total"][(*own, reason)] = count
    for reason in REJECTIONS:
        values["vllm:admission_rejections_total"][(*own, reason)] = counted.refused[reason]
    values["tercet_requests_succeeded_total"][model,] = counted.succeeded
    values["tercet_requests_cancelled_total"][model,] = counted.ended["cancelled"]
    values["tercet_requests_in_flight"][model,] = counted.in_flight
    values["tercet_response_cache_hits_total"][model,] = counted.cache_hits
    values["tercet_response_cache_misses_total"][model,] = counted.cache_misses


def _add_engine(values: dict[str, dict[Labels, Value]], model: str, stats: EngineStats) -> None:
    own = (model, "0")
    values["vllm:kv_cache_usage_perc"][own] = stats.owned_blocks / max(stats.num_blocks, 1)
    values["vllm:prefix_cache_queries_total"][own] = stats.prefix_queries
    values["vllm:prefix_cache_hits_total"][own] = stats.prefix_hits
    values["vllm:num_preemptions_total"][own] = stats.preemptions
    values["tercet_recomputed_tokens_total"][model,] = stats.recomputed_tokens
    for state in ("free", "owned", "cached"):
        values["tercet_kv_blocks"][model, state] = getattr(stats, f"{state}_blocks")
    (bounds,) = [spec.buckets for spec in CATALOGUE if spec.name == "vllm:iteration_tokens_total"]
    steps = Histogram(bounds or ())
    for size, times in stats.step_sizes.items():
        steps.observe(size, times)
    values["vllm:iteration_tokens_total"][own] = steps


def _llamacpp(models: list[ModelMetrics], engines: list[EngineStats]) -> dict[str, Any]:
    """llama.cpp's server has one model and no labels: ours are added up."""
    computed = sum(one.prompt_tokens - one.cached_prompt_tokens for one in models)
    prefill = sum(one.prefill_seconds for one in models)
    decode = sum(one.decode_seconds for one in models)
    steps = sum(one.steps for one in engines)
    return {
        "llamacpp:prompt_tokens_total": computed,
        "llamacpp:prompt_tokens_cached_total": sum(one.cached_prompt_tokens for one in models),
        "llamacpp:prompt_seconds_total": prefill,
        "llamacpp:tokens_predicted_total": sum(one.generated_tokens for one in models),
        "llamacpp:tokens_predicted_seconds_total": decode,
        "llamacpp:n_decode_total": steps,
        "llamacpp:n_tokens_max": max((one.longest for one in models), default=0),
        "llamacpp:spec_decode_num_draft_tokens_total": sum(one.proposed_tokens for one in engines),
        "llamacpp:spec_decode_num_accepted_tokens_total": sum(one.accepted_tokens for one in engines),
        "llamacpp:spec_decode_num_drafts_total": sum(one.drafts for one in engines),
        "llamacpp:prompt_tokens_seconds": computed / prefill if prefill > 0 else 0.0,
        "llamacpp:predicted_tokens_seconds": (
            sum(one.decode_steps for one in models) / decode if decode > 0 else 0.0
        ),
        "llamacpp:n_busy_slots_per_decode": (sum(one.step_sequences for one in engines) / max(steps, 1)),
    }


def _open_files() -> int | None:
    """Open file descriptors, None where the system does not list them."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 (a path object for each would be slower)
    except OSError:
        return None
