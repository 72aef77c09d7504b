"""Health, metrics, models and the life of the process: loading, serving, draining, ending."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from openai.types import Model

from served import Server

COMPLETION = {"model": "llama-tercet-tiny", "prompt": "Once upon a time", "temperature": 0}


def test_a_server_that_runs_is_healthy_and_says_what_it_is(serving: Server) -> None:
    with serving.client() as client:
        for path in ("/livez", "/readyz", "/health", "/v1/health"):
            assert client.get(path).json() == {"status": "ok"}
            assert client.head(path).status_code == 200
        assert client.get("/version").json() == {"version": version("tercet")}
        details = client.get("/health/details").json()
    assert details["status"] == "healthy"
    assert details["model_loaded"] is details["tokenizer_loaded"] is True
    assert 0 < details["response_time_ms"] < 5000
    assert details["metrics"]["resident_memory_bytes"] > 2**20
    wanted = {"total_requests", "successful_requests", "failed_requests", "success_rate", "cache_size"}
    wanted |= {"average_generation_time", "requests_per_second", "average_tokens_per_second"}
    assert wanted | {"total_tokens_generated"} <= set(details["metrics"])
    assert {"cache_enabled", "max_concurrent_requests", "quantization"} <= set(details)


def test_models_are_openais_with_llama_cpps_fields(serving: Server) -> None:
    with serving.client() as client:
        listed = client.get("/v1/models").json()
        assert listed["object"] == "list"
        (entry,) = listed["data"]
        Model.model_validate(entry)
        assert entry["id"] == "llama-tercet-tiny"
        assert entry["meta"]["n_ctx"] == entry["max_model_len"]
        assert entry["meta"]["n_params"] > 10**6
        assert entry["meta"]["size"] > 10**5
        assert client.get(f"/v1/models/{entry['id']}").json() == entry
        missing = client.get("/v1/models/org/none")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"
    assert missing.json()["error"]["param"] == "model"


def test_metrics_are_what_prometheus_reads(serving: Server) -> None:
    with serving.client() as client:
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    for line in answer.text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) \S+ .*|[a-zA-Z_:][\w:]*(\{.*\})? \S+( \d+)?", line), line
    for name in ("tercet_http_responses_total", "tercet_event_loop_lag_seconds_bucket", "vllm:num_requests"):
        assert name in answer.text


def test_the_port_is_open_while_the_model_loads(serve: Callable[..., Server]) -> None:
    slow = "import tercet.llm as m, time; i = m.LLM.__init__; "
    slow += "m.LLM.__init__ = lambda *a, **k: (time.sleep(2), i(*a, **k))[1]"
    server = serve(first=slow, wait=False)
    with server.client() as client:
        assert client.get("/livez").status_code == 200
        for path in ("/readyz", "/health", "/v1/models"):
            loading = client.get(path)
            assert loading.status_code == 503
            assert int(loading.headers["retry-after"]) >= 1
            assert "loading" in loading.json()["error"]["message"]
        asked = client.post("/v1/completions", json=COMPLETION)
        assert asked.status_code == 503
        assert asked.json()["error"]["code"] == "unavailable"
        end = time.monotonic() + 30
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert client.post("/v1/completions", json=COMPLETION | {"max_tokens": 3}).status_code == 200


def test_a_stop_while_loading(serve: Callable[..., Server]) -> None:
    slow = "import tercet.llm as m, time; i = m.LLM.__init__; "
    slow += "m.LLM.__init__ = lambda *a, **k: (time.sleep(1), i(*a, **k))[1]"
    serve(first=slow, wait=False).stop()


def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tercet"
    broken.write_bytes(b"TERCET\r\n" + bytes(100))
    with pytest.raises(pytest.fail.Exception, match="ended with status 2") as caught:
        Server(broken)
    assert "tercet: error: " in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_port_in_use_is_said_before_anything_is_loaded(serving: Server) -> None:
    from program import tercet

    finished = tercet("serve", "--port", str(serving.port))
    assert finished.status == 2
    assert "choose another with --host and --port" in finished.err
    assert len(finished.err.splitlines()) == 1


class Reader(threading.Thread):
    """Reads a long stream to its end, in a thread."""

    def __init__(self, server: Server, **fields: object) -> None:
        super().__init__()
        self.url = server.base_url
        self.fields = COMPLETION | {"stream": True, "max_tokens": 2000} | fields
        self.events: list[str] = []
        self.began = threading.Event()
        self.start()
        assert self.began.wait(20)

    def run(self) -> None:
        with contextlib.suppress(httpx.RemoteProtocolError):  # the server may end before the answer does
            self.read()

    def read(self) -> None:
        with httpx.stream("POST", f"{self.url}/v1/completions", json=self.fields, timeout=60) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    self.events.append(line.removeprefix("data: "))
                    self.began.set()


def refuses_connections(server: Server) -> bool:
    try:
        httpx.get(f"{server.base_url}/livez")
    except httpx.ConnectError:
        return True
    return False


def test_a_drain_lets_requests_finish(serve: Callable[..., Server]) -> None:
    server = serve("--drain-delay", "3")  # of which a busy machine may need a part
    with server.client() as client:
        assert client.get("/readyz").status_code == 200
        reader = Reader(server, max_tokens=300, ignore_eos=True)
        server.process.send_signal(signal.SIGTERM)
        while (ready := client.get("/readyz")).status_code == 200:
            time.sleep(0.01)
        assert ready.status_code == 503
        assert "draining" in ready.json()["error"]["message"]
        assert client.post("/v1/completions", json=COMPLETION).status_code == 503
        assert client.get("/livez").status_code == 200
    server.wait(0)
    reader.join(20)
    assert reader.events[-1] == "[DONE]"


def test_what_does_not_finish_in_time_ends_with_an_error_event(
    serve: Callable[..., Server], slow_model: Path
) -> None:
    server = serve(slow_model, "--drain", "1")
    reader = Reader(server, model=None, prompt="a", max_tokens=100_000)
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert refuses_connections(server)
    server.wait(0)
    assert 0.8 < time.monotonic() - began < 10
    reader.join(20)
    error = json.loads(reader.events[-1])["error"]
    assert (error["type"], error["code"]) == ("server_error", "unavailable")
    assert "[DONE]" not in reader.events


def test_a_second_signal_ends_at_once(serve: Callable[..., Server], slow_model: Path) -> None:
    server = serve(slow_model, "--drain", "60")
    reader = Reader(server, model=None, prompt="a", max_tokens=100_000)
    server.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert server.process.poll() is None
    server.process.send_signal(signal.SIGINT)
    server.wait(128 + signal.SIGINT, seconds=2)
    reader.join(20)


FAULTS = "from tercet.engine.mock import Faults, inject; inject(Faults({}))"


def test_an_engine_that_hangs_is_neither_alive_nor_ready(serve: Callable[..., Server]) -> None:
    """vLLM's CVE-2026-114051: its engine was dead, and /health said 200."""
    impatient = "import tercet.service.settings as s; s.ServiceSettings.__init__.__kwdefaults__"
    impatient += "['stuck_after_seconds'] = 1.0; "
    server = serve("--drain", "0", first=impatient + FAULTS.format("hang_at_step=40"))
    with server.client() as client:
        assert client.get("/livez").status_code == 200
        reader = threading.Thread(target=Reader, args=(server,), daemon=True)
        reader.start()
        end = time.monotonic() + 20
        while client.get("/livez").status_code == 200:
            assert time.monotonic() < end
            time.sleep(0.1)
        for path in ("/livez", "/readyz", "/health"):
            answer = client.get(path)
            assert answer.status_code == 503
            assert "has not moved for" in answer.json()["error"]["message"]
        assert client.get("/health/details").json()["status"] == "unhealthy"
        assert client.get("/metrics").status_code == 200
    server.stop()
    reader.join(20)


def test_an_engine_that_dies_is_replaced(serve: Callable[..., Server], serving: Server) -> None:
    """Who waited hears of it, and then everything is as before."""
    body = COMPLETION | {"max_tokens": 20, "cache_salt": "mine"}
    with serving.client() as client:
        answer = client.post("/v1/completions", json=body).json()["choices"]
    server = serve(first=FAULTS.format("die_at_step=40"))
    reader = Reader(server)
    reader.join(20)
    assert "[DONE]" not in reader.events
    error = json.loads(reader.events[-1])["error"]
    assert (error["type"], error["code"]) == ("server_error", "unavailable")
    with server.client() as client:
        end = time.monotonic() + 10
        while (again := client.post("/v1/completions", json=body)).status_code != 200:
            assert (again.status_code, int(again.headers["retry-after"]) >= 1) == (503, True)
            assert time.monotonic() < end
            time.sleep(0.02)
        assert again.json()["choices"] == answer
        for path in ("/livez", "/readyz", "/health"):
            assert client.get(path).status_code == 200
        restarts = 'tercet_engine_restarts_total{model_name="llama-tercet-tiny"} 1.0'
        assert restarts in client.get("/metrics").text
    log = server.log
    assert "engine died" in log
    assert "engine restarted" in log


def test_an_engine_that_dies_again_and_again_is_left_to_who_supervises_the_process(
    serve: Callable[..., Server],
) -> None:
    hasty = "import tercet.service.supervisor as s; s.FIRST_PAUSE_SECONDS = 0.01; "
    server = serve(first=hasty + FAULTS.format("die_from_step=40"))
    with server.client() as client:
        end = time.monotonic() + 20
        while "restart the process" not in (answer := client.get("/livez")).text:
            assert time.monotonic() < end
            asked = client.post("/v1/completions", json=COMPLETION | {"max_tokens": 50})
            assert (asked.status_code, asked.json()["error"]["code"]) == (503, "unavailable")
        assert answer.status_code == 503
        for path in ("/livez", "/readyz", "/health"):
            assert client.get(path).status_code == 503
        assert client.get("/health/details").json()["status"] == "unhealthy"


def test_no_memory_for_a_step_is_503_and_the_next_one_has_it(serve: Callable[..., Server]) -> None:
    server = serve(first=FAULTS.format("out_of_memory_at_step=40"))
    with server.client() as client:
        refused = client.post("/v1/completions", json=COMPLETION | {"max_tokens": 100, "ignore_eos": True})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "out_of_memory")
        assert int(refused.headers["retry-after"]) >= 1
        assert client.post("/v1/completions", json=COMPLETION).status_code == 200
