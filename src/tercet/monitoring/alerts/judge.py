"""`AlertManager`: judges windows by the rules, and tells of what begins and ends.

    manager = AlertManager(adjusted({"memory": {"above": 4 * 2**30}}), sinks=[WebhookSink(url=...)])
    for event in manager.observe(snapshot): ...          # what began or ended with this window
    manager.active_alerts(), manager.recent_alerts()     # what is wrong; what ended in the last six hours

Of one rule there is one alert at a time, told of once when it begins and once when it ends. Time is what
windows say they lasted, so that a clock that is set neither fires nor ends anything. A window that has not
measured a figure (no request ended, nothing was generated) says nothing about it: a wait for firing or for
the end goes on with the next one that has. After six hours without any, an alert ends as "not measured".
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tercet.monitoring.alerts.delivery import Courier, Sink
from tercet.monitoring.alerts.events import AlertEvent
from tercet.monitoring.alerts.rules import RULES, Rule
from tercet.monitoring.snapshots import Snapshot

__all__ = ["KEPT_SECONDS", "AlertManager"]

KEPT_SECONDS = 6 * 3600.0
"""How long an alert that ended stays in the list, and one that nothing confirms stays active."""
MOST_RECENT = 1000
LOG = logging.getLogger("tercet.alerts")


@dataclass
class _State:
    """One rule, and what the windows so far say about it; seconds are None where no wait has begun."""

    rule: Rule
    wrong_seconds: float | None = None
    right_seconds: float | None = None
    unseen_seconds: float = 0.0
    since: float = 0.0
    worst: float = 0.0
    alert: AlertEvent | None = None


class AlertManager:
    """Judges the windows of one service; any thread may use it.

    Args:
        rules: by what; see `adjusted` for others than the built-in ones.
        sinks: who is told, besides the log, which always is.
    """

    def __init__(self, rules: Sequence[Rule] = RULES, sinks: Iterable[Sink] = ()) -> None:
        self._states = {rule.name: _State(rule) for rule in rules if rule.figure is not None}
        self._couriers = [Courier(sink) for sink in sinks]
        self._ended: deque[tuple[float, AlertEvent]] = deque(maxlen=MOST_RECENT)
        self._elapsed = 0.0
        self._lock = threading.Lock()

    def observe(self, snapshot: Snapshot) -> list[AlertEvent]:
        """Judge a window; return what began or ended with it, after having told the log and the sinks."""
        with self._lock:
            seconds = max(snapshot.period_seconds, 0.0)
            self._elapsed += seconds
            found = [_judge(state, snapshot, seconds) for state in self._states.values()]
            events = [event for event in found if event is not None]
            self._ended.extend((self._elapsed, event) for event in events if event.state == "resolved")
            while self._ended and self._elapsed - self._ended[0][0] > KEPT_SECONDS:
                self._ended.popleft()
        for event in events:
            _log(event)
            for courier in self._couriers:
                courier.take(event)
        return events

    def active_alerts(self) -> list[AlertEvent]:
        """What is wrong now, the critical ones first, then as they began."""
        with self._lock:
            active = [state.alert for state in self._states.values() if state.alert is not None]
        return sorted(active, key=lambda alert: (alert.severity != "critical", alert.time))

    def recent_alerts(self) -> list[AlertEvent]:
        """What ended within the last six hours, the latest first."""
        with self._lock:
            return [event for _, event in reversed(self._ended)]

    def thresholds(self) -> dict[str, Any]:
        """What it judges by: name of a rule -> its threshold, times and severity."""
        return {name: state.rule.to_dict() for name, state in self._states.items()}

    def restore(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Take up what fired when the process before this one ended, so that it is not told of again.

        Args:
            events: the changes of the last six hours, as `AlertEvent.to_dict` has them, oldest first.
        """
        latest: dict[str, AlertEvent] = {}
        for values in events:
            try:
                event = AlertEvent.from_dict(values)
            except (KeyError, TypeError):  # of another release
                continue
            latest[event.rule] = event
        with self._lock:
            for name, event in latest.items():
                state = self._states.get(name)
                if state is not None and state.alert is None and event.state == "firing":
                    state.alert, state.since, state.worst = event, event.since, event.worst

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Give the sinks so long to take what waits for them."""
        for courier in self._couriers:
            courier.close(timeout_seconds)


def _judge(state: _State, snapshot: Snapshot, seconds: float) -> AlertEvent | None:
    """What a window changes about one rule."""
    rule, alert = state.rule, state.alert
    if alert is not None:
        state.alert = alert = replace(alert, seconds=alert.seconds + seconds)
    value = getattr(snapshot, rule.figure or "", None)
    if value is None or not math.isfinite(value):
        state.unseen_seconds += seconds
        if state.unseen_seconds < KEPT_SECONDS:
            return None
        state.wrong_seconds = None
        return None if alert is None else _end(state, alert, snapshot, "was not measured for six hours")
    state.unseen_seconds = 0.0
    if alert is None:
        if not rule.is_beyond(value):
            state.wrong_seconds = None
            return None
        if state.wrong_seconds is None:
            state.wrong_seconds, state.since, state.worst = 0.0, snapshot.time, value
        else:
            state.wrong_seconds += seconds
            state.worst = rule.worse(state.worst, value)
        return _begin(state, snapshot.time, value) if state.wrong_seconds >= rule.hold_seconds else None
    state.worst = rule.worse(state.worst, value)
    state.alert = alert = replace(alert, value=value, worst=state.worst, message=rule.describe(value))
    if not rule.is_clear(value):
        state.right_seconds = None
        return None
    state.right_seconds = 0.0 if state.right_seconds is None else state.right_seconds + seconds
    return _end(state, alert, snapshot, "is over") if state.right_seconds >= rule.clear_seconds else None


def _begin(state: _State, time: float, value: float) -> AlertEvent:
    rule = state.rule
    state.wrong_seconds = state.right_seconds = None
    state.alert = AlertEvent(
        id=f"{rule.name}-{round(1000 * time)}",
        rule=rule.name,
        state="firing",
        severity=rule.severity,
        time=time,
        since=state.since,
        seconds=0.0,
        value=value,
        worst=state.worst,
        threshold=rule.threshold,
        message=f"{rule.describe(value)} {rule.advice}",
    )
    return state.alert


def _end(state: _State, alert: AlertEvent, snapshot: Snapshot, how: str) -> AlertEvent:
    state.alert = state.wrong_seconds = state.right_seconds = None
    state.unseen_seconds = 0.0
    message = f"The alert {alert.rule} {how}; it fired for {alert.seconds:,.0f} s."
    return replace(alert, state="resolved", time=snapshot.time, message=message)


def _log(event: AlertEvent) -> None:
    level = logging.INFO
    if event.state == "firing":
        level = logging.ERROR if event.severity == "critical" else logging.WARNING
    LOG.log(
        level,
        f"alert {event.state}",
        extra={
            "alert": event.rule,
            "severity": event.severity,
            "value": event.value,
            "worst": event.worst,
            "threshold": event.threshold,
            "seconds": round(event.seconds, 3),
            "words": event.message,
            "alert_id": event.id,
        },
    )
