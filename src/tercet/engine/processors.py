"""How many processor cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path


def available_cores(sys: Path = Path("/sys")) -> int:
    """Physical cores that the process may run on: two hardware threads of a core share its arithmetic.

    Honours the affinity mask and, through it, cgroup cpusets. `sys` is where sysfs is mounted (another
    place in tests).
    """
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
