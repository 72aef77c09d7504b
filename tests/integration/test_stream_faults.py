"""What a client hears when an answer fails half-way, takes too long, or is remembered."""

from __future__ import annotations

import json
from collections.abc import Callable

import openai
import pytest

from openai_streams import read_events, stream_events
from served import Server

FAULTS = "from tercet.engine.mock import Faults, inject; inject(Faults({}))"
ASK = [{"role": "user", "content": "Tell me a story."}]
CHAT = {"messages": ASK, "max_tokens": 200, "temperature": 0, "ignore_eos": True}
TEXT = {"prompt": "Once", "max_tokens": 200, "temperature": 0, "ignore_eos": True}
RESPONSE = {"input": "Tell me another story.", "max_output_tokens": 200, "temperature": 0, "ignore_eos": True}
ROUTES = [("/v1/chat/completions", CHAT), ("/v1/completions", TEXT), ("/v1/responses", RESPONSE)]


@pytest.mark.parametrize(("path", "body"), ROUTES)
def test_a_stream_that_fails_ends_with_an_error_and_without_done(
    serve: Callable[..., Server], path: str, body: dict[str, object]
) -> None:
    server = serve(first=FAULTS.format("crash_at_step=60"))
    with server.client() as client:
        events = read_events(client.post(path, json={**body, "stream": True}))
        assert len(events) > 10
        assert "[DONE]" not in events
        if path == "/v1/responses":
            report, failed = events[-2:]
            assert report["type"] == "error"
            assert failed["type"] == "response.failed"
            assert failed["response"]["status"] == "failed"
            assert failed["response"]["error"]["code"] == "server_error"
            assert failed["response"]["output"][0]["content"][0]["text"]
        else:
            error = events[-1]["error"]
            assert error["type"] == "server_error"
            assert error["param"] is None
        whole = client.post(path, json={**body, "stream": False})  # the engine goes on
        assert whole.status_code == 200


def test_the_official_client_raises_where_a_stream_fails(serve: Callable[..., Server]) -> None:
    server = serve(first=FAULTS.format("crash_at_step=60"))
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none", max_retries=0) as client:
        stream = client.chat.completions.create(
            model="llama-tercet-tiny", messages=ASK, stream=True, extra_body={"ignore_eos": True}
        )
        with pytest.raises(openai.APIError):
            list(stream)


def test_a_deadline_is_504_before_the_answer_and_an_event_behind_its_beginning(
    serve: Callable[..., Server],
) -> None:
    server = serve("--request-timeout", "1", first=FAULTS.format("delay_seconds=0.02"))
    with server.client() as client:
        for path, body in ROUTES:
            response = client.post(path, json=body)
            assert response.status_code == 504
            assert response.json()["error"]["code"] == "deadline_exceeded"
            assert "retry-after" not in response.headers
            *rest, last = read_events(client.post(path, json={**body, "stream": True}))
            assert len(rest) > 3
            assert "deadline_exceeded" in json.dumps([rest[-1], last])


def test_a_remembered_answer_says_so_and_is_the_same(serve: Callable[..., Server]) -> None:
    server = serve("--response-cache", "memory")
    with server.client() as client:
        for path, body in ROUTES:
            first, again = client.post(path, json=body), client.post(path, json=body)
            assert first.headers["x-tercet-cache"] == "miss"
            assert again.headers["x-tercet-cache"] == "hit"
            if path == "/v1/chat/completions":
                assert again.json()["choices"] == first.json()["choices"]
                pieces = stream_events(client, path, body)
                text = "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces)
                assert text == first.json()["choices"][0]["message"]["content"]
            salted = client.post(path, json={**body, "cache_salt": "mine"})
            assert salted.headers["x-tercet-cache"] == "miss"
            unseeded = {**body, "temperature": 1}
            for _ in range(2):
                assert "x-tercet-cache" not in client.post(path, json=unseeded).headers
