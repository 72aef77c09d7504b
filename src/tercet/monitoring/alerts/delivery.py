"""The way of alerts to people: a thread for each sink, so that a dead one holds nobody up.

A sink that fails is tried again, after one second, two, four, up to a minute; then its alert is given up for
this sink (the log and the history have it), with one warning until something gets through again.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Protocol

from tercet.monitoring.alerts.events import AlertEvent
from tercet.monitoring.alerts.rules import Severity

__all__ = ["Courier", "DeliveryError", "Sink"]

ATTEMPTS = 7
LONGEST_PAUSE = 60.0
MOST_WAITING = 1000
LOG = logging.getLogger("tercet.alerts")


class DeliveryError(Exception):
    """A sink has not taken an alert: why, whether to try again, and after how many seconds at the least."""

    def __init__(self, why: str, *, again: bool = True, after_seconds: float = 0.0) -> None:
        super().__init__(why)
        self.again = again
        self.after_seconds = after_seconds


class Sink(Protocol):
    """Somewhere that alerts are sent to."""

    @property
    def severity(self) -> Severity:
        """The least that it is told of."""

    @property
    def label(self) -> str:
        """What it is called in the log, without anything secret."""

    def send(self, event: AlertEvent) -> None:
        """Send one, within seconds.

        Raises:
            DeliveryError: it was not taken.
        """


class Courier:
    """Brings alerts to one sink, in order; its thread begins with the first.

    Args:
        sink: where to.
        attempts: how often one is tried.
        first_pause: seconds before the second time; they double from time to time.
    """

    def __init__(self, sink: Sink, attempts: int = ATTEMPTS, first_pause: float = 1.0) -> None:
        self._sink = sink
        self._attempts = attempts
        self._first_pause = first_pause
        self._waiting: deque[AlertEvent] = deque(maxlen=MOST_WAITING)
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = False

    def take(self, event: AlertEvent) -> None:
        """Send it soon; never waits."""
        if self._sink.severity == "critical" and event.severity != "critical":
            return
        with self._news:
            if self._closing.is_set():
                return
            if len(self._waiting) == MOST_WAITING:
                self._failed(self._waiting[0], "too many wait for it")
            self._waiting.append(event)
            if self._thread is None:
                name = f"tercet-alerts {self._sink.label}"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()
            self._news.notify()

    def close(self, timeout_seconds: float) -> None:
        """Send what waits, each once, as far as the time goes; then no more."""
        with self._news:
            self._closing.set()
            self._news.notify()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while True:
            with self._news:
                while not self._waiting and not self._closing.is_set():
                    self._news.wait()
                if not self._waiting:
                    return
                event = self._waiting.popleft()
            self._bring(event)

    def _bring(self, event: AlertEvent) -> None:
        why = ""
        for attempt in range(self._attempts):
            try:
                self._sink.send(event)
            except DeliveryError as error:
                why = str(error)
                if not error.again:
                    break
                pause = min(self._first_pause * 2**attempt, LONGEST_PAUSE)
                pause = min(max(pause, error.after_seconds), LONGEST_PAUSE)
            except Exception as error:  # a thread that ended here would be silence ever after
                why = f"{type(error).__name__} within the sink"
                break
            else:
                self._failing = False
                return
            if attempt + 1 == self._attempts or self._closing.wait(pause):
                break
        self._failed(event, why)

    def _failed(self, event: AlertEvent, why: str) -> None:
        if not self._failing:
            self._failing = True
            LOG.warning(
                "an alert could not be sent, nor may those that follow",
                extra={"sink": self._sink.label, "alert": event.rule, "alert_id": event.id, "why": why},
            )
