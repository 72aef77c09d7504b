"""F32, F16 and BF16: one weight to a block."""

from __future__ import annotations

import numpy as np

from tercet.formats.floats import FLOAT_TYPES, from_float32, to_float32
from tercet.formats.gguf.tensor_types.tensor_type import BlockFloats, Bytes, Floats

__all__ = ["BF16", "F16", "F32", "FLOAT_TYPE_OF_ID"]


def _float_type(type_id: int, name: str, float_type: str) -> BlockFloats:
    dtype = FLOAT_TYPES[float_type]

    def values(blocks: Bytes) -> Floats:
        return to_float32(blocks.view(dtype), float_type)

    def pack(values: Floats) -> Bytes:
        return from_float32(values, float_type).view(np.uint8)

    return BlockFloats(type_id, name, 1, dtype.itemsize, values, pack)


F32 = _float_type(0, "F32", "f32")
F16 = _float_type(1, "F16", "f16")
BF16 = _float_type(30, "BF16", "bf16")

FLOAT_TYPE_OF_ID = {F32.id: "f32", F16.id: "f16", BF16.id: "bf16"}
"""What `tercet.formats.floats` calls these types."""
