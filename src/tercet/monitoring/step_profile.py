"""Where a token's time goes, in a service that runs: `profile` waits for some seconds and tells.

What the engine's thread does is counted, always and exactly (`tercet.engine.step_times`, and the decoder's
own count): the difference of two readings costs nothing before and after. What the other threads do is
sampled while the profile runs (`stack_samples`), the event loop's part scaled to the processor time that it
used.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from tercet.engine.async_engine import AsyncEngine
from tercet.engine.step_times import StepAccount
from tercet.errors import OverloadedError
from tercet.monitoring.stack_samples import StackSampler

__all__ = ["PARTS", "profile"]

ENGINE_THREAD = "tercet-engine"
LOOP = "event loop"

PARTS = (
    *("linear layers", "attention", "norms and rounding", "output head", "rest of the decoder"),
    *("sampling", "scheduler", "delivery"),
)
"""Of the engine's thread; the rest of its time it waits."""
_OPERATIONS = {
    "query_key_value": "linear layers",
    "attention_output": "linear layers",
    "gate_up": "linear layers",
    "down": "linear layers",
    "attention": "attention",
    "rotation": "attention",
    "attention_norm": "norms and rounding",
    "attention_sub_norm": "norms and rounding",
    "ffn_norm": "norms and rounding",
    "ffn_sub_norm": "norms and rounding",
    "final_norm": "norms and rounding",
    "output_head": "output head",
}
_OWN = {
    "running": "rest of the decoder",  # less what its operations are
    "drawing": "sampling",
    "planning": "scheduler",
    "committing": "scheduler",
    "delivering": "delivery",
}
_RUNNING = threading.Lock()  # what it does while it samples is the whole process's


async def profile(engines: Mapping[str, AsyncEngine], seconds: float) -> dict[str, Any]:
    """Profile for some seconds, from the event loop of the service.

    Returns `seconds` as they were, `steps`, `prompt_tokens`, `generated_tokens`, `parts` (name, `seconds`,
    `share` of the engines' whole time, and `microseconds_per_token` of those generated; None if none was),
    `operations` of the decoder in seconds, and `stacks`: seconds by frames with ";" between.

    Raises:
        OverloadedError: somebody else's profile runs.
    """
    if not _RUNNING.acquire(blocking=False):
        raise OverloadedError("another profile runs; wait for its end", retry_after_seconds=seconds)
    try:
        sampler = StackSampler(lambda name: name == ENGINE_THREAD)
        before = {name: await _account(engine) for name, engine in engines.items()}
        used = time.thread_time()
        sampler.start()
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.to_thread(sampler.stop)
        used = time.thread_time() - used
        done = {
            name: _difference(before[name], await _account(engine))
            for name, engine in engines.items()
            if name in before
        }
        return _told(done, used, sampler.stacks({threading.get_ident(): (LOOP, used)}))
    finally:
        _RUNNING.release()


_Moment = tuple[float, StepAccount]


async def _account(engine: AsyncEngine) -> _Moment:
    account = await asyncio.to_thread(engine.account)
    return time.perf_counter(), account


def _difference(before: _Moment, after: _Moment) -> _Moment:
    return after[0] - before[0], after[1] - before[1]


def _told(done: Mapping[str, _Moment], loop_seconds: float, stacks: dict[str, float]) -> dict[str, Any]:
    whole = sum(seconds for seconds, _ in done.values())
    tokens = sum(account.generated_tokens for _, account in done.values())
    sums: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    operations: dict[str, float] = defaultdict(float)
    for name, (_, account) in done.items():
        for frames, part, seconds in _frames(account):
            sums[part] += seconds
            if seconds > 0:
                stacks[f"engine of {name.replace(';', ':')};{frames}"] = seconds
        for operation, seconds in account.operations.items():
            operations[operation] += seconds
    sums["waiting"] = max(whole - sum(sums.values()), 0.0)
    sums[LOOP] = loop_seconds
    return {
        "seconds": max((seconds for seconds, _ in done.values()), default=0.0),
        "steps": sum(account.steps for _, account in done.values()),
        "prompt_tokens": sum(account.prompt_tokens for _, account in done.values()),
        "generated_tokens": tokens,
        "parts": [
            {
                "name": name,
                "seconds": seconds,
                "share": seconds / whole if whole > 0 else None,
                "microseconds_per_token": 1e6 * seconds / tokens if tokens else None,
            }
            for name, seconds in sums.items()
        ],
        "operations": dict(operations),
        "stacks": stacks,
    }


def _frames(account: StepAccount) -> list[tuple[str, str, float]]:
    """Everything that an engine's thread did: frames, the part that it belongs to, seconds."""
    found = [
        (f"decoder;{_OPERATIONS.get(name, 'rest of the decoder')};{name}", name, seconds)
        for name, seconds in account.operations.items()
    ]
    told = [
        (frames, _OPERATIONS.get(name, "rest of the decoder"), seconds) for frames, name, seconds in found
    ]
    for name, part in _OWN.items():
        seconds = account.seconds[name]
        if name == "running":
            seconds = max(seconds - sum(account.operations.values()), 0.0)
            told.append((f"decoder;{part};arrays and call", part, seconds))
        else:
            told.append((f"{part};{name}", part, seconds))
    return told
