"""What Python threads are at, looked at a few hundred times a second; nothing runs before and after.

A thread holds Python's lock for up to five milliseconds, so that who looks would see others only where they
let go of it. While it looks, they are asked for it after a tenth of one. The engine's thread is left out: it
is in C++ most of its time, and counts that itself.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from types import FrameType

__all__ = ["StackSampler"]

INTERVAL_SECONDS = 0.004
SWITCH_SECONDS = 0.0001
MOST_FRAMES = 60
CALLBACK = "asyncio.events:Handle._run"
"""What is outside of it is the same for everything that an event loop does, and left out."""
_WAITING = frozenset({"threading", "selectors", "queue", "concurrent.futures.thread"})
"""A thread whose innermost frame is in one of these modules waits for something."""


class StackSampler:
    """Looks at all threads but its own; `start` and `stop` once.

    Args:
        leaves_out: says of the name of a thread whether it is passed over.
    """

    def __init__(self, leaves_out: Callable[[str], bool] = lambda name: False) -> None:
        self._leaves_out = leaves_out
        self._seconds: dict[tuple[int, str, str], float] = defaultdict(float)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tercet-profile", daemon=True)
        self._usual = sys.getswitchinterval()

    def start(self) -> None:
        """Begin to look."""
        sys.setswitchinterval(min(SWITCH_SECONDS, self._usual))
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ends.set()
        self._thread.join()
        sys.setswitchinterval(self._usual)

    def stacks(self, known: Mapping[int, tuple[str, float]]) -> dict[str, float]:
        """Seconds by frames, the outermost first, ";" between.

        Args:
            known: of threads whose name and processor seconds are known: their samples are scaled to these.
        """
        told: dict[str, float] = defaultdict(float)
        sums: dict[int, float] = defaultdict(float)
        for (ident, _, _), seconds in self._seconds.items():
            sums[ident] += seconds
        for (ident, name, frames), seconds in self._seconds.items():
            label, factor = name, 1.0
            if ident in known:
                label, factor = known[ident][0], known[ident][1] / sums[ident]
            told[f"{label};{frames}"] += seconds * factor
        for ident, (label, seconds) in known.items():
            if not sums[ident] and seconds > 0:
                told[label] += seconds
        return dict(told)

    def _run(self) -> None:
        own, last = threading.get_ident(), time.perf_counter()
        while not self._ends.wait(INTERVAL_SECONDS):
            names = {thread.ident: thread.name for thread in threading.enumerate()}
            frames = sys._current_frames()
            now = time.perf_counter()
            for ident, frame in frames.items():
                name = names.get(ident, "another thread")
                if ident != own and not self._leaves_out(name) and not _waits(frame):
                    self._seconds[ident, _kind(name), _written(frame)] += now - last
            del frames
            last = now


def _waits(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__") in _WAITING


def _kind(name: str) -> str:
    """A thread's name without its number: those of a pool are one."""
    return re.sub(r"[-_ \d]*(\(.*\))?$", "", name).replace(";", ":") or "thread"


def _written(frame: FrameType | None) -> str:
    found: list[str] = []
    while frame is not None:
        code = frame.f_code
        function = getattr(code, "co_qualname", code.co_name)  # since Python 3.11
        found.append(f"{frame.f_globals.get('__name__', '?')}:{function}".replace(";", ":"))
        frame = frame.f_back
    if CALLBACK in found:
        del found[found.index(CALLBACK) :]
    return ";".join(found[::-1][:MOST_FRAMES]) or CALLBACK
