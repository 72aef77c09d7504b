"""Traces and metrics for collectors of OpenTelemetry, sent by OTLP over HTTP (the extra `otel`).

A request is a span, named as the conventions for generative models have it
(opentelemetry.io/docs/specs/semconv/gen-ai), in the trace of its caller if that named one
(`tercet.service.caller_trace`) or else in one of its own, with a child for each part of its time:

    chat llama-tercet-tiny          model, sampling parameters, tokens, how it ended; request id as in the log
        preparation                 template, tokens, grammar
        queue
        prefill                     reading the prompt
        decode                      an event `sampling`: tokens drawn, and the time that drawing took

No text of anybody is in it. What is sent waits in a bounded queue and goes out in a thread of its own: a
collector that is slow or gone costs nothing but what it misses, and one warning. Nothing of this is imported
unless an address is given.
"""

from __future__ import annotations

import logging
import time
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from tercet.engine.async_engine import TokenEvent
from tercet.environment import optional_import
from tercet.errors import ParameterError
from tercet.service.caller_trace import caller_trace
from tercet.service.generation import Generation
from tercet.service.observation import failure_kind
from tercet.service.request import GenerationRequest

__all__ = ["Telemetry"]

EXTRA = "otel"
PROVIDER = "tercet"
SEND_SECONDS = 3.0
LOG = logging.getLogger("tercet.telemetry")
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576)
PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)


class Telemetry:
    """Tells a collector of every request, as a `GenerationObserver`.

    Args:
        endpoint: the collector's address, `http://127.0.0.1:4318`, without the path.
        metrics_seconds: how often metrics are sent.
        delay_seconds: how long spans wait for others to be sent with them.

    Raises:
        ParameterError: the address is none.
        MissingExtraError: OpenTelemetry is not installed.
    """

    def __init__(self, endpoint: str, *, metrics_seconds: float = 60.0, delay_seconds: float = 5.0) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ParameterError(f"a collector's address is like http://127.0.0.1:4318, not {endpoint!r}")
        self._trace = optional_import("opentelemetry.trace", EXTRA)
        sdk = optional_import("opentelemetry.sdk.trace", EXTRA)
        sending = optional_import("opentelemetry.sdk.trace.export", EXTRA)
        spans = optional_import("opentelemetry.exporter.otlp.proto.http.trace_exporter", EXTRA)
        metering = optional_import("opentelemetry.sdk.metrics", EXTRA)
        reading = optional_import("opentelemetry.sdk.metrics.export", EXTRA)
        sums = optional_import("opentelemetry.exporter.otlp.proto.http.metric_exporter", EXTRA)
        resources = optional_import("opentelemetry.sdk.resources", EXTRA)
        self._headers = optional_import("opentelemetry.trace.propagation.tracecontext", EXTRA)
        self._parents: WeakKeyDictionary[Generation, Any] = WeakKeyDictionary()
        _hear_once()
        address = endpoint.rstrip("/")
        resource = resources.Resource.create({"service.name": PROVIDER, "service.version": version("tercet")})
        self._tracing = sdk.TracerProvider(resource=resource)
        self._tracing.add_span_processor(
            sending.BatchSpanProcessor(
                spans.OTLPSpanExporter(f"{address}/v1/traces", timeout=SEND_SECONDS),
                schedule_delay_millis=1000 * delay_seconds,
            )
        )
        reader = reading.PeriodicExportingMetricReader(
            sums.OTLPMetricExporter(f"{address}/v1/metrics", timeout=SEND_SECONDS),
            export_interval_millis=1000 * metrics_seconds,
            export_timeout_millis=1000 * SEND_SECONDS,
        )
        self._metering = metering.MeterProvider([reader], resource=resource)
        self._tracer = self._tracing.get_tracer("tercet")
        meter = self._metering.get_meter("tercet")
        self._duration, self._first, self._per_token, self._tokens = (
            meter.create_histogram(
                name, unit=unit, description=words, explicit_bucket_boundaries_advisory=limits
            )
            for name, unit, words, limits in (
                ("gen_ai.server.request.duration", "s", "From arrival to end", SECONDS),
                ("gen_ai.server.time_to_first_token", "s", "From arrival to the first token", SECONDS),
                ("gen_ai.server.time_per_output_token", "s", "Of the tokens after the first", PER_TOKEN),
                ("gen_ai.client.token.usage", "{token}", "Tokens of prompts and answers", TOKENS),
            )
        )

    def settled(self, generation: Generation) -> None:
        """Tell of a request that has ended."""
        result, end = generation.summary, time.time_ns()
        begin = end - _nanoseconds(result.generation_time_seconds)
        about = _about(generation.model, generation.request)
        if generation.error is not None:
            about["error.type"] = type(generation.error).__name__
        name = f"{about['gen_ai.operation.name']} {generation.model}"
        span = self._tracer.start_span(
            name,
            self._parents.pop(generation, None),
            kind=self._trace.SpanKind.SERVER,
            start_time=begin,
            attributes={
                **about,
                **_asked(generation.request),
                "gen_ai.response.model": generation.model,
                "gen_ai.response.id": generation.request.id,
                "gen_ai.response.finish_reasons": [generation.outcome or "cancelled"],
                "gen_ai.usage.input_tokens": result.prompt_tokens,
                "gen_ai.usage.output_tokens": result.generated_tokens,
                "gen_ai.usage.cache_read.input_tokens": result.cached_tokens,
                "tercet.response_cached": result.response_cached,
            },
        )
        if generation.error is not None:
            span.set_status(self._trace.StatusCode.ERROR)
        self._parts(span, begin, result.metadata, result.generated_tokens)
        span.end(end)
        self._measure(generation, about)

    def refused(self, model: str, request: GenerationRequest, error: Exception) -> None:
        """Tell of a request that did not begin."""
        about = {**_about(model, request), "error.type": failure_kind(error)}
        name = f"{about['gen_ai.operation.name']} {model}".strip()
        attributes = {**about, **_asked(request), "gen_ai.response.id": request.id}
        span = self._tracer.start_span(
            name, self._parent(), kind=self._trace.SpanKind.SERVER, attributes=attributes
        )
        span.set_status(self._trace.StatusCode.ERROR)
        span.end()
        self._duration.record(0.0, about)

    def submitted(self, generation: Generation) -> None:
        """Keep whose trace it is in; the span is made at its end, when all of it is known."""
        if (parent := self._parent()) is not None:
            self._parents[generation] = parent

    def received(self, generation: Generation, event: TokenEvent, seconds: float) -> None:
        """Pieces are not told of."""

    def embedded(self, model: str, num_tokens: int, error: BaseException | None) -> None:
        """Tell how many tokens became vectors."""
        about = {
            "gen_ai.operation.name": "embeddings",
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": model,
        }
        if error is None:
            self._tokens.record(num_tokens, {**about, "gen_ai.token.type": "input"})

    def close(self) -> None:
        """Send what waits, and no more; takes a few seconds where nobody answers."""
        self._tracing.shutdown()
        self._metering.shutdown()

    def _parent(self) -> Any:
        """The caller's span, of another program; None if it named none. Headers that say nothing are none."""
        headers = caller_trace()
        return headers and self._headers.TraceContextTextMapPropagator().extract(headers)

    def _parts(self, span: Any, begin: int, metadata: Any, tokens: int) -> None:
        """The children: one for each part of the time that is known."""
        context = self._trace.set_span_in_context(span)
        at = begin
        for name, seconds in metadata.get("timings", {}).items():
            if seconds is None:
                continue
            part = name.removesuffix("_seconds")
            child = self._tracer.start_span(part, context, start_time=at)
            at += _nanoseconds(seconds)
            if part == "decode" and "draw_seconds" in metadata:
                drawn = {"tercet.tokens": tokens, "tercet.sampling.seconds": metadata["draw_seconds"]}
                child.add_event("sampling", drawn, at)
            child.end(at)

    def _measure(self, generation: Generation, about: dict[str, Any]) -> None:
        result = generation.summary
        self._duration.record(result.generation_time_seconds, about)
        for kind, count in (("input", result.prompt_tokens), ("output", result.generated_tokens)):
            self._tokens.record(count, {**about, "gen_ai.token.type": kind})
        if result.generated_tokens and not result.response_cached:
            self._first.record(result.time_to_first_token_seconds, about)
        if result.generated_tokens > 1 and not result.response_cached:
            decoding = result.generation_time_seconds - result.time_to_first_token_seconds
            self._per_token.record(decoding / (result.generated_tokens - 1), about)


def _nanoseconds(seconds: float) -> int:
    return round(1e9 * seconds)


def _about(model: str, request: GenerationRequest) -> dict[str, Any]:
    """What every span and figure of a request has: few values, none of them a client's own."""
    return {
        "gen_ai.operation.name": "text_completion" if request.messages is None else "chat",
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": model,
    }


def _asked(request: GenerationRequest) -> dict[str, Any]:
    """The sampling parameters that stand in the request."""
    params = request.params
    found = {
        "gen_ai.request.temperature": params.temperature,
        "gen_ai.request.top_p": params.top_p,
        "gen_ai.request.top_k": params.top_k,
        "gen_ai.request.max_tokens": params.max_tokens,
        "gen_ai.request.seed": params.seed,
        "gen_ai.request.stream": request.stream,
    }
    return {name: value for name, value in found.items() if value is not None}


def _hear_once() -> None:
    """OpenTelemetry logs every failure to send: ours has the first, with its kind alone."""
    theirs = logging.getLogger("opentelemetry")
    if not any(isinstance(one, _Once) for one in theirs.handlers):
        theirs.addHandler(_Once())
        theirs.propagate = False


class _Once(logging.Handler):
    """One warning for all."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._told = False

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of the first failure."""
        if not self._told:
            self._told = True
            LOG.warning(
                "the collector of telemetry does not take it", extra={"words": record.getMessage()[:200]}
            )
