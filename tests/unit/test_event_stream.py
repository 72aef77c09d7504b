"""Streams of server-sent events: order, errors before and after the first event, silence, clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from starlette.requests import ClientDisconnect, Request

from tercet.errors import DeadlineError, ParameterError
from tercet.server.streaming.disconnect import unless_disconnected
from tercet.server.streaming.events import DONE, KEEP_ALIVE, event, named_event
from tercet.server.streaming.response import EventStream


class Client:
    """The server's side of a connection: what it was sent, and when it leaves."""

    def __init__(self, leaves_after: float | None = None) -> None:
        self.messages: list[dict] = []
        self.leaves_after = leaves_after

    async def receive(self) -> dict:
        await asyncio.sleep(3600 if self.leaves_after is None else self.leaves_after)
        return {"type": "http.disconnect"}

    async def send(self, message: dict) -> None:
        self.messages.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


class Source:
    """Events, or exceptions, each after a rest; remembers that it was closed."""

    def __init__(self, *steps: bytes | Exception | float) -> None:
        self.steps, self.closed = steps, False

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        try:
            for step in self.steps:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    yield step
        finally:
            self.closed = True


def sent(source: Source, client: Client, keep_alive_seconds: float = 15.0) -> list[dict]:
    stream = EventStream(source(), keep_alive_seconds)
    asyncio.run(stream({"type": "http"}, client.receive, client.send))
    return client.messages


def test_events_are_ascii_and_whole_for_clients_that_split_lines_generously() -> None:
    encoded = event({"text": "a\u2028b\x85c\n\U0001f600"})
    assert encoded.isascii() and len(encoded.decode().splitlines()) == 2
    assert json.loads(encoded[6:])["text"] == "a\u2028b\x85c\n\U0001f600"
    assert named_event("response.created", {"a": 1}) == b'event: response.created\ndata: {"a":1}\n\n'


def test_events_are_sent_in_order_with_headers_for_proxies() -> None:
    source, client = Source(event({"a": 1}), event({"b": 2}), DONE), Client()
    start, *bodies = sent(source, client)
    headers = dict(start["headers"])
    assert start["status"] == 200 and headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"x-accel-buffering"] == b"no" and b"content-length" not in headers
    assert [body["body"] for body in bodies] == [b'data: {"a":1}\n\n', b'data: {"b":2}\n\n', DONE, b""]
    assert [body["more_body"] for body in bodies] == [True, True, True, False]
    assert source.closed


def test_an_error_before_the_first_event_is_left_to_the_handlers_of_errors() -> None:
    source, client = Source(ParameterError("seed is odd")), Client()
    with pytest.raises(ParameterError):
        sent(source, client)
    assert client.messages == [] and source.closed


def test_an_error_after_the_first_event_is_the_last_event_and_done_does_not_follow() -> None:
    source, client = Source(event({"a": 1}), DeadlineError("too late")), Client()
    sent(source, client)
    first, last, rest = client.body.split(b"\n\n")
    assert first == b'data: {"a":1}' and rest == b""
    error = json.loads(last[6:])["error"]
    assert error["message"] == "too late" and error["code"] == "deadline_exceeded" and error["param"] is None
    assert client.messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


def test_silence_is_filled_with_comments_before_and_between_events() -> None:
    source, client = Source(0.25, event({"a": 1}), 0.25, DONE), Client()
    sent(source, client, keep_alive_seconds=0.1)
    before, after = client.body.split(b'data: {"a":1}\n\n')
    assert before == 2 * KEEP_ALIVE and after == 2 * KEEP_ALIVE + DONE


@pytest.mark.parametrize("steps", [(event({"a": 1}), 60.0), (event({"a": 1}),) * 2 + (60.0, DONE)])
def test_a_client_that_leaves_ends_the_work(steps: tuple) -> None:
    source, client = Source(*steps), Client(leaves_after=0.05)
    sent(source, client)
    assert source.closed and DONE not in client.body


def test_a_client_that_leaves_before_the_first_event_is_reported() -> None:
    source, client = Source(60.0), Client(leaves_after=0.05)
    with pytest.raises(ClientDisconnect):
        sent(source, client)
    assert source.closed and client.messages == []


def test_a_reader_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tercet.server.streaming.response.STALL_SECONDS", 0.1)
    source, client = Source(event({"a": 1}), event({"b": 2})), Client()

    async def stuck(message: dict) -> None:
        client.messages.append(message)
        if message["type"] == "http.response.body":
            await asyncio.sleep(3600)

    stream = EventStream(source(), keep_alive_seconds=0.05)
    asyncio.run(asyncio.wait_for(stream({"type": "http"}, client.receive, stuck), 5))
    assert source.closed and len(client.messages) == 2


def test_work_for_a_whole_answer_ends_with_its_client() -> None:
    ended = []

    async def work() -> str:
        try:
            await asyncio.sleep(0.2)
            return "answer"
        finally:
            ended.append(True)

    async def scene(client: Client) -> str:
        return await unless_disconnected(Request({"type": "http"}, client.receive), work())

    assert asyncio.run(scene(Client())) == "answer"
    with pytest.raises(ClientDisconnect):
        asyncio.run(scene(Client(leaves_after=0.01)))
    assert ended == [True, True]
