"""The machine and this process in it, at one moment: memory, and time of processors so far.

Linux tells in `/proc`: `self/status` has VmRSS (RAM of the process) and RssFile (the part that are pages of
mapped files), `stat` the time of all processors since the start (proc(5)). Elsewhere the process's own time
is known, and what is not told is None. GPUs are asked through NVML, the driver's library, where there is one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from dataclasses import dataclass
from pathlib import Path

from tercet.engine.control_groups import CGROUP, PROC, cpu_limit
from tercet.engine.memory import resident_bytes

__all__ = ["GpuMemory", "MachineReading", "processors", "read_machine"]


@dataclass(frozen=True)
class MachineReading:
    """What was read.

    Attributes:
        resident_memory_bytes: RAM of the process.
        mapped_memory_bytes: those of it that are pages of mapped files.
        gpu_memory_bytes: in use on all GPUs of the machine, by all programs.
        process_cpu_seconds: processor time of the process, of all its threads.
        processors: how many of them it may keep busy.
        machine_busy: time in which processors of the machine worked, in the kernel's ticks.
        machine_ticks: all time of all processors of the machine.
    """

    resident_memory_bytes: int | None
    mapped_memory_bytes: int | None
    gpu_memory_bytes: int | None
    process_cpu_seconds: float
    processors: float
    machine_busy: int | None
    machine_ticks: int | None


def read_machine(gpus: GpuMemory | None = None, proc: Path = PROC, cgroup: Path = CGROUP) -> MachineReading:
    """Read everything now; it takes well under a millisecond. The folders are others in tests."""
    busy, ticks = _processor_ticks(proc)
    return MachineReading(
        resident_memory_bytes=resident_bytes(proc),
        mapped_memory_bytes=_mapped_bytes(proc),
        gpu_memory_bytes=None if gpus is None else gpus.used_bytes(),
        process_cpu_seconds=time.process_time(),
        processors=processors(proc, cgroup),
        machine_busy=busy,
        machine_ticks=ticks,
    )


def processors(proc: Path = PROC, cgroup: Path = CGROUP) -> float:
    """Processors, hardware threads counted, that this process may keep busy; 1.5 where a group says so."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        allowed = os.cpu_count() or 1
    limit = cpu_limit(proc, cgroup)
    return float(allowed) if limit is None else min(float(allowed), limit)


class GpuMemory:
    """The memory of NVIDIA's GPUs, by `libnvidia-ml`."""

    def __init__(self, library: str = "libnvidia-ml.so.1") -> None:
        self._nvml: ctypes.CDLL | None = None
        self._devices: list[ctypes.c_void_p] = []
        with contextlib.suppress(OSError, AttributeError):  # no driver, or one from before version 2 of these
            nvml = ctypes.CDLL(library)
            count = ctypes.c_uint()
            if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
                return
            for index in range(count.value):
                device = ctypes.c_void_p()
                if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) == 0:
                    self._devices.append(device)
            self._nvml = nvml

    def used_bytes(self) -> int | None:
        """Bytes in use on all of them; None where there is no GPU, or one does not tell."""
        if self._nvml is None or not self._devices:
            return None
        total = 0
        for device in self._devices:
            memory = (ctypes.c_ulonglong * 3)()  # total, free, used
            if self._nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)):
                return None
            total += memory[2]
        return total


def _mapped_bytes(proc: Path) -> int | None:
    try:
        for line in (proc / "self" / "status").read_text().splitlines():
            if line.startswith("RssFile:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _processor_ticks(proc: Path) -> tuple[int | None, int | None]:
    """(busy, all) of the first line: user nice system idle iowait irq softirq steal guest guest_nice."""
    try:
        with (proc / "stat").open() as file:
            name, *numbers = file.readline().split()
    except (OSError, ValueError):
        return None, None
    if name != "cpu" or len(numbers) < 5 or not all(one.isdigit() for one in numbers):
        return None, None
    ticks = [int(one) for one in numbers[:8]]  # guests are in user and nice already
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)
