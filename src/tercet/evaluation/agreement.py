"""How far two models with the same vocabulary say the same, token by token of a text.

    KL         mean of KL(a || b) over the next-token distributions, in nats: what is lost by taking b for a
    top 1      share of positions where both find the same token the likeliest
    nats       mean of -ln p(next token) of each

Both read the same tokens, window by window; every position counts once. The intervals are those of the
paired bootstrap over windows (`tercet.evaluation.comparison`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.errors import ParameterError
from tercet.evaluation.comparison import paired_difference
from tercet.evaluation.scoring import ROWS_AT_A_TIME, log_probabilities
from tercet.llm import LLM

__all__ = ["Agreement", "agreement_sums", "measure_agreement"]

WINDOW = 512


@dataclass(frozen=True)
class Agreement:
    """Two models over one text."""

    a: str
    b: str
    tokens: int
    nats_a: float
    nats_b: float
    nats_difference: float
    nats_low: float
    nats_high: float
    """The 95 % interval of b's nats minus a's."""
    kl: float
    same_top: float

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return dataclasses.asdict(self)


def agreement_sums(
    a: npt.NDArray[np.float32],
    b: npt.NDArray[np.float32],
    targets: Sequence[int] | npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return sums over rows of logits: nats of a, nats of b, KL(a || b), same first choices.

    Shapes: [rows, vocab], [rows, vocab], [rows] -> [4].
    """
    sums = np.zeros(4)
    wanted = np.asarray(targets, np.int64)
    for begin in range(0, len(wanted), ROWS_AT_A_TIME):
        part = slice(begin, begin + ROWS_AT_A_TIME)
        log_p, log_q = log_probabilities(a[part]), log_probabilities(b[part])
        chosen = np.arange(len(log_p)), wanted[part]
        sums += (
            -log_p[chosen].sum(),
            -log_q[chosen].sum(),
            (np.exp(log_p) * (log_p - log_q)).sum(),
            (log_p.argmax(axis=1) == log_q.argmax(axis=1)).sum(),
        )
    return sums


def measure_agreement(
    a: LLM,
    b: LLM,
    documents: Iterable[str],
    window: int | None = None,
    progress: Callable[[int, float], None] = lambda tokens, kl: None,
) -> Agreement:
    """Compare two models on texts.

    Args:
        a: the model to compare with.
        b: the other.
        documents: texts; each begins with the token that begins texts.
        window: tokens read at once; None is 512, or the shorter context.
        progress: called after each window with the tokens and the mean KL so far.

    Raises:
        ParameterError: the models cut texts into other tokens, or there is nothing to read.
    """
    most = min(a.max_context, b.max_context)
    size = min(window or WINDOW, most)
    if size < 2 or (window or 2) > most:
        raise ParameterError(f"window must be from 2 to {most} tokens for these models, not {window}")
    sums, counts = [], []
    for document in documents:
        ids = _same_tokens(a, b, document)
        for begin in range(0, len(ids) - 1, size):
            part = ids[begin : begin + size + 1]
            logits = a.logits(part[:-1]), b.logits(part[:-1])
            sums.append(agreement_sums(*logits, part[1:]))
            counts.append(len(part) - 1)
            progress(sum(counts), sum(float(one[2]) for one in sums) / sum(counts))
    if not counts:
        raise ParameterError("there is no text to compare on: the documents are empty or a single token")
    tokens = sum(counts)
    totals = np.sum(sums, axis=0) / tokens
    parts = [[[float(one[k] / n)] * n for one, n in zip(sums, counts, strict=True)] for k in (0, 1)]
    nats_a, nats_b, difference, low, high = paired_difference(parts[0], parts[1])
    return Agreement(
        a=a.name,
        b=b.name,
        tokens=tokens,
        nats_a=nats_a,
        nats_b=nats_b,
        nats_difference=difference,
        nats_low=low,
        nats_high=high,
        kl=float(totals[2]),
        same_top=float(totals[3]),
    )


def _same_tokens(a: LLM, b: LLM, document: str) -> list[int]:
    ids = a.prompt_tokens(document) if document else []
    others = b.prompt_tokens(document) if document else []
    if a.config.vocab_size != b.config.vocab_size or ids != others:
        raise ParameterError(
            f"{a.name} and {b.name} cut this text into different tokens, so their distributions cannot be "
            "compared; compare nats per byte instead (`tercet eval perplexity`)"
        )
    return ids
