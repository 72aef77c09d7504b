"""What a server says of itself in `/metrics`, read as numbers."""

from __future__ import annotations

import re
import time
from collections import defaultdict

from served import Server

_SAMPLE = re.compile(r"([\w:]+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Watch:
    """What a server says of itself in `/metrics`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def sums(self) -> dict[str, float]:
        """Name -> the sum over all labels; by state, kind and code where there are these labels."""
        with self._server.client() as client:
            lines = client.get("/metrics").text.splitlines()
        totals: dict[str, float] = defaultdict(float)
        for line in lines:
            if not line.startswith("#") and (match := _SAMPLE.fullmatch(line)) is not None:
                labels = dict(_LABEL.findall(match[2] or ""))
                split = [labels[key] for key in ("state", "kind", "code") if key in labels]
                totals[".".join([match[1], *split])] += float(match[3])
        return dict(totals)

    def when_idle(self, seconds: float = 60) -> dict[str, float]:
        """The sums as soon as nothing runs, waits or owns memory any more, and connections are closed."""
        end = time.monotonic() + seconds
        while True:
            found = self.sums()
            busy = found["tercet_requests_in_flight"] + found["tercet_kv_blocks.owned"]
            if not busy or time.monotonic() > end:
                return found
            time.sleep(0.1)
