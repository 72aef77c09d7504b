"""Every metric of the service: its name, what kind it is, what it counts, its labels and its buckets.

Names that start with `vllm:` and `llamacpp:` are those of vLLM 0.33 and of llama.cpp's server, with their
types, labels and buckets, so that dashboards and autoscalers made for those work here. Definitions:

    time to first token    from the arrival of a request to its first piece of text
    inter-token latency    between a piece and the one before it; one sample each
    time per output token  (end to end - time to first token) / (tokens - 1) of one request, 0 for one token
    end to end             from arrival to end, for requests that the model brought to their end

Values of labels come from closed sets: names of models, which the operator chooses, and words of this module.
Nothing that a client sends becomes one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["CATALOGUE", "FAILURES", "FINISHED_REASONS", "REJECTIONS", "MetricSpec", "token_buckets"]

LATENCY = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0),
    *(30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
BETWEEN_TOKENS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5),
    *(0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
STEP_TOKENS = (1.0, *(float(2**power) for power in range(3, 15)))
LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
TOKENS: tuple[float, ...] = ()
"""Stands for `token_buckets` of the model's context."""

MODEL = ("model_name", "engine")
OURS = ("model_name",)

FINISHED_REASONS = ("stop", "length", "abort", "error")
REJECTIONS = ("overloaded", "unavailable")
FAILURES = (
    *("deadline", "error", "content_filter", "overloaded", "unavailable"),
    *("context_length", "parameter", "unsupported", "model_not_found", "other"),
)
"""Why a request failed: the first two after it had begun, the third before or after."""


@dataclass(frozen=True)
class MetricSpec:
    """One metric. Of a counter the name is the one that is shown, with `_total` if it has that."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] | None = None


def token_buckets(max_context: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, ... up to the context, as vLLM has them."""
    steps = (float(digit * 10**power) for power in range(len(str(max_context))) for digit in (1, 2, 5))
    return tuple(value for value in steps if value <= max_context)


CATALOGUE: tuple[MetricSpec, ...] = (
    # vLLM -------------------------------------------------------------------------------------------
    MetricSpec("vllm:num_requests_running", "gauge", "Requests that share the steps of the engine.", MODEL),
    MetricSpec("vllm:num_requests_waiting", "gauge", "Requests that wait to run.", MODEL),
    MetricSpec("vllm:kv_cache_usage_perc", "gauge", "KV cache in use by requests; 1 is all of it.", MODEL),
    MetricSpec(
        "vllm:lora_requests_info",
        "gauge",
        "Adapters of requests that run and that wait, and how many may run at once; the value is the time.",
        ("max_lora", "running_lora_adapters", "waiting_lora_adapters"),
    ),
    MetricSpec("vllm:prefix_cache_queries_total", "counter", "Prompt tokens looked for in the cache.", MODEL),
    MetricSpec("vllm:prefix_cache_hits_total", "counter", "Prompt tokens found in the cache.", MODEL),
    MetricSpec("vllm:num_preemptions_total", "counter", "Requests put back for want of memory.", MODEL),
    MetricSpec("vllm:prompt_tokens_total", "counter", "Tokens of prompts, cached ones included.", MODEL),
    MetricSpec("vllm:prompt_tokens_cached_total", "counter", "Those of them found in the cache.", MODEL),
    MetricSpec("vllm:generation_tokens_total", "counter", "Tokens generated.", MODEL),
    MetricSpec(
        "vllm:request_success_total",
        "counter",
        "Requests that began, by how they ended.",
        (*MODEL, "finished_reason"),
    ),
    MetricSpec(
        "vllm:admission_rejections_total", "counter", "Requests refused for want of room.", (*MODEL, "reason")
    ),
    MetricSpec("vllm:iteration_tokens_total", "histogram", "Tokens of a step.", MODEL, STEP_TOKENS),
    MetricSpec("vllm:request_prompt_tokens", "histogram", "Tokens of a prompt.", MODEL, TOKENS),
    MetricSpec("vllm:request_generation_tokens", "histogram", "Tokens of an answer.", MODEL, TOKENS),
    MetricSpec(
        "vllm:time_to_first_token_seconds", "histogram", "From arrival to first text.", MODEL, FIRST_TOKEN
    ),
    MetricSpec(
        "vllm:inter_token_latency_seconds", "histogram", "From piece to piece.", MODEL, BETWEEN_TOKENS
    ),
    MetricSpec(
        "vllm:request_time_per_output_token_seconds",
        "histogram",
        "Mean time per token of one request after its first.",
        MODEL,
        BETWEEN_TOKENS,
    ),
    MetricSpec("vllm:e2e_request_latency_seconds", "histogram", "From arrival to end.", MODEL, LATENCY),
    MetricSpec("vllm:request_queue_time_seconds", "histogram", "Time waiting to run.", MODEL, LATENCY),
    MetricSpec("vllm:request_inference_time_seconds", "histogram", "Time running.", MODEL, LATENCY),
    MetricSpec("vllm:request_prefill_time_seconds", "histogram", "Time for the prompt.", MODEL, LATENCY),
    MetricSpec(
        "vllm:request_decode_time_seconds", "histogram", "Time after the first token.", MODEL, LATENCY
    ),
    # llama.cpp --------------------------------------------------------------------------------------
    MetricSpec("llamacpp:prompt_tokens_total", "counter", "Prompt tokens computed, without cached ones."),
    MetricSpec("llamacpp:prompt_tokens_cached_total", "counter", "Prompt tokens reused from the cache."),
    MetricSpec("llamacpp:prompt_seconds_total", "counter", "Time spent reading prompts, of all requests."),
    MetricSpec("llamacpp:tokens_predicted_total", "counter", "Tokens generated."),
    MetricSpec("llamacpp:tokens_predicted_seconds_total", "counter", "Time generating, of all requests."),
    MetricSpec("llamacpp:n_decode_total", "counter", "Steps of the engine."),
    MetricSpec("llamacpp:n_tokens_max", "counter", "Longest prompt and answer so far."),
    MetricSpec("llamacpp:spec_decode_num_draft_tokens_total", "counter", "Tokens guessed."),
    MetricSpec("llamacpp:spec_decode_num_accepted_tokens_total", "counter", "Guesses that were right."),
    MetricSpec("llamacpp:spec_decode_num_drafts_total", "counter", "Steps that checked guesses."),
    MetricSpec("llamacpp:prompt_tokens_seconds", "gauge", "Prompt tokens per second, on average."),
    MetricSpec("llamacpp:predicted_tokens_seconds", "gauge", "Tokens per second of an answer, on average."),
    MetricSpec("llamacpp:requests_processing", "gauge", "Requests that run."),
    MetricSpec("llamacpp:requests_deferred", "gauge", "Requests that wait."),
    MetricSpec("llamacpp:n_busy_slots_per_decode", "gauge", "Requests in a step, on average."),
    # Ours -------------------------------------------------------------------------------------------
    MetricSpec("tercet_requests_total", "counter", "Requests, refused ones included.", OURS),
    MetricSpec("tercet_requests_succeeded_total", "counter", "Requests that were answered.", OURS),
    MetricSpec("tercet_requests_cancelled_total", "counter", "Requests that their callers gave up.", OURS),
    MetricSpec("tercet_requests_failed_total", "counter", "Requests that failed, by why.", (*OURS, "kind")),
    MetricSpec("tercet_requests_in_flight", "gauge", "Requests not yet ended.", OURS),
    MetricSpec("tercet_response_cache_hits_total", "counter", "Requests answered from the cache.", OURS),
    MetricSpec("tercet_response_cache_misses_total", "counter", "Requests looked for in vain.", OURS),
    MetricSpec("tercet_response_cache_entries", "gauge", "Responses in the cache."),
    MetricSpec("tercet_response_cache_errors_total", "counter", "Times that the cache failed."),
    MetricSpec("tercet_queued_tokens", "gauge", "Tokens that waiting requests need computed.", OURS),
    MetricSpec("tercet_kv_blocks", "gauge", "Blocks of the KV cache, by state.", (*OURS, "state")),
    MetricSpec("tercet_recomputed_tokens_total", "counter", "Tokens computed again after preemption.", OURS),
    MetricSpec("tercet_engine_tick_age_seconds", "gauge", "Since the engine thread last moved.", OURS),
    MetricSpec(
        "tercet_engine_restarts_total", "counter", "Engine threads that died and were replaced.", OURS
    ),
    MetricSpec("tercet_queue_used", "gauge", "Share of the fullest queue that waiting requests fill."),
    MetricSpec("tercet_decoded_tokens_total", "counter", "Tokens after the first piece of each answer."),
    MetricSpec("tercet_generating_seconds_total", "counter", "Time in which some answer was being made."),
    MetricSpec("tercet_processors", "gauge", "Processors that the process may keep busy."),
    MetricSpec("tercet_http_responses_total", "counter", "Responses by status code.", ("code",)),
    MetricSpec("tercet_security_events_total", "counter", "Security events, by kind.", ("kind",)),
    MetricSpec("tercet_security_blocked_total", "counter", "Requests refused, by reason.", ("reason",)),
    MetricSpec("tercet_security_blocked_last_hour", "gauge", "Requests refused within the last hour."),
    MetricSpec(
        "tercet_security_content_total",
        "counter",
        "Pieces of text that filters marked or replaced; categories are those of the operator's policies.",
        ("action", "category"),
    ),
    MetricSpec("tercet_security_clients", "gauge", "Different clients since the start, up to 100,000."),
    MetricSpec(
        "tercet_security_setting",
        "gauge",
        "The security settings in force: a number, 0 or 1 for no or yes, +Inf for no limit.",
        ("setting",),
    ),
    MetricSpec("tercet_security_profile", "gauge", "1 for the profile in force.", ("profile",)),
    MetricSpec("tercet_audit_errors_total", "counter", "Events that the audit log could not take."),
    MetricSpec("tercet_unknown_fields_total", "counter", "Fields of requests that nobody knows."),
    MetricSpec("tercet_event_loop_lag_seconds", "histogram", "How late the event loop wakes.", (), LAG),
    MetricSpec("process_cpu_seconds_total", "counter", "Processor time of the process."),
    MetricSpec("process_resident_memory_bytes", "gauge", "Memory of the process that is in RAM, measured."),
    MetricSpec("process_peak_resident_memory_bytes", "gauge", "The most of it so far."),
    MetricSpec("process_open_fds", "gauge", "Open files and connections of the process."),
    MetricSpec("process_start_time_seconds", "gauge", "When the service began, in seconds since 1970."),
)
