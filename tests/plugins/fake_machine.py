"""Clocks and a machine that stand still until a test moves them."""

from __future__ import annotations

from tercet.monitoring.machine import MachineReading
from tercet.monitoring.snapshots import Snapshot

START = 1_790_000_000.0


class FakeMachine:
    """Two processors. `clock` and `wall` are for `Sampler` and `Monitor`, `read` is the machine."""

    def __init__(self) -> None:
        self.elapsed = 1000.0
        self.time = START
        self.memory = 50 * 2**20
        self.cpu_seconds = 7.0
        self.busy, self.ticks = 100, 1000

    def clock(self) -> float:
        return self.elapsed

    def wall(self) -> float:
        return self.time

    def read(self) -> MachineReading:
        return MachineReading(
            resident_memory_bytes=self.memory,
            mapped_memory_bytes=2**20,
            gpu_memory_bytes=None,
            process_cpu_seconds=self.cpu_seconds,
            processors=2.0,
            machine_busy=self.busy,
            machine_ticks=self.ticks,
        )

    def pass_time(self, seconds: float, process_busy: float = 0.0, machine_busy: float = 0.0) -> None:
        """Let time go by, of which the process and the machine were busy these shares, of all processors."""
        self.elapsed += seconds
        self.time += seconds
        self.cpu_seconds += 2 * process_busy * seconds
        self.ticks += round(200 * seconds)
        self.busy += round(200 * machine_busy * seconds)


def window(number: int = 0, seconds: float = 60.0, **changes: object) -> Snapshot:
    """One of a row of windows that follow each other."""
    values: dict[str, object] = {"time": START + (number + 1) * seconds, "period_seconds": seconds}
    return Snapshot(**(values | changes))  # type: ignore[arg-type]
