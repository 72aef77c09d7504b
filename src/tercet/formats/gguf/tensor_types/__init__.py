"""The tensor types of GGUF files: one module for each family, and the list of all of them.

    floats           F32, F16, BF16
    small_blocks     Q4_0, Q4_1, Q5_0, Q5_1, Q8_0
    k_blocks         Q4_K, Q5_K, Q6_K
    base_three       TQ1_0, PTQ1_0            ternary from here on
    two_bit          TQ2_0, Q2_0, PQ2_0
    one_bit          Q1_0
    ik_rows          IQ1_BN, IQ2_BN, IQ2_BN_R4
    i2_s             I2_S
    lookup_tables    TL1, TL2

Numbers are not unique: forks gave some that upstream later gave to other types, and one type changed its
blocks. So a number stands for a list of candidates, and the offsets of a file decide between them, since
sizes differ. Types without a reader are here for their size and their name: a file that holds one can still
be described, and is refused by name when the tensor is read.
"""

from __future__ import annotations

from collections.abc import Mapping

from tercet.formats.gguf.tensor_types.base_three import PTQ1_0, TQ1_0
from tercet.formats.gguf.tensor_types.floats import BF16, F16, F32, FLOAT_TYPE_OF_ID
from tercet.formats.gguf.tensor_types.i2_s import I2_S, LAYOUTS, I2SLayout, I2SType
from tercet.formats.gguf.tensor_types.ik_rows import IQ1_BN, IQ2_BN, IQ2_BN_R4
from tercet.formats.gguf.tensor_types.k_blocks import Q4_K, Q5_K, Q6_K
from tercet.formats.gguf.tensor_types.lookup_tables import (
    TL1,
    TL1_WITH_TAIL,
    TL2,
    TL2_WITH_TAIL,
    KernelConfig,
    KernelShape,
    LookupTableType,
    parse_kernel_config,
)
from tercet.formats.gguf.tensor_types.one_bit import Q1_0
from tercet.formats.gguf.tensor_types.small_blocks import Q4_0, Q4_1, Q5_0, Q5_1, Q8_0
from tercet.formats.gguf.tensor_types.tensor_type import (
    BlockFloats,
    BlockTernary,
    Levels,
    RowTernary,
    TensorType,
)
from tercet.formats.gguf.tensor_types.two_bit import PQ2_0, Q2_0, Q2_0_GROUP_128, TQ2_0

__all__ = [
    "CANDIDATES",
    "FLOAT_TYPE_OF_ID",
    "I2_S",
    "LAYOUTS",
    "WRITABLE_FLOATS",
    "WRITABLE_TERNARY",
    "BlockFloats",
    "BlockTernary",
    "I2SLayout",
    "I2SType",
    "KernelConfig",
    "KernelShape",
    "Levels",
    "LookupTableType",
    "RowTernary",
    "TensorType",
    "parse_kernel_config",
]

_SIZES_ONLY = (
    TensorType(10, "Q2_K", 256, 84),
    TensorType(11, "Q3_K", 256, 110),
    TensorType(16, "IQ2_XXS", 256, 66),
    TensorType(17, "IQ2_XS", 256, 74),
    TensorType(18, "IQ3_XXS", 256, 98),
    TensorType(19, "IQ1_S", 256, 50),
    TensorType(20, "IQ4_NL", 32, 18),
    TensorType(21, "IQ3_S", 256, 110),
    TensorType(22, "IQ2_S", 256, 82),
    TensorType(23, "IQ4_XS", 256, 136),
    TensorType(24, "I8", 1, 1),
    TensorType(25, "I16", 1, 2),
    TensorType(26, "I32", 1, 4),
    TensorType(27, "I64", 1, 8),
    TensorType(28, "F64", 1, 8),
    TensorType(29, "IQ1_M", 256, 56),
    TensorType(39, "MXFP4", 32, 17),
    TensorType(40, "NVFP4", 64, 36),
)

_READABLE = (
    F32, F16, BF16,
    Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K,
    TQ1_0, TQ2_0, I2_S, Q1_0, Q2_0, Q2_0_GROUP_128, PQ2_0, PTQ1_0,
    IQ1_BN, IQ2_BN, IQ2_BN_R4,
)  # fmt: skip

_LOOKUP_TABLES = (TL1_WITH_TAIL, TL1, TL2_WITH_TAIL, TL2)


def _candidates() -> dict[int, tuple[TensorType, ...]]:
    candidates: dict[int, tuple[TensorType, ...]] = {}
    for tensor_type in (*_READABLE, *_SIZES_ONLY, *_LOOKUP_TABLES):
        candidates[tensor_type.id] = (*candidates.get(tensor_type.id, ()), tensor_type)
    return candidates


CANDIDATES: Mapping[int, tuple[TensorType, ...]] = _candidates()
"""Every number that a file may give as a tensor's type, and what it may mean."""

WRITABLE_TERNARY: Mapping[str, BlockTernary] = {
    tensor_type.name: tensor_type for tensor_type in (TQ1_0, TQ2_0, Q2_0)
}
"""Ternary block types that can be written; I2_S is the other one."""
WRITABLE_FLOATS: Mapping[str, BlockFloats] = {
    tensor_type.name: tensor_type for tensor_type in (F32, F16, BF16, Q8_0, Q5_0, Q4_0)
}
"""Types that real values can be written in."""
