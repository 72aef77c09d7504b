"""Perplexity: how surprised a model is by a text.

Each token but the first costs -ln p(token | those before it) nats; a text costs their sum. Divided by the
tokens and exponentiated that is the perplexity, which depends on the tokenizer; divided by the bytes of the
text it is nats per byte (or bits per byte, in units of ln 2), which does not, so that models with different
vocabularies compare.

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

from tercet.errors import ParameterError
from tercet.evaluation.scoring import score_continuations
from tercet.llm import LLM


@dataclass(frozen=True)
class PerplexityReport:
    """The figures of one evaluation; `tokens` were scored, `bytes` is the UTF-8 text they stand for."""

    model: str
    nats_per_byte: float
    bits_per_byte: float
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
        pairs = (
            (ids[begin:first_scored], ids[first_scored:end])
            for begin, first_scored, end in windows(len(ids), window, stride)
        )
        for scores in score_continuations(llm, pairs):
            nats -= scores.total
            tokens += len(scores.log_probabilities)
            num_windows += 1
            progress(tokens, nats)
    if tokens == 0 or num_bytes == 0:
        raise ParameterError("there is no text to score: the documents are empty or a single token")
    return PerplexityReport(
        model=llm.name,
        nats_per_byte=nats / num_bytes,
        bits_per_byte=nats / num_bytes / math.log(2),
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
