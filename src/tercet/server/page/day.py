"""The last 24 hours for the dashboard: the history in pieces of five minutes, alerts, slow requests, energy.

The history is read once, and afterwards only what has come since: it may be many thousand windows.
"""

from __future__ import annotations

import threading
from itertools import groupby
from typing import TYPE_CHECKING, Any

from tercet.monitoring.footprint import footprint
from tercet.monitoring.spans import Span, merged

if TYPE_CHECKING:
    from tercet.monitoring.monitor import ServiceMonitor
    from tercet.server.slow_requests import SlowRequests

__all__ = ["Day"]

HOURS = 24.0
PIECE_SECONDS = 300
SHOWN_SLOW = 20
FIGURES = (
    *("generated_tokens_per_second", "prompt_tokens_per_second", "generating_tokens_per_second"),
    *("requests", "failed", "error_rate", "cache_hit_rate"),
    *("latency_average_seconds", "latency_p95_seconds", "first_token_p95_seconds", "inter_token_p95_seconds"),
    *("process_cpu_percent", "machine_cpu_percent", "resident_memory_bytes", "kv_cache_used"),
)


class Day:
    """Keeps the pieces of one monitor's history; any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pieces: list[Span] = []
        self._until = float("-inf")
        self._unmeasured: str | None = None

    def told(self, monitor: ServiceMonitor, slow: SlowRequests, now: float) -> dict[str, Any]:
        """What `/dashboard/day.json` answers; takes a while, so in a thread."""
        begin = now - HOURS * 3600
        pieces = self._read(monitor, begin)
        energy = footprint(pieces, HOURS)
        if energy["joules"] is None:
            energy["reason"] = self._reason()
        return {
            "time": now,
            "hours": HOURS,
            "points": _points(pieces),
            "alerts": {
                "active": [one.to_dict() for one in monitor.alerts.active_alerts()],
                "recent": [one.to_dict() for one in monitor.alerts.recent_alerts()],
            },
            "slow_requests": slow.slowest(begin)[:SHOWN_SLOW],
            "energy": energy,
        }

    def _read(self, monitor: ServiceMonitor, begin: float) -> list[Span]:
        with self._lock:
            new = monitor.history.spans(max(self._until, begin))
            for _, group in groupby(new, _piece_of):
                pieces = list(group)
                if self._pieces and _piece_of(self._pieces[-1]) == _piece_of(pieces[0]):
                    pieces.insert(0, self._pieces.pop())
                self._pieces.append(merged(pieces))
            self._until = max([self._until, *(one.snapshot.time for one in new)])
            self._pieces = [one for one in self._pieces if one.snapshot.time > begin]
            return list(self._pieces)

    def _reason(self) -> str:
        """Why no energy is measured."""
        if self._unmeasured is None:
            from tercet.monitoring.energy import EnergyMeter

            with EnergyMeter() as meter:
                pass
            self._unmeasured = meter.reason or "nothing was recorded yet"
        return self._unmeasured


def _piece_of(span: Span) -> int:
    return int(span.snapshot.time // PIECE_SECONDS)


def _points(pieces: list[Span]) -> list[dict[str, float | None]]:
    """A point for each piece, and one without values where nothing was recorded."""
    points: list[dict[str, float | None]] = []
    last = None
    for one in pieces:
        snapshot = one.snapshot
        begin = snapshot.time - snapshot.period_seconds
        if last is not None and begin - last > PIECE_SECONDS:
            points.append({"time": (begin + last) / 2})
        points.append({"time": snapshot.time, **{name: getattr(snapshot, name) for name in FIGURES}})
        last = snapshot.time
    return points
