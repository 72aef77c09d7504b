"""Whether a server still works for clients that have left."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from served import Server

SECONDS = 3.0


def assert_idle(server: Server) -> None:
    """Fail unless within a moment nothing runs or waits any more, by the server's own metrics."""
    end = time.monotonic() + SECONDS
    found: list[str] = []
    with server.client() as client:
        while time.monotonic() < end:
            metrics = client.get("/metrics").text
            found = re.findall(r"^vllm:num_requests_(?:running|waiting)\{.*\} (\S+)", metrics, re.M)
            if found and not any(map(float, found)):
                return
            time.sleep(0.02)
    pytest.fail(f"requests go on without their client: {found}")
