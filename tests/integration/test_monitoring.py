"""A scripted load: `/metrics`, every window, the summary and the exports say what the client counted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from program import tercet
from served import Server
from tercet.errors import FormatError, StorageError
from tercet.monitoring.history import read_history
from tercet.monitoring.spans import merged
from tercet.monitoring.summary import summarize

LONG = 4000
"""Tokens of an answer that takes so long that HTTP is little of it."""


@dataclass
class Count:
    """What the client saw."""

    requests: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    seconds: list[float] = field(default_factory=list)
    """Of the answers that the model made."""

    def answered(self, usage: dict[str, Any], cached: bool, seconds: float) -> None:
        self.requests += 1
        self.succeeded += 1
        self.cache_hits += cached
        self.cache_misses += not cached
        if not cached:
            self.prompt_tokens += usage["prompt_tokens"]
            self.generated_tokens += usage["completion_tokens"]
            self.seconds.append(seconds)


def body(prompt: str, max_tokens: int, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, **more}


def load(client: httpx.Client) -> Count:
    """The script: short answers, the same again, streams, what must fail, and long answers one at a time."""
    count = Count()

    def ask(prompt: str, max_tokens: int, cached: bool = False, **more: Any) -> None:
        begin = time.perf_counter()
        answer = client.post("/v1/completions", json=body(prompt, max_tokens, **more))
        seconds = time.perf_counter() - begin
        assert answer.status_code == 200
        count.answered(answer.json()["usage"], cached, seconds)

    for number in range(6):
        for cached in (False, True, True):
            ask(f"Tale {number}:", 5 + number, cached)

    def stream(number: int) -> tuple[dict[str, Any], float]:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        begin = time.perf_counter()
        with client.stream(
            "POST", "/v1/completions", json=body(f"In parallel {number}", 20 + number, **options)
        ) as answer:
            lines = [line for line in answer.iter_lines() if line.startswith("data: {")]
        return dict(json.loads(lines[-1].removeprefix("data: "))["usage"]), time.perf_counter() - begin

    with ThreadPoolExecutor(4) as pool:
        for usage, seconds in pool.map(stream, range(8)):
            count.answered(usage, False, seconds)
    wrongs = ({"model": "nobody"}, 404), ({"prompt": "word " * 20_000}, 400), ({"max_tokens": "many"}, 400)
    for wrong, status in wrongs:
        for _ in range(3):
            assert client.post("/v1/completions", json=body("A tale", 5) | wrong).status_code == status
            count.requests += 1
            count.failed += 1
    for number in range(5):
        ask(f"Long {number}", LONG, ignore_eos=True)
    return count


def give_up(client: httpx.Client) -> None:
    """Read the beginning of a long answer and go."""
    with client.stream("POST", "/v1/completions", json=body("Too long", LONG, stream=True)) as answer:
        next(answer.iter_lines())


def counted(client: httpx.Client) -> dict[str, float]:
    """Metric -> the sum over its labels."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0) + sample.value
    return sums


def agrees(totals: dict[str, Any], count: Count) -> bool:
    names = ("requests", "succeeded", "failed", "cancelled", "cache_hits", "cache_misses")
    return all(totals[name] == getattr(count, name) for name in names)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


def test_everything_agrees_with_the_client(
    serve: Callable[..., Server], slow_model: Path, history: Path, tmp_path: Path
) -> None:
    options = ("--context", "8192", "--response-cache", "memory")
    server = serve(slow_model, "--sample-every", "0.4", "--history", history, *options)
    with server.client() as client:
        count = load(client)
        metrics = counted(client)
        assert metrics["tercet_requests_total"] == count.requests
        assert metrics["tercet_requests_succeeded_total"] == count.succeeded
        assert metrics["tercet_requests_failed_total"] == count.failed
        assert metrics["tercet_response_cache_hits_total"] == count.cache_hits
        assert metrics["tercet_response_cache_misses_total"] == count.cache_misses
        assert metrics["vllm:prompt_tokens_total"] == count.prompt_tokens
        assert metrics["vllm:generation_tokens_total"] == count.generated_tokens
        for _ in range(3):
            give_up(client)
            count.requests += 1
            count.cancelled += 1
            count.cache_misses += 1  # a greedy request is looked for
        end = time.monotonic() + 30
        while counted(client)["tercet_requests_cancelled_total"] < 3 and time.monotonic() < end:
            time.sleep(0.05)
        # Whatever of the answers that were given up had been made counts, too.
        metrics = counted(client)
        tokens = metrics["vllm:generation_tokens_total"]
        count.prompt_tokens = int(metrics["vllm:prompt_tokens_total"])
    server.stop()

    spans, _ = read_history(history, 0)
    assert len(spans) > 3
    windows = [one.snapshot for one in spans]
    for name in ("requests", "succeeded", "failed", "cancelled", "cache_hits", "cache_misses"):
        assert sum(getattr(one, name) for one in windows) == getattr(count, name), name
    assert sum(one.generated_tokens for one in windows) == tokens
    assert sum(one.prompt_tokens or 0 for one in windows) == count.prompt_tokens
    # What is sampled at any moment is real: requests ran, the cache of keys and values was in use.
    assert max(one.active_requests or 0 for one in windows) >= 1
    assert max(one.kv_cache_used or 0 for one in windows) > 0
    assert max(one.process_cpu_percent or 0 for one in windows) > 1
    assert any(one.engine_tick_age_seconds is not None for one in windows)
    assert all(one.resident_memory_bytes for one in windows)

    summary = summarize(spans, 1)
    assert agrees(summary["totals"], count)
    assert summary["totals"]["generated_tokens"] == tokens
    assert summary["rates"]["success_rate"] == count.succeeded / (count.succeeded + count.failed)
    assert summary["rates"]["cache_hit_rate"] == count.cache_hits / (count.cache_hits + count.cache_misses)
    # The five longest answers, each beside its own; what HTTP adds to short ones is more than 5 % of them.
    latency, exact = merged(spans).snapshot.latency, sorted(count.seconds)
    assert latency.count == len(exact)
    for rank in range(len(exact) - 4, len(exact) + 1):
        assert latency.quantile(rank / len(exact)) == pytest.approx(exact[rank - 1], rel=0.05)
    times = summary["times"]
    assert times["latency_p99_seconds"] == pytest.approx(exact[-1], rel=0.05)
    assert times["latency_average_seconds"] == pytest.approx(latency.total / len(exact))
    assert latency.total <= sum(exact)  # what the server sees lies within what the client sees
    shown = tercet("monitor", "summary", "--history", history, "--hours", "1", "--json").data
    assert shown["totals"] == summary["totals"]
    assert shown["times"] == summary["times"]

    tercet("monitor", "export", tmp_path / "export.json", "--history", history)
    exported = json.loads((tmp_path / "export.json").read_text())
    assert agrees(exported["request_totals"], count)
    assert exported["summary"]["totals"] == summary["totals"]
    assert sum(one["generated_tokens"] for one in exported["snapshots"]) == tokens


def test_a_damaged_file_and_a_kill_cost_nothing_that_was_stored(
    serve: Callable[..., Server], history: Path
) -> None:
    history.write_bytes(b"not a database at all, and long enough to be looked at" * 100)
    server = serve("--sample-every", "0.2", "--history", history)
    with server.client() as client:
        for _ in range(4):
            assert client.post("/v1/completions", json=body("Once", 5)).status_code == 200
        end = time.monotonic() + 30
        while sum(stored_requests(history)) < 4 and time.monotonic() < end:
            time.sleep(0.05)
    server.process.kill()
    server.wait(-9)
    assert server.log.count('"level": "warning"') == 1
    assert "history file was damaged; a new one is begun" in server.log
    assert sum(stored_requests(history)) == 4
    again = serve("--sample-every", "0.2", "--history", history)
    with again.client() as client:
        client.post("/v1/completions", json=body("Once", 5))
    again.stop()
    assert sum(stored_requests(history)) == 5


def stored_requests(history: Path) -> list[int]:
    """Requests of each window; none while the file is not there or damaged."""
    try:
        return [one.snapshot.requests for one in read_history(history, 0)[0]]
    except (FormatError, StorageError):
        return []


def test_commands_show_and_say_what_is_missing(history: Path, tmp_path: Path) -> None:
    from tercet import Monitor

    missing = tercet("monitor", "summary", "--history", tmp_path / "none")
    assert missing.status == 2
    assert "there is no history at" in missing.err
    with Monitor(history=history) as monitor:
        monitor.record_request(True, 0.5, 10)
    shown = tercet("monitor", "summary", "--history", history).out
    assert "whole answer" in shown
    assert "not measured" in shown or "J a token" in shown
    assert "tokens a second" in tercet("monitor", "watch", "--once", "--history", history).out
    denied = tercet("monitor", "export", tmp_path / "no" / "x.csv", "--history", history)
    assert denied.status == 2
    assert "does not exist" in denied.err
    tercet("monitor", "export", tmp_path / "x.csv", "--history", history)
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 2
