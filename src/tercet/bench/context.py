"""How decoding slows down as the context grows, with each way of keeping keys and values.

The weights stay the same, the cache grows: at 16 bits a token of bitnet-b1.58-2B-4T leaves 76.8 KB there, and
every later token reads it again. The positions before the measurement are filled by short texts, which costs
a fraction of one long text and leaves as many bytes to read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence as Numbers

from tercet.bench.decode import DECODE_COLUMNS, WARM_UP_TOKENS, decode_row
from tercet.bench.report import Axes, Report
from tercet.bench.running import ModelChoice, check_counts, open_model
from tercet.bench.session import Session

__all__ = ["bench_context"]

_SHOWN = ("context_tokens", "kv_cache", "runs", "bandwidth_share", "bytes_per_token", "joules_per_token")


def bench_context(
    session: Session,
    choice: ModelChoice,
    contexts: Numbers[int] = (128, 1024, 4096, 16384),
    kv_caches: Numbers[str] = ("f16", "int8"),
    tokens: int = 16,
) -> Report:
    """Time the decoding of `tokens` tokens after contexts of these lengths; a shape's limit is lifted.

    Raises:
        ParameterError: the shape or a type of cache is unknown, or a count is out of range.
    """
    check_counts(context=min(contexts), tokens=tokens)
    longest = max(contexts) + tokens + WARM_UP_TOKENS
    chosen = dataclasses.replace(choice, max_context=longest)
    with open_model(session, chosen, longest) as model:
        rows = [
            decode_row(session, model, context, tokens, dtype) for dtype in kv_caches for context in contexts
        ]
    columns = {column.key: column for column in DECODE_COLUMNS}
    return Report.of(
        session,
        "context",
        f"Decoding after long contexts, {choice.shape} with random weights",
        [columns[key] for key in _SHOWN],
        rows,
        Axes(
            "context_tokens", "runs", "tokens of context", "tokens a second", ("kv_cache",), logarithmic=True
        ),
    )
