"""A trace that begins in the caller's program goes on in `tercet serve`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="the package opentelemetry is not installed"
)

from otlp_collector import Collector, values
from served import Server

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_servers_spans_are_part_of_the_callers_trace(serve: Callable[..., Server], stream: bool) -> None:
    collector = Collector()
    try:
        server = serve("--otlp-endpoint", collector.url)
        asked = {"prompt": "Once upon a time", "max_tokens": 4, "stream": stream}
        with server.client() as client:
            answer = client.post(
                "/v1/completions", json=asked, headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
            )
            assert answer.status_code == 200, answer.text
            assert client.post("/v1/completions", json=asked).status_code == 200
        server.stop()
    finally:
        collector.close()
    requests = [span for span in collector.spans if "gen_ai.response.id" in values(span.attributes)]
    joined, alone = sorted(requests, key=lambda span: span.start_time_unix_nano)
    assert (joined.trace_id.hex(), joined.parent_span_id.hex()) == (TRACE, "00f067aa0ba902b7")
    assert alone.trace_id.hex() != TRACE
    assert not alone.parent_span_id
    parts = {span.name for span in collector.spans if span.parent_span_id == joined.span_id}
    assert parts == {"preparation", "queue", "prefill", "decode"}
