"""What the process occupies, as the operating system counts it.

Linux tells exactly (`/proc/self/smaps_rollup`, `/proc/self/smaps`; see proc(5)). Elsewhere `ps` gives the
resident size and `getrusage` the peak. A figure that cannot be measured is None, never a guess.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from tercet.engine.control_groups import CGROUP, PROC, memory_limit


@dataclass(frozen=True)
class MemoryUsage:
    """Bytes that a loaded model occupies.

    `resident_bytes` is the whole process in RAM, `peak_resident_bytes` its highest so far. `mapped_bytes`
    of the model's file are mapped into the process, `mapped_resident_bytes` of them are in RAM now (shared
    with the page cache and with other processes that map the same file). `kv_cache_bytes` is the address
    space of the KV cache, of which only blocks that were used become resident. `gpu_bytes` is what this
    process has allocated on the GPU that computes, weights and KV cache included; 0 on the CPU.
    """

    resident_bytes: int | None
    peak_resident_bytes: int | None
    mapped_bytes: int | None
    mapped_resident_bytes: int | None
    kv_cache_bytes: int
    gpu_bytes: int = 0

    def to_dict(self) -> dict[str, int | None]:
        """The fields as JSON-ready values."""
        return asdict(self)


def measure_memory(
    model: Path, kv_cache_bytes: int, proc: Path = Path("/proc"), gpu_bytes: int = 0
) -> MemoryUsage:
    """Ask the operating system now what the process and a model at this path (file or folder) occupy.

    `proc` is where the process table is mounted (another one in tests).
    """
    mapped, mapped_resident = _mapping_of(model, proc / "self" / "smaps")
    return MemoryUsage(
        resident_bytes=_resident(proc),
        peak_resident_bytes=peak_resident_bytes(proc),
        mapped_bytes=mapped,
        mapped_resident_bytes=mapped_resident,
        kv_cache_bytes=kv_cache_bytes,
        gpu_bytes=gpu_bytes,
    )


def resident_bytes(proc: Path = Path("/proc")) -> int | None:
    """The resident size of this process, from the cheapest source: to be asked every second.

    The kernel's own counter (`VmRSS`) may lag by some pages of each thread; `measure_memory` walks them all.
    """
    size = _kilobyte_field(proc / "self" / "status", "VmRSS:")
    return _resident(proc) if size is None else size


def peak_resident_bytes(proc: Path = Path("/proc")) -> int | None:
    """The largest resident size that this process has had, or None where nothing counts it."""
    peak = _kilobyte_field(proc / "self" / "status", "VmHWM:")
    if peak is not None:
        return peak
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # getrusage(2): bytes on macOS, KiB elsewhere


def total_memory_bytes(proc: Path = PROC, cgroup: Path = CGROUP) -> int | None:
    """The memory that this process may use at most: the machine's, or the control group's limit if lower."""
    total = _kilobyte_field(proc / "meminfo", "MemTotal:")
    if total is None and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = memory_limit(proc, cgroup)
    if limit is not None:
        total = min(total or limit, limit)
    return total


def _resident(proc: Path) -> int | None:
    for name, key in (("smaps_rollup", "Rss:"), ("status", "VmRSS:")):
        value = _kilobyte_field(proc / "self" / name, key)
        if value is not None:
            return value
    try:
        shown = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(os.getpid())],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
        return int(shown.stdout) * 1024
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _kilobyte_field(file: Path, key: str) -> int | None:
    try:
        for line in file.read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


def _mapping_of(model: Path, smaps: Path) -> tuple[int | None, int | None]:
    """Size and resident size, summed over the mappings of a file, or of the files in a folder."""
    try:
        lines = smaps.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None, None
    path = str(model.resolve())
    size = resident = 0
    inside = False
    for line in lines:
        first = line.split(maxsplit=1)[0]
        if not first.endswith(":"):  # a header: "address perms offset dev inode path"
            named = line.split(maxsplit=5)[5:]
            inside = bool(named) and (named[0] == path or named[0].startswith(path + os.sep))
        elif inside and first == "Size:":
            size += int(line.split()[1]) * 1024
        elif inside and first == "Rss:":
            resident += int(line.split()[1]) * 1024
    return size, resident
