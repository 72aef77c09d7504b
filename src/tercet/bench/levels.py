"""The optimization levels side by side, on one model: `tercet bench levels`.

Each level runs in processes of its own, in alternation with the others, so that memory is that of the level
and a machine that slows down slows them all. A process answers the same requests one after another (latency,
tokens a second, joules) and then several at once (requests a minute). A figure that nothing measures is
"not measured".
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tercet.bench.report import Axes, Column, Report
from tercet.bench.session import Session
from tercet.bench.spread import Spread
from tercet.engine.memory import peak_resident_bytes
from tercet.engine.opening import load_for, open_engine
from tercet.engine.processors import available_cores
from tercet.engine.request import Request
from tercet.errors import ParameterError, TercetError
from tercet.models.loading import LoadedModel
from tercet.models.profiles import LEVELS, engine_settings
from tercet.sampling.params import SamplingParams

__all__ = ["LEVEL_COLUMNS", "bench_levels"]

LEVEL_COLUMNS = (
    Column("level", "level"),
    Column("threads", "threads", "d"),
    Column("runs", "tokens/s, median [spread]", ".1f"),
    Column("memory_mb", "memory MB", ".1f"),
    Column("latency_mean_ms", "latency ms, mean", ".1f"),
    Column("latency_p95_ms", "latency ms, p95", ".1f"),
    Column("requests_per_minute", "requests/min", ".1f"),
    Column("joules_per_token", "J a token", ".4f"),
    Column("efficiency", "efficiency", ".2f"),
)
FORMULA = "efficiency = (tokens/s / tokens/s of baseline) / (threads / threads of baseline)"
_CHILD = "import sys; from tercet.bench.levels import measure_here; measure_here(sys.argv[1])"
_STORIES = tuple(
    f"Once upon a time there was a {animal} named {name}. One day {name} went to the {place}"
    for animal, name, place in itertools.product(
        ("cat", "dog", "bird", "little girl"), ("Tom", "Lily", "Max"), ("park", "river", "forest")
    )
)
_RANDOM_PROMPT_TOKENS = 16


def bench_levels(
    session: Session,
    model: Path,
    name: str,
    threads: int | None = None,
    levels: Sequence[str] = tuple(LEVELS),
    tokens: int = 48,
    requests: int = 8,
    together: int = 4,
) -> Report:
    """Measure each level on the model at a path.

    Args:
        session: how often to repeat, and whom to tell.
        model: a file or folder that can be read.
        name: what the report calls it.
        threads: threads of every level but `baseline`; None for what each level says.
        levels: which levels; `baseline` is always among them.
        tokens: greedy tokens of each answer.
        requests: answers one after another in each run, and again several at once.
        together: how many requests are under way at once in the second part.

    Raises:
        ParameterError: a count is below 1, or there is no such level.
        TercetError: the model cannot be opened.
    """
    for what, count in (("tokens", tokens - 1), ("requests", requests), ("together", together)):
        if count < 1:
            raise ParameterError(f"{what} must be at least {2 if what == 'tokens' else 1}")
    chosen = list(dict.fromkeys(["baseline", *levels]))
    asked = {
        level: {
            "model": str(model),
            "settings": {
                "level": level,
                "threads": None if level == "baseline" else threads,
                "prefix_cache": False,  # every prompt is read whole
            },
            "tokens": tokens,
            "requests": requests,
            "together": together,
        }
        for level in chosen
    }
    for one in asked.values():
        engine_settings(available_cores(), **one["settings"])  # type: ignore[arg-type]
    found: dict[str, list[dict[str, Any]]] = {level: [] for level in chosen}
    for run in range(session.runs):
        for level in chosen:
            session.progress(f"run {run + 1} of {session.runs}, {level}")
            found[level].append(_measured(asked[level]))
    rows = [_row(level, found[level]) for level in chosen]
    base = rows[0]
    for row in rows:
        speedup = row["tokens_per_second"] / base["tokens_per_second"]
        row["speedup"] = speedup
        row["efficiency"] = speedup / (row["threads"] / base["threads"])
    notes = [
        FORMULA,
        f"latency: from a request to the last of its {tokens} tokens, one request after another; tokens/s: "
        f"after the first token; requests/min: {together} requests at once; memory: peak of the process",
        *(f"{level}: {', '.join(_differences(level))}" for level in chosen),
    ]
    reason = next((one["energy_reason"] for one in found[chosen[-1]] if one["energy_reason"]), None)
    if reason is not None:
        notes.append(f"joules not measured: {reason}")
    return Report.of(
        session,
        "levels",
        f"Optimization levels, {name}",
        LEVEL_COLUMNS,
        rows,
        Axes("level", "runs", "", "tokens a second"),
        notes,
    )


def measure_here(argument: str) -> None:
    """Measure one level in this process, and print the figures as JSON; an error of the user as `error`."""
    asked = json.loads(argument)
    try:
        print(json.dumps(_measure(asked)))
    except TercetError as error:
        print(json.dumps({"error": str(error)}))


def _measured(asked: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, json.dumps(asked)], capture_output=True, text=True, env={**os.environ}
    )
    if done.returncode != 0:
        raise RuntimeError(f"measuring {asked['settings']} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    if "error" in found:
        raise TercetError(found["error"])
    return found


def _measure(asked: dict[str, Any]) -> dict[str, Any]:
    from tercet.monitoring.energy import EnergyMeter

    settings = engine_settings(available_cores(), **asked["settings"])
    loaded = load_for(Path(asked["model"]), settings)
    opened = open_engine(loaded, settings)
    engine, tokens, count = opened.engine, asked["tokens"], asked["requests"]
    prompts = _prompts(loaded, 2 * count + 1)
    engine.complete([_request(next(prompts), tokens, opened.max_context)])  # warm-up
    alone = [_request(next(prompts), tokens, opened.max_context) for _ in range(count)]
    with EnergyMeter() as meter:
        for request in alone:
            engine.complete([request])
    busy = [_request(next(prompts), tokens, opened.max_context) for _ in range(count)]
    started = time.perf_counter()
    for begin in range(0, count, asked["together"]):
        engine.complete(busy[begin : begin + asked["together"]])
    seconds = time.perf_counter() - started
    decoding = sum((one.finished_at or 0) - (one.first_token_at or 0) for one in alone)
    generated = sum(len(one.generated_ids) for one in alone)
    return {
        "threads": settings.threads,
        "isa": opened.isa,
        "tokens_per_second": (generated - count) / decoding,
        "latencies": [(one.finished_at or 0) - one.submitted_at for one in alone],
        "requests_per_minute": 60 * count / seconds,
        "joules_per_token": None if meter.joules is None else meter.joules / generated,
        "energy_reason": meter.reason,
        "peak_bytes": peak_resident_bytes(),
        "answers": [one.generated_ids for one in alone],
    }


def _request(prompt: list[int], tokens: int, max_context: int) -> Request:
    room = max_context - tokens
    if room < 1:
        raise ParameterError(f"{tokens} tokens and a prompt do not fit into a context of {max_context}")
    return Request(prompt[:room], SamplingParams(temperature=0.0, seed=0), max_new_tokens=tokens)


def _prompts(loaded: LoadedModel, count: int) -> Iterator[list[int]]:
    """Different prompts, the same in every process: text for a model that reads it, random tokens else."""
    random = np.random.default_rng(0)
    tokenizer = None if loaded.tokenizer_json is None else loaded.tokenizer()
    first = [] if loaded.config.first_token_id is None else [loaded.config.first_token_id]
    for index in range(count):
        if tokenizer is not None:
            yield [*first, *tokenizer.encode(_STORIES[index % len(_STORIES)])]
        else:
            yield random.integers(loaded.config.vocab_size, size=_RANDOM_PROMPT_TOKENS).tolist()


def _row(level: str, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    latencies = [1e3 * latency for one in found for latency in one["latencies"]]
    peaks = [one["peak_bytes"] for one in found if one["peak_bytes"] is not None]
    joules = [one["joules_per_token"] for one in found if one["joules_per_token"] is not None]
    speed = Spread.of([one["tokens_per_second"] for one in found])
    return {
        "level": level,
        "threads": found[0]["threads"],
        "isa": found[0]["isa"],
        "tokens_per_second": speed.median,
        "runs": speed,
        "memory_mb": max(peaks) / 1e6 if peaks else None,
        "latency_mean_ms": float(np.mean(latencies)),
        "latency_p95_ms": float(np.percentile(latencies, 95)),
        "requests_per_minute": Spread.of([one["requests_per_minute"] for one in found]).median,
        "joules_per_token": Spread.of(joules).median if len(joules) == len(found) else None,
        "same_answers_as_its_first_run": all(one["answers"] == found[0]["answers"] for one in found),
    }


def _differences(level: str) -> Iterator[str]:
    """What a level sets, as the profiles have it."""
    for name, value in vars(LEVELS[level]).items():
        if name not in ("name", "summary"):
            yield f"{name} {value}"
