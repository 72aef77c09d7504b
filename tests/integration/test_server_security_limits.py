"""What a client may use of `tercet serve` under the profile `strict`, and what it gets beyond that."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from served import Server

ASK = {"prompt": "Once", "max_tokens": 2, "temperature": 0}
STRICT = ("--security-profile", "strict", "--no-content-filtering")
MANY = ("--rate-limit-requests", "none", "--rate-limit-tokens", "none")
DEEP: dict[str, Any] = {"type": "string"}
for _ in range(20):
    DEEP = {"type": "array", "items": DEEP}


def error_of(response: Any) -> dict[str, Any]:
    body: dict[str, Any] = response.json()["error"]
    return body


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    server = Server(*STRICT, *MANY, "--max-parallel-requests", "2")
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"prompt": "x" * 4097}, "prompt"),
        ("/v1/completions", {"prompt": [5] * 20_000}, "prompt"),
        ("/v1/completions", {"prompt": "x", "max_tokens": 1025}, "max_tokens"),
        ("/v1/completions", {"prompt": "x", "n": 5}, "n"),
        ("/v1/completions", {"prompt": "x", "best_of": 5}, "n"),
        ("/v1/completions", {"prompt": ["x"] * 5}, "n"),
        ("/v1/completions", {"prompt": "x", "stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ("/v1/completions", {"prompt": "x", "stop": "y" * 101}, "stop"),
        (
            "/v1/completions",
            {"prompt": "x", "logit_bias": {str(token): 1.0 for token in range(301)}},
            "logit_bias",
        ),
        ("/v1/completions", {"prompt": "x", "guided_json": DEEP}, "guided_json"),
        ("/v1/completions", {"prompt": "x", "guided_regex": "a" * 513}, "guided_regex"),
        ("/v1/completions", {"prompt": "x", "guided_grammar": "#" * 16_385}, "guided_grammar"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 4097}]}, "messages"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "x"}], "max_completion_tokens": 1025},
            "max_tokens",
        ),
        ("/v1/responses", {"input": "x" * 4097}, "messages"),
        ("/v1/responses", {"input": "x", "max_output_tokens": 1025}, "max_tokens"),
    ],
)
def test_what_is_over_a_limit_is_refused_by_its_field(
    strict: Server, path: str, body: dict[str, Any], param: str
) -> None:
    with strict.client() as client:
        response = client.post(path, json=body)
        assert response.status_code == 400, response.text
        error = error_of(response)
        assert (error["code"], error["param"]) == ("INVALID_INPUT", param), error
        assert error["type"] == "invalid_request_error"
        assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/completion", {"prompt": "x" * 4097}),
        ("/completion", {"prompt": "x", "n_predict": 1025}),
        ("/completion", {"prompt": "x", "n_cmpl": 5, "n_predict": 1}),
        ("/tokenize", {"content": "x" * 4097}),
        ("/detokenize", {"tokens": [5] * 4097}),
        ("/apply-template", {"messages": [{"role": "user", "content": "x" * 4097}]}),
        ("/api/generate", {"model": "llama-tercet-tiny", "prompt": "x" * 4097}),
        ("/api/chat", {"model": "llama-tercet-tiny", "messages": [{"role": "user", "content": "x" * 4097}]}),
    ],
)
def test_the_other_apis_have_the_same_limits(strict: Server, path: str, body: dict[str, Any]) -> None:
    with strict.client() as client:
        response = client.post(path, json=body)
        assert response.status_code == 400
        assert "are the most" in response.text


def test_an_answer_that_names_no_length_has_the_most_there_is(serve: Callable[..., Server]) -> None:
    server = serve(*STRICT, "--max-output-tokens", "5")
    with server.client() as client:
        messages = [{"role": "user", "content": "Tell me"}]
        answer = client.post("/v1/chat/completions", json={"messages": messages, "ignore_eos": True}).json()
        assert answer["usage"]["completion_tokens"] == 5
        assert answer["choices"][0]["finish_reason"] == "length"
        answer = client.post("/completion", json={"prompt": "x", "n_predict": -1, "ignore_eos": True}).json()
        assert answer["tokens_predicted"] == 5


def test_on_this_machine_and_without_keys_the_model_is_the_limit(serving: Server) -> None:
    with serving.client() as client:
        stops = {"stop": list("ABCDEFGH"), "n": 6, "guided_json": DEEP, "max_tokens": 1}
        response = client.post("/v1/completions", json={"prompt": "x", **stops})
        assert response.status_code == 200, response.text
        assert not [name for name in response.headers if name.startswith("x-ratelimit")]
        response = client.post("/v1/completions", json={"prompt": "word " * 20_000})
        assert error_of(response)["code"] == "context_length_exceeded"


def test_requests_in_a_minute(serve: Callable[..., Server]) -> None:
    server = serve(*STRICT, "--rate-limit-requests", "3", "--rate-limit-tokens", "none")
    with server.client() as client:
        for remaining in (2, 1, 0):
            response = client.post("/v1/completions", json=ASK)
            assert response.status_code == 200
            assert response.headers["x-ratelimit-limit-requests"] == "3"
            assert response.headers["x-ratelimit-remaining-requests"] == str(remaining)
            assert 0 < int(response.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 60
        response = client.post("/v1/completions", json=ASK)
        assert response.status_code == 429
        assert error_of(response)["code"] == "RATE_LIMIT_EXCEEDED"
        assert error_of(response)["type"] == "rate_limit_error"
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert "x-should-retry" not in response.headers
        assert client.post("/tokenize", json={"content": "x"}).status_code == 429
        assert client.get("/health").status_code == 200  # looking is not counted
        assert client.get("/v1/models").status_code == 200


def test_a_batch_is_not_counted_and_checked_all_the_same(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    limits = ("--rate-limit-requests", "2", "--rate-limit-tokens", "30", "--max-parallel-requests", "1")
    server = serve(*STRICT, *limits, "--batch-dir", tmp_path)
    lines = [
        {"custom_id": str(number), "method": "POST", "url": "/v1/completions", "body": body}
        for number, body in enumerate([*[{**ASK, "max_tokens": 10}] * 6, {**ASK, "max_tokens": 1025}])
    ]
    data = "\n".join(json.dumps(line) for line in lines).encode()
    with server.client() as client:
        form: Any = {"data": {"purpose": "batch"}, "files": {"file": ("a.jsonl", data)}}
        uploaded = client.post("/v1/files", **form).json()
        asked = {
            "input_file_id": uploaded["id"], "endpoint": "/v1/completions", "completion_window": "24h"
        }  # fmt: skip
        batch = client.post("/v1/batches", json=asked).json()
        assert client.post("/v1/batches", json=asked).status_code == 429  # sending them is counted
        end = time.monotonic() + 60
        while batch["status"] != "completed":
            assert time.monotonic() < end, batch
            time.sleep(0.05)
            batch = client.get(f"/v1/batches/{batch['id']}").json()
        assert (batch["request_counts"]["completed"], batch["request_counts"]["failed"]) == (6, 1)
        errors = client.get(f"/v1/files/{batch['error_file_id']}/content").json()
        assert errors["response"]["body"]["error"]["code"] == "INVALID_INPUT"


def test_tokens_in_a_minute(serve: Callable[..., Server]) -> None:
    server = serve(*STRICT, "--rate-limit-tokens", "100")
    with server.client() as client:
        first = client.post("/v1/completions", json={**ASK, "max_tokens": 60})
        assert first.status_code == 200
        prompt = first.json()["usage"]["prompt_tokens"]
        assert first.headers["x-ratelimit-limit-tokens"] == "100"
        assert first.headers["x-ratelimit-remaining-tokens"] == str(40 - prompt)
        second = client.post("/v1/completions", json={**ASK, "max_tokens": 60})
        assert (second.status_code, error_of(second)["code"]) == (429, "RATE_LIMIT_EXCEEDED")
        assert 1 <= int(second.headers["retry-after"]) <= 60
        assert client.post("/v1/completions", json={**ASK, "max_tokens": 10}).status_code == 200
        never = client.post("/v1/completions", json={**ASK, "max_tokens": 101})
        assert (never.status_code, error_of(never)["code"]) == (400, "INVALID_INPUT")


def test_requests_at_one_time(strict: Server) -> None:
    long = {"prompt": "Once", "max_tokens": 400, "stream": True, "ignore_eos": True}
    with strict.client() as client, contextlib.ExitStack() as streams:
        for _ in range(2):
            response = streams.enter_context(client.stream("POST", "/v1/completions", json=long))
            assert response.status_code == 200
        refused = client.post("/v1/completions", json=ASK)
        assert (refused.status_code, error_of(refused)["code"]) == (429, "RATE_LIMIT_EXCEEDED")
        assert refused.headers["retry-after"] in "12"
    with strict.client() as client:  # the two have gone, and their places with them
        end = time.monotonic() + 10
        while client.post("/v1/completions", json=ASK).status_code != 200:
            assert time.monotonic() < end


# Slow and large ---------------------------------------------------------------------------------------


def test_slow_headers_and_slow_bodies_are_cut_off(serve: Callable[..., Server]) -> None:
    server = serve(*STRICT, "--header-timeout", "0.4", "--upload-timeout", "0.4")
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for sent, drip in ((head, b"X-A: b\r\n"), (head + b"Content-Length: 500\r\n\r\n", b" ")):
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
            connection.sendall(sent)
            answer = b""
            connection.settimeout(0.1)
            while not answer and time.monotonic() < began + 8:
                with contextlib.suppress(TimeoutError, ConnectionError):
                    connection.sendall(drip)
                    answer = connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 408"), answer
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
def test_a_compressed_body_is_refused_unread(strict: Server, encoding: str) -> None:
    with strict.client() as client:
        bomb = b"\x1f\x8b" + bytes(1000)
        headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
        response = client.post("/v1/completions", content=bomb, headers=headers)
        assert (response.status_code, error_of(response)["code"]) == (415, "unsupported_content_encoding")


def test_too_large_a_body_and_too_many_headers_are_refused(strict: Server) -> None:
    with strict.client() as client:
        body = b'{"prompt": "' + b"x" * 5_000_000 + b'"}'
        headers = {"Content-Type": "application/json"}
        large = client.post("/v1/completions", content=body, headers=headers)
        assert (large.status_code, error_of(large)["code"]) == (413, "request_too_large")
        many = {f"x-{number}": "y" for number in range(150)}
        assert client.post("/v1/completions", json=ASK, headers=many).status_code == 431
        assert client.post("/v1/completions", json=ASK, headers={"x-a": "y" * 40_000}).status_code == 431


# Redis ------------------------------------------------------------------------------------------------


class Redis:
    """A database of one test; it can be ended and started again at the same port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._folder = folder
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            [program, *options, "--dir", str(self._folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        pytest.fail("Redis does not start")

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGCONT)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    redis = Redis(tmp_path)
    redis.start()
    yield redis
    redis.end()


PAUSE = "import tercet.security.rate_limits as r; r.PAUSE_SECONDS = 0.2"


def until_status(client: Any, status: int) -> Any:
    end = time.monotonic() + 10
    while (response := client.post("/v1/completions", json=ASK)).status_code != status:
        assert time.monotonic() < end, response.text
        time.sleep(0.05)
    return response


def test_servers_with_one_redis_count_together_and_refuse_while_it_is_away(
    serve: Callable[..., Server], redis: Redis
) -> None:
    limits = ("--rate-limit-requests", "8", "--rate-limit-tokens", "1000", "--rate-limit-storage", redis.url)
    servers = [serve(*STRICT, *limits, first=PAUSE) for _ in range(2)]
    with servers[0].client() as one, servers[1].client() as other:
        for number in range(6):
            response = (one, other)[number % 2].post("/v1/completions", json=ASK)
            assert response.status_code == 200
            assert response.headers["x-ratelimit-remaining-requests"] == str(7 - number)
        assert int(response.headers["x-ratelimit-remaining-tokens"]) < 1000 - 6 * 3
        os.kill(redis.process.pid, signal.SIGSTOP)  # slow is as bad as gone
        began = time.monotonic()
        away = one.post("/v1/completions", json=ASK)
        assert (away.status_code, error_of(away)["code"]) == (503, "unavailable")
        assert time.monotonic() - began < 5
        assert int(away.headers["retry-after"]) >= 1
        assert one.get("/health").status_code == 200
        redis.end()
        assert one.post("/v1/completions", json=ASK).status_code == 503
        redis.start()
        until_status(one, 200)  # by itself


def test_open_a_server_counts_alone_while_redis_is_away(serve: Callable[..., Server], redis: Redis) -> None:
    limits = ("--rate-limit-requests", "3", "--rate-limit-storage", redis.url)
    server = serve(*STRICT, *limits, "--rate-limit-fail-mode", "open")
    redis.end()
    with server.client() as client:
        assert [client.post("/v1/completions", json=ASK).status_code for _ in range(4)] == [200] * 3 + [429]
