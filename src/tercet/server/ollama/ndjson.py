"""A stream of JSON objects, one a line."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from tercet.server.ollama.errors import ollama_error
from tercet.server.streaming.response import EventStream

__all__ = ["LineStream", "line"]

DAY_SECONDS = 86_400.0


class LineStream(EventStream):
    """Sends lines as they come; the form has no comments, so silence is not filled."""

    media_type = "application/x-ndjson"

    def __init__(self, lines: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        super().__init__(
            lines,
            headers=headers,
            failed=lambda error: line(ollama_error(error)[1]),
            keep_alive_seconds=DAY_SECONDS,
        )


def line(data: Mapping[str, Any]) -> bytes:
    """Return an object as a line. It is ASCII, so that whoever splits at U+2028 finds it whole."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode() + b"\n"
