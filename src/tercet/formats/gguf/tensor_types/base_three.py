"""TQ1_0 and PTQ1_0: five ternary digits in a byte.

    TQ1_0    256 weights in 54 bytes: 48 bytes of five, 4 bytes of four, f16 d
    PTQ1_0   128 weights in 28 bytes: 24 bytes of five, 2 bytes of four, f16 d      (PrismML)

The bytes come in stages, of 32, 16 and 4 (16, 8 and 2). Digit n of byte m of a stage of M bytes is weight
M n + m of that stage, most significant digit first. A byte is not the number v = 0..242 itself but
ceil(v * 256 / 243), a fraction in eight bits: multiplying by 3 and taking what carries out gives one digit
after the other.

Source: `ggml-quants.c`, and that of the PrismML fork.
"""

from __future__ import annotations

import numpy as np

from tercet.formats.gguf.tensor_types.tensor_type import (
    BlockTernary,
    Bytes,
    Codes,
    Floats,
    half_float_bytes,
    half_floats,
)

__all__ = ["DIGITS", "PTQ1_0", "TQ1_0"]

Stages = tuple[tuple[int, int], ...]


def _digits() -> Codes:
    fractions = np.arange(256, dtype=np.uint16)[:, None] * 3 ** np.arange(5, dtype=np.uint16) & 255
    return ((fractions * 3 >> 8).astype(np.int8)) - np.int8(1)


DIGITS = _digits()
"""The five codes of every byte, int8[256, 5], most significant first."""


def _type(type_id: int, name: str, block_weights: int, stages: Stages) -> BlockTernary:
    """Make a type of stages (bytes, digits in each)."""
    data_bytes = sum(num_bytes for num_bytes, _ in stages)

    def unpack(blocks: Bytes) -> tuple[Codes, Floats]:
        codes, start = [], 0
        for num_bytes, num_digits in stages:
            digits = DIGITS[blocks[:, start : start + num_bytes], :num_digits]
            codes.append(digits.transpose(0, 2, 1).reshape(len(blocks), -1))
            start += num_bytes
        return np.concatenate(codes, axis=1), half_floats(blocks[:, data_bytes:])[:, 0]

    def pack(codes: Codes, scales: Floats) -> Bytes:
        packed, start = [], 0
        for num_bytes, num_digits in stages:
            stage = codes[:, start : start + num_bytes * num_digits].reshape(-1, num_digits, num_bytes)
            places = 3 ** np.arange(4, 4 - num_digits, -1, dtype=np.uint16)
            numbers = ((stage + 1).astype(np.uint16) * places[:, None]).sum(axis=1, dtype=np.uint16)
            packed.append(((numbers.astype(np.uint32) * 256 + 242) // 243).astype(np.uint8))
            start += num_bytes * num_digits
        return np.concatenate([*packed, half_float_bytes(scales)], axis=1)

    return BlockTernary(type_id, name, block_weights, data_bytes + 2, unpack, data_bytes, pack)


TQ1_0 = _type(34, "TQ1_0", 256, ((32, 5), (16, 5), (4, 4)))
PTQ1_0 = _type(143, "PTQ1_0", 128, ((16, 5), (8, 5), (2, 4)))
