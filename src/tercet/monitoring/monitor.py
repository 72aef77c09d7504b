"""`Monitor`: history, alerts and summary for a program that has an engine of its own; and for a service.

    with Monitor(interval=60) as monitor:
        ...
        monitor.record_request(success=True, generation_time=1.8, tokens_generated=64)
        ...
        print(monitor.summary(hours=1)["rates"])
        monitor.export("today.json", hours=24)

What such a program does not tell, as requests that wait or the time to the first token, is None.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tercet.errors import ParameterError
from tercet.monitoring.alerts.judge import KEPT_SECONDS, AlertManager
from tercet.monitoring.energy import EnergyMeter
from tercet.monitoring.export import export, report
from tercet.monitoring.history import History
from tercet.monitoring.machine import MachineReading
from tercet.monitoring.metrics import ServiceMetrics
from tercet.monitoring.readings import Reading, Tally, service_reading
from tercet.monitoring.sampler import Sampler, steady_seconds
from tercet.monitoring.spans import Span
from tercet.monitoring.summary import summarize
from tercet.monitoring.watchers import Event, Watcher

__all__ = ["Monitor", "Monitoring", "ServiceMonitor", "default_watcher"]

_Own = TypeVar("_Own", bound="Monitoring")


def default_watcher() -> Watcher:
    """What judges windows where nothing else is asked for."""
    return AlertManager()


class Monitoring:
    """A sampler, its history and its alerts. Any thread may use it.

    Args:
        read: what has been counted so far.
        interval: seconds of a window.
        history: a file that outlives the process; None keeps everything in memory.
        alerts: what judges each window; None takes the default rules.
        machine, energy, clock, wall: as of `Sampler` (`read_machine` there), other ones in tests.

    Raises:
        ParameterError: the interval is not above 0.
    """

    def __init__(
        self,
        read: Callable[[], Reading],
        interval: float = 60.0,
        *,
        history: str | Path | None = None,
        alerts: Watcher | None = None,
        machine: Callable[[], MachineReading] | None = None,
        energy: EnergyMeter | None = None,
        clock: Callable[[], float] = steady_seconds,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.alerts = alerts if alerts is not None else default_watcher()
        self.history = History(None if history is None else Path(history))
        self._wall = wall
        self.alerts.restore(self.history.alerts(wall() - KEPT_SECONDS))
        self._sampler = Sampler(
            read,
            self.history,
            interval_seconds=interval,
            watcher=self.alerts,
            read_machine=machine,
            energy=energy,
            clock=clock,
            wall=wall,
        )
        self._sampler.begin()

    def start(self) -> None:
        """Sample from now on, in a thread of its own."""
        self._sampler.start()

    def stop(self) -> None:
        """Store the last window and sample no more; what was stored can still be asked for."""
        self._sampler.stop()

    def sample(self) -> None:
        """End a window now, whether or not the thread runs."""
        self._sampler.sample()

    def summary(self, hours: float = 24.0) -> dict[str, Any]:
        """The last hours in a few figures, the window that has just begun included: see `summarize`."""
        return summarize(self._spans(hours), hours)

    def active_alerts(self) -> list[Event]:
        """What is wrong now, as of the last window."""
        return list(self.alerts.active_alerts())

    def export(self, path: str | Path, hours: float = 24.0) -> None:
        """Write the last hours to a file, as JSON, CSV or Parquet by its name: see `report`.

        Raises:
            ParameterError: the name ends in none of these.
            StorageError: the file cannot be written; everything goes on.
        """
        content = report(
            self._spans(hours),
            self.history.alerts(self._wall() - hours * 3600),
            hours=hours,
            thresholds=self.alerts.thresholds(),
            active=[one.to_dict() for one in self.active_alerts()],
        )
        export(path, content)

    def close(self) -> None:
        """Stop, and let go of the file."""
        self._sampler.close()
        self.alerts.close()
        self.history.close()

    def _spans(self, hours: float) -> list[Span]:
        if not hours > 0:
            raise ParameterError(f"hours is a number above 0, not {hours!r}")
        spans = self.history.spans(self._wall() - hours * 3600)
        begun = self._sampler.peek()
        if begun is not None and begun.requests:
            spans.append(Span.of(begun))
        return spans

    def __enter__(self: _Own) -> _Own:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class ServiceMonitor(Monitoring):
    """Watches a service; `options` as of `Monitoring`."""

    def __init__(self, metrics: ServiceMetrics, interval: float = 60.0, **options: Any) -> None:
        super().__init__(lambda: service_reading(metrics), interval, **options)


class Monitor(Monitoring):
    """Watches the process that it lives in, and the requests it is told of; `options` as of `Monitoring`."""

    def __init__(
        self,
        interval: float = 60.0,
        *,
        clock: Callable[[], float] = steady_seconds,
        **options: Any,
    ) -> None:
        self._tally = Tally(clock)
        super().__init__(self._tally.reading, interval, clock=clock, **options)

    def record_request(
        self, success: bool, generation_time: float, tokens_generated: int = 0, cache_hit: bool = False
    ) -> None:
        """Count a request that has just ended.

        Args:
            success: whether it was answered.
            generation_time: seconds from its arrival to its end; those of failures are in no latency.
            tokens_generated: of its answer.
            cache_hit: whether the answer came out of a cache.

        Raises:
            ParameterError: a negative time, or a negative or broken number of tokens.
        """
        if not (math.isfinite(generation_time) and generation_time >= 0):
            raise ParameterError(f"generation_time is a number of seconds, not {generation_time!r}")
        if int(tokens_generated) != tokens_generated or tokens_generated < 0:
            raise ParameterError(f"tokens_generated is a whole number from 0, not {tokens_generated!r}")
        self._tally.record(bool(success), float(generation_time), int(tokens_generated), bool(cache_hit))
