"""The processes that a process has started, and those that they have: Ray has many, and names them."""

from __future__ import annotations

import contextlib
from pathlib import Path

__all__ = ["descendants"]


def descendants(pid: int, named: str = "") -> list[int]:
    """The processes below one whose command begins with a name, in no order."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # one that has ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
    found: set[int] = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return [one for one in found - {pid} if _command(one).startswith(named)]


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""
