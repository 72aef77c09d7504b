"""Rotary positions and causal attention in which several query heads share one key and value head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["attend", "rotate"]


def rotate(x: NDArray[np.float32], positions: NDArray[np.int64], theta: float) -> NDArray[np.float32]:
    """Turn each head of x float32 [tokens, heads, head_dim] by its token's position.

    Element i of the first half of a head and element i of its second half form a pair, which turns by
    position * theta ** (-2 i / head_dim) radians: the convention of Hugging Face, where the paper pairs
    neighbours.

    Source: "RoFormer: Enhanced Transformer with Rotary Position Embedding", section 3.2.
    """
    half = x.shape[-1] // 2
    frequencies = (theta ** (-np.arange(half) / half)).astype(np.float32)
    angles = (positions.astype(np.float32)[:, None] * frequencies)[:, None, :]  # [tokens, 1, half]
    cosine, sine = np.cos(angles), np.sin(angles)
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def attend(
    query: NDArray[np.float32], key: NDArray[np.float32], value: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return softmax(Q K^T / sqrt(head_dim)) V for each head, where no token sees a later one.

    Args:
        query: float32 [tokens, heads, head_dim].
        key: float32 [tokens, kv_heads, head_dim]; query head h uses key head h // (heads / kv_heads).
        value: like key.

    Returns:
        float32 [tokens, heads * head_dim].

    Source: "Attention Is All You Need", section 3.2.1; "GQA: Training Generalized Multi-Query Transformer
    Models".
    """
    tokens, heads, head_dim = query.shape
    shared_by = heads // key.shape[1]
    hidden = np.triu(np.ones((tokens, tokens), np.bool_), k=1)  # [query token, key token]
    result = np.empty_like(query)
    for head in range(heads):
        scores = query[:, head] @ key[:, head // shared_by].T * np.float32(1 / np.sqrt(head_dim))
        scores[hidden] = -np.inf
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        result[:, head] = weights @ value[:, head // shared_by]
    return result.reshape(tokens, heads * head_dim)
