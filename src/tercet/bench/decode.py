"""How fast one sequence decodes, and how close that is to what the memory allows.

A token reads every ternary matrix, the output head and the keys and values of its context once, so

    tokens a second  <=  read bandwidth / bytes a token reads

and `bandwidth_share` is how much of that limit is reached. The bandwidth is the best of several readers on
the same threads, measured before, between and after the runs: on a shared machine it drifts.

What is timed is what an answer costs: the decoder and the sampler, one call of each for every token.
"""

from __future__ import annotations

from collections.abc import Sequence as Numbers
from typing import Any

from tercet.bench.report import Axes, Column, Report
from tercet.bench.running import (
    ModelChoice,
    OpenModel,
    Sequence,
    check_context,
    check_counts,
    open_model,
)
from tercet.bench.session import Session
from tercet.errors import UnsupportedModelError

__all__ = ["DECODE_COLUMNS", "bench_decode", "decode_row"]

WARM_UP_TOKENS = 2

DECODE_COLUMNS = (
    Column("tokens_per_second", "tokens/s", ".2f"),
    Column("milliseconds_per_token", "ms a token", ".2f"),
    Column("runs", "tokens/s, median [spread]", ".2f"),
    Column("bandwidth_share", "share of the bandwidth", ".0%"),
    Column("bytes_per_token", "MB a token reads", ".1f", 1e-6),
    Column("bandwidth_gb_per_second", "GB/s at best", ".1f"),
    Column("joules_per_token", "J a token", ".3f"),
    Column("shape", "shape"),
    Column("packing", "packing"),
    Column("head_type", "head"),
    Column("kv_cache", "KV cache"),
    Column("context_tokens", "context", "d"),
    Column("temperature", "temperature", ".1f"),
    Column("threads", "threads", "d"),
    Column("isa", "kernels"),
)


def bench_decode(
    session: Session,
    choice: ModelChoice,
    context: int = 128,
    tokens: int = 32,
    profile: bool = False,
    temperatures: Numbers[float] = (0.0,),
) -> Report:
    """Time the decoding of `tokens` tokens after `context` others, once for each temperature of the sampler.

    With `profile` the report says where the time that the decoder takes for a token goes, in percent.

    Raises:
        ParameterError: the shape is unknown, a count is out of range, or the context is longer than the
        model's.
        TercetError: the model cannot be opened.
    """
    config = choice.config
    if config.pooling is not None:
        raise UnsupportedModelError(f"{choice.name} makes embeddings and generates no tokens")
    check_counts(context=context, tokens=tokens)
    total = context + WARM_UP_TOKENS + tokens
    what = f"context {context} and {tokens + WARM_UP_TOKENS} decoded tokens"
    check_context(config, choice.name, total, what)
    with open_model(session, choice, total) as model:
        rows = [
            decode_row(session, model, context, tokens, temperature=temperature)
            for temperature in temperatures
        ]
    shares = rows[0]["profile"].items()
    notes = []
    if any(row["bandwidth_share"] > 1 for row in rows):
        notes.append("a share above 100 %: the weights stay in the cache of the processor")
    where = ", ".join(f"{name} {share:.1%}" for name, share in sorted(shares, key=lambda item: -item[1]))
    return Report.of(
        session,
        "decode",
        f"Decoding, {choice.title}",
        DECODE_COLUMNS,
        rows,
        Axes("shape", "runs", "", "tokens a second")
        if len(rows) == 1
        else Axes("temperature", "runs", "temperature", "tokens a second"),
        [*notes, f"Where the time of a token goes: {where}."] if profile else notes,
    )


def decode_row(
    session: Session,
    model: OpenModel,
    context: int,
    tokens: int,
    dtype: str | None = None,
    temperature: float = 0.0,
) -> dict[str, Any]:
    """Measure one case of an open model; `dtype` is that of the KV cache if not the choice's."""
    cache = model.cache(context + WARM_UP_TOKENS + tokens, dtype=dtype)
    sequence = Sequence(model.decoder, cache, model.config.vocab_size, temperature=temperature)
    session.progress(f"reading a context of {context} tokens")
    sequence.fill(context)

    spent: dict[str, float] = {}

    def rewind() -> None:
        sequence.rewind(context)
        sequence.decode(WARM_UP_TOKENS)

    def step() -> None:
        before = model.decoder.profile()
        sequence.decode(tokens)
        for name, seconds in model.decoder.profile().items():
            spent[name] = spent.get(name, 0.0) + seconds - before[name]

    timing = session.time(step, model.threads, model.isa, rewind, f"decoding after {context} tokens")
    speed = timing.rate(tokens)
    num_bytes = model.bytes_per_token(cache, context + WARM_UP_TOKENS + (tokens - 1) / 2)
    bandwidth = session.roofline(model.threads, model.isa).bandwidth
    return {
        "tokens_per_second": speed.median,
        "bytes_per_token": num_bytes,
        "bandwidth_gb_per_second": bandwidth / 1e9,
        "bandwidth_share": speed.median * num_bytes / bandwidth,
        "milliseconds_per_token": 1e3 / speed.median,
        "joules_per_token": timing.joules_each(tokens),
        "runs": speed,
        "profile": {name: seconds / sum(spent.values()) for name, seconds in spent.items()},
        "bandwidth_reader": session.roofline(model.threads, model.isa).reader,
        **model.settings(),
        "kv_cache": cache.dtype,
        "context_tokens": context,
        "temperature": temperature,
        "tokens_per_run": tokens,
    }
