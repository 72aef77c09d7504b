"""What a client cannot do to the server: hold it open, fill its memory, or confuse its parser.

Raw bytes over real connections; what each should get is in the names.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from served import Server

PATH = "/v1/chat/completions"
LIMIT = 4 * 1024 * 1024


class Answer:
    """The bytes that came back, as status line, headers and body."""

    def __init__(self, data: bytes, seconds: float) -> None:
        self.data, self.seconds = data, seconds
        head, _, self.body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1]) if data else 0
        self.headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
        }

    @property
    def error(self) -> dict[str, object]:
        """OpenAI's error object; all four fields must be there, and the code is a word."""
        (name, error), *others = json.loads(self.body).items()
        assert (name, others) == ("error", [])
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["code"], str)
        assert len(error["message"]) <= 1000
        return error  # type: ignore[no-any-return]


def exchange(server: Server, *pieces: bytes | float, seconds: float = 20) -> Answer:
    """Send pieces (a number is a pause), and read until the server closes or the answer is complete."""
    began = time.monotonic()
    data = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as connection:
        try:
            for piece in pieces:
                if isinstance(piece, float):
                    time.sleep(piece)
                else:
                    connection.sendall(piece)
        except (ConnectionError, TimeoutError):
            pass
        try:
            while not _complete(data):
                if not (more := connection.recv(1 << 16)):
                    break
                data += more
        except ConnectionError:
            pass
    return Answer(data, time.monotonic() - began)


def _complete(data: bytes) -> bool:
    head, separator, body = data.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return bool(separator) and len(body) >= int(line.partition(b":")[2])
    return False


def post(*headers: str, body: bytes = b"{}", length: int | None = None) -> bytes:
    """A request with JSON."""
    lines = [f"POST {PATH} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    if length is not None or not any(line.lower().startswith("transfer") for line in headers):
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.fixture(scope="module")
def hurried() -> Iterator[Server]:
    """A server whose deadlines a test can wait for."""
    server = Server("--header-timeout", "1", "--upload-timeout", "1", "--write-timeout", "1")
    yield server
    server.stop()


def test_slow_clients_are_ended_in_time(hurried: Server) -> None:
    drip = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
    one_more = [part for number in range(8) for part in (0.3, b"X-%d: y\r\n" % number)]
    body_drip = [part for _ in range(8) for part in (0.3, b" ")]
    cases: dict[str, tuple[bytes | float, ...]] = {
        "idle": (),
        "half a request line": (b"GE",),
        "headers that drip": (drip, *one_more),
        "a body that drips": (post(length=1000, body=b"{"), *body_drip),
        "a chunked body that stops": (post("Transfer-Encoding: chunked", body=b"1\r\n{\r\n"),),
        "a second request that drips": (drip + b"\r\n", 0.3, drip, *one_more),
    }
    with ThreadPoolExecutor(len(cases)) as pool:
        answers = dict(
            zip(cases, pool.map(lambda pieces: exchange(hurried, *pieces), cases.values()), strict=True)
        )
    assert answers["idle"].data == b""
    assert 0.9 < answers["idle"].seconds < 3
    for name in ("half a request line", "headers that drip"):
        assert answers[name].status == 408, name
        assert answers[name].error["code"] == "header_timeout"
    for name in ("a body that drips", "a chunked body that stops"):
        assert answers[name].status == 408, name
        assert answers[name].error["code"] == "upload_timeout"
    assert answers["a second request that drips"].status == 200
    assert all(answer.seconds < 5 for answer in answers.values())


def test_the_deadlines_are_ten_and_thirty_seconds() -> None:
    from tercet.server.settings import ServerSettings

    settings = ServerSettings()
    assert settings.header_timeout_seconds <= 10
    assert settings.upload_timeout_seconds <= 30


def test_headers_have_a_size_and_a_number(serving: Server) -> None:
    get = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
    many = b"".join(b"X-%d: y\r\n" % number for number in range(120))
    for headers in (b"X: " + b"y" * 33_000 + b"\r\n", b"X: " + b"y" * 1_000_000, many, many * 40):
        answer = exchange(serving, get + headers + b"\r\n")
        assert answer.status == 431
        assert answer.headers["x-should-retry"] == "false"
        assert answer.error["type"] == "invalid_request_error"
    fits = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 250) for number in range(90))
    assert exchange(serving, get + fits + b"\r\n").status == 200
    assert exchange(serving, b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n").status == 431


def test_bodies_have_a_size_declared_or_sent(serving: Server) -> None:
    began = time.monotonic()
    declared = exchange(serving, post(length=LIMIT + 1, body=b"{"))
    assert declared.status == 413
    assert declared.error["code"] == "request_too_large"
    assert time.monotonic() - began < 2, "refused before it was sent"
    whole = exchange(serving, post(body=b" " * (30 * 1024 * 1024)))
    assert whole.status == 413
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    sent = exchange(serving, post("Transfer-Encoding: chunked", body=b""), *[chunk] * 80)
    assert sent.status == 413
    expected = exchange(serving, post("Expect: 100-continue", length=LIMIT + 1, body=b""))
    assert expected.status == 413
    with serving.client() as client:
        assert client.get("/livez").status_code == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        post("Content-Length: -1", length=2),
        post(length=-1),
        post("Content-Length: 3", length=2),
        post("Content-Length: 0x2", length=2),
        post("Transfer-Encoding: chunked", length=2),
        post("Transfer-Encoding: chunked", body=b"zz\r\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked", body=b"-2\r\n{}\r\n0\r\n\r\n"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64,
        b"GET /livez HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n",
        b"GET \xff HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_in_our_words(serving: Server, request_bytes: bytes) -> None:
    answer = exchange(serving, request_bytes)
    assert answer.status in (400, 501, 505)
    assert answer.error["code"] in ("invalid_http", "invalid_content_length")
    with serving.client() as client:
        assert client.get("/livez").status_code == 200


def test_compressed_bodies_are_refused(serving: Server) -> None:
    for encoding in ("gzip", "br", "deflate, gzip", "zstd"):
        answer = exchange(serving, post(f"Content-Encoding: {encoding}", body=b"\x1f\x8b"))
        assert answer.status == 415
        assert answer.error["code"] == "unsupported_content_encoding"


def test_unknown_places_and_methods(serving: Server) -> None:
    with serving.client() as client:
        for method, path, status in (
            ("GET", "/nowhere", 404),
            ("POST", "/v1/nowhere", 404),
            ("GET", "/v1/models/", 404),
            ("DELETE", "/version", 405),
            ("PUT", "/livez", 405),
            ("GET", "/%00%ff/../x", 404),
        ):
            answer = client.request(method, path)
            assert answer.status_code == status, path
            assert answer.json()["error"]["code"] in ("unknown_url", "method_not_allowed", "model_not_found")
            assert answer.headers["x-should-retry"] == "false"
            assert status != 405 or "GET" in answer.headers["allow"]


def test_a_request_has_an_id_its_own_or_ours(serving: Server) -> None:
    with serving.client() as client:
        ours = [client.get("/livez").headers["x-request-id"] for _ in range(2)]
        assert ours[0] != ours[1]
        assert client.get("/livez", headers={"X-Request-Id": "job-7/a"}).headers["x-request-id"] == "job-7/a"
        for bad in ("x" * 200, "a b", 'a"\x1b[31m'):
            assert client.get("/livez", headers={"X-Request-Id": bad}).headers["x-request-id"] != bad


def test_connections_are_counted(serve: Callable[..., Server]) -> None:
    server = serve("--max-connections", "3")
    kept = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
    time.sleep(0.2)
    refused = exchange(server, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert refused.status == 503
    assert 1 <= int(refused.headers["retry-after"]) <= 2
    for connection in kept:
        connection.close()
    time.sleep(0.2)
    assert exchange(server, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").status == 200
