"""The specification of sampling: which token follows from logits, parameters, what came before, and the step.

    allowed                minus infinity for what a constraint forbids
    min_tokens             minus infinity for tokens that end the answer, while it has fewer
    logit bias             l + bias
    repetition penalty     tokens of prompt and answer:  l > 0 ? l / p : l * p          (CTRL, section 4.1)
    presence, frequency    tokens of the answer:         l - frequency * count - presence          (OpenAI)
    temperature 0          the largest logit, ties to the lower id; nothing below applies
    temperature            (l - largest l) / temperature
    top_k                  the k largest, ties to the lower id
    softmax
    top_p                  the shortest prefix, in order, whose probabilities sum to at least top_p
    min_p                  probabilities of at least min_p times the largest
    draw                   the first token, in order, where the running sum exceeds u times the whole sum

"In order" is by falling probability, ties by rising id. Logits and penalties are float32; probabilities and
their sums are float64, summed in that order. Each filter works on the renormalized survivors of the one
before.

The random number u of a step depends on the seed and the step alone: output number `step` of a SplitMix64
generator that starts at the seed. A request thus draws the same numbers alone, in any batch, and after
being interrupted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from tercet.errors import ParameterError
from tercet.sampling.params import SamplingParams

__all__ = ["sample", "uniform"]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def uniform(seed: int, step: int) -> float:
    """Return the random number of a step: a multiple of 2**-24 in [0, 1).

    Source: "Fast Splittable Pseudorandom Number Generators", figures 1 and 5 (SplitMix64), the top 24 bits.
    """
    z = (seed + _GOLDEN * (step + 1)) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((z ^ (z >> 31)) >> 40) / 2**24


def sample(
    logits: NDArray[np.float32],
    params: SamplingParams,
    prompt_ids: Sequence[int] = (),
    generated_ids: Sequence[int] = (),
    step: int = 0,
    *,
    allowed: NDArray[np.bool_] | None = None,
    stop_ids: Collection[int] = (),
) -> int:
    """Choose the next token.

    Args:
        logits: float32 [vocab]; minus infinity forbids a token.
        params: how to choose; its seed must be set unless the temperature is 0.
        prompt_ids: the tokens of the prompt.
        generated_ids: the tokens of the answer so far.
        step: how many tokens this request has drawn before.
        allowed: bool [vocab], None for all.
        stop_ids: the tokens that end an answer.

    Raises:
        ParameterError: a logit is NaN or plus infinity, all are forbidden, a token is not in the
            vocabulary, or the seed is missing.
    """
    _check(logits, [*prompt_ids, *params.logit_bias], generated_ids)
    adjusted = logits.copy()
    if allowed is not None:
        adjusted[~allowed] = -np.inf
    if len(generated_ids) < params.min_tokens:
        adjusted[list(stop_ids)] = -np.inf
    for token, bias in params.logit_bias.items():
        adjusted[token] += np.float32(bias)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused
        penalized = _penalized(adjusted, params, prompt_ids, generated_ids)
    _check_largest(penalized)
    if params.temperature == 0:
        return int(np.argmax(penalized))  # the first of equals
    if params.seed is None:
        raise ParameterError("sampling needs a seed; SamplingParams.seeded() draws one")
    order = np.argsort(-penalized, kind="stable")
    if params.top_k:
        order = order[: params.top_k]
    below_largest = penalized[order].astype(np.float64) - np.float64(penalized[order[0]])
    with np.errstate(over="ignore"):  # a tiny temperature may send all but the largest to minus infinity
        weights = np.exp(below_largest / params.temperature)
    sums = np.cumsum(weights)
    if params.top_p < 1:
        weights = weights[: np.searchsorted(sums, params.top_p * sums[-1]) + 1]
    weights = weights[weights >= params.min_p * weights[0]]
    sums = np.cumsum(weights)
    return int(order[np.searchsorted(sums, uniform(params.seed, step) * sums[-1], side="right")])


def _penalized(
    logits: NDArray[np.float32],
    params: SamplingParams,
    prompt_ids: Sequence[int],
    generated_ids: Sequence[int],
) -> NDArray[np.float32]:
    result = logits.copy()
    seen = np.unique(np.array([*prompt_ids, *generated_ids], np.int64))
    penalty = np.float32(params.repetition_penalty)
    result[seen] = np.where(result[seen] > 0, result[seen] / penalty, result[seen] * penalty)
    generated, counts = np.unique(np.array(generated_ids, np.int64), return_counts=True)
    frequency = np.float32(params.frequency_penalty) * counts.astype(np.float32)
    result[generated] -= frequency
    result[generated] -= np.float32(params.presence_penalty)
    return result


def _check(logits: NDArray[np.float32], prompt_ids: Sequence[int], generated_ids: Sequence[int]) -> None:
    if logits.dtype != np.float32 or logits.ndim != 1 or not logits.size:
        raise ParameterError(f"logits are float32 [vocab], not {logits.dtype} {list(logits.shape)}")
    _check_largest(logits)
    for token in (*prompt_ids, *generated_ids):
        if not 0 <= token < logits.size:
            raise ParameterError(f"token id {token} is not in the vocabulary of {logits.size} tokens")


def _check_largest(logits: NDArray[np.float32]) -> None:
    if not np.isfinite(largest := logits.max()):  # NaN, if any logit is NaN
        raise ParameterError(f"the largest logit is {largest}: there is no probability to draw from")
