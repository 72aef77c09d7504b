"""Clients that go away or do not read: the work for them ends, and the others notice nothing."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from served import Server, wait_until

ENDLESS = {"prompt": "a", "max_tokens": 150_000, "temperature": 0}


@pytest.fixture(scope="module")
def endless(slow_model: Path) -> Iterator[Server]:
    """A server whose answers take minutes."""
    server = Server(slow_model, "--write-timeout", "1", "--drain", "0")
    yield server
    server.stop()


HELD: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _let_go() -> Iterator[None]:
    """Close what a test that failed left open."""
    yield
    while HELD:
        HELD.pop().close()


def figure(server: Server, name: str) -> float:
    """The sum of a metric over its labels."""
    with server.client() as client:
        text = client.get("/metrics").text
    found = re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", text, flags=re.M)
    assert found, f"{name} is not in\n{text}"
    return sum(map(float, found))


def ask(server: Server, **fields: object) -> socket.socket:
    """Send a request and leave the connection open."""
    body = json.dumps(ENDLESS | fields).encode()
    connection = socket.socket()
    connection.settimeout(20)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    HELD.append(connection)
    head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_ends_the_work_for_it(endless: Server, stream: bool) -> None:
    cancelled = figure(endless, "tercet_requests_cancelled_total")
    connections = [ask(endless, stream=stream) for _ in range(3)]
    wait_until(lambda: figure(endless, "vllm:num_requests_running") == 3, 10)
    if stream:
        assert connections[0].recv(100).startswith(b"HTTP/1.1 200")
    for connection in connections:
        connection.close()
    wait_until(lambda: figure(endless, "vllm:num_requests_running") == 0, 2)
    wait_until(lambda: figure(endless, "tercet_requests_in_flight") == 0, 2)
    assert figure(endless, "tercet_requests_cancelled_total") == cancelled + 3
    wait_until(lambda: '"status": 499' in endless.log, 5)


def test_a_connection_that_is_reset_ends_the_work_too(endless: Server) -> None:
    connection = ask(endless, stream=True)
    connection.recv(100)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    wait_until(lambda: figure(endless, "vllm:num_requests_running") == 0, 2)


def test_a_reader_that_stops_reading_loses_its_request(endless: Server) -> None:
    connection = ask(endless, stream=True, logprobs=5)
    wait_until(lambda: figure(endless, "vllm:num_requests_running") == 1, 10)
    with endless.client() as client:
        beside = client.post("/v1/completions", json={"prompt": "b", "max_tokens": 5, "temperature": 0})
    assert beside.status_code == 200, "the others go on meanwhile"
    wait_until(lambda: figure(endless, "vllm:num_requests_running") == 0, 40)
    connection.close()


def test_a_deadline_ends_the_work_and_says_so(serve: Callable[..., Server], slow_model: Path) -> None:
    server = serve(slow_model, "--request-timeout", "1")
    with server.client() as client:
        began = time.monotonic()
        answer = client.post("/v1/completions", json=ENDLESS)
        assert time.monotonic() - began < 5
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline_exceeded"
    assert answer.headers["x-should-retry"] == "false"
    wait_until(lambda: figure(server, "vllm:num_requests_running") == 0, 2)


def test_a_full_queue_says_when_to_come_back(serve: Callable[..., Server], slow_model: Path) -> None:
    server = serve(slow_model, "--max-concurrent", "1", "--max-queued", "1", "--drain", "0")
    held = [ask(server)]
    wait_until(lambda: figure(server, "vllm:num_requests_running") == 1, 10)
    held.append(ask(server))
    wait_until(lambda: figure(server, "vllm:num_requests_waiting") == 1, 10)
    with server.client() as client:
        answers = [client.post("/v1/completions", json=ENDLESS) for _ in range(5)]
        assert client.get("/readyz").status_code == 200
    for answer in answers:
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "overloaded"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert figure(server, "vllm:admission_rejections_total") == 5
    for connection in held:
        connection.close()
    wait_until(lambda: figure(server, "tercet_requests_in_flight") == 0, 3)


def test_nothing_in_the_event_loop_takes_long(endless: Server) -> None:
    """Streams, long prompts, large bodies and a schema at once: the loop never computes for 50 ms."""
    readers = [ask(endless, stream=True) for _ in range(4)]
    stop = threading.Event()

    def read(connection: socket.socket) -> None:
        while not stop.is_set() and connection.recv(1 << 16):
            pass

    threads = [threading.Thread(target=read, args=(connection,)) for connection in readers]
    for thread in threads:
        thread.start()
    schema = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(40)}}
    bodies: list[dict[str, object]] = [
        {"prompt": "b " * 300_000},  # more than the context holds, which is known once it is read
        {"prompt": list(range(10)) * 30_000},
        {"prompt": "x", "extra": ["y" * 100] * 30_000},
        {
            "prompt": "x",
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}},
        },
    ]
    with endless.client() as client:
        wait_until(lambda: figure(endless, "vllm:num_requests_running") == 4, 10)
        for body in bodies:
            client.post("/v1/completions", json=body | {"max_tokens": 1})
        longest = client.get("/health/details?probe=false").json()["event_loop_longest_ms"]
    observed = figure(endless, "tercet_event_loop_lag_seconds_count")
    stop.set()
    for connection, thread in zip(readers, threads, strict=True):
        thread.join(5)
        connection.close()
    wait_until(lambda: figure(endless, "vllm:num_requests_running") == 0, 2)
    assert observed > 20
    assert longest < 50


def test_a_disconnect_before_the_body_is_complete(endless: Server) -> None:
    for _ in range(5):
        connection = socket.create_connection(("127.0.0.1", endless.port))
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        connection.close()
    assert httpx.get(f"{endless.base_url}/livez").status_code == 200
    assert "Traceback" not in endless.log
