"""One strategy tried in a process of its own: `python -m tercet.deployment.trial_process`.

Its memory is then its own, and a crash or a hang is an event that `tercet.deployment.trials` reports. The job
comes as a line of JSON on standard input, what happens goes out as lines of JSON:

    {"stage": "available", "available": true, "reason": "..."}
    {"stage": "set up", "seconds": 1.2}
    {"stage": "deployed", "seconds": 0.3}
    {"stage": "tested", "trial": {...}}
    {"stage": "generated", "generation": {...}}          once for each measured run
    {"stage": "done", "memory_bytes": 12345678}

or, at any time, {"stage": "failed", "reason": "..."}. When standard input ends, whoever asked has gone, and
the process ends with all that it has started.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from tercet.deployment.registry import create
from tercet.deployment.strategy import DeploymentSettings, GenerationRequest, Strategy
from tercet.errors import TercetError

__all__ = ["main"]

Tell = Callable[[dict[str, Any]], None]


def main() -> None:
    """Read the job, do it, and tell what happens."""
    # What libraries print must not get between the lines.
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def tell(event: dict[str, Any]) -> None:
        lines.write(json.dumps(event) + "\n")

    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_caller, daemon=True).start()
    strategy = create(job["strategy"], job["model"], DeploymentSettings(**job["settings"]))
    try:
        try:
            last = _try_out(strategy, GenerationRequest(**job["request"]), job["runs"], tell)
        finally:
            strategy.close()
    except TercetError as error:
        last = {"stage": "failed", "reason": str(error)}
    except Exception as error:  # reported like a crash, which it is
        last = {"stage": "failed", "reason": f"{type(error).__name__}: {error}"}
    tell(last)


def _try_out(strategy: Strategy, request: GenerationRequest, runs: int, tell: Tell) -> dict[str, Any]:
    found = strategy.availability()
    event = {"stage": "available", **dataclasses.asdict(found)}
    if not found.available:
        return event
    tell(event)
    for stage, step in (("set up", strategy.set_up), ("deployed", strategy.deploy)):
        begin = time.perf_counter()
        step()
        tell({"stage": stage, "seconds": time.perf_counter() - begin})
    trial = strategy.test(request)
    tell({"stage": "tested", "trial": dataclasses.asdict(trial)})
    if trial.success:
        for _ in range(runs):
            done = strategy.generate(request)
            tell({"stage": "generated", "generation": dataclasses.asdict(done)})
    return {"stage": "done", "memory_bytes": strategy.metrics().memory_bytes}


def _end_with_caller() -> None:
    sys.stdin.read()
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
