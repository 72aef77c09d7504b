"""Perplexity: how surprised a model is by a text.

Each token but the first costs -ln p(token | those before it) nats; a text costs their sum. Divided by the
tokens and exponentiated that is the perplexity, which depends on the tokenizer; divided by the bytes of the
text it is nats per byte, which does not, so that models with different vocabularies compare.

A text longer than the window is read in windows that overlap: each begins `stride` tokens after the one
before and scores only the tokens that no earlier one has scored, so every token is scored once, with at
least `window - stride` tokens of context wherever the text has them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.errors import ParameterError
from tercet.llm import LLM

ROWS_AT_A_TIME = 64  # float64 rows of a large vocabulary are a megabyte each


@dataclass(frozen=True)
class PerplexityReport:
    """The figures of one evaluation; `tokens` were scored, `bytes` is the UTF-8 text they stand for."""

    model: str
    nats_per_byte: float
    perplexity_per_token: float
    nats_per_token: float
    total_nats: float
    bytes: int
    tokens: int
    documents: int
    windows: int
    window_tokens: int
    stride_tokens: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return asdict(self)


def measure_perplexity(
    llm: LLM,
    documents: Iterable[str],
    window: int | None = None,
    stride: int | None = None,
    progress: Callable[[int, float], None] = lambda tokens, nats: None,
) -> PerplexityReport:
    """Score documents, each on its own from the model's begin-of-text token on.

    Args:
        window: tokens that the model sees at once; None is the whole context.
        stride: new tokens in each window after the first; None is half the window.
        progress: called after each window with the tokens and nats so far.

    Raises:
        ParameterError: window or stride is out of range, or there is nothing to score.
    """
    window = _checked("window", window or llm.max_context, 2, llm.max_context)
    stride = _checked("stride", stride or window // 2, 1, window - 1)
    started = time.perf_counter()
    nats, tokens, num_bytes, num_windows, num_documents = 0.0, 0, 0, 0, 0
    for document in documents:
        ids, skipped_bytes = _token_ids(llm, document)
        num_documents += 1
        num_bytes += len(document.encode()) - skipped_bytes
        for begin, first_scored, end in windows(len(ids), window, stride):
            nats += _window_nats(llm, ids[begin:end], first_scored - begin)
            tokens += end - first_scored
            num_windows += 1
            progress(tokens, nats)
    if tokens == 0 or num_bytes == 0:
        raise ParameterError("there is no text to score: the documents are empty or a single token")
    return PerplexityReport(
        model=llm.name,
        nats_per_byte=nats / num_bytes,
        perplexity_per_token=math.exp(nats / tokens),
        nats_per_token=nats / tokens,
        total_nats=nats,
        bytes=num_bytes,
        tokens=tokens,
        documents=num_documents,
        windows=num_windows,
        window_tokens=window,
        stride_tokens=stride,
        seconds=time.perf_counter() - started,
    )


def windows(num_tokens: int, window: int, stride: int) -> Iterable[tuple[int, int, int]]:
    """Yield (begin, first scored, end) of each window over positions 0 .. num_tokens - 1.

    Position 0 is never scored; every other is, once.
    """
    scored, begin = 1, 0
    while scored < num_tokens:
        end = min(begin + window, num_tokens)
        yield begin, scored, end
        scored = end
        begin += stride


def negative_log_likelihoods(
    logits: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """-ln softmax(logits)[target] of each row, in float64. Shapes: [rows, vocab], [rows] -> [rows]."""
    parts = [np.empty(0)]
    for start in range(0, len(targets), ROWS_AT_A_TIME):
        rows = logits[start : start + ROWS_AT_A_TIME].astype(np.float64)
        rows -= rows.max(axis=1, keepdims=True)
        chosen = rows[np.arange(len(rows)), targets[start : start + ROWS_AT_A_TIME]]
        parts.append(np.log(np.exp(rows).sum(axis=1)) - chosen)
    return np.concatenate(parts)


def _window_nats(llm: LLM, ids: list[int], first_scored: int) -> float:
    logits = llm.logits(ids[:-1])  # after token i they predict token i + 1
    return float(negative_log_likelihoods(logits[first_scored - 1 :], np.asarray(ids[first_scored:])).sum())


def _token_ids(llm: LLM, document: str) -> tuple[list[int], int]:
    """Token ids, and the bytes of the first one if nothing comes before it: it cannot be scored then."""
    ids = llm.tokenize(document)
    if (bos := llm.config.first_token_id) is not None:
        return [bos, *ids], 0
    return ids, len(llm.tokenizer.token_bytes(ids[0])) if ids else 0


def _checked(name: str, value: int, lowest: int, highest: int) -> int:
    if not lowest <= value <= highest:
        raise ParameterError(f"{name} must be from {lowest} to {highest} tokens for this model, not {value}")
    return value
