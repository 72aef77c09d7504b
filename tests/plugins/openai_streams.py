"""Reading streams of server-sent events as strictly as a client could."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx


def read_events(response: httpx.Response) -> list[Any]:
    """The data of every event, `"[DONE]"` and errors included; comments are left out."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    text = response.text
    assert text.endswith("\n\n")
    events = []
    for block in text.split("\n\n")[:-1]:
        lines = [line for line in block.split("\n") if not line.startswith((":", "event: "))]
        assert len(lines) <= 1
        for line in lines:
            assert line.startswith("data: ")
            data = line.removeprefix("data: ")
            events.append(data if data == "[DONE]" else json.loads(data))
    return events


def stream_events(client: httpx.Client, path: str, body: dict[str, Any]) -> list[Any]:
    """Post a body with `stream`, read everything, check that the end is there, return the rest."""
    *events, done = read_events(client.post(path, json={**body, "stream": True}))
    assert done == "[DONE]"
    return events
