"""What the service counts: plain numbers, fed by its own events, read at one moment.

Two sources are kept apart. Requests are counted here, from their arrival to their end, so that the sums
equal what every single response says of itself. What only the engine knows (steps, blocks, preemptions) is
read from its `EngineStats` when somebody looks. `exposition` turns both into the text that Prometheus reads.

Used from the event loop of the service alone: no locks.
"""

from __future__ import annotations

import bisect
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tercet.engine.async_engine import AsyncEngine
from tercet.engine.memory import resident_bytes
from tercet.engine.result import GenerationResult
from tercet.monitoring.catalogue import CATALOGUE, token_buckets
from tercet.monitoring.distribution import Distribution, class_of
from tercet.security.counts import SecurityCounts

__all__ = ["BusyTime", "Histogram", "ModelMetrics", "ServiceMetrics", "queue_used"]

Ending = Literal["stop", "length", "cancelled", "deadline", "error", "content_filter"]
_BUCKETS = {spec.name: spec.buckets for spec in CATALOGUE if spec.buckets is not None}
_OF_REQUESTS = [name for name in _BUCKETS if name.startswith("vllm:") and "iteration" not in name]


class Histogram:
    """Counts of values up to each bound, and their sum; beside them finer ones, for quantiles."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # the last: above all bounds
        self.sum = 0.0
        self._classes: dict[int, int] = {}

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self.counts[bisect.bisect_left(self.bounds, value)] += times
        self.sum += value * times
        number = class_of(value)
        self._classes[number] = self._classes.get(number, 0) + times

    def distribution(self) -> Distribution:
        """All values so far; any thread may ask."""
        classes = dict(self._classes)  # in one go, so nothing is added meanwhile
        return Distribution(sum(classes.values()), self.sum, classes)

    def cumulative(self) -> list[tuple[str, int]]:
        """(bound, how many values were at most that), the last bound being "+Inf"."""
        total, rows = 0, []
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            rows.append((bound, total))
        return rows


class BusyTime:
    """For how long at least one of several things was going on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._going_on = 0
        # How much before, and since when now: one object, so that another thread never sees half a change.
        self._state: tuple[float, float | None] = (0.0, None)

    def enter(self) -> None:
        """One begins."""
        self._going_on += 1
        if self._going_on == 1:
            self._state = self._state[0], self._clock()

    def leave(self) -> None:
        """One ends."""
        self._going_on -= 1
        if not self._going_on:
            self._state = self.seconds, None

    @property
    def seconds(self) -> float:
        """The time so far, also while something goes on; any thread may ask."""
        before, since = self._state
        return before if since is None else before + max(self._clock() - since, 0.0)


@dataclass
class ModelMetrics:
    """The requests of one model."""

    histograms: dict[str, Histogram]
    generating: BusyTime = field(default_factory=BusyTime)
    """Answers between their first piece and their end; the same for all models of a service."""
    requests: int = 0
    in_flight: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    """How requests ended that had begun: stop, length, cancelled, deadline, error, content_filter."""
    refused: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    generated_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    decoded_tokens: int = 0
    """Tokens after the first piece of each answer that was read, as they came."""
    decode_steps: int = 0
    """Tokens after the first of each answer: the first comes out of the prompt's own pass."""
    generation_seconds: float = 0.0
    """From arrival to end, of the requests that succeeded."""
    longest: int = 0
    cache_hits: int = 0
    cache_misses: int = 0

    @property
    def succeeded(self) -> int:
        """Requests that were answered."""
        return self.ended["stop"] + self.ended["length"]

    @property
    def failed(self) -> int:
        """Requests that were refused, or ended with an error, out of time or by a content filter."""
        ended = self.ended["deadline"] + self.ended["error"] + self.ended["content_filter"]
        return ended + self.refused.total()

    def was_refused(self, kind: str) -> None:
        """A request did not begin."""
        self.requests += 1
        self.refused[kind] += 1

    def began(self) -> None:
        """A request waits or runs."""
        self.requests += 1
        self.in_flight += 1

    def received(self, num_tokens: int, seconds: float, is_first: bool) -> None:
        """A piece came, so long after the one before it, or after the arrival of its request."""
        self.generated_tokens += num_tokens
        if not is_first:
            self.decoded_tokens += num_tokens
        elif num_tokens:
            self.generating.enter()
        name = "vllm:time_to_first_token_seconds" if is_first else "vllm:inter_token_latency_seconds"
        self.histograms[name].observe(seconds)

    def embedded(self, ending: Ending, num_tokens: int = 0) -> None:
        """A request for vectors ended."""
        self.requests += 1
        self.ended[ending] += 1
        self.prompt_tokens += num_tokens

    def finished(self, ending: Ending, result: GenerationResult, num_counted: int) -> None:
        """A request ended, `num_counted` of whose tokens have been counted as they came."""
        self.in_flight -= 1
        self.ended[ending] += 1
        if result.response_cached:  # nobody generated its tokens now
            return
        self.generated_tokens += result.generated_tokens - num_counted
        if num_counted:
            self.decoded_tokens += result.generated_tokens - num_counted
            self.generating.leave()
        self.longest = max(self.longest, result.prompt_tokens + result.generated_tokens)
        timings = result.metadata["timings"]
        prefill, decode = timings["prefill_seconds"], timings["decode_seconds"]
        if result.generated_tokens:
            self.prompt_tokens += result.prompt_tokens
            self.cached_prompt_tokens += result.cached_tokens
            self.prefill_seconds += prefill or 0.0
            self.decode_seconds += decode or 0.0
            self.decode_steps += result.generated_tokens - 1
        if ending in ("stop", "length"):
            self._observe_success(result, timings)

    def _observe_success(self, result: GenerationResult, timings: Mapping[str, float]) -> None:
        total, first = result.generation_time_seconds, result.time_to_first_token_seconds
        self.generation_seconds += total
        steps = result.generated_tokens - 1
        values = {
            "vllm:e2e_request_latency_seconds": total,
            "vllm:request_time_per_output_token_seconds": (total - first) / steps if steps > 0 else 0.0,
            "vllm:request_queue_time_seconds": timings["queue_seconds"],
            "vllm:request_prefill_time_seconds": timings["prefill_seconds"],
            "vllm:request_decode_time_seconds": timings["decode_seconds"],
            "vllm:request_inference_time_seconds": timings["prefill_seconds"] + timings["decode_seconds"],
            "vllm:request_prompt_tokens": result.prompt_tokens,
            "vllm:request_generation_tokens": result.generated_tokens,
        }
        for name, value in values.items():
            self.histograms[name].observe(value)


class CountedCache(Protocol):
    """What the metrics ask a cache of responses."""

    num_entries: int | None
    num_errors: int


class ServiceMetrics:
    """The counts of one service, model by model.

    Attributes:
        models: name -> its requests. A model that is unloaded keeps its counts.
        engines: name -> its engine, of the models that are loaded.
        generating: the time in which at least one answer was being generated.
        cache: what remembers responses, if anything does.
        security: what a server counts of who came and what was refused.

    Requests that name no model that there is are counted under the name "".
    """

    def __init__(self) -> None:
        self.generating = BusyTime()
        self.models: dict[str, ModelMetrics] = {"": _counts(1, self.generating)}
        self.engines: dict[str, AsyncEngine] = {}
        self.cache: CountedCache | None = None
        self.security: SecurityCounts | None = None
        self.http_responses: Counter[str] = Counter()
        self.unknown_fields = 0
        self.event_loop_lag = Histogram(_BUCKETS["tercet_event_loop_lag_seconds"])
        self.began_at = time.time()
        self._began = time.monotonic()

    def watch(self, name: str, engine: AsyncEngine, max_context: int) -> ModelMetrics:
        """Count for a model that is loaded now; one that is replaced goes on counting."""
        self.engines[name] = engine
        return self.models.setdefault(name, _counts(max_context, self.generating))

    def forget(self, name: str, engine: AsyncEngine) -> None:
        """A model is unloaded, unless another engine has its name already."""
        if self.engines.get(name) is engine:
            del self.engines[name]

    def observe_event_loop_lag(self, seconds: float) -> None:
        """Count how late the event loop woke."""
        self.event_loop_lag.observe(seconds)

    def count_unknown_fields(self, count: int = 1) -> None:
        """Count fields of requests that nobody knows."""
        self.unknown_fields += count

    def count_http(self, status: int) -> None:
        """Count a response; a status that HTTP does not know is "other"."""
        self.http_responses[str(status) if 100 <= status < 600 else "other"] += 1

    def render(self) -> tuple[bytes, str]:
        """The text that Prometheus reads, and its content type."""
        from tercet.monitoring import exposition

        return exposition.render(self)

    def samples(self) -> list[tuple[str, dict[str, str], float]]:
        """(name, labels, value) of everything that the text has."""
        from tercet.monitoring import exposition

        return exposition.samples(self)

    def summary(self) -> dict[str, float | int | None]:
        """The figures that people ask for first, over all models.

        `average_generation_time` in seconds and `average_tokens_per_second` are of requests that the model
        answered; `requests_per_second` counts all since the service began.
        """
        models = list(self.models.values())
        total, successful = sum(one.requests for one in models), sum(one.succeeded for one in models)
        failed = sum(one.failed for one in models)
        computed = sum(one.histograms["vllm:e2e_request_latency_seconds"].count for one in models)
        tokens = sum(one.histograms["vllm:request_generation_tokens"].sum for one in models)
        seconds = sum(one.generation_seconds for one in models)
        alive = time.monotonic() - self._began
        return {
            "total_requests": total,
            "successful_requests": successful,
            "failed_requests": failed,
            "cancelled_requests": sum(one.ended["cancelled"] for one in models),
            "requests_in_flight": sum(one.in_flight for one in models),
            "success_rate": successful / (successful + failed) if successful + failed else None,
            "average_generation_time": seconds / computed if computed else None,
            "requests_per_second": total / alive if alive > 0 else 0.0,
            "average_tokens_per_second": tokens / seconds if seconds > 0 else None,
            "total_tokens_generated": sum(one.generated_tokens for one in models),
            "cache_size": self.cache.num_entries if self.cache else 0,
            "cache_hits": sum(one.cache_hits for one in models),
            "cache_misses": sum(one.cache_misses for one in models),
            "resident_memory_bytes": resident_bytes(),
            "uptime_seconds": alive,
        }


def queue_used(engine: AsyncEngine) -> float:
    """How much of the queue of an engine is filled: by requests or by their tokens, whichever is more."""
    return max(
        engine.num_waiting / engine.max_queued_requests, engine.num_queued_tokens / engine.max_queued_tokens
    )


def _counts(max_context: int, generating: BusyTime) -> ModelMetrics:
    bounds = {name: _BUCKETS[name] or token_buckets(max_context) for name in _OF_REQUESTS}
    return ModelMetrics({name: Histogram(bound) for name, bound in bounds.items()}, generating)
