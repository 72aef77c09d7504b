"""How many processor cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

from tercet.engine.control_groups import CGROUP, PROC, cpu_limit

__all__ = ["available_cores"]


def available_cores(sys: Path = Path("/sys"), proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """Cores that the process may keep busy: two hardware threads of a core share its arithmetic.

    Honours the affinity mask and, through it, cgroup cpusets, and the processor time that a control group may
    use: 1.5 processors are worth 2 threads. The arguments are where the kernel's trees are mounted (other
    places in tests).
    """
    limit = cpu_limit(proc, cgroup)
    cores = _physical_cores(sys)
    return cores if limit is None else max(min(cores, math.ceil(limit)), 1)


def _physical_cores(sys: Path) -> int:
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1
    cores = set()
    for cpu in allowed:
        siblings = sys / "devices" / "system" / "cpu" / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        try:
            cores.add(siblings.read_text().strip())
        except OSError:
            cores.add(str(cpu))
    return max(len(cores), 1)
