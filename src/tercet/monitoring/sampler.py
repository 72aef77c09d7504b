"""A thread that looks every so often, and stores what it saw.

    sampler = Sampler(lambda: service_reading(metrics), History(path), interval_seconds=60)
    sampler.start()
    ...
    sampler.stop()          # the last window, however short, is stored too

Nothing that goes wrong in here reaches the program that is watched: each kind of trouble is one warning in
the log, until it is over, and the next window is tried as if nothing had been.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from tercet.errors import ParameterError
from tercet.monitoring.energy import EnergyMeter
from tercet.monitoring.history import History
from tercet.monitoring.machine import GpuMemory, MachineReading, read_machine
from tercet.monitoring.readings import Moment, Reading, snapshot_between
from tercet.monitoring.snapshots import Snapshot
from tercet.monitoring.watchers import Watcher

__all__ = ["Sampler", "steady_seconds"]

STOP_SECONDS = 5.0
JUMP_SECONDS = 2.0
"""By how much the time of day and the clock that nobody sets may differ after a window."""
_LOG = logging.getLogger("tercet.monitoring")


def steady_seconds() -> float:
    """A clock that nobody sets, and that counts the time in which the machine sleeps where one does."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Sampler:
    """Samples one service.

    Args:
        read: what has been counted so far; called in the sampler's thread.
        history: where windows go.
        interval_seconds: how long a window is.
        watcher: who looks at each, if anybody does.
        read_machine: memory and processors; None takes this machine.
        energy: what measures joules; None takes this machine's counters.
        clock, wall: seconds that nobody sets, and the time of day.
    """

    def __init__(
        self,
        read: Callable[[], Reading],
        history: History,
        *,
        interval_seconds: float = 60.0,
        watcher: Watcher | None = None,
        read_machine: Callable[[], MachineReading] | None = None,
        energy: EnergyMeter | None = None,
        clock: Callable[[], float] = steady_seconds,
        wall: Callable[[], float] = time.time,
    ) -> None:
        if not interval_seconds > 0:
            raise ParameterError(f"the interval is a number of seconds above 0, not {interval_seconds!r}")
        self.history = history
        self.interval_seconds = interval_seconds
        self.latest: Snapshot | None = None
        self._read = read
        self._watcher = watcher
        self._read_machine = read_machine or _this_machine()
        self._energy = (energy or EnergyMeter()).__enter__()
        self._clock, self._wall = clock, wall
        self._lock = threading.Lock()
        self._before: Moment | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._troubles: set[str] = set()

    def begin(self) -> None:
        """The first window begins now."""
        with self._lock, self._trouble("sampler cannot read the service"):
            self._before = self._look()

    def start(self) -> None:
        """Sample from now on, in a thread of its own."""
        if self._thread is None:
            if self._before is None:
                self.begin()
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="tercet-monitor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the last window and store it. The history stays open."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set()
        thread.join(STOP_SECONDS)
        self.sample()

    def close(self) -> None:
        """Stop, and store what was counted since if it never ran."""
        self.stop()
        begun = self.peek()
        if begun is not None and begun.requests:
            self.sample()
        self._energy.__exit__(None, None, None)

    def sample(self) -> Snapshot | None:
        """End a window now, store it and begin the next; None if it could not be read."""
        with self._lock:
            snapshot = None
            with self._trouble("sampler cannot read the service"):
                after = self._look()
                if self._before is not None:
                    snapshot = snapshot_between(self._before, after)
                    self._notice_jump(self._before, after)
                self._before = after
            if snapshot is None:
                return None
            self.latest = snapshot
            events: list[dict[str, Any]] = []
            if self._watcher is not None:
                with self._trouble("alerts cannot be judged"):
                    events = [one.to_dict() for one in self._watcher.observe(snapshot)]
            with self._trouble("history cannot take a window"):
                self.history.add(snapshot, events)
            return snapshot

    def peek(self) -> Snapshot | None:
        """The window that has begun, as if it ended now; it goes on, and nothing is stored."""
        with self._lock:
            if self._before is not None:
                with self._trouble("sampler cannot read the service"):
                    return snapshot_between(self._before, self._look())
            return None

    def _look(self) -> Moment:
        return Moment(
            time=self._wall(),
            elapsed=self._clock(),
            reading=self._read(),
            machine=self._read_machine(),
            joules=self._energy.so_far(),
        )

    def _run(self) -> None:
        due = self._clock() + self.interval_seconds
        while not self._stop.wait(max(due - self._clock(), 0.0)):
            self.sample()
            # Windows that a sleeping or overloaded machine has missed are not made up for.
            due = max(due + self.interval_seconds, self._clock())

    def _notice_jump(self, before: Moment, after: Moment) -> None:
        """Tell of a clock that was set: times of windows before and after do not fit together."""
        drift = (after.time - before.time) - (after.elapsed - before.elapsed)
        if abs(drift) > JUMP_SECONDS:
            _LOG.warning(
                "the clock of the machine was set; the history goes on at the new time",
                extra={"seconds": round(drift, 3)},
            )

    def _trouble(self, words: str) -> contextlib.AbstractContextManager[None]:
        return _OneWarning(words, self._troubles)


class _OneWarning(contextlib.AbstractContextManager[None]):
    """Keeps what is raised inside, and tells of it once, until all is well again."""

    def __init__(self, words: str, troubles: set[str]) -> None:
        self._words = words
        self._troubles = troubles

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> bool:
        if error is None:
            self._troubles.discard(self._words)
            return False
        if not isinstance(error, Exception):
            return False
        if self._words not in self._troubles:
            self._troubles.add(self._words)
            _LOG.warning(self._words, exc_info=error)
        return True


def _this_machine() -> Callable[[], MachineReading]:
    gpus = GpuMemory()
    return lambda: read_machine(gpus)
