"""A client of `/v1/completions` that notes when what came: one connection, one streamed answer.

It is made of the standard library and little else, since it runs on the machine that it measures:
what a client computes, the server lacks.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tercet.errors import TercetError

__all__ = ["StreamedAnswer", "stream_all", "stream_completion"]

TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class StreamedAnswer:
    """What one request gave, and when: seconds of `time.perf_counter`."""

    sent_at: float
    first_at: float
    """When the first text was there."""
    last_at: float
    """When the stream ended."""
    num_tokens: int
    cached_tokens: int
    text: str

    @property
    def seconds_to_first(self) -> float:
        """From the sending of the request to the first text."""
        return self.first_at - self.sent_at


def stream_completion(
    base_url: str, prompt: Sequence[int] | str, tokens: int, **fields: Any
) -> StreamedAnswer:
    """Ask for a greedy answer of so many tokens, and read it to its end.

    Args:
        base_url: of the server, without a path.
        prompt: token ids, or a text.
        tokens: how many to generate; an end token does not end the answer.
        fields: further fields of the request.

    Raises:
        TercetError: the server answered with an error, or the stream broke off.
    """
    body = {
        "prompt": prompt if isinstance(prompt, str) else list(prompt),
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        **fields,
    }
    address = urlsplit(base_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_SECONDS)
    with contextlib.closing(connection):
        connection.connect()
        encoded = json.dumps(body)
        sent_at = time.perf_counter()
        connection.request("POST", "/v1/completions", encoded, {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise TercetError(f"the server answered {response.status}: {response.read(2000)!r}")
        return _read(response, sent_at)


def stream_all(
    base_url: str, prompts: Sequence[Sequence[int] | str], tokens: int, **fields: Any
) -> list[StreamedAnswer]:
    """Stream the answers to all prompts at once, each over a connection of its own."""
    with ThreadPoolExecutor(len(prompts)) as pool:
        return list(pool.map(lambda prompt: stream_completion(base_url, prompt, tokens, **fields), prompts))


def _read(response: http.client.HTTPResponse, sent_at: float) -> StreamedAnswer:
    first_at, pieces = 0.0, []
    usage: dict[str, Any] = {}
    for line in response:
        if not line.startswith(b"data: "):
            continue
        if line.startswith(b"data: [DONE]"):
            break
        data = json.loads(line[6:])
        if "error" in data:
            raise TercetError(f"the server ended a stream: {data['error']}")
        if text := "".join(choice["text"] for choice in data["choices"]):
            first_at = first_at or time.perf_counter()
            pieces.append(text)
        usage = data.get("usage") or usage
    else:
        raise TercetError("the server ended a stream before it was complete")
    last_at = time.perf_counter()
    return StreamedAnswer(
        sent_at,
        first_at or last_at,
        last_at,
        usage["completion_tokens"],
        usage["prompt_tokens_details"]["cached_tokens"],
        "".join(pieces),
    )
