"""Q4_K, Q5_K and Q6_K: 256 weights to a block, with scales of their own for each 32 (or 16) weights.

    Q4_K   f16 d, f16 dmin, 12 bytes of six-bit scales s and minima m, 128 bytes       w = d s q - dmin m
    Q5_K   the same with 32 bytes of fifth bits before the 128
    Q6_K   128 bytes of low bits, 64 of high bits, int8 s[16], f16 d                   w = d s (q - 32)

Source: `ggml-quants.c`; compared bit for bit with the Python package gguf.
"""

from __future__ import annotations

import numpy as np

from tercet.formats.gguf.tensor_types.tensor_type import BlockFloats, Bytes, Floats, half_floats

__all__ = ["Q4_K", "Q5_K", "Q6_K"]

_NIBBLES = np.array([0, 4], np.uint8).reshape(1, 1, 2, 1)
_PAIRS = np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)
_BITS = np.arange(8, dtype=np.uint8).reshape(1, 8, 1)


def _scales_and_minima(blocks: Bytes) -> tuple[Floats, Floats]:
    """Eight scales and eight minima, float32[blocks, 8, 1]. Bytes 0-3 and 4-7 hold the first four of each,
    and in their top bits the top bits of the others, whose low bits are in bytes 8-11.
    """
    first, second, rest = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = np.concatenate([first & 63, (rest & 15) | ((first >> 2) & 48)], axis=1)
    minima = np.concatenate([second & 63, (rest >> 4) | ((second >> 2) & 48)], axis=1)
    d, d_min = half_floats(blocks[:, :2]), half_floats(blocks[:, 2:4])
    return (d * scales)[:, :, None], (d_min * minima)[:, :, None]


def _nibbles(packed: Bytes) -> Bytes:
    """Of each 32 bytes first all low, then all high halves: uint8[blocks, groups, 32]."""
    halves: Bytes = packed.reshape(len(packed), -1, 1, 32) >> _NIBBLES
    return np.bitwise_and(halves, 15).reshape(len(packed), -1, 32)


def _read_q4_k(blocks: Bytes) -> Floats:
    scales, minima = _scales_and_minima(blocks)
    return (scales * _nibbles(blocks[:, 16:]) - minima).reshape(-1, 256)


def _read_q5_k(blocks: Bytes) -> Floats:
    scales, minima = _scales_and_minima(blocks)
    fifth = ((blocks[:, 16:48].reshape(-1, 1, 32) >> _BITS) & 1) << 4
    return (scales * (_nibbles(blocks[:, 48:]) | fifth) - minima).reshape(-1, 256)


def _read_q6_k(blocks: Bytes) -> Floats:
    low = ((blocks[:, :128].reshape(-1, 2, 1, 64) >> _NIBBLES) & 15).reshape(-1, 256)
    high = ((blocks[:, 128:192].reshape(-1, 2, 1, 32) >> _PAIRS) & 3).reshape(-1, 256)
    quanta = (low | high << 4).view(np.int8) - np.int8(32)
    scales = half_floats(blocks[:, 208:]) * np.ascontiguousarray(blocks[:, 192:208]).view(np.int8)
    return (scales[:, :, None] * quanta.reshape(-1, 16, 16)).reshape(-1, 256)


Q4_K = BlockFloats(12, "Q4_K", 256, 144, _read_q4_k)
Q5_K = BlockFloats(13, "Q5_K", 256, 176, _read_q5_k)
Q6_K = BlockFloats(14, "Q6_K", 256, 210, _read_q6_k)
