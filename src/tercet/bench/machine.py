"""Which machine this is, so that a figure can be placed. Never its name, nor any path on it."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tercet.engine.memory import total_memory_bytes
from tercet.engine.processors import available_cores
from tercet.kernels.introspection import clock_rate, cpu_name

__all__ = ["Machine", "load_average", "this_machine"]

BUSY_SHARE = 0.3


@dataclass(frozen=True)
class Machine:
    """What a figure depends on besides the program. What could not be found out is None."""

    cpu: str
    cores: int
    clock_ghz: float | None
    """Of one busy core, measured."""
    caches: dict[str, str]
    """By level: data and unified caches, as the operating system counts them."""
    memory_bytes: int | None
    huge_pages: str | None
    """Whether the system gives transparent huge pages: always, madvise or never."""
    system: str
    python: str
    tercet: str
    load_average: float | None = field(default=None)
    """Programs that wanted to run in the minute before: 0 on a machine that does nothing else."""

    @property
    def warning(self) -> str | None:
        """What a reader of the figures must know if the machine was busy with something else."""
        if self.load_average is None or self.load_average < BUSY_SHARE * self.cores:
            return None
        return (
            f"The machine was busy before it began: a load average of {self.load_average:.1f} on "
            f"{self.cores} cores. The figures are too low and only their ratios mean something."
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return asdict(self)

    def described(self) -> str:
        """One line for people."""
        parts = [self.cpu, f"{self.cores} cores"]
        if self.clock_ghz:
            parts.append(f"{self.clock_ghz:.2f} GHz")
        parts += [f"{level} {size}" for level, size in self.caches.items()]
        if self.memory_bytes:
            parts.append(f"{self.memory_bytes / 2**30:.1f} GiB")
        if self.huge_pages:
            parts.append(f"huge pages: {self.huge_pages}")
        return ", ".join([*parts, self.system])


def this_machine(sys: Path = Path("/sys")) -> Machine:
    """Describe the machine that the process runs on; `cores` are those that it may use.

    `sys` is where the kernel's tree is mounted (another one in tests).
    """
    return Machine(
        cpu=cpu_name(),
        cores=available_cores(),
        clock_ghz=round(clock_rate() / 1e9, 2),
        caches=_caches(sys / "devices/system/cpu/cpu0/cache"),
        memory_bytes=total_memory_bytes(),
        huge_pages=_chosen(sys / "kernel/mm/transparent_hugepage/enabled"),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        tercet=version("tercet"),
        load_average=load_average(),
    )


def load_average() -> float | None:
    """Programs that wanted to run in the last minute, on average; None where nobody counts them."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):  # Windows has none
        return None


def _caches(folder: Path) -> dict[str, str]:
    found = {}
    for index in sorted(folder.glob("index*")):
        try:
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found[f"L{level}"] = size
    return found


def _chosen(setting: Path) -> str | None:
    try:
        chosen = re.search(r"\[(\w+)\]", setting.read_text())
    except OSError:
        return None
    return chosen[1] if chosen else None
