"""The dashboard of the web page: its figures are those of `/metrics`, and it says so when there are none."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from browser import Visitor
from served import Server, wait_until

pytestmark = pytest.mark.timeout(120)

Visit = Callable[..., Visitor]


def metrics(server: Server) -> dict[str, float]:
    """`/metrics`, summed over labels."""
    with server.client() as client:
        text = client.get("/metrics").text
    sums: dict[str, float] = {}
    for line in text.splitlines():
        if match := re.fullmatch(r"([\w:]+)(?:\{.*\})? (\S+)", line):
            sums[match[1]] = sums.get(match[1], 0.0) + float(match[2])
    return sums


def shown(visitor: Visitor) -> dict[str, str]:
    """The figures as the page got them."""
    return visitor.page.evaluate(
        """Object.fromEntries([...document.querySelectorAll(".figure")]
           .map(({dataset}) => [dataset.figure, dataset.value]))"""
    )


def chat(server: Server, times: int = 1, **fields: Any) -> set[int]:
    """Ask the same several times, and tell with what statuses the server answered."""
    messages = [{"role": "user", "content": "Once upon a time there was a little dog"}]
    body = {"messages": messages, "max_tokens": 40, **fields}
    with server.client() as client:
        return {client.post("/v1/chat/completions", json=body).status_code for _ in range(times)}


def test_the_figures_are_those_of_the_metrics(visit: Visit, serving: Server) -> None:
    assert chat(serving, times=4) == {200}
    assert chat(serving, temperature=-1) == {400}
    visitor = visit()
    page = visitor.page
    page.route("**/dashboard/day.json", lambda route: route.fulfill(json=None))  # other tests' alerts
    page.click("#tab-dashboard")
    page.wait_for_selector(".chart canvas")
    visitor.until("document.querySelector('[data-figure=first_token]')?.dataset.value > 0")
    visitor.picture("dashboard-light")
    found, wanted = shown(visitor), metrics(serving)
    first = wanted["vllm:time_to_first_token_seconds_sum"] / wanted["vllm:time_to_first_token_seconds_count"]
    assert float(found["first_token"]) == pytest.approx(first)
    for figure, metric in {
        "requests": "tercet_requests_total",
        "requests_running": "vllm:num_requests_running",
        "requests_waiting": "vllm:num_requests_waiting",
        "kv_cache_used": "vllm:kv_cache_usage_perc",
    }.items():
        assert float(found[figure]) == wanted[metric], figure
    hits = wanted["vllm:prefix_cache_hits_total"] / wanted["vllm:prefix_cache_queries_total"]
    assert float(found["prefix_cache"]) == pytest.approx(hits)
    memory = wanted["process_resident_memory_bytes"]
    assert float(found["resident_memory_bytes"]) == pytest.approx(memory, rel=0.05)
    written = f"{wanted['vllm:generation_tokens_total']:,.0f} in all"
    assert written in page.inner_text("[data-figure=written_per_second]")
    read = f"{wanted['vllm:prompt_tokens_total']:,.0f} in all"
    assert read in page.inner_text("[data-figure=read_per_second]")
    assert page.inner_text("#alerts").split("\n") == ["All is well.", "No alert is active."]
    assert page.inner_text("#health-text") == "ready"
    assert "llama-tercet-tiny\t512 tokens of context" in page.inner_text("#tables")

    assert chat(serving, times=10) == {200}
    total = metrics(serving)["tercet_requests_total"]
    visitor.until(f"document.querySelector('[data-figure=requests]').dataset.value == {total}")
    visitor.until(
        "document.querySelector('.chart [role=img]').ariaLabel.includes('last ten minutes: writing now')"
    )
    peak = page.evaluate(
        """() => {
          const canvas = document.querySelector(".chart canvas");
          const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          return new Set(pixels).size;
        }"""
    )
    assert peak > 10, "nothing is drawn"

    page.click("#pause")
    assert page.get_attribute("#pause", "aria-pressed") == "true"
    before = shown(visitor)
    assert chat(serving) == {200}
    page.wait_for_timeout(1200)
    assert shown(visitor) == before
    page.click("#pause")
    visitor.until(f"document.querySelector('[data-figure=requests]').dataset.value == {total + 1}")

    page.route("**/dashboard.json", lambda route: route.abort())
    visitor.until("document.querySelector('#health').dataset.state === 'failed'")
    assert page.inner_text("#health-text") == "not reachable"
    assert "The server cannot be reached" in page.inner_text("#alerts")
    visitor.picture("dashboard-unreachable")


def test_alerts_and_quiet_moments_are_shown(visit: Visit) -> None:
    visitor = visit(color_scheme="dark")
    page = visitor.page
    figures = page.request.get("/dashboard.json").json()
    figures["alerts"] = [{"severity": "warning", "title": "Queue nearly full", "message": "<b>9 of 10</b>"}]
    for histogram in figures["histograms"].values():
        histogram.update(count=0, sum=0, buckets=[[limit, 0] for limit, _ in histogram["buckets"]])
    page.route("**/dashboard.json", lambda route: route.fulfill(json=figures))
    page.click("#tab-dashboard")
    visitor.until("document.querySelector('#alerts .warning') !== null")
    visitor.picture("dashboard-dark")
    assert page.inner_text("#alerts .warning").split("\n") == ["Queue nearly full", "<b>9 of 10</b>"]
    assert page.inner_text("#health-text") == "Queue nearly full"
    assert shown(visitor)["first_token"] == ""
    assert "nothing yet" in page.inner_text("[data-figure=first_token]")
    figures["problem"] = "the model is loading"
    visitor.until("document.querySelector('#health-text').innerText === 'the model is loading'")


def test_the_last_day_is_shown_out_of_the_history(visit: Visit, serve: Callable[..., Server]) -> None:
    server = serve()  # of its own: only the slowest requests of a server are told of
    assert chat(server, times=2) == {200}
    with server.client(headers={"X-Request-Id": "slow-one"}) as client:
        body = {"prompt": "Once upon a time", "max_tokens": 120, "ignore_eos": True}
        assert client.post("/v1/completions", json=body).status_code == 200
    visitor = visit(server=server)
    page = visitor.page

    def asked() -> dict[str, Any]:
        return dict(page.request.get("/dashboard/day.json").json())

    def of_ours(day: dict[str, Any]) -> list[dict[str, Any]]:
        return [one for one in day["slow_requests"] if one["request_id"] == "slow-one"]

    wait_until(lambda: bool(of_ours(asked())), 10)  # an answer reaches its client before it is told of
    told = asked()
    (ours,) = of_ours(told)
    assert ours["generated_tokens"] == 120
    parts = ("preparation_seconds", "queue_seconds", "prefill_seconds", "decode_seconds")
    assert 0 < sum(ours[name] for name in parts) <= ours["seconds"] * 1.05 + 0.05
    assert "127.0.0.1" not in str(told)
    assert len(ours["client"]) >= 8

    point = dict.fromkeys(told["points"][0] if told["points"] else (), 1.0)
    point |= {"requests": 4, "failed": 1, "latency_p95_seconds": 2.5, "resident_memory_bytes": 2**28}
    told["points"] = [{**point, "time": told["time"] - 300 * back} for back in range(12, 0, -1)]
    event = {
        "severity": "critical",
        "rule": "reliability",
        "message": "<i>31 %</i> fail",
        "time": told["time"],
    }
    told["alerts"] = {"active": [event], "recent": [{**event, "rule": "latency", "seconds": 90}]}
    told["slow_requests"] = [{**ours, "request_id": f"r-{n}", "seconds": 9.0 - n} for n in range(3)]
    page.route("**/dashboard/day.json", lambda route: route.fulfill(json=told))
    page.click("#tab-dashboard")
    page.wait_for_selector("#day-charts canvas")
    visitor.until("document.querySelectorAll('#slow details').length === 3")
    visitor.until("document.querySelector('#day-charts [role=img]').ariaLabel.includes('last 24 hours')")
    assert "arrived now 4, at most 4; failed now 1" in str(
        page.evaluate("[...document.querySelectorAll('#day-charts [role=img]')].map((one) => one.ariaLabel)")
    )
    assert page.inner_text("#slow details summary >> nth=0").startswith("9 s at ")
    page.click("#slow details summary >> nth=0")
    assert ours["client"] in page.inner_text("#slow details >> nth=0")
    visitor.until("document.querySelector('#alerts .critical') !== null")
    assert page.inner_text("#alerts .critical").split("\n") == ["Alert: reliability", "<i>31 %</i> fail"]
    assert "latency, until" in page.inner_text("#recent-alerts")
    assert "not measured" in page.inner_text("#energy") or "J" in page.inner_text("#energy")
    visitor.picture("dashboard-day")
