"""Server-sent events: order, errors before and after the first event, silence, clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest

from tercet.errors import DeadlineError, ParameterError
from tercet.server.streaming.events import DONE, KEEP_ALIVE, event, named_event
from tercet.server.streaming.response import EventStream


class Client:
    """The server's side of a connection: what it was sent."""

    def __init__(self) -> None:
        self.messages: list[dict] = []

    async def receive(self) -> dict:
        raise AssertionError("a stream does not listen")

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
    stream = EventStream(source(), keep_alive_seconds=keep_alive_seconds)
    asyncio.run(stream({"type": "http"}, client.receive, client.send))
    return client.messages


def test_events_are_ascii_and_whole_for_clients_that_split_lines_generously() -> None:
    encoded = event({"text": "a\u2028b\x85c\n\U0001f600"})
    assert encoded.isascii()
    assert len(encoded.decode().splitlines()) == 2
    assert json.loads(encoded[6:])["text"] == "a\u2028b\x85c\n\U0001f600"
    assert named_event("response.created", {"a": 1}) == b'event: response.created\ndata: {"a":1}\n\n'


def test_events_are_sent_in_order_with_headers_for_proxies() -> None:
    source, client = Source(event({"a": 1}), event({"b": 2}), DONE), Client()
    start, *bodies = sent(source, client)
    headers = dict(start["headers"])
    assert start["status"] == 200
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"x-accel-buffering"] == b"no"
    assert b"content-length" not in headers
    assert [body["body"] for body in bodies] == [b'data: {"a":1}\n\n', b'data: {"b":2}\n\n', DONE, b""]
    assert [body["more_body"] for body in bodies] == [True, True, True, False]
    assert source.closed


def test_an_error_before_the_first_event_is_left_to_the_handlers_of_errors() -> None:
    source, client = Source(ParameterError("seed is odd")), Client()
    with pytest.raises(ParameterError):
        sent(source, client)
    assert client.messages == []
    assert source.closed


def test_an_error_after_the_first_event_is_the_last_event_and_done_does_not_follow() -> None:
    source, client = Source(event({"a": 1}), DeadlineError("too late")), Client()
    sent(source, client)
    first, last, rest = client.body.split(b"\n\n")
    assert first == b'data: {"a":1}'
    assert rest == b""
    error = json.loads(last[6:])["error"]
    assert error["message"] == "too late"
    assert error["code"] == "deadline_exceeded"
    assert error["param"] is None
    assert client.messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


def test_silence_is_filled_with_comments_before_and_between_events() -> None:
    source, client = Source(0.25, event({"a": 1}), 0.25, DONE), Client()
    sent(source, client, keep_alive_seconds=0.1)
    before, after = client.body.split(b'data: {"a":1}\n\n')
    assert before == 2 * KEEP_ALIVE
    assert after == 2 * KEEP_ALIVE + DONE


@pytest.mark.parametrize("steps", [(event({"a": 1}), 60.0), (60.0, DONE)])
def test_a_client_that_leaves_ends_the_work(steps: tuple) -> None:
    source, client = Source(*steps), Client()

    async def scene() -> None:
        route = asyncio.ensure_future(EventStream(source())({"type": "http"}, client.receive, client.send))
        await asyncio.sleep(0.05)
        route.cancel()  # as the middleware does
        with pytest.raises(asyncio.CancelledError):
            await route
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scene())
    assert source.closed
    assert DONE not in client.body
