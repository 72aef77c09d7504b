"""The energy that a piece of work cost, from counters of the machine, or "not measured".

    with EnergyMeter() as meter:
        work()
    meter.joules, meter.reason          # 12.9, None    or    None, "there is no energy counter: ..."

The figure is the sum over the processors of the machine (`energy_counters` says which counters that are), so
it holds everything that ran on them meanwhile, other programs too. A counter that a hot processor fills in
minutes is read often enough that no turn of it is missed.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from types import TracebackType

from tercet.monitoring.energy_counters import POWERCAP, Counter, Counters, rapl_counters, zeus_counters

__all__ = ["NOT_MEASURED", "EnergyMeter"]

NOT_MEASURED = "not measured"
# A counter of 32 bits in units of 15.3 microjoules, as some processors have, lasts 65 s at 1000 W.
SECONDS_BETWEEN_READINGS = 20.0


class EnergyMeter:
    """Measures the work inside its `with` block; may be used again for another.

    Attributes:
        joules: what all processors together took, or None.
        dram_joules: what the memory beside them took, or None; it is not part of `joules`.
        reason: why `joules` is None, else None.
        source: where the figure comes from.

    Args:
        powercap: where the kernel shows its counters (another place in tests).
        use_zeus: whether to ask the package zeus where those cannot be read.
    """

    def __init__(self, powercap: Path = POWERCAP, use_zeus: bool = True) -> None:
        self.joules: float | None = None
        self.dram_joules: float | None = None
        self.source: str | None = None
        self.reason: str | None = "nothing has been measured yet"
        self._packages: list[_Sum] = []
        self._drams: list[_Sum] = []
        self._stop = threading.Event()
        self._reader: threading.Thread | None = None
        self._counters, self._problem = _counters(powercap, use_zeus)
        if self._counters is not None:
            self.source = self._counters.source

    def __enter__(self) -> EnergyMeter:
        self.joules = self.dram_joules = None
        self.reason = self._problem
        if self._counters is not None:
            try:
                self._packages = [_Sum(one) for one in self._counters.packages]
                self._drams = [_Sum(one) for one in self._counters.drams]
            except OSError as error:
                self.reason = f"an energy counter cannot be read: {error}"
                return self
            self._stop.clear()
            self._reader = threading.Thread(target=self._read_now_and_then, daemon=True)
            self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._reader is None:
            return
        self._stop.set()
        self._reader.join()
        self._reader = None
        try:
            total = sum(one.advance() for one in self._packages)
            dram = sum(one.advance() for one in self._drams)
        except OSError as problem:
            self.reason = f"an energy counter cannot be read any more: {problem}"
            return
        if total > 0:
            self.joules, self.dram_joules = total, dram if self._drams else None
        else:
            self.reason = (
                "the energy counters did not move: the work was too short, or they do not count here"
            )

    def so_far(self) -> float | None:
        """Inside the block: the joules since its beginning, None where they are not measured."""
        if self._reader is None:
            return None
        try:
            return sum(one.advance() for one in self._packages)
        except OSError as problem:
            self.reason = f"an energy counter cannot be read any more: {problem}"
            return None

    def _read_now_and_then(self) -> None:
        """Follow the counters, so that each turn of theirs is seen."""
        while not self._stop.wait(SECONDS_BETWEEN_READINGS):
            with contextlib.suppress(OSError):  # the last reading tells
                for one in (*self._packages, *self._drams):
                    one.advance()


class _Sum:
    """What a counter has counted since this object was made, its turns included."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._last = counter.joules()
        self._total = 0.0
        self._lock = threading.Lock()

    def advance(self) -> float:
        """Read the counter, and return the sum in joules."""
        with self._lock:
            now = self._counter.joules()
            step = now - self._last
            if step < 0:
                if self._counter.turn_joules is None:
                    raise OSError(f"{self._counter.name} went back, and says nothing of when it turns")
                step += self._counter.turn_joules
            self._total += step
            self._last = now
            return self._total


def _counters(powercap: Path, use_zeus: bool) -> tuple[Counters | None, str | None]:
    """The counters of this machine, or why there are none."""
    try:
        return rapl_counters(powercap), None
    except OSError as error:
        counters = zeus_counters() if use_zeus else None
        return counters, None if counters is not None else str(error)
