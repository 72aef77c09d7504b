"""One server-sent event as bytes (WHATWG HTML, section 9.2).

All of it is ASCII: a client that splits lines at U+2028 or U+0085, as Python's `str.splitlines` does, then
finds each event whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["DONE", "KEEP_ALIVE", "event", "named_event"]

DONE = b"data: [DONE]\n\n"
"""What OpenAI's streams end with, when they end well."""
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which clients skip; proxies see that the connection is in use."""


def event(data: Mapping[str, Any]) -> bytes:
    """Return an event that carries a JSON object."""
    return b"data: " + _json(data) + b"\n\n"


def named_event(name: str, data: Mapping[str, Any]) -> bytes:
    """Return an event with a name, as the Responses API has them, that carries a JSON object."""
    return b"event: " + name.encode() + b"\ndata: " + _json(data) + b"\n\n"


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode()
