"""What can happen to a server, and what its clients see of it.

Others of this kind are in test_server_operations, test_server_departures, test_server_batches and
test_stream_faults.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from many_connections import hold_connections
from served import Server
from tercet.models.registry import resolve

COMPLETION = {"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0, "cache_salt": "mine"}
FAULTS = "from tercet.engine.mock import Faults, inject; inject(Faults({}))"


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


def test_kill_9_in_a_stream_is_seen_at_once_and_the_next_process_serves(serve: Callable[..., Server]) -> None:
    server = serve(first=FAULTS.format("delay_seconds=0.01"))
    body = COMPLETION | {"stream": True, "max_tokens": 1000, "ignore_eos": True}
    events: list[str] = []

    def read() -> None:
        with httpx.stream("POST", f"{server.base_url}/v1/completions", json=body, timeout=20) as answer:
            for line in answer.iter_lines():
                events.append(line)
                if len(events) == 9:
                    server.process.send_signal(signal.SIGKILL)

    with pytest.raises(httpx.RemoteProtocolError):
        read()
    assert len(events) >= 9
    assert "data: [DONE]" not in events
    server.wait(-signal.SIGKILL)
    with serve().client() as client:
        assert text_of(client.post("/v1/completions", json=COMPLETION))


def test_a_model_file_that_is_cut_off_in_use(serve: Callable[..., Server], tmp_path: Path) -> None:
    """No SIGBUS death: requests are refused, and health says why."""
    path = tmp_path / "model.tercet"
    path.write_bytes(resolve(None).read_bytes())
    server = serve(path)
    with server.client() as client:
        assert text_of(client.post("/v1/completions", json=COMPLETION))
        os.truncate(path, path.stat().st_size // 2)
        for _ in range(2):
            refused = client.post("/v1/completions", json=COMPLETION)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
            assert int(refused.headers["retry-after"]) >= 1
        for place in ("/livez", "/readyz", "/health"):
            ill = client.get(place)
            assert ill.status_code == 503
            assert "has become shorter in use" in ill.json()["error"]["message"]
    server.stop()


def test_a_full_disk_refuses_uploads_and_nothing_else(serve: Callable[..., Server], tmp_path: Path) -> None:
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    folder = tmp_path / "batches"
    server = serve("--batch-dir", folder, first=full)
    with server.client() as client:

        def upload(num_bytes: int) -> httpx.Response:
            files = {"file": ("a.jsonl", b"x" * num_bytes)}
            return client.post("/v1/files", files=files, data={"purpose": "batch"})

        refused = upload(200_000)
        assert refused.status_code == 500
        assert "cannot write" in refused.json()["error"]["message"]
        assert client.get("/v1/files").json()["data"] == []
        assert not any(path.stat().st_size > 1000 for path in folder.rglob("*") if path.is_file())
        assert upload(1000).status_code == 200
        assert text_of(client.post("/v1/completions", json=COMPLETION))


CLOCK_JUMPS = (
    "import time, random; real, chance = time.time, random.Random(1); "
    "time.time = lambda: max(0.0, real() + chance.uniform(-1e9, 1e9)); "
    "time.time_ns = lambda: int(time.time() * 1e9)"
)


def test_a_wall_clock_that_jumps_by_decades_changes_nothing(
    serve: Callable[..., Server], serving: Server
) -> None:
    """Every look at it says something else: limits of time, speeds and pauses go by another clock."""
    with serving.client() as client:
        expected = text_of(client.post("/v1/completions", json=COMPLETION))
    server = serve("--request-timeout", "20", "--response-cache", "memory", first=CLOCK_JUMPS)
    with server.client() as client:
        for _ in range(3):
            assert text_of(client.post("/v1/completions", json=COMPLETION)) == expected
        with client.stream("POST", "/v1/completions", json=COMPLETION | {"stream": True}) as stream:
            assert list(stream.iter_lines())[-2] == "data: [DONE]"
        for place in ("/livez", "/readyz", "/health/details"):
            assert client.get(place).status_code == 200
        assert client.get("/health/details").json()["status"] == "healthy"
    server.stop()
    assert "Traceback" not in server.log


def test_many_connections_at_once(serve: Callable[..., Server]) -> None:
    """tests/long has 10,000, with the same code."""
    hold_connections(serve, 500)
