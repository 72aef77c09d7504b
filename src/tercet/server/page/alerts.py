"""What an operator should look at now: limits that are nearly reached.

These look at one moment. What has to be watched over time (failures, latency) needs a history.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tercet.service.settings import ServiceSettings

NEARLY = 0.8
CACHE_FULL = 0.95


class Alert(NamedTuple):
    """Something to look at: `severity` is "warning" or "critical"; the title fits into a line of a phone."""

    severity: str
    title: str
    message: str


def active_alerts(now: Mapping[str, float], settings: ServiceSettings) -> list[dict[str, str]]:
    """The alerts of this moment, the critical ones first."""
    alerts = []
    waiting, tokens = now["requests_waiting"], now["waiting_tokens"]
    age, busy = now["engine_tick_age_seconds"], now["requests_running"] + waiting > 0
    if busy and age > settings.stuck_after_seconds:
        message = f"Requests wait, and for {age:.0f} s the engine has not moved."
        alerts.append(Alert("critical", "Engine stands still", message))
    if waiting >= NEARLY * settings.max_queued_requests:
        message = f"{waiting:.0f} of {settings.max_queued_requests} requests wait; more would be refused."
        alerts.append(Alert("warning", "Queue nearly full", message))
    elif tokens >= NEARLY * settings.max_queued_tokens:
        message = f"{tokens:.0f} of {settings.max_queued_tokens} tokens wait; more would be refused."
        alerts.append(Alert("warning", "Queue nearly full", message))
    if now["kv_cache_used"] >= CACHE_FULL:
        message = f"{now['kv_cache_used']:.0%} are in use; requests may be set aside and computed again."
        alerts.append(Alert("warning", "Context memory full", message))
    return [alert._asdict() for alert in alerts]
