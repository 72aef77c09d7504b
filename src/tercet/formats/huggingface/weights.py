"""The tensors of a folder as `StoredWeight`: what each of them is, and how it is read.

float        as it is; Gemma's norms multiply by 1 + weight, which is folded in here
master       rounded by absmean (or to its sign) when it is read
packed       uint8, four rows in one, with `weight_scale` beside it
unpacked     floats that are code * scale: seen in a sample of their rows, then taken apart exactly
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from tercet.errors import FormatError, ParameterError
from tercet.formats.floats import has_only_finite
from tercet.formats.huggingface.packing import ROWS_PER_BYTE, unpack_rows
from tercet.formats.huggingface.quantization import Quantization
from tercet.formats.matrices import FloatMatrix
from tercet.formats.safetensors import StoredTensor
from tercet.formats.stored_model import StoredWeight
from tercet.quantization.recognition import common_group, split_ternary
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.quantization.weights import absmean_ternary, sign_binary

__all__ = ["SCALE_SUFFIX", "float_weight", "linear_weight", "unpacked_weight"]

SCALE_SUFFIX = "_scale"
"""What is behind the name of a packed weight to make that of its scale."""
SAMPLED_ROWS = 16
"""Rows that are looked at to see whether floats are ternary; scales reach over some rows at least."""
CHUNK_ELEMENTS = 1 << 22

Array = npt.NDArray[np.float32]


def float_weight(tensor: StoredTensor, *, offset: float = 0.0) -> StoredWeight:
    """A tensor that is used as it is, after `offset` has been added."""

    return _weight(tensor, lambda: _read_floats(tensor, offset))


def _read_floats(tensor: StoredTensor, offset: float = 0.0) -> FloatMatrix:
    if not has_only_finite(tensor.elements(), str(tensor.float_type)):
        raise FormatError(f"{tensor.file}: tensor {tensor.name} holds infinite values or NaN")
    if len(tensor.shape) == 1:
        values = tensor.float32() + np.float32(offset)
        return FloatMatrix("f32", 1, values.size, values)
    rows, depth = tensor.shape
    # A file may begin its tensors at any byte; the decoder reads elements where they are aligned.
    aligned = np.require(tensor.elements(), requirements="A")
    return FloatMatrix(str(tensor.float_type), rows, depth, aligned)


def linear_weight(
    tensor: StoredTensor, tensors: Mapping[str, StoredTensor], quantization: Quantization
) -> StoredWeight:
    """The weight of a linear layer that becomes ternary."""
    scale = tensors.get(tensor.name + SCALE_SUFFIX)
    if quantization.online:
        return _master(tensor, quantization.is_binary)
    if scale is None:
        raise FormatError(
            f"{tensor.file}: tensor {tensor.name} is to be multiplied by {tensor.name}{SCALE_SUFFIX}, "
            "which is not there. The folder is incomplete, or its quantization_config is another model's."
        )
    if tensor.dtype == "U8":
        return _packed(tensor, scale, quantization.scale_divides)
    return _codes_as_floats(tensor, scale, quantization.scale_divides)


def _master(tensor: StoredTensor, is_binary: bool) -> StoredWeight:
    def read() -> TernaryTensor:
        rounding = sign_binary if is_binary else absmean_ternary
        try:
            return rounding(tensor.float32())
        except ParameterError as error:
            raise FormatError(f"{tensor.file}: tensor {tensor.name}: {error}") from error

    return _weight(tensor, read, granularity="tensor", masters=lambda: _read_floats(tensor))


def _packed(tensor: StoredTensor, scale: StoredTensor, divides: bool) -> StoredWeight:
    if len(tensor.shape) != 2:
        raise FormatError(f"{tensor.file}: tensor {tensor.name} has the shape {list(tensor.shape)}")

    def read() -> TernaryTensor:
        try:
            codes = unpack_rows(tensor.data.reshape(tensor.shape))
        except FormatError as error:
            raise FormatError(f"{tensor.file}: tensor {tensor.name}: {error}") from error
        return TernaryTensor(codes, np.asarray(_multiplier(scale, divides), np.float32))

    shape = (ROWS_PER_BYTE * tensor.shape[0], tensor.shape[1])
    return StoredWeight(
        tensor.name, "packed", shape, tensor.data.size + scale.data.size, read, granularity="tensor"
    )


def _codes_as_floats(tensor: StoredTensor, scale: StoredTensor, divides: bool) -> StoredWeight:
    """What transformers leaves when it saves a model that it has unpacked: the codes, as floats."""

    def read() -> TernaryTensor:
        codes = np.empty(tensor.shape, np.int8)
        for rows in _blocks(tensor):
            values = tensor.float32(rows)
            if not np.isin(values, (-1, 0, 1)).all():
                raise FormatError(
                    f"{tensor.file}: tensor {tensor.name} has a scale beside it and holds values other than "
                    "-1, 0 and 1"
                )
            codes[rows] = values
        return TernaryTensor(codes, np.asarray(_multiplier(scale, divides), np.float32))

    return _weight(tensor, read, granularity="tensor")


def _multiplier(scale: StoredTensor, divides: bool) -> np.float32:
    if scale.float_type is None or scale.shape not in ((), (1,)):
        raise FormatError(
            f"{scale.file}: {scale.name} is {scale.dtype} {list(scale.shape)}, expected one float"
        )
    value = float(scale.float32().reshape(()))
    with np.errstate(over="ignore"):
        multiplier = np.float32(1 / value if divides and value else value)
    if not (np.isfinite(multiplier) and value > 0):
        raise FormatError(f"{scale.file}: {scale.name} is {value}, expected a positive number")
    return multiplier


def unpacked_weight(tensor: StoredTensor) -> StoredWeight | None:
    """A float matrix that is code * scale, or None if a look at some of its rows says that it is not."""
    if tensor.float_type is None or len(tensor.shape) != 2 or 0 in tensor.shape:
        return None
    rows, depth = tensor.shape
    sample = np.unique(np.linspace(0, rows - 1, SAMPLED_ROWS).astype(np.intp))
    # The first row alone settles it for nearly every matrix that is not ternary.
    if common_group(tensor.float32(slice(0, 1))) is None:
        return None
    seen = np.concatenate([tensor.float32(slice(index, index + 1)) for index in sample])
    group_size = common_group(seen)
    if group_size is None:
        return None
    one_scale = group_size == depth and len(np.unique(np.abs(seen[seen != 0]))) == 1
    granularity = "tensor" if one_scale else "row" if group_size == depth else "group"
    return _weight(
        tensor,
        lambda: _taken_apart(tensor, group_size, one_scale),
        granularity=granularity,
        group_size=group_size if granularity == "group" else None,
    )


def _taken_apart(tensor: StoredTensor, group_size: int, one_scale: bool) -> TernaryTensor:
    rows, depth = tensor.shape
    codes = np.empty(tensor.shape, np.int8)
    scales = np.empty((rows, depth // group_size), np.float32)
    for block in _blocks(tensor):
        try:
            codes[block], scales[block] = split_ternary(tensor.float32(block), group_size)
        except FormatError as error:
            raise FormatError(
                f"{tensor.file}: tensor {tensor.name}, from row {block.start}: {error}"
            ) from error
    if not one_scale:
        return TernaryTensor(codes, scales[:, 0] if group_size == depth else scales)
    largest = scales.max()
    if not np.isin(scales, (0, largest)).all():
        raise FormatError(
            f"{tensor.file}: tensor {tensor.name} has one scale in the rows that were looked at and "
            "more in others"
        )
    return TernaryTensor(codes, np.asarray(largest, np.float32))


def _blocks(tensor: StoredTensor) -> Iterator[slice]:
    """Yield slices of rows that take little memory as float32."""
    rows, depth = tensor.shape
    step = max(1, CHUNK_ELEMENTS // depth)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _weight(
    tensor: StoredTensor,
    read: Callable[[], TernaryTensor | FloatMatrix],
    granularity: str | None = None,
    group_size: int | None = None,
    masters: Callable[[], FloatMatrix] | None = None,
) -> StoredWeight:
    return StoredWeight(
        name=tensor.name,
        type=tensor.float_type or tensor.dtype,
        shape=tensor.shape,
        num_bytes=tensor.data.size,
        read=read,
        granularity=granularity,
        group_size=group_size,
        masters=masters,
    )
