"""Causal attention in which several query heads share one key and value head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["attend"]


def attend(
    query: NDArray[np.float32],
    key: NDArray[np.float32],
    value: NDArray[np.float32],
    scale: float | None = None,
    window: int | None = None,
) -> NDArray[np.float32]:
    """Return softmax(scale * Q K^T) V for each head, where no token sees a later one.

    Args:
        query: float32 [tokens, heads, head_dim].
        key: float32 [tokens, kv_heads, head_dim]; query head h uses key head h // (heads / kv_heads).
        value: like key.
        scale: what scores are multiplied by; None is 1 / sqrt(head_dim).
        window: how many tokens a token sees, itself included; None is all before it.

    Returns:
        float32 [tokens, heads * head_dim].

    Source: "Attention Is All You Need", section 3.2.1; "GQA: Training Generalized Multi-Query Transformer
    Models"; for the window "Longformer: The Long-Document Transformer".
    """
    tokens, heads, head_dim = query.shape
    shared_by = heads // key.shape[1]
    factor = np.float32(1 / np.sqrt(head_dim) if scale is None else scale)
    distance = np.arange(tokens)[:, None] - np.arange(tokens)  # [query token, key token]
    hidden = (distance < 0) | (distance >= (tokens if window is None else window))
    result = np.empty_like(query)
    for head in range(heads):
        scores = query[:, head] @ key[:, head // shared_by].T * factor
        scores[hidden] = -np.inf
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        result[:, head] = weights @ value[:, head // shared_by]
    return result.reshape(tokens, heads * head_dim)
