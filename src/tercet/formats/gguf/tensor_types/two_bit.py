"""TQ2_0, Q2_0 and PQ2_0: four weights in a byte, a float16 scale in each block.

    TQ2_0    256 weights in 66 bytes: 64 bytes, f16 d.   Field l of byte 32 h + m is weight 128 h + 32 l + m.
    Q2_0      64 weights in 18 bytes: f16 d, 16 bytes.   Field l of byte m is weight 4 m + l.
    PQ2_0    128 weights in 34 bytes, otherwise like Q2_0                              (PrismML)

A field is two bits, the lowest first; its value less one is the weight: -1, 0, +1, and for 3 also +2, which
no ternary model has. PrismML's first files held 128 weights to a block under the number of Q2_0, before
upstream chose 64; offsets tell the two apart.

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

__all__ = ["PQ2_0", "Q2_0", "Q2_0_GROUP_128", "TQ2_0"]

_SHIFTS = np.array([0, 2, 4, 6], np.uint8)


def _unpack_tq2_0(blocks: Bytes) -> tuple[Codes, Floats]:
    fields = (blocks[:, :64].reshape(-1, 2, 1, 32) >> _SHIFTS.reshape(1, 1, 4, 1)) & 3
    return fields.reshape(-1, 256).view(np.int8) - np.int8(1), half_floats(blocks[:, 64:])[:, 0]


def _pack_tq2_0(codes: Codes, scales: Floats) -> Bytes:
    fields = (codes + np.int8(1)).view(np.uint8).reshape(-1, 2, 4, 32) << _SHIFTS.reshape(1, 1, 4, 1)
    packed = np.bitwise_or.reduce(fields, axis=2).reshape(-1, 64)
    return np.concatenate([packed, half_float_bytes(scales)], axis=1)


def _unpack_q2_0(blocks: Bytes) -> tuple[Codes, Floats]:
    fields = (blocks[:, 2:, None] >> _SHIFTS) & 3
    return fields.reshape(len(blocks), -1).view(np.int8) - np.int8(1), half_floats(blocks[:, :2])[:, 0]


def _pack_q2_0(codes: Codes, scales: Floats) -> Bytes:
    fields = (codes + np.int8(1)).view(np.uint8).reshape(len(codes), -1, 4) << _SHIFTS
    return np.concatenate([half_float_bytes(scales), np.bitwise_or.reduce(fields, axis=2)], axis=1)


TQ2_0 = BlockTernary(35, "TQ2_0", 256, 66, _unpack_tq2_0, 64, _pack_tq2_0)
Q2_0 = BlockTernary(42, "Q2_0", 64, 18, _unpack_q2_0, 0, _pack_q2_0)
Q2_0_GROUP_128 = BlockTernary(42, "Q2_0 (group 128)", 128, 34, _unpack_q2_0, 0)
PQ2_0 = BlockTernary(142, "PQ2_0", 128, 34, _unpack_q2_0, 0)
