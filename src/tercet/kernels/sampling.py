"""The sampler in C++: the tokens of `tercet.sampling.reference`, without sorting the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tercet import _core

__all__ = ["sample", "uniform"]


def sample(
    logits: npt.NDArray[np.float32],
    *,
    temperature: float,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    seed: int = 0,
    prompt_ids: Sequence[int] | npt.NDArray[np.int32] = (),
    generated_ids: Sequence[int] | npt.NDArray[np.int32] = (),
    step: int = 0,
) -> int:
    """Choose the next token from logits float32 [vocab], as `tercet.sampling.reference.sample` does.

    Raises:
        ParameterError: the largest logit is not finite, before or after the penalties; a token is not in
            the vocabulary; or a parameter is out of its range.
    """
    return _core.sample(
        np.ascontiguousarray(logits, np.float32),
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        seed=seed,
        prompt_ids=np.ascontiguousarray(prompt_ids, np.int32),
        generated_ids=np.ascontiguousarray(generated_ids, np.int32),
        step=step,
    )


def uniform(seed: int, step: int) -> float:
    """Return the random number of a step: a multiple of 2**-24 in [0, 1)."""
    return _core.uniform(seed, step)
