"""Telemetry, heard by a collector in this process that reads OTLP over HTTP as collectors do."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="the package opentelemetry is not installed"
)

from otlp_collector import Collector, values
from tercet.errors import ModelNotFoundError, ParameterError
from tercet.sampling.params import SamplingParams
from tercet.service.caller_trace import traced_by
from tercet.service.request import GenerationRequest
from tercet.service.service import Service
from tercet.service.telemetry import Telemetry

SECRET = "The dog has a secret"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


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
        by_id.setdefault(values(span.attributes).get("gen_ai.response.id"), []).append(span)
    (whole,) = by_id["req-1"]
    assert whole.name == "text_completion llama-tercet-tiny"
    told = values(whole.attributes)
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
    drawn = values(sampling.attributes)
    assert drawn["tercet.tokens"] == 12
    assert 0 < drawn["tercet.sampling.seconds"] < seconds
    (refused,) = by_id["req-2"]
    assert values(refused.attributes)["error.type"] == "model_not_found"
    assert refused.status.code == 2
    (given_up,) = by_id["req-3"]
    assert values(given_up.attributes)["gen_ai.response.finish_reasons"] == ["cancelled"]
    assert SECRET not in str(collector.heard)

    duration = collector.metrics["gen_ai.server.request.duration"].histogram.data_points
    assert sum(point.count for point in duration) == 3
    (first,) = collector.metrics["gen_ai.server.time_to_first_token"].histogram.data_points
    assert first.sum == pytest.approx(result.time_to_first_token_seconds)
    (each,) = collector.metrics["gen_ai.server.time_per_output_token"].histogram.data_points
    decoding = result.generation_time_seconds - result.time_to_first_token_seconds
    assert each.sum == pytest.approx(decoding / 11)
    tokens = collector.metrics["gen_ai.client.token.usage"].histogram.data_points
    sums = {values(point.attributes)["gen_ai.token.type"]: point.sum for point in tokens}
    assert sums["output"] == 12


TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("traceparent", "joins", "sent"),
    [
        (f"00-{TRACE}-{CALLER}-01", True, 3),
        (f"00-{TRACE}-{CALLER}-00", True, 0),  # the caller does not want this trace recorded
        (f"00-{'0' * 32}-{CALLER}-01", False, 3),
        ("whatever", False, 3),
    ],
    ids=["sampled", "not sampled", "no trace id", "nonsense"],
)
def test_a_span_joins_the_trace_of_its_caller(
    collector: Collector, traceparent: str, joins: bool, sent: int
) -> None:
    async def ask() -> None:
        with traced_by({"traceparent": traceparent, "tracestate": "vendor=1", "cookie": SECRET}):
            await _ask(telemetry)

    telemetry = Telemetry(collector.url)
    asyncio.run(ask())
    telemetry.close()
    whole = [span for span in collector.spans if "gen_ai.response.id" in values(span.attributes)]
    assert len(whole) == sent
    for span in whole:
        assert (span.trace_id.hex() == TRACE) is joins
        assert (span.parent_span_id.hex() == CALLER) is joins
        assert span.trace_state == ("vendor=1" if joins else "")
    counted = collector.metrics["gen_ai.server.request.duration"].histogram.data_points
    assert sum(point.count for point in counted) == 3  # whoever samples traces, figures are whole


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
