"""Alerts: what must not be, for how long it may be nevertheless, and who is told.

rules       what is judged: one table, also of the rules for Prometheus
judge       judges window after window: what begins, what ends
delivery    the way to sinks that may be slow or dead
sinks       webhook, email, command; the log is always told
settings    other thresholds, and sinks, from a file
prometheus  the same rules for Prometheus, as the file that it reads
"""

from __future__ import annotations

from tercet.monitoring.alerts.delivery import DeliveryError, Sink
from tercet.monitoring.alerts.events import AlertEvent
from tercet.monitoring.alerts.judge import AlertManager
from tercet.monitoring.alerts.rules import RULES, Rule, adjusted

__all__ = [
    "RULES",
    "AlertEvent",
    "AlertManager",
    "DeliveryError",
    "Rule",
    "Sink",
    "adjusted",
]
