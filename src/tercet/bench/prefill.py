"""How fast a prompt is read. Here arithmetic is the limit: every weight is used for all tokens of a chunk.

    share of the int8 peak  =  tokens a second x ternary weights / int8 multiply-adds a second

where the peak is that of the instruction set's own dot products, measured in registers in the same run.
Attention, norms and everything else count as lost.
"""

from __future__ import annotations

from collections.abc import Sequence as Numbers
from typing import Any

from tercet.bench.report import Axes, Column, Report
from tercet.bench.running import ModelChoice, OpenModel, Sequence, check_context, check_counts, open_model
from tercet.bench.session import Session

__all__ = ["PREFILL_COLUMNS", "bench_prefill", "prefill_row"]

PREFILL_COLUMNS = (
    Column("prompt_tokens", "prompt", "d"),
    Column("runs", "tokens/s, median [spread]", ".1f"),
    Column("peak_share", "share of the int8 peak", ".0%"),
    Column("peak_gmac_per_second", "peak, GMAC/s", ".0f"),
    Column("joules_per_token", "J a token", ".4f"),
    Column("packing", "packing"),
    Column("threads", "threads", "d"),
    Column("isa", "kernels"),
)


def bench_prefill(session: Session, choice: ModelChoice, prompts: Numbers[int] = (128, 512)) -> Report:
    """Time the reading of prompts of these lengths, with random weights and tokens.

    Raises:
        ParameterError: the shape is unknown, or a prompt is longer than its context.
    """
    for prompt in prompts:
        check_counts(prompt=prompt)
        check_context(choice.config, choice.shape, prompt, f"the tokens of a prompt of {prompt}")
    with open_model(session, choice, max(prompts)) as model:
        rows = [prefill_row(session, model, prompt) for prompt in prompts]
    return Report.of(
        session,
        "prefill",
        f"Reading a prompt, {choice.shape} with random weights",
        PREFILL_COLUMNS,
        rows,
        Axes("prompt_tokens", "runs", "tokens of the prompt", "tokens a second"),
    )


def prefill_row(session: Session, model: OpenModel, prompt: int) -> dict[str, Any]:
    """Measure one length of prompt."""
    sequence = Sequence(model.decoder, model.cache(prompt), model.config.vocab_size)
    timing = session.time(
        lambda: sequence.prefill(prompt, chunk=prompt),
        model.threads,
        model.isa,
        lambda: sequence.rewind(0),
        f"reading {prompt} tokens",
    )
    speed = timing.rate(prompt)
    peak = session.roofline(model.threads, model.isa).int8_peak
    return {
        "prompt_tokens": prompt,
        "tokens_per_second": speed.median,
        "peak_share": speed.median * model.config.num_ternary_weights / peak,
        "peak_gmac_per_second": peak / 1e9,
        "joules_per_token": timing.joules_each(prompt),
        "runs": speed,
        **model.settings(),
    }
