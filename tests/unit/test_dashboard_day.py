"""The last day on the dashboard: pieces of the history, read once; the slowest requests, and no others."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the package fastapi is not installed")

from tercet.monitoring.history import History
from tercet.monitoring.snapshots import Snapshot
from tercet.monitoring.watchers import Nobody
from tercet.security.events import SecurityEvent
from tercet.server.page.day import Day
from tercet.server.slow_requests import MOST, SlowRequests


def _monitor(history: History) -> Any:
    return SimpleNamespace(history=history, alerts=Nobody())


def test_pieces_add_up_and_only_what_is_new_is_read() -> None:
    now = 300.0 * (time.time() // 300)
    history, day, slow = History(), Day(), SlowRequests()
    for back in (1000, 990, 200, 190):
        history.add(Snapshot(time=now - back, period_seconds=10, requests=2, generated_tokens=50))
    told = day.told(_monitor(history), slow, now)
    assert [point.get("requests") for point in told["points"]] == [4, None, 4]
    assert told["energy"]["joules"] is None
    assert told["energy"]["reason"]
    asked: list[float] = []
    read = history.spans

    def spans(since: float) -> Any:
        asked.append(since)
        return read(since)

    history.spans = spans  # type: ignore[method-assign]
    history.add(
        Snapshot(time=now - 180, period_seconds=10, requests=1, generated_tokens=100, energy_joules=3)
    )
    told = day.told(_monitor(history), slow, now)
    assert asked == [now - 190]
    assert [point.get("requests") for point in told["points"]] == [4, None, 5]
    later = day.told(_monitor(history), slow, now + 86_400 - 500)
    assert [point.get("requests") for point in later["points"]] == [5]


def _event(number: int, seconds: float, at: float = 0.0, **fields: Any) -> SecurityEvent:
    found = {"request_id": f"r{number}", "model": "m", "seconds": seconds, "status": 200, **fields}
    return SecurityEvent("request.processed", at, f"c_{number}", found)


def test_the_slowest_requests_are_kept_for_a_day() -> None:
    slow = SlowRequests()
    timings = {"queue_seconds": 0.5, "decode_seconds": 1.5}
    summary = SimpleNamespace(metadata={"timings": timings})
    slow.settled(SimpleNamespace(request=SimpleNamespace(id="r7"), summary=summary))  # type: ignore[arg-type]
    for number in range(MOST + 20):
        slow.record(_event(number, seconds=100.0 - number))
    slow.record(SecurityEvent("request.processed", 0.0, "c", {"seconds": 999.0}))  # asked no model
    kept = slow.slowest()
    assert [one["request_id"] for one in kept] == [f"r{number}" for number in range(MOST)]
    assert (kept[7]["queue_seconds"], kept[7]["decode_seconds"]) == (0.5, 1.5)
    assert (kept[7]["client"], kept[7]["ended"]) == ("c_7", "processed")
    assert kept[8]["queue_seconds"] is None
    slow.record(_event(1000, 0.1, at=86_400.0))
    assert [one["request_id"] for one in slow.slowest()] == ["r1000"]
    assert slow.slowest(since=90_000) == []
