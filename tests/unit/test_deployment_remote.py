"""Strategy remote against endpoints that answer well, badly, slowly, without end, or not at all."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates_made import write_certificate
from faulty_endpoints import Answer, Endpoints, Request, answer, events, json_answer
from tercet.deployment import DeploymentSettings, GenerationRequest, Strategy, create
from tercet.deployment.endpoint import Endpoint
from tercet.errors import (
    DeadlineError,
    ForbiddenError,
    FormatError,
    OverloadedError,
    ParameterError,
    TercetError,
    UnavailableError,
)

MODELS = {"object": "list", "data": [{"id": "small"}]}
REQUEST = GenerationRequest("Once upon a time", max_tokens=8, timeout_seconds=20)
QUICK = GenerationRequest("Once upon a time", max_tokens=8, timeout_seconds=0.7)

Serve = Callable[..., tuple[Strategy, Endpoints]]


def chunk(text: str, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": text, "finish_reason": reason}], **more}


GOOD = (
    chunk(" there"),
    chunk(" was", "length"),
    {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}},
)


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Endpoints] = []

    def start(given: Answer | Callable[[Request], Answer], **settings: Any) -> tuple[Strategy, Endpoints]:
        def answered(request: Request) -> Answer:
            if request.method == "GET":
                return json_answer(MODELS)
            return given(request) if callable(given) else given

        servers.append(Endpoints(answered))
        said = DeploymentSettings(endpoint=f"{servers[-1].url}/v1", **settings)
        return create("remote", None, said), servers[-1]

    yield start
    for server in servers:
        server.__exit__(None, None, None)


# Well --------------------------------------------------------------------------------------------


def test_a_text_is_continued(serve: Serve, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-secret\n")
    remote, server = serve(events(*GOOD), endpoint_key_file=str(key))
    trial = remote.test(REQUEST)
    assert trial.success, trial.reason
    assert trial.generation is not None
    assert trial.generation.text == " there was"
    assert (trial.generation.prompt_tokens, trial.generation.generated_tokens) == (4, 2)
    assert trial.generation.finish_reason == "length"
    assert trial.memory_bytes is None  # it is out of sight
    models, asked = server.requests
    assert (models.path, asked.path) == ("/v1/models", "/v1/completions")
    assert asked.headers["authorization"] == "Bearer sk-secret"
    assert asked.json["model"] == "small"
    assert asked.json["prompt"] == "Once upon a time"
    assert (asked.json["max_tokens"], asked.json["temperature"]) == (8, 0)


def test_a_message_is_answered(serve: Serve) -> None:
    remote, server = serve(
        events(
            {"choices": [{"delta": {"role": "assistant", "content": None}}]},
            {"choices": [{"delta": {"content": "Hello"}}]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        )
    )
    remote.deploy()
    assert list(remote.stream(GenerationRequest("Hi", chat=True, seed=3))) == ["Hello"]
    assert server.requests[-1].path == "/v1/chat/completions"
    assert server.requests[-1].json["messages"] == [{"role": "user", "content": "Hi"}]
    assert server.requests[-1].json["seed"] == 3


def test_a_prompt_is_sent_as_a_message_where_there_is_no_other_route(serve: Serve) -> None:
    def only_chat(request: Request) -> bytes:
        if request.path != "/v1/chat/completions":
            return json_answer({"error": {"message": "this is a chat model"}}, 404)
        return events({"choices": [{"delta": {"content": "Hello"}, "finish_reason": "stop"}]})

    remote, server = serve(only_chat)
    remote.deploy()
    assert [remote.generate(REQUEST).text for _ in range(2)] == ["Hello", "Hello"]
    routes = ["/v1/models", "/v1/completions", "/v1/chat/completions", "/v1/chat/completions"]
    assert [one.path for one in server.requests] == routes  # it is remembered
    assert server.requests[-1].json["messages"][0]["content"] == "Once upon a time"


def test_an_answer_in_one_piece_counts_nothing_that_was_not_counted(serve: Serve) -> None:
    remote, _ = serve(json_answer(chunk(" there was", "stop")))
    remote.deploy()
    done = remote.generate(REQUEST)
    assert (done.text, done.generated_tokens, done.tokens_per_second) == (" there was", None, None)
    assert done.time_to_first_token_seconds is None


# Badly -------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def dripping() -> Iterable[bytes | float]:
    yield HEAD
    while True:
        yield b":"
        yield 0.05


def dripping_headers() -> Iterable[bytes | float]:
    yield b"HTTP/1.1 200 OK\r\nX: "
    while True:
        yield b"x"
        yield 0.05


def endless() -> Iterable[bytes]:
    yield HEAD
    while True:
        yield b"data: " + b'{"choices": []}' + b" " * 65536 + b"\n\n"


def one_long_line() -> Iterable[bytes]:
    yield HEAD + b"data: "
    while True:
        yield b"x" * 65536


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        (b"", UnavailableError, "closed the connection"),
        (b"\x16\x03\x01 what?\r\n\r\n", FormatError, "did not answer as an HTTP server does"),
        (answer(b"<html>Welcome</html>", kind="text/html"), FormatError, "is not JSON: <html>Welcome"),
        (answer(b"{}"), FormatError, "none of OpenAI's"),
        (answer(b"[1]"), FormatError, "a JSON list, not an object"),
        (answer(b"[" * 100_000), FormatError, "is not JSON"),
        (answer(b"\xff\xfe\x1b[2J"), FormatError, "is not JSON"),
        (json_answer({"choices": [{"text": 7}]}), FormatError, "of the wrong type"),
        (json_answer({"choices": "none"}), FormatError, "none of OpenAI's"),
        (
            json_answer({**chunk("a", "stop"), "usage": {"completion_tokens": "two"}}),
            FormatError,
            "of the wrong type",
        ),
        (events("{not json"), FormatError, "is not JSON: {not json"),
        (events(chunk("a")), UnavailableError, "before it was whole"),
        (events(chunk("a"), done=False), UnavailableError, "before it was whole"),
        (events({"error": {"message": "out of \x1b[31mmemory"}}), UnavailableError, r"out of \[31mmemory"),
        (json_answer({"error": {"message": "no such key"}}, 401), ForbiddenError, "no such key. Is the key"),
        (json_answer({"error": {"message": "too long"}}, 400), ParameterError, "status 400: too long"),
        (json_answer({"detail": "Not Found"}, 404), ParameterError, "status 404: Not Found"),
        (json_answer({"error": "sleepy"}, 500), UnavailableError, "status 500: sleepy"),
        (answer(b"<html>Bad gateway</html>", 502), UnavailableError, "status 502$"),
        (json_answer({}, 429, Retry_After="7"), OverloadedError, "status 429"),
        (json_answer({}, 503, Retry_After="9"), OverloadedError, "status 503"),
        (json_answer({}, 503), UnavailableError, "status 503"),
        (answer(b"", 302, Location="https://evil.example/v1"), ParameterError, "evil.example.*not sent on"),
        (answer(b"", 204), FormatError, "where 200 is"),
        (answer(b"{" + b" " * 10, Content_Encoding="gzip"), FormatError, "is not JSON"),
        (HEAD + b"data: " + b"\x00" * 10 + b"\n\n", FormatError, "is not JSON"),
    ],
)
def test_a_bad_answer_is_an_error_that_says_so(
    serve: Serve, given: bytes, kind: type[TercetError], words: str
) -> None:
    remote, _ = serve(given)
    remote.deploy()
    with pytest.raises(kind, match=words) as caught:
        remote.generate(REQUEST)
    assert str(caught.value).isprintable()
    assert remote.metrics().success_rate == 0


@pytest.mark.parametrize("given", [dripping, dripping_headers, lambda: [HEAD, 30.0], lambda: [30.0]])
def test_an_answer_that_does_not_end_is_cut_off_in_time(
    serve: Serve, given: Callable[[], Iterable[bytes | float]]
) -> None:
    remote, _ = serve(lambda request: given())
    remote.deploy()
    begin = time.monotonic()
    with pytest.raises(DeadlineError, match=r"within 0\.7 seconds"):
        remote.generate(QUICK)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(("given", "words"), [(endless, "more than 16 MiB"), (one_long_line, "an event of")])
def test_an_answer_that_is_too_much_is_cut_off(
    serve: Serve, given: Callable[[], Iterable[bytes]], words: str
) -> None:
    remote, _ = serve(lambda request: given())
    remote.deploy()
    with pytest.raises(FormatError, match=words):
        remote.generate(REQUEST)


def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    remote = create("remote", None, DeploymentSettings(endpoint=f"http://127.0.0.1:{port}/v1"))
    found = remote.availability()
    assert not found.available
    assert "cannot be reached: Connection refused" in found.reason
    trial = remote.test(REQUEST)
    assert not trial.success


def test_a_retry_is_told_in_seconds(serve: Serve) -> None:
    remote, _ = serve(json_answer({}, 429, Retry_After="7"))
    remote.deploy()
    with pytest.raises(OverloadedError) as caught:
        remote.generate(REQUEST)
    assert caught.value.retry_after_seconds == 7


def test_an_endpoint_by_tls_is_who_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = write_certificate(tmp_path, "endpoint")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Endpoints(
        lambda request: json_answer(MODELS) if request.method == "GET" else events(*GOOD), tls=context
    ) as server:
        said = DeploymentSettings(endpoint=f"https://localhost:{server.port}/v1")
        with pytest.raises(UnavailableError, match="nobody whom this machine trusts vouches for localhost"):
            create("remote", None, said).deploy()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        remote = create("remote", None, said)
        remote.deploy()
        assert remote.generate(REQUEST).text == " there was"
        plain = DeploymentSettings(endpoint=f"http://localhost:{server.port}/v1")
        assert not create("remote", None, plain).availability().available  # and nothing hangs


def test_names_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnavailableError, match="cannot be reached"):
        Endpoint(f"http://{'a' * 70}.example").get("/models", 5)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: time.sleep(3) or [])
    begin = time.monotonic()
    with pytest.raises(DeadlineError):
        Endpoint("http://localhost").get("/models", 0.3)
    assert time.monotonic() - begin < 2


# Which model -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "wanted", "words"),
    [
        (json_answer({"data": [{"id": "a"}, {"id": "b"}]}), None, "--endpoint-model names one of: a, b"),
        (json_answer({"data": []}), None, "one of: none"),
        (json_answer({"data": [{"id": "a"}]}), "c", "has no model 'c'; it has: a"),
        (json_answer({"models": []}), None, "no list of models"),
        (json_answer({"detail": "no"}, 404), None, "status 404"),
        (json_answer({"data": [{"id": "a"}, {"id": "b"}]}), "b", None),
        (json_answer({"detail": "no"}, 404), "x", None),  # some endpoints list none
    ],
)
def test_the_model_that_is_asked(listed: bytes, wanted: str | None, words: str | None) -> None:
    with Endpoints(lambda request: listed) as server:
        said = DeploymentSettings(endpoint=server.url, endpoint_model=wanted)
        found = create("remote", None, said).availability()
    assert found.available == (words is None)
    assert (words or str(wanted)) in found.reason


# What leaves the machine -------------------------------------------------------------------------


def test_nothing_leaves_the_machine_unless_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def connects(*arguments: Any, **options: Any) -> Any:
        raise OSError("it looked for another machine")

    monkeypatch.setattr(socket, "getaddrinfo", connects)
    for url in ("https://api.example.com/v1", "http://192.0.2.1:80/v1", "http://localhost.example.com/v1"):
        remote = create("remote", None, DeploymentSettings(endpoint=url))
        found = remote.availability()
        assert not found.available
        assert "--send-prompts" in found.reason
        trial = remote.test(REQUEST)
        assert not trial.success
        assert "another machine" not in found.reason + trial.reason
        with pytest.raises(UnavailableError, match="it looked for another machine"):
            create("remote", None, DeploymentSettings(endpoint=url, send_prompts=True)).deploy()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_no_proxy_gets_the_prompts(serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://192.0.2.1:3128")
    remote, _ = serve(events(*GOOD))
    remote.deploy()
    assert remote.generate(REQUEST).text == " there was"


def test_the_key_is_in_no_message(serve: Serve, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-secret")
    remote, _ = serve(json_answer({"error": "no"}, 401), endpoint_key_file=str(key))
    remote.deploy()
    with pytest.raises(ForbiddenError) as caught:
        remote.generate(REQUEST)
    assert "sk-secret" not in str(caught.value)
    assert "sk-secret" not in repr(Endpoint("http://localhost", "sk-secret"))


@pytest.mark.parametrize(
    "url",
    ["api.example.com", "ftp://host/v1", "http://", "http://user:secret@host/v1", "http://host/v1?key=secret",
     "http://host:99999/v1", "http://[::1/v1", "http://ho st/v1", "http://host/\n", "https://höst/v1"],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Endpoint(url)
    assert "secret" not in str(caught.value)


def test_a_key_that_cannot_be_read(serve: Serve, tmp_path: Path) -> None:
    for content in (None, b"\xff\xfe", b"two\nlines"):
        file = tmp_path / f"key{content!r}"
        if content is not None:
            file.write_bytes(content)
        remote, _ = serve(events(*GOOD), endpoint_key_file=str(file))
        with pytest.raises(ParameterError, match="key"):
            remote.deploy()
