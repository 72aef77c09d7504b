"""Q1_0: 128 weights in 18 bytes, f16 d and a bit for each weight, set for +d and clear for -d."""

from __future__ import annotations

import numpy as np

from tercet.formats.gguf.tensor_types.tensor_type import BlockTernary, Bytes, Codes, Floats, half_floats

__all__ = ["Q1_0"]


def _unpack(blocks: Bytes) -> tuple[Codes, Floats]:
    bits = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").view(np.int8)
    return 2 * bits - np.int8(1), half_floats(blocks[:, :2])[:, 0]


Q1_0 = BlockTernary(41, "Q1_0", 128, 18, _unpack, 0)
