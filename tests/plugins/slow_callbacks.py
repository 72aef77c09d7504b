"""How long the event loop of a server was kept busy by one callback: `serve(first=WATCH, ...)`.

Counted is the processor time of the loop's own thread, so that a busy machine makes no callback slower; what
the engine's thread computes meanwhile does not count. The slowest are written as JSON to the file that
SLOW_CALLBACKS names, at the process's end.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import time
from pathlib import Path
from typing import Any

KEPT = 10
WATCH = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
    "import slow_callbacks; slow_callbacks.watch()"
)


def watch() -> None:
    """Time every callback of this process from now on."""
    slowest: list[tuple[float, str]] = []
    run = asyncio.Handle._run

    def timed(handle: Any) -> None:
        what = _described(handle)
        began = time.thread_time()
        run(handle)
        seconds = time.thread_time() - began
        if len(slowest) < KEPT or seconds > slowest[-1][0]:
            slowest.append((seconds, what))
            slowest.sort(reverse=True)
            del slowest[KEPT:]

    asyncio.Handle._run = timed  # type: ignore[method-assign]
    atexit.register(lambda: Path(os.environ["SLOW_CALLBACKS"]).write_text(json.dumps(slowest)))


def _described(handle: Any) -> str:
    """The request that a callback goes on with, or else its name."""
    task = getattr(handle._callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        frame = getattr(task.get_coro(), "cr_frame", None)
        cycle = None if frame is None else frame.f_locals.get("self")
        scope = getattr(cycle, "scope", None)
        return str(task.get_coro()) if scope is None else f"{scope['method']} {scope['path']}"
    return str(getattr(handle._callback, "__qualname__", handle._callback))
