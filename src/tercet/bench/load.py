"""How the engine shares the machine: several sequences at once, through the same code that serves requests.

All requests arrive together. A step reads the weights once for all of them, so the total grows until
arithmetic is the limit, while each sequence slows down a little: the figures of both are what continuous
batching is for.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence as Numbers
from typing import Any

import numpy as np

from tercet.bench.report import Axes, Column, Report
from tercet.bench.running import BLOCK_TOKENS, ModelChoice, OpenModel, check_context, check_counts, open_model
from tercet.bench.session import Session
from tercet.bench.spread import Spread
from tercet.engine.engine import Engine
from tercet.engine.kv_blocks import KvBlockPool
from tercet.engine.plan import StepLimits
from tercet.engine.request import Request
from tercet.engine.runner import Runner
from tercet.sampling.params import SamplingParams

__all__ = ["LOAD_COLUMNS", "bench_load"]

LOAD_COLUMNS = (
    Column("sequences", "sequences", "d"),
    Column("runs", "tokens/s in all, median [spread]", ".1f"),
    Column("tokens_per_second_each", "tokens/s each", ".1f"),
    Column("seconds_to_first_token", "s to the first token", ".3f"),
    Column("joules_per_token", "J a token", ".3f"),
    Column("threads", "threads", "d"),
)


def bench_load(
    session: Session,
    choice: ModelChoice,
    sequences: Numbers[int] = (1, 2, 4, 8, 16, 32),
    prompt: int = 64,
    tokens: int = 32,
) -> Report:
    """Time requests that run together, each a prompt of `prompt` tokens and `tokens` greedy ones after it.

    Raises:
        ParameterError: the shape is unknown, or a count is out of range.
    """
    check_counts(prompt=prompt, tokens=tokens, **{"sequences": min(sequences)})
    check_context(choice.config, choice.shape, prompt + tokens, f"prompt {prompt} and {tokens} tokens")
    with open_model(session, choice, (prompt + tokens) * max(sequences)) as model:
        rows = [_row(session, model, count, prompt, tokens) for count in sequences]
    return Report.of(
        session,
        "load",
        f"Sequences at once, {choice.shape} with random weights, {prompt} + {tokens} tokens each",
        LOAD_COLUMNS,
        rows,
        Axes("sequences", "runs", "sequences at once", "tokens a second in all", logarithmic=True),
        ["The rate in all counts generated tokens over the time from the arrival to the last token; the rate "
         "of each counts from its own first token."],
    )  # fmt: skip


def _row(session: Session, model: OpenModel, count: int, prompt: int, tokens: int) -> dict[str, Any]:
    cache = model.cache(prompt + tokens, count)
    limits = StepLimits(max_sequences=count)
    random = np.random.default_rng(0)
    each: list[float] = []
    first: list[float] = []
    pending: list[Request] = []
    engines: list[Engine] = []

    def arrive() -> None:
        engines[:] = [
            Engine(Runner(model.decoder, cache), KvBlockPool(cache.num_blocks, BLOCK_TOKENS), limits)
        ]
        ids = random.integers(model.config.vocab_size, size=(count, prompt))
        pending[:] = [
            Request(one.tolist(), SamplingParams(temperature=0.0, seed=0), max_new_tokens=tokens)
            for one in ids
        ]

    def run() -> None:
        (engine,) = engines
        engine.complete(pending)
        for request in pending:
            begin, end = request.first_token_at or 0.0, request.finished_at or 0.0
            first.append(begin - request.submitted_at)
            if tokens > 1:
                each.append((tokens - 1) / (end - begin))

    timing = session.time(run, model.threads, model.isa, arrive, f"{count} sequences")
    speed = timing.rate(count * tokens)
    return {
        "sequences": count,
        "tokens_per_second": speed.median,
        "tokens_per_second_each": statistics.median(each[count:]) if each else None,
        "seconds_to_first_token": Spread.of(first[count:]),
        "joules_per_token": timing.joules_each(count * tokens),
        "runs": speed,
        "prompt_tokens": prompt,
        "tokens_each": tokens,
        **model.settings(),
    }
