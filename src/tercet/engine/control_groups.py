"""What Linux's control groups allow this process: how containers are given less than the machine.

A group's limits are files in its folder; those of the groups around it hold too, so the least one counts
(Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/ in the kernel's source). `/proc/self/cgroup` names the
folders, seen from the root of the mounted tree; inside a container that root is the container's own group,
whatever the names say, so a folder that is not there is no error.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["CGROUP", "PROC", "cpu_limit", "memory_limit"]

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 62  # version 1 says 2^63 less a page; version 2 says "max"


def cpu_limit(proc: Path = PROC, cgroup: Path = CGROUP) -> float | None:
    """Processors that the process may keep busy on average, for example 1.5; None without a limit."""
    limits = []
    for folder in _folders("cpu", proc, cgroup):
        parts = _text(folder / "cpu.max").split()  # version 2: "150000 100000", or "max 100000"
        if len(parts) != 2:
            parts = [_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")]  # 1: quota -1
        if all(part.isdigit() for part in parts) and min(map(int, parts)) > 0:
            limits.append(int(parts[0]) / int(parts[1]))
    return min(limits, default=None)


def memory_limit(proc: Path = PROC, cgroup: Path = CGROUP) -> int | None:
    """Bytes that the process may use at most; None without a limit."""
    texts = [
        _text(folder / name)
        for folder in _folders("memory", proc, cgroup)
        for name in ("memory.max", "memory.limit_in_bytes")
    ]
    limits = [int(text) for text in texts if text.isdigit()]
    return min((limit for limit in limits if limit < _NO_LIMIT), default=None)


def _folders(controller: str, proc: Path, cgroup: Path) -> Iterator[Path]:
    """The groups that hold for this process, in either version's tree."""
    yield cgroup
    yield cgroup / controller
    for line in _text(proc / "self" / "cgroup").splitlines():
        number, controllers, name = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            trees = [cgroup, cgroup / "unified"]
        elif controller in controllers.split(","):
            trees = [cgroup / controller, cgroup / controllers]
        else:
            continue
        for tree in trees:
            group = PurePosixPath(name)
            for part in (group, *group.parents):
                yield tree / str(part).lstrip("/")


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
