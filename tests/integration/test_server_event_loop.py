"""The event loop serves everybody, so nobody may keep it: no callback takes long, whatever is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from served import Server
from slow_callbacks import WATCH

LIMIT_SECONDS = 0.05
FIRST = "GET /livez"
"""The very first request, which puts the application together."""
LOADING = "DrainingServer._load"
"""Before it has ended nobody is answered but with 503."""
SCHEMA = {
    "type": "object",
    "properties": {f"field_{number}": {"type": "string", "maxLength": 20} for number in range(30)},
    "required": [f"field_{number}" for number in range(30)],
    "additionalProperties": False,
}
MESSAGES = [{"role": role, "content": "word " * 50} for _ in range(500) for role in ("user", "assistant")]
LARGE: tuple[tuple[str, dict[str, object]], ...] = (
    ("/v1/completions", {"prompt": "word " * 700_000}),
    ("/v1/completions", {"prompt": "naïve 東京 🙂 " * 10_000}),
    ("/v1/completions", {"prompt": [7] * 500_000}),
    ("/v1/completions", {"prompt": ["Once upon a time"] * 64, "max_tokens": 4, "n": 2}),
    ("/v1/completions", {"prompt": "Once", "max_tokens": 300, "logprobs": 20, "ignore_eos": True}),
    ("/v1/completions", {"prompt": "Once", "stop": ["x" * 1000] * 16, "max_tokens": 40}),
    ("/v1/chat/completions", {"messages": [*MESSAGES, {"role": "user", "content": "Hello"}]}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}], "n": 20, "max_tokens": 20}),
    (
        "/v1/chat/completions",
        {
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 30,
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}},
        },
    ),
    ("/v1/embeddings", {"input": ["word " * 1000] * 500}),
)
LOOKS = ("/livez", "/metrics", "/v1/models", "/openapi.json", "/", "/dashboard.json", "/health")


def test_no_request_keeps_the_loop(serve: Callable[..., Server], tmp_path: Path) -> None:
    noted = tmp_path / "slow.json"
    server = serve(first=WATCH, SLOW_CALLBACKS=str(noted))
    stop = threading.Event()

    def stream() -> None:
        fields = {"prompt": "Once upon a time", "max_tokens": 400, "ignore_eos": True, "stream": True}
        with server.client() as client:
            while not stop.is_set():
                with client.stream("POST", "/v1/completions", json=fields) as response:
                    for _ in response.iter_bytes():
                        pass

    with ThreadPoolExecutor(4) as pool, server.client() as client:
        streams = [pool.submit(stream) for _ in range(4)]
        try:
            for path in LOOKS:
                assert client.get(path).status_code == 200, path
            for path, body in LARGE:
                response = client.post(path, json=body)
                assert response.status_code in (200, 400), (path, response.text[:500])
        finally:
            stop.set()
        for one in streams:
            one.result()
    server.stop()
    noticed = json.loads(noted.read_text())
    slowest = [(seconds, what) for seconds, what in noticed if what != FIRST and LOADING not in what]
    assert slowest[0][0] < LIMIT_SECONDS, slowest
