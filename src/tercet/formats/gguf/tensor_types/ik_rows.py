"""IQ1_BN, IQ2_BN and IQ2_BN_R4 of ik_llama.cpp: a scale at the head of each row, then blocks of 64 weights.

    IQ2_BN      f32 d; per block 16 bytes. Field l (two bits, lowest first) of byte j is weight 16 l + j.
    IQ2_BN_R4   four rows together: f32 d[4]; per block 64 bytes.
                Field l of byte 16 g + 4 r + i is weight 16 g + 4 l + i of row r.
    IQ1_BN      f16 d; per block 13 bytes: three for each 16 weights, with five digits each as in TQ1_0 but
                the least significant first, and the digits of the last byte are the sixteenth weights.

A field or digit less one is the code; the field 3 never occurs. A row of zeros has the scale 0, and IQ1_BN
then stores +1 under it.

Source: `iqk_quantize.cpp`; the interleaving checked against files that it wrote.
"""

from __future__ import annotations

import numpy as np

from tercet.formats.gguf.tensor_types.base_three import DIGITS
from tercet.formats.gguf.tensor_types.tensor_type import Bytes, Codes, Floats, RowTernary, half_floats

__all__ = ["IQ1_BN", "IQ2_BN", "IQ2_BN_R4"]

_SHIFTS = np.array([0, 2, 4, 6], np.uint8)


def _unpack_iq1_bn(rows: Bytes, depth: int) -> tuple[Codes, Floats]:
    blocks = rows[:, 2:].reshape(-1, 13)
    digits = DIGITS[blocks, ::-1]
    codes = np.empty((len(blocks), 4, 16), np.int8)
    codes[:, :, :15] = digits[:, :12].reshape(-1, 4, 15)
    codes[:, :, 15] = digits[:, 12, :4]
    return codes.reshape(-1, depth), half_floats(rows[:, :2])[:, 0]


def _unpack_iq2_bn(rows: Bytes, depth: int) -> tuple[Codes, Floats]:
    fields = (rows[:, 4:].reshape(-1, 1, 16) >> _SHIFTS.reshape(1, 4, 1)) & 3
    scales = np.ascontiguousarray(rows[:, :4]).view("<f4")[:, 0].astype(np.float32)
    return fields.view(np.int8).reshape(-1, depth) - np.int8(1), scales


def _unpack_iq2_bn_r4(bundles: Bytes, depth: int) -> tuple[Codes, Floats]:
    # [bundle, block, g, r, l, i] -> [bundle, r, block, g, l, i]
    packed = bundles[:, 16:].reshape(len(bundles), -1, 4, 4, 1, 4)
    fields = (packed >> _SHIFTS.reshape(4, 1)) & 3
    codes = fields.transpose(0, 3, 1, 2, 4, 5).reshape(-1, depth).view(np.int8) - np.int8(1)
    scales = np.ascontiguousarray(bundles[:, :16]).view("<f4").reshape(-1).astype(np.float32)
    return codes, scales


IQ1_BN = RowTernary(134, "IQ1_BN", 64, 13, _unpack_iq1_bn, row_bytes=2)
IQ2_BN = RowTernary(135, "IQ2_BN", 64, 16, _unpack_iq2_bn, row_bytes=4)
IQ2_BN_R4 = RowTernary(335, "IQ2_BN_R4", 64, 16, _unpack_iq2_bn_r4, row_bytes=4, together=4)
