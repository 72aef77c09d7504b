"""JSON with one meaning, checked against a model; errors as OpenAI writes them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from pydantic_core import PydanticCustomError

from tercet.errors import (
    ContextLengthError,
    DeadlineError,
    ModelNotFoundError,
    OverloadedError,
    ParameterError,
    UnavailableError,
)
from tercet.monitoring.metrics import ServiceMetrics
from tercet.server import app as app_module
from tercet.server.bodies import AnyTypeBody, Body, StrictModel
from tercet.server.errors import ApiError
from tercet.server.json_text import MAX_DEPTH, JsonTextError, read_json

router = APIRouter()


class Part(StrictModel):
    type: str
    text: str


class Message(StrictModel):
    role: str
    content: str | list[Part]


class Asked(StrictModel):
    model: str
    temperature: float = Field(1.0, ge=0, le=2)
    n: int = Field(1, ge=1)
    stop: str | list[str] | None = None
    messages: list[Message] = Field(default_factory=list)


@router.post("/ask")
async def ask(body: Body[Asked]) -> dict[str, Any]:
    return body.model_dump()


@router.post("/curl")
async def curl(body: AnyTypeBody[Asked]) -> dict[str, Any]:
    return body.model_dump()


RAISED: dict[str, Exception] = {
    "parameter": ParameterError("temperature is a finite number of at least 0, not -1"),
    "context": ContextLengthError("the prompt has 9 tokens, and at most 8 are taken here", 9, 8),
    "model": ModelNotFoundError("there is no model 'x' here"),
    "overloaded": OverloadedError("5 requests wait already", 3.0),
    "unavailable": UnavailableError("the model is loading"),
    "deadline": DeadlineError("the request has not ended within 30 seconds"),
    "custom": ApiError(400, "x" * 5000, param="n", code="odd"),
    "fault": RuntimeError("a secret of ours"),
}


@router.post("/raise/{name}")
async def raise_error(name: str) -> None:
    raise RAISED[name]


@pytest.fixture(scope="module")
def app() -> Any:
    service: Any = SimpleNamespace(state="ready", metrics=ServiceMetrics(), observe=lambda observer: None)
    application = app_module.create_app(service)
    application.include_router(router)
    return application


def send(
    app: Any, content: bytes, path: str = "/ask", kind: str | None = "application/json"
) -> httpx.Response:
    async def one() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            headers = {} if kind is None else {"Content-Type": kind}
            return await client.post(path, content=content, headers=headers)

    return asyncio.run(one())


def refused(app: Any, content: bytes, status: int = 400, **options: Any) -> dict[str, Any]:
    answer = send(app, content, **options)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["code"], str)
    assert len(error["message"]) <= 1000
    assert answer.headers["x-should-retry"] == "false"
    assert error["type"] == "invalid_request_error"
    return error  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (b'{"model": "m", "temperature": NaN}', "temperature"),
        (b'{"model": "m", "temperature": -Infinity}', "temperature"),
        (b'{"model": "m", "temperature": 1e400}', "temperature"),
        (b'{"model": "m", "temperature": 2.5}', "temperature"),
        (b'{"model": "m", "temperature": "1"}', "temperature"),
        (b'{"model": "m", "temperature": true}', "temperature"),
        (b'{"model": "m", "n": true}', "n"),
        (b'{"model": "m", "n": 1.5}', "n"),
        (b'{"model": "m", "n": "1"}', "n"),
        (b'{"model": "m", "n": ' + b"9" * 5000 + b"}", "n"),
        (b'{"model": "m", "n": 99999999999999999999999}', "n"),
        (b'{"model": null}', "model"),
        (b"{}", "model"),
        (b'{"model": "m", "model": "k"}', "model"),
        (b'{"model": "\\ud800"}', "model"),
        (b'{"model": "m", "messages": [{"role": "user", "content": "\\udfff x"}]}', "messages[0].content"),
        (b'{"model": "m", "messages": [{"role": "user", "content": 7}]}', "messages[0].content"),
        (b'{"model": "m", "messages": [{"role": "user"}]}', "messages[0].content"),
        (
            b'{"model": "m", "messages": [{"role": "user", "content": [{"type": "text"}]}]}',
            "messages[0].content[0].text",
        ),
        (b'{"model": "m", "messages": [3]}', "messages[0]"),
        (b'{"model": "m", "stop": [1]}', "stop[0]"),
        (b'{"model": "m", "x": [0, [1e999]]}', "x[1][0]"),
        (b'{"model": "m", "x": ' + b"[" * 100 + b"]" * 100 + b"}", "x"),
    ],
)
def test_a_wrong_field_is_named(app: Any, content: bytes, param: str) -> None:
    assert refused(app, content)["param"] == param


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"   ",
        b"{",
        b"[]",
        b'"text"',
        b"NaN",
        b"{'model': 'm'}",
        b'{"model": "m"} {}',
        b'{"model": "m",}',
        b'{"model": "\xff"}',
        b'{"model": "\xc0\xaf"}',
        b'{"model": "\xed\xa0\x80"}',
        '{"model": "m"}'.encode("utf-16"),
        '{"model": "m"}'.encode("utf-32-le"),
        b'{"\\ud800": 1, "model": "m"}',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"model": "a\nb"}',
    ],
)
def test_what_is_not_a_json_object_is_refused(app: Any, content: bytes) -> None:
    refused(app, content)


def test_content_types(app: Any) -> None:
    content = b'{"model": "m"}'
    for kind in ("application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"):
        assert send(app, content, kind=kind).status_code == 200
    for wrong in (
        "text/plain",
        "application/json; charset=utf-16",
        "application/x-www-form-urlencoded",
        None,
    ):
        assert refused(app, content, 415, kind=wrong)["code"] == "unsupported_media_type"
    assert send(app, content, "/curl", "application/x-www-form-urlencoded").status_code == 200


def test_unknown_fields_are_kept_counted_and_named_once(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    metrics = app.state.service.metrics
    before = metrics.unknown_fields
    for _ in range(3):
        answer = send(app, b'{"model": "m", "brand_new": 1}')
        assert answer.json()["brand_new"] == 1
    assert metrics.unknown_fields == before + 3
    named = [record for record in caplog.records if getattr(record, "field", "") == "brand_new"]
    assert len(named) == 1
    for number in range(300):
        send(app, json.dumps({"model": "m", f"odd{number}": 1}).encode())
    assert len(app.state.unknown_fields) <= 200, "what clients send does not fill our memory"


@pytest.mark.parametrize(
    ("name", "status", "kind", "code", "param"),
    [
        ("parameter", 400, "invalid_request_error", "invalid_value", "temperature"),
        ("context", 400, "invalid_request_error", "context_length_exceeded", None),
        ("model", 404, "invalid_request_error", "model_not_found", "model"),
        ("overloaded", 503, "server_error", "overloaded", None),
        ("unavailable", 503, "server_error", "unavailable", None),
        ("deadline", 504, "timeout_error", "deadline_exceeded", None),
        ("custom", 400, "invalid_request_error", "odd", "n"),
        ("fault", 500, "server_error", "fault", None),
    ],
)
def test_errors_are_those_of_openai(
    app: Any, name: str, status: int, kind: str, code: str, param: str | None
) -> None:
    answer = send(app, b"{}", f"/raise/{name}")
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == (kind, code, param)
    assert len(error["message"]) <= 1000
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"].startswith("req_")
    if status == 503:
        seconds = {int(send(app, b"{}", f"/raise/{name}").headers["retry-after"]) for _ in range(40)}
        assert min(seconds) >= 2
        assert len(seconds) > 1 or name == "unavailable", "not all at the same time"
        assert "x-should-retry" not in answer.headers
    else:
        assert answer.headers["x-should-retry"] == "false"


def test_a_field_that_is_refused_by_name(app: Any) -> None:
    from pydantic import field_validator

    class Refusing(StrictModel):
        audio: Any = None

        @field_validator("audio")
        @classmethod
        def no_audio(cls, value: Any) -> Any:
            raise PydanticCustomError("unsupported", "not made here; leave it out")

    from tercet.server.bodies import parse_body

    with pytest.raises(ApiError) as caught:
        parse_body(b'{"audio": {"voice": "x"}}', Refusing)
    assert (caught.value.param, caught.value.code) == ("audio", "unsupported_value")
    assert caught.value.message == "audio: not made here; leave it out"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64) + 1, 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(JSON, st.booleans())
def test_json_means_what_pythons_reader_says(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert read_json(text) == value
    assert read_json(b"\xef\xbb\xbf" + text) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(JsonTextError):
        read_json(data)


def test_a_whole_number_is_whole_however_it_is_written() -> None:
    values = read_json(b"[1.0, 1e3, -0.0, 0.5, 1e300]")
    assert values == [1, 1000, 0, 0.5, 1e300]
    assert [type(value) for value in values] == [int, int, int, float, float]


def test_depth() -> None:
    assert read_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    with pytest.raises(JsonTextError, match="deep"):
        read_json(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))
