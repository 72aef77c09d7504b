"""How likely the tokens were that an answer is made of.

The numbers are those of the model itself: the log of the softmax of its logits, before logit bias,
constraints, penalties, temperature and the filters. So they say what the model thinks, do not depend on how
the token was chosen, and compare between requests. (vLLM calls this mode `raw_logprobs`; it is its default.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["TokenLogprobs", "token_logprobs"]


@dataclass(frozen=True)
class TokenLogprobs:
    """A chosen token, its log probability (base e), and the likeliest tokens in its place with theirs."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """By falling probability, ties by rising id. The chosen token need not be among them."""


def token_logprobs(logits: NDArray[np.float32], token_id: int, num_top: int) -> TokenLogprobs:
    """Return the log probability of a token and of the `num_top` likeliest, from logits [vocab].

    The exponentials are float32, their sum and everything after it float64: exact to about 1e-6.
    """
    largest = logits.max()
    log_sum = float(largest) + float(np.log(np.exp(logits - largest).sum(dtype=np.float64)))
    count = min(num_top, len(logits))
    top: tuple[tuple[int, float], ...] = ()
    if count:
        # All that are as likely as the last of them, so that ties are settled by the id.
        bound = np.partition(logits, len(logits) - count)[len(logits) - count]
        ids = np.flatnonzero(logits >= bound)
        ids = ids[np.argsort(-logits[ids], kind="stable")][:count]
        top = tuple((int(token), float(logits[token]) - log_sum) for token in ids)
    return TokenLogprobs(int(token_id), float(logits[token_id]) - log_sum, top)
