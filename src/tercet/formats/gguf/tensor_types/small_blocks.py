"""Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: 32 weights to a block.

    Q8_0   f16 d,          int8 q[32]                     w = d * q
    Q4_0   f16 d,          16 bytes                       w = d * (q - 8)
    Q4_1   f16 d, f16 m,   16 bytes                       w = d * q + m
    Q5_0   f16 d,          u32 high bits, 16 bytes        w = d * (q - 16)
    Q5_1   f16 d, f16 m,   u32 high bits, 16 bytes        w = d * q + m

Byte j of the 16 holds the low four bits of weight j, and above them those of weight 16 + j. Rounding when
writing is that of ggml: to the nearest, halves away from zero in Q8_0, upward in the others.

Source: `ggml-quants.c`; compared bit for bit with the Python package gguf.
"""

from __future__ import annotations

import numpy as np

from tercet.formats.gguf.tensor_types.tensor_type import (
    BlockFloats,
    Bytes,
    Floats,
    half_float_bytes,
    half_floats,
)

__all__ = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]

_BITS = np.arange(32, dtype=np.uint32)


def _read_q8_0(blocks: Bytes) -> Floats:
    return half_floats(blocks[:, :2]) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _write_q8_0(values: Floats) -> Bytes:
    scale = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
    scaled = values * _reciprocal(scale)
    magnitude = np.abs(scaled)
    floored = np.floor(magnitude)
    rounded = np.sign(scaled) * (floored + np.floor(2 * (magnitude - floored)))
    return np.concatenate([half_float_bytes(scale[:, 0]), rounded.astype(np.int8).view(np.uint8)], axis=1)


def _read_q4_0(blocks: Bytes) -> Floats:
    return half_floats(blocks[:, :2]) * (_low_bits(blocks[:, 2:]).view(np.int8) - np.int8(8))


def _read_q4_1(blocks: Bytes) -> Floats:
    return half_floats(blocks[:, :2]) * _low_bits(blocks[:, 4:]) + half_floats(blocks[:, 2:4])


def _read_q5_0(blocks: Bytes) -> Floats:
    quanta = _low_bits(blocks[:, 6:]) | _high_bits(blocks[:, 2:6])
    return half_floats(blocks[:, :2]) * (quanta.view(np.int8) - np.int8(16))


def _read_q5_1(blocks: Bytes) -> Floats:
    quanta = _low_bits(blocks[:, 8:]) | _high_bits(blocks[:, 4:8])
    return half_floats(blocks[:, :2]) * quanta + half_floats(blocks[:, 2:4])


def _write_q4_0(values: Floats) -> Bytes:
    scale, quanta = _symmetric(values, 8)
    return np.concatenate([half_float_bytes(scale), quanta[:, :16] | quanta[:, 16:] << 4], axis=1)


def _write_q5_0(values: Floats) -> Bytes:
    scale, quanta = _symmetric(values, 16)
    high = np.packbits(quanta >> 4, axis=1, bitorder="little")
    low = quanta & 15
    return np.concatenate([half_float_bytes(scale), high, low[:, :16] | low[:, 16:] << 4], axis=1)


def _symmetric(values: Floats, half: int) -> tuple[Floats, Bytes]:
    """Scale so that the largest magnitude becomes -half, whatever its sign; round into 0 .. 2 half - 1."""
    largest = np.take_along_axis(values, np.abs(values).argmax(axis=1, keepdims=True), axis=1)
    scale = largest / np.float32(-half)
    quanta = np.trunc(values * _reciprocal(scale) + np.float32(half + 0.5)).astype(np.uint8)
    return scale[:, 0], quanta.clip(0, 2 * half - 1)


def _reciprocal(scale: Floats) -> Floats:
    with np.errstate(divide="ignore", over="ignore"):
        return np.where(scale == 0, np.float32(0), np.float32(1) / scale)


def _low_bits(packed: Bytes) -> Bytes:
    return np.concatenate([packed & 15, packed >> 4], axis=1)


def _high_bits(packed: Bytes) -> Bytes:
    bits = np.ascontiguousarray(packed).view("<u4") >> _BITS
    return ((bits & 1) << 4).astype(np.uint8)


Q4_0 = BlockFloats(2, "Q4_0", 32, 18, _read_q4_0, _write_q4_0)
Q4_1 = BlockFloats(3, "Q4_1", 32, 20, _read_q4_1)
Q5_0 = BlockFloats(6, "Q5_0", 32, 22, _read_q5_0, _write_q5_0)
Q5_1 = BlockFloats(7, "Q5_1", 32, 24, _read_q5_1)
Q8_0 = BlockFloats(8, "Q8_0", 32, 34, _read_q8_0, _write_q8_0)
