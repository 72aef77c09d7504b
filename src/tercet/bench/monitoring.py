"""What being watched costs: `tercet bench monitor`.

The same requests go through the same service in alternation, once with nobody counting and no sampler, once
as `tercet serve` does it: every piece counted, a sampler that stores windows in a file, alerts judged. From
that

    the cost            1 - tokens a second watched / tokens a second unwatched, run by run
    the work itself     the time of counting one piece and of one sample, measured alone, as a share of the
                        time that they are spent in: what the cost would be on a machine without noise
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tercet.bench.report import Axes, Column, Report
from tercet.bench.running import ModelChoice, check_context, check_counts, model_path
from tercet.bench.session import Session
from tercet.bench.spread import Spread
from tercet.errors import ParameterError
from tercet.monitoring.metrics import ServiceMetrics
from tercet.monitoring.monitor import ServiceMonitor
from tercet.sampling.params import SamplingParams
from tercet.service.generation import GenerationObserver
from tercet.service.observation import MetricsObserver
from tercet.service.request import GenerationRequest
from tercet.service.served_model import ServedModel
from tercet.service.settings import ServiceSettings

__all__ = ["MONITORING_COLUMNS", "bench_monitoring"]

MONITORING_COLUMNS = (
    Column("streams", "streams", "d"),
    Column("runs", "tokens/s watched, median [spread]", ".1f"),
    Column("unwatched_runs", "tokens/s unwatched", ".1f"),
    Column("cost", "cost", ".2%"),
    Column("piece_seconds", "µs of counting a piece", ".2f", 1e6),
    Column("sample_seconds", "ms of a sample", ".2f", 1e3),
    Column("work_share", "the work itself", ".3%"),
    Column("threads", "threads", "d"),
)
PIECES = 20_000
SAMPLES = 20


def bench_monitoring(
    session: Session, choice: ModelChoice, streams: int = 1, tokens: int = 256, interval: float = 5.0
) -> Report:
    """Generate with and without being watched.

    Args:
        session: how often to repeat, and whom to tell.
        choice: the model.
        streams: how many answers are made at once.
        tokens: of each answer.
        interval: seconds between two samples.

    Raises:
        ParameterError: a count or the interval is out of range.
    """
    check_counts(streams=streams, tokens=tokens)
    if not interval > 0:
        raise ParameterError(f"the interval is a number of seconds above 0, not {interval}")
    config = choice.config
    check_context(config, choice.name, tokens + 1, f"{tokens} tokens and the one before them")
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(model_path(session, choice, streams * (tokens + 1), with_tokenizer=True))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tercet-")))
        bench = _Bench(session, choice, streams, tokens, interval, folder / "history.sqlite")
        row = asyncio.run(bench.row(path))
    return Report.of(
        session,
        "monitor",
        f"Being watched, {choice.title}, {streams} x {tokens} tokens, a sample every {interval:g} s",
        MONITORING_COLUMNS,
        [row],
        Axes("streams", "runs", "streams at once", "tokens a second"),
        ["The cost holds the noise of the machine; the work itself is the time of counting and of sampling, "
         "measured alone, as a share of the time between pieces and between samples."],
    )  # fmt: skip


class _Bench:
    """One model, with observers that come and go."""

    def __init__(
        self, session: Session, choice: ModelChoice, streams: int, tokens: int, interval: float, history: Path
    ) -> None:
        self._session = session
        self._choice = choice
        self._streams, self._tokens = streams, tokens
        self._interval = interval
        self._history = history
        self._metrics = ServiceMetrics()
        self._observers: list[GenerationObserver] = []
        self._random = np.random.default_rng(0)

    async def row(self, path: Path) -> dict[str, Any]:
        """Both, in turn."""
        given = {} if self._choice.threads is None else {"threads": self._choice.threads}
        settings = ServiceSettings(llm=given, max_concurrent=self._streams, timeout_seconds=None)
        model = await ServedModel.open("bench", str(path), settings, observers=self._observers)
        counts = self._metrics.watch("bench", model.engine, model.llm.max_context)
        watched, unwatched = [], []
        try:
            for run in range(self._session.runs + 1):
                what = f"run {run} of {self._session.runs}" if run else "warm-up"
                rates = {}
                for is_watched in (run % 2 == 0, run % 2 != 0):  # neither is always the first
                    self._session.progress(f"{what}, {'watched' if is_watched else 'unwatched'}")
                    rates[is_watched] = await (self._watched(model) if is_watched else self._rate(model))
                if run:
                    watched.append(rates[True])
                    unwatched.append(rates[False])
            threads, isa = model.llm.threads, model.llm.isa
            begin = time.perf_counter()
            for _ in range(PIECES):
                counts.received(1, 0.02, False)
            piece = (time.perf_counter() - begin) / PIECES
            sample = await asyncio.to_thread(self._sample_seconds)
        finally:
            await model.close(0)
        return {
            "streams": self._streams,
            "tokens_each": self._tokens,
            "tokens_per_second": Spread.of(watched).median,
            "runs": Spread.of(watched),
            "unwatched_runs": Spread.of(unwatched),
            "cost": Spread.of([1 - ours / free for ours, free in zip(watched, unwatched, strict=True)]),
            "piece_seconds": piece,
            "sample_seconds": sample,
            "work_share": piece * Spread.of(unwatched).median + sample / self._interval,
            "interval_seconds": self._interval,
            "shape": self._choice.name,
            "threads": threads,
            "isa": isa,
        }

    async def _watched(self, model: ServedModel) -> float:
        self._observers.append(MetricsObserver(self._metrics))
        monitor = await asyncio.to_thread(
            lambda: ServiceMonitor(self._metrics, self._interval, history=self._history)
        )
        monitor.start()
        try:
            return await self._rate(model)
        finally:
            await asyncio.to_thread(monitor.close)
            self._observers.clear()

    async def _rate(self, model: ServedModel) -> float:
        params = SamplingParams(temperature=0, max_tokens=self._tokens, ignore_eos=True)
        firsts = self._random.integers(model.llm.config.vocab_size, size=(self._streams, 1)).tolist()

        async def answer(prompt: list[int]) -> None:
            generation = await model.submit(GenerationRequest(prompt=prompt, params=params))
            async for _ in generation:
                pass

        started = time.perf_counter()
        await asyncio.gather(*map(answer, firsts))
        return self._streams * self._tokens / (time.perf_counter() - started)

    def _sample_seconds(self) -> float:
        """The mean time of a sample with everything that belongs to it."""
        monitor = ServiceMonitor(self._metrics, self._interval, history=self._history)
        try:
            began = time.perf_counter()
            for _ in range(SAMPLES):
                monitor.sample()
            return (time.perf_counter() - began) / SAMPLES
        finally:
            monitor.close()
