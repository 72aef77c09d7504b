"""What a model thinks of given tokens: the log probability of each, and whether it would have chosen it.

Everything that measures quality stands on this: perplexity, choices among answers, the loss of an exported
model. Sequences are read in batches, equal beginnings once (`tercet.engine.reading`); a figure has the same
bits whatever is read beside it. Sums of exponentials are taken in float64 over the float32 logits that the
kernels compute.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tercet.errors import ContextLengthError, ParameterError
from tercet.llm import LLM

__all__ = ["TokenScores", "log_probabilities", "score", "score_continuations"]

ROWS_AT_A_TIME = 64
"""float64 rows of a large vocabulary are a megabyte each."""
SEQUENCES_AT_A_TIME = 64
TOKENS_AT_A_TIME = 4096
"""Read together, at least one sequence; other callers of the same model wait so long."""

Ids = Sequence[int]


@dataclass(frozen=True)
class TokenScores:
    """The scored tokens of one sequence, in their order."""

    log_probabilities: npt.NDArray[np.float64]
    """Natural logarithm of p(token | all before it), [tokens]."""
    is_greedy: npt.NDArray[np.bool_]
    """Whether no other token was likelier; among equals the first one counts, [tokens]."""

    @property
    def total(self) -> float:
        """Log probability of all of them together."""
        return float(self.log_probabilities.sum())


def score(llm: LLM, sequences: Iterable[Ids]) -> Iterator[TokenScores]:
    """Score token ids 1, 2, ... of each sequence, in order; the first has nothing before it to follow from.

    Nothing is put before a sequence: begin it with `llm.config.first_token_id` where it should. Adapters take
    part as `llm.adapters.defaults` says.

    Raises:
        ParameterError: a sequence is empty, or has a token that is not in the vocabulary.
        ContextLengthError: it is longer than the context, plus the last token, after which nothing is asked.
    """
    return score_continuations(llm, ((ids[:1], ids[1:]) for ids in sequences))


def score_continuations(llm: LLM, pairs: Iterable[tuple[Ids, Ids]]) -> Iterator[TokenScores]:
    """Score the second part of each pair of token ids, given the first; see `score`."""
    batch: list[tuple[Ids, Ids]] = []
    tokens = 0
    for number, (context, continuation) in enumerate(pairs):
        _check(llm, number, context, continuation)
        batch.append((context, continuation))
        tokens += len(context) + len(continuation)
        if len(batch) == SEQUENCES_AT_A_TIME or tokens >= TOKENS_AT_A_TIME:
            yield from _score_batch(llm, batch)
            batch, tokens = [], 0
    yield from _score_batch(llm, batch)


def log_probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """ln softmax(logits) of each row, in float64. Shapes: [rows, vocab] -> [rows, vocab]."""
    rows = logits.astype(np.float64)
    rows -= rows.max(axis=1, keepdims=True)
    rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return rows


def target_scores(logits: npt.NDArray[np.float32], targets: Ids) -> TokenScores:
    """Score one token for each row of logits. Shapes: [rows, vocab], [rows]."""
    found = TokenScores(np.empty(len(targets)), np.empty(len(targets), np.bool_))
    wanted = np.asarray(targets, np.int64)
    for begin in range(0, len(wanted), ROWS_AT_A_TIME):
        part = slice(begin, begin + ROWS_AT_A_TIME)
        rows = logits[part].astype(np.float64)
        best = rows.argmax(axis=1)
        rows -= rows.max(axis=1, keepdims=True)
        chosen = rows[np.arange(len(rows)), wanted[part]]
        found.log_probabilities[part] = chosen - np.log(np.exp(rows).sum(axis=1))
        found.is_greedy[part] = best == wanted[part]
    return found


def _score_batch(llm: LLM, batch: Sequence[tuple[Ids, Ids]]) -> list[TokenScores]:
    results = [TokenScores(np.empty(len(ids)), np.empty(len(ids), np.bool_)) for _, ids in batch]
    asked = [index for index, (_, continuation) in enumerate(batch) if len(continuation)]

    def seen(position: int, token: int, logits: npt.NDArray[np.float32]) -> None:
        index = asked[position]
        context, continuation = batch[index]
        begin = token + 1 - len(context)
        part = slice(begin, begin + len(logits))
        found = target_scores(logits, continuation[part])
        results[index].log_probabilities[part] = found.log_probabilities
        results[index].is_greedy[part] = found.is_greedy

    inputs = [[*batch[index][0], *batch[index][1][:-1]] for index in asked]
    num_given = [len(batch[index][0]) - 1 for index in asked]
    llm.engine.read(inputs, num_given, seen, adapters=llm.adapters.chosen(None))
    return results


def _check(llm: LLM, number: int, context: Ids, continuation: Ids) -> None:
    if not len(context):
        raise ParameterError(f"sequence {number} has no token to begin with, so nothing follows from it")
    length = len(context) + max(len(continuation) - 1, 0)
    if length > llm.max_context:
        raise ContextLengthError(
            f"sequence {number} has {len(context) + len(continuation)} tokens, "
            f"and the context of this model holds {llm.max_context}",
            length,
            llm.max_context,
        )
    size = llm.config.vocab_size
    for token_id in itertools.chain(context, continuation):
        if not 0 <= token_id < size:
            raise ParameterError(
                f"sequence {number} has token {token_id}, but the vocabulary has ids 0 to {size - 1}"
            )
