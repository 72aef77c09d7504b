"""Rotary positions: how fast each pair of a head turns, and the turning.

Source: "RoFormer: Enhanced Transformer with Rotary Position Embedding", section 3.2.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scaling", "inverse_frequencies", "rotate"]


class Scaling(Protocol):
    """How positions are stretched; `tercet.models.rope_scaling.RopeScaling` says what each number means."""

    @property
    def kind(self) -> str:
        """`linear`, `llama3`, `yarn` or `factors`."""

    @property
    def factor(self) -> float | None:
        """How many times longer the context has become."""

    @property
    def original_max_context(self) -> int | None:
        """The context before."""

    @property
    def low_freq_factor(self) -> float | None:
        """llama3."""

    @property
    def high_freq_factor(self) -> float | None:
        """llama3."""

    @property
    def beta_fast(self) -> float | None:
        """yarn."""

    @property
    def beta_slow(self) -> float | None:
        """yarn."""

    @property
    def factors(self) -> tuple[float, ...] | None:
        """factors: a divisor for each frequency."""


def inverse_frequencies(theta: float, head_dim: int, scaling: Scaling | None = None) -> NDArray[np.float32]:
    """Return the radians that each pair turns by from one position to the next, float32 [head_dim / 2].

    Without scaling theta ** (-2 i / head_dim), computed in float64 and rounded once.
    """
    half = head_dim // 2
    frequencies: NDArray[np.float64] = theta ** (-np.arange(half) / half)
    if scaling is None:
        return frequencies.astype(np.float32)
    if scaling.kind == "factors":
        return (frequencies / np.array(scaling.factors, np.float64)).astype(np.float32)
    factor = _given(scaling.factor)
    if scaling.kind == "linear":
        return (frequencies / factor).astype(np.float32)
    kept = (
        _kept_by_llama3(frequencies, scaling)
        if scaling.kind == "llama3"
        else _kept_by_yarn(theta, half, scaling)
    )
    return (frequencies * kept + frequencies / factor * (1 - kept)).astype(np.float32)


def _kept_by_llama3(frequencies: NDArray[np.float64], scaling: Scaling) -> NDArray[np.float64]:
    """How far each frequency stays as it is, from 0 to 1.

    Source: Llama 3.1, `apply_scaling` of the model code that Meta published.
    """
    low, high = _given(scaling.low_freq_factor), _given(scaling.high_freq_factor)
    rotations = _given(scaling.original_max_context) * frequencies / (2 * math.pi)
    return np.clip((rotations - low) / (high - low), 0, 1)


def _kept_by_yarn(theta: float, half: int, scaling: Scaling) -> NDArray[np.float64]:
    """The same for yarn: a ramp between the pairs that turn beta_fast and beta_slow times, whole pairs.

    Source: "YaRN: Efficient Context Window Extension of Large Language Models", section 3.2.
    """
    context = _given(scaling.original_max_context)

    def pair_that_turns(rotations: float) -> float:
        return half * (math.log(context) - math.log(2 * math.pi * rotations)) / math.log(theta)

    first = max(math.floor(pair_that_turns(_given(scaling.beta_fast))), 0)
    last = min(math.ceil(pair_that_turns(_given(scaling.beta_slow))), 2 * half - 1)
    width = last - first or 0.001  # as in the authors' code
    return 1 - np.clip((np.arange(half) - first) / width, 0, 1)


def _given(value: float | None) -> float:
    if value is None:
        raise ValueError("a scaling lacks a number of its kind")  # a RopeScaling is checked when it is made
    return value


def rotate(
    x: NDArray[np.float32],
    positions: NDArray[np.int64],
    frequencies: NDArray[np.float32],
    attention_factor: float = 1.0,
) -> NDArray[np.float32]:
    """Turn each head of x float32 [tokens, heads, head_dim] by its token's position.

    Element i of the first half of a head and element i of its second half form a pair, which turns by
    position * frequencies[i] radians: the convention of Hugging Face, where the paper pairs neighbours.
    `attention_factor` multiplies the result; yarn has one.
    """
    half = x.shape[-1] // 2
    angles = (positions.astype(np.float32)[:, None] * frequencies)[:, None, :]  # [tokens, 1, half]
    factor = np.float32(attention_factor)
    cosine, sine = np.cos(angles) * factor, np.sin(angles) * factor
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
