"""From weights to the bytes of a tensor, portion by portion.

What each ternary type can hold, exactly or not at all:

    I2_S                one float32 scale for the tensor; rows of a multiple of 128
    TQ1_0, TQ2_0        a float16 scale for each 256 weights of a row
    Q2_0                a float16 scale for each 64 weights of a row
    F32, F16, BF16      codes times scale as real values: any granularity

Codes are always exact. A scale that is stored as float16 is rounded to it, by at most one part in 2048;
nothing else is changed, and a scale that float16 cannot hold at all is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tercet.errors import ParameterError
from tercet.formats.gguf.tensor_types import I2_S, WRITABLE_FLOATS, WRITABLE_TERNARY, Levels
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["encode_floats", "encode_ternary"]

_PORTION_WEIGHTS = 1 << 21


def encode_ternary(tensor: TernaryTensor, type_name: str) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the bytes of a ternary matrix in a type of this name.

    Raises:
        ParameterError: the type cannot hold the matrix: its scales are too many or too fine, or too large or
            small for float16, or its rows are not of a length that the type can have.
    """
    if type_name in WRITABLE_FLOATS:
        yield from _as_floats(tensor, type_name)
    elif type_name == I2_S.name:
        rows, depth = tensor.shape
        if tensor.granularity != "tensor" or depth % 128:
            raise ParameterError(
                "I2_S holds matrices with one scale and rows of a multiple of 128 weights, "
                f"not [{rows}, {depth}] with a scale per {tensor.granularity}"
            )
        yield I2_S.pack(tensor.codes, float(tensor.scales))
    elif type_name in WRITABLE_TERNARY:
        yield from _in_blocks(tensor, type_name)
    else:
        raise ParameterError(f"no ternary matrix is written as {type_name!r}")


def encode_floats(values: npt.NDArray[np.float32], type_name: str) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the bytes of real values [..., depth] in a type of this name, rounded to it.

    Raises:
        ParameterError: there is no such type, a row is not a whole number of its blocks, or a value is too
            large
            for it.
    """
    if type_name not in WRITABLE_FLOATS:
        raise ParameterError(f"real values are written as {', '.join(WRITABLE_FLOATS)}, not {type_name!r}")
    kind = WRITABLE_FLOATS[type_name]
    if values.shape[-1] % kind.block_weights or kind.pack is None:
        raise ParameterError(
            f"rows of {values.shape[-1]} weights cannot be written as {type_name}, whose blocks have "
            f"{kind.block_weights}"
        )
    blocks = values.reshape(-1, kind.block_weights)
    step = max(1, _PORTION_WEIGHTS // kind.block_weights)
    for start in range(0, len(blocks), step):
        packed = kind.pack(blocks[start : start + step])
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.isfinite(kind.values(packed)).all():
                raise ParameterError(
                    f"values of up to {np.abs(values).max():g} are too large for {type_name}"
                )
        yield packed


def _as_floats(tensor: TernaryTensor, type_name: str) -> Iterator[npt.NDArray[np.uint8]]:
    rows, depth = tensor.shape
    step = max(1, _PORTION_WEIGHTS // depth)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        scales = tensor.scales if tensor.scales.ndim == 0 else tensor.scales[part]
        yield from encode_floats(Levels(tensor.codes[part], scales).float32(), type_name)


def _in_blocks(tensor: TernaryTensor, type_name: str) -> Iterator[npt.NDArray[np.uint8]]:
    kind = WRITABLE_TERNARY[type_name]
    rows, depth = tensor.shape
    if kind.pack is None or depth % kind.block_weights or tensor.group_size % kind.block_weights:
        raise ParameterError(
            f"{type_name} has one scale for each {kind.block_weights} weights of a row: "
            f"a [{rows}, {depth}] matrix with a scale per {tensor.group_size} columns does not fit it"
        )
    groups = depth // tensor.group_size
    scales = np.broadcast_to(
        tensor.scales.reshape((1, 1) if tensor.scales.ndim == 0 else (rows, -1)), (rows, groups)
    )
    _check_half(scales, type_name)
    scales = np.repeat(scales, tensor.group_size // kind.block_weights, axis=1)
    step = max(1, _PORTION_WEIGHTS // depth)
    for start in range(0, rows, step):
        codes = tensor.codes[start : start + step].reshape(-1, kind.block_weights)
        of_blocks = scales[start : start + step].reshape(-1)
        # As every other writer does: a block without a weight other than zero has the scale 0.
        yield kind.pack(codes, np.where(codes.any(axis=1), of_blocks, np.float32(0)))


def _check_half(scales: npt.NDArray[np.float32], type_name: str) -> None:
    with np.errstate(over="ignore"):
        half = scales.astype(np.float16).astype(np.float32)
    lost = ~np.isfinite(half) | ((half == 0) & (scales != 0))
    if lost.any():
        raise ParameterError(
            f"{type_name} stores scales as float16, which cannot hold {scales[lost][0]:g}: use I2_S or F32"
        )
