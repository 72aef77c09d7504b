"""What all benchmarks share: who repeats and times, measures the roofline in between, and tells how it goes.

    session = Session(runs=5)
    timing = session.time(step, threads=2, isa="avx2", before=rewind)
    timing.rate(tokens)                 # a Spread of tokens a second

A step runs once as a warm-up and `runs` times for the record. Nothing is pinned: the figures are those that
a user gets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tercet.bench.machine import Machine, this_machine
from tercet.bench.roofline import PROBE_BYTES, Roofline
from tercet.bench.spread import Spread
from tercet.errors import ParameterError
from tercet.monitoring.energy import EnergyMeter

__all__ = ["Session", "Timing"]


@dataclass(frozen=True)
class Timing:
    """Seconds of each run, and joules where they were measured."""

    seconds: Spread
    joules: Spread | None = None

    def rate(self, count: float) -> Spread:
        """How many of `count` things in a run that is a second."""
        return Spread.of([count / seconds for seconds in self.seconds.values])

    def joules_each(self, count: float) -> float | None:
        """Joules for one of `count` things in a run, or None where nothing measures them."""
        return None if self.joules is None else self.joules.median / count


@dataclass
class Session:
    """How often to repeat, whom to tell, what counts energy, and the rooflines of this run.

    Raises:
        ParameterError: `runs` is below 1.
    """

    runs: int = 5
    progress: Callable[[str], None] = lambda state: None
    energy: EnergyMeter = field(default_factory=EnergyMeter)
    probe_bytes: int = PROBE_BYTES
    machine: Machine = field(default_factory=this_machine)
    rooflines: dict[tuple[int, str], Roofline] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise ParameterError(f"runs must be at least 1, not {self.runs}")

    def roofline(self, threads: int, isa: str) -> Roofline:
        """The limits of the machine with these threads and kernels, as far as they are known."""
        key = (threads, isa)
        if key not in self.rooflines:
            self.rooflines[key] = Roofline(threads, isa, self.probe_bytes)
        return self.rooflines[key]

    def time(
        self,
        step: Callable[[], object],
        threads: int,
        isa: str,
        before: Callable[[], object] = lambda: None,
        what: str = "measuring",
    ) -> Timing:
        """Time a step, with the roofline measured before each run and after the last."""
        roofline = self.roofline(threads, isa)
        seconds, joules = [], []
        for run in range(self.runs + 1):
            self.progress(f"{what}: run {run} of {self.runs}" if run else f"{what}: warm-up")
            if run:
                roofline.probe()
            before()
            with self.energy:
                started = time.perf_counter()
                step()
                passed = time.perf_counter() - started
            if run:
                seconds.append(passed)
                if self.energy.joules is not None:
                    joules.append(self.energy.joules)
        roofline.probe()
        return Timing(Spread.of(seconds), Spread.of(joules) if len(joules) == self.runs else None)
