"""Telemetry, heard by a collector in this process that reads OTLP over HTTP as collectors do."""

from __future__ import annotations

import asyncio
import http.server
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="the package opentelemetry is not installed"
)

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tercet.errors import ModelNotFoundError, ParameterError
from tercet.sampling.params import SamplingParams
from tercet.service.request import GenerationRequest
from tercet.service.service import Service
from tercet.service.telemetry import Telemetry

MESSAGES = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}
SECRET = "The dog has a secret"


class Collector:
    """What has come, by path."""

    def __init__(self) -> None:
        self.heard: dict[str, list[Any]] = {path: [] for path in MESSAGES}
        heard = self.heard

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                heard[self.path].append(MESSAGES[self.path].FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *words: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for message in self.heard["/v1/traces"]
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def metrics(self) -> dict[str, Any]:
        return {
            metric.name: metric
            for message in self.heard["/v1/metrics"]
            for resource in message.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


def _values(attributes: Any) -> dict[str, Any]:
    found = {}
    for one in attributes:
        kind = one.value.WhichOneof("value")
        value = getattr(one.value, kind)
        found[one.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return found


async def _ask(telemetry: Telemetry) -> tuple[Any, Any]:
    async with Service() as service:
        service.observe(telemetry)
        params = SamplingParams(max_tokens=12, ignore_eos=True, temperature=0.5, seed=3)
        asked = await service.submit(GenerationRequest(id="req-1", prompt=SECRET, params=params))
        result = await asked.result()
        with pytest.raises(ModelNotFoundError):
            await service.submit(GenerationRequest(id="req-2", prompt=SECRET, model="none"))
        given_up = await service.submit(GenerationRequest(id="req-3", prompt=SECRET, params=params))
        await given_up.cancel()
        return result, given_up


def test_a_request_is_a_span_with_its_parts_and_counted(collector: Collector) -> None:
    telemetry = Telemetry(collector.url)
    result, _ = asyncio.run(_ask(telemetry))
    telemetry.close()
    by_id = {}
    for span in collector.spans:
        by_id.setdefault(_values(span.attributes).get("gen_ai.response.id"), []).append(span)
    (whole,) = by_id["req-1"]
    assert whole.name == "text_completion llama-tercet-tiny"
    told = _values(whole.attributes)
    assert told["gen_ai.usage.output_tokens"] == result.generated_tokens == 12
    assert told["gen_ai.usage.input_tokens"] == result.prompt_tokens
    assert told["gen_ai.request.temperature"] == 0.5
    assert told["gen_ai.response.finish_reasons"] == ["length"]
    seconds = (whole.end_time_unix_nano - whole.start_time_unix_nano) / 1e9
    assert seconds == pytest.approx(result.generation_time_seconds)
    parts = {span.name: span for span in by_id[None] if span.parent_span_id == whole.span_id}
    assert list(parts) == ["preparation", "queue", "prefill", "decode"]
    assert parts["preparation"].start_time_unix_nano == whole.start_time_unix_nano
    assert parts["decode"].end_time_unix_nano == pytest.approx(whole.end_time_unix_nano, abs=1e6)
    for name, span in parts.items():
        spent = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
        assert spent == pytest.approx(result.metadata["timings"][f"{name}_seconds"], abs=1e-8)
        assert span.trace_id == whole.trace_id
    (sampling,) = parts["decode"].events
    drawn = _values(sampling.attributes)
    assert drawn["tercet.tokens"] == 12
    assert 0 < drawn["tercet.sampling.seconds"] < seconds
    (refused,) = by_id["req-2"]
    assert _values(refused.attributes)["error.type"] == "model_not_found"
    assert refused.status.code == 2
    (given_up,) = by_id["req-3"]
    assert _values(given_up.attributes)["gen_ai.response.finish_reasons"] == ["cancelled"]
    assert SECRET not in str(collector.heard)

    duration = collector.metrics["gen_ai.server.request.duration"].histogram.data_points
    assert sum(point.count for point in duration) == 3
    (first,) = collector.metrics["gen_ai.server.time_to_first_token"].histogram.data_points
    assert first.sum == pytest.approx(result.time_to_first_token_seconds)
    (each,) = collector.metrics["gen_ai.server.time_per_output_token"].histogram.data_points
    decoding = result.generation_time_seconds - result.time_to_first_token_seconds
    assert each.sum == pytest.approx(decoding / 11)
    tokens = collector.metrics["gen_ai.client.token.usage"].histogram.data_points
    sums = {_values(point.attributes)["gen_ai.token.type"]: point.sum for point in tokens}
    assert sums["output"] == 12


def test_a_collector_that_is_gone_is_one_warning_and_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    for handler in list(logging.getLogger("opentelemetry").handlers):
        logging.getLogger("opentelemetry").removeHandler(handler)
    with caplog.at_level(logging.WARNING, "tercet.telemetry"):
        telemetry = Telemetry("http://127.0.0.1:9")
        result, _ = asyncio.run(_ask(telemetry))
        telemetry.close()
    assert result.generated_tokens == 12
    told = [one.message for one in caplog.records if one.name == "tercet.telemetry"]
    assert told == ["the collector of telemetry does not take it"]


def test_an_address_is_checked() -> None:
    with pytest.raises(ParameterError, match="a collector's address"):
        Telemetry("127.0.0.1:4318")


def test_nothing_is_imported_where_nobody_listens() -> None:
    program = (
        "import sys, tercet.server.app, tercet.server.observation\n"
        "sys.exit(any(name.startswith('opentelemetry.sdk') or name.endswith('service.telemetry') "
        "for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0
