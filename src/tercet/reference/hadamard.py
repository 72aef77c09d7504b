"""Turning activations into a rotated basis and back: signs, and a Hadamard transform of every block.

    turn          x -> H (s * x) / sqrt n           before a matrix whose weights were turned
    turn_back     z -> s * (H z) / sqrt n           after a look-up in a table whose rows were turned

H is Sylvester's matrix of n = block_size, H[i, j] = (-1)**popcount(i & j). It is its own inverse but for the
factor n, so that the two undo each other. Outliers of single channels are spread over a block by it.

Source: "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs", section 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["hadamard", "turn", "turn_back"]


def hadamard(x: NDArray[np.float32], block_size: int) -> NDArray[np.float32]:
    """Return H x / sqrt(block_size) for every block of x float32 [tokens, width].

    By butterflies, distance 1 first: one step replaces elements a and b at a distance by a + b and a - b.
    """
    tokens, width = x.shape
    distance = 1
    while distance < block_size:
        pairs = x.reshape(tokens, width // (2 * distance), 2, distance)
        first, second = pairs[:, :, 0], pairs[:, :, 1]
        x = np.stack([first + second, first - second], axis=2).reshape(tokens, width)
        distance *= 2
    return x * np.float32(1 / np.sqrt(block_size))


def turn(x: NDArray[np.float32], signs: NDArray[np.float32], block_size: int) -> NDArray[np.float32]:
    """Return H (s * x) / sqrt n for x float32 [tokens, width] and signs float32 [width]."""
    return hadamard(signs * x, block_size)


def turn_back(z: NDArray[np.float32], signs: NDArray[np.float32], block_size: int) -> NDArray[np.float32]:
    """Return s * (H z) / sqrt n for z float32 [tokens, width]: the inverse of `turn`."""
    return signs * hadamard(z, block_size)
