"""Mapped files that become shorter while they are read, without the end of the process.

Whoever cuts off a file that is mapped takes its pages away, and the processor's next look at one of them is
a signal that ends the process. While a guard lives, such a look finds zeros, and the guard knows of it. What
was computed from zeros is worth nothing: look at `is_damaged` behind every use.
"""

from __future__ import annotations

import weakref

import numpy as np
import numpy.typing as npt

from tercet import _core

__all__ = ["MappedGuard"]


class MappedGuard:
    """Guards a whole mapping for as long as it lives; nothing where the system has no such signal.

    Args:
        memory: all bytes of one mapping, from its first page on.
    """

    def __init__(self, memory: npt.NDArray[np.uint8]) -> None:
        self._memory = memory  # a guard must end before its mapping does
        self._name = _core.guard_mapped(memory.ctypes.data, memory.nbytes)
        weakref.finalize(self, _core.release_mapped, self._name).atexit = False

    @property
    def is_damaged(self) -> bool:
        """Whether something was gone when it was read."""
        return _core.is_mapped_damaged(self._name)
