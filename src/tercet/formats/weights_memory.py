"""Where the bytes of a model file lie while it is used, and which place is better here.

`mapped`  the file itself, mapped: shared with every process that uses the same file, there at once, and given
          back when memory is short. Pages have 4 KiB.
`huge`    a copy in memory of our own on pages of 2 MiB, read with several threads; the mapping stays
          untouched, so the process occupies the size of the file once. A core that streams through 4 KiB
          pages reads a third less (docs/lab_log.md).
`auto`    `huge` where a large file leaves room for as much again as half of it, else `mapped`.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tercet.errors import ParameterError, StorageError

__all__ = ["WEIGHTS_MEMORY", "available_memory_bytes", "chosen_memory", "read_into_memory"]

WEIGHTS_MEMORY = ("mapped", "huge", "auto")
HUGE_FROM_BYTES = 64 << 20
"""Smaller files are mostly in the processor's caches."""
ROOM = 1.5
"""`auto` copies a file only where so many times its size is free."""

HUGE_PAGE_BYTES = 2 << 20
PIECE_BYTES = 32 << 20
MAX_THREADS = 4


def chosen_memory(asked: str, num_bytes: int, root: Path = Path("/")) -> str:
    """Return `mapped` or `huge` for a file of this size.

    Args:
        asked: one of WEIGHTS_MEMORY.
        num_bytes: the size of the file.
        root: where `proc` and `sys` are mounted (another place in tests).

    Raises:
        ParameterError: it is none of them.
    """
    if asked not in WEIGHTS_MEMORY:
        raise ParameterError(f"weights_memory must be one of {', '.join(WEIGHTS_MEMORY)}, not {asked!r}")
    if asked != "auto":
        return asked
    if num_bytes < HUGE_FROM_BYTES or not _has_huge_pages(root):
        return "mapped"
    available = available_memory_bytes(root)
    return "huge" if available is not None and available > ROOM * num_bytes else "mapped"


def available_memory_bytes(root: Path = Path("/")) -> int | None:
    """What the process may still allocate: what the machine has free, or its control group if less."""
    free = None
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    group = root / "sys/fs/cgroup"
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # version 2 says "max" where there is no limit
            left = int((group / limit).read_text()) - int((group / usage).read_text())
            free = left if free is None else min(free, left)
    return free


def read_into_memory(path: Path, num_bytes: int) -> npt.NDArray[np.uint8]:
    """Read the first `num_bytes` of a file into memory of our own, on huge pages where there are any.

    Raises:
        StorageError: there is not enough memory, or the file cannot be read, or is shorter now.
    """
    try:
        # Room to begin at a whole huge page: the system gives large pieces only such pages.
        memory = _private_memory(num_bytes + HUGE_PAGE_BYTES)
    except (OSError, ValueError) as error:
        raise StorageError(
            f"there is no memory for the {num_bytes} bytes of {path}; use weights_memory='mapped'"
        ) from error
    whole = np.frombuffer(memory, np.uint8)
    begin = -whole.ctypes.data % HUGE_PAGE_BYTES
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    target = whole[begin : begin + num_bytes]
    _fill(path, target)
    target.flags.writeable = False
    return target


def _private_memory(num_bytes: int) -> mmap.mmap:
    """Zeroed memory of this process alone: shared anonymous memory gets no huge pages."""
    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, num_bytes)


def _fill(path: Path, target: npt.NDArray[np.uint8]) -> None:
    def read_piece(offset: int) -> None:
        piece = memoryview(target[offset : offset + PIECE_BYTES].data)
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            while piece:
                count = file.readinto(piece)
                if not count:
                    raise StorageError(f"{path} has become shorter while it was read. Get it again.")
                piece = piece[count:]

    try:
        with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as threads:
            for _ in threads.map(read_piece, range(0, len(target), PIECE_BYTES)):
                pass  # the first failure is raised here
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def _has_huge_pages(root: Path) -> bool:
    """Whether a program that asks gets them."""
    try:
        state = (root / "sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return False
    return "[never]" not in state
