"""The float kernels one by one, on arrays: to test an instruction set against another, and for small jobs.

Each takes `isa`, None for `TERCET_ISA` or the best; results are the same bits for every instruction set.
What each computes, and in which order it adds, is stated in cpp/include/tercet/float_kernels.hpp.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tercet import _core

__all__ = [
    "add_weighted_rows",
    "dot_rows",
    "gated",
    "hadamard",
    "merge_softmax",
    "narrow_f16",
    "quantize",
    "rescale",
    "rms_norm",
    "rotate",
    "softmax",
    "softmax_sums",
    "widen",
]

Floats = npt.NDArray[np.float32]
_FLOAT_TYPES = {np.dtype(np.float32): "f32", np.dtype(np.float16): "f16", np.dtype(np.uint16): "bf16"}


def quantize(x: Floats, isa: str | None = None) -> tuple[npt.NDArray[np.int8], float, int]:
    """Round x float32 [depth] to int8 by its largest magnitude; return codes, their multiplier, their sum."""
    return _core.quantize(_floats(x), isa)


def rms_norm(x: Floats, weight: Floats, epsilon: float, isa: str | None = None) -> Floats:
    """Return x / sqrt(mean(x**2) + epsilon) * weight for x float32 [width]."""
    return _core.rms_norm(_floats(x), _floats(weight), epsilon, isa)


def gated(gate: Floats, up: Floats, activation: str, isa: str | None = None) -> Floats:
    """Return activation(gate) * up, where activation is `relu2`, `silu` or `gelu_tanh`."""
    return _core.gated(_floats(gate), _floats(up), activation, isa)


def rescale(
    sums: npt.NDArray[np.int32],
    activation_scale: float,
    row_scales: Floats,
    to: Floats | None = None,
    isa: str | None = None,
) -> Floats:
    """Return sums * (activation_scale * row_scales), added to `to` if given; row_scales are 1 or [rows]."""
    target = np.zeros(0, np.float32) if to is None else _floats(to)
    return _core.rescale(
        np.ascontiguousarray(sums, np.int32), activation_scale, _floats(row_scales), target, isa
    )


def rotate(
    head: Floats,
    position: int,
    inverse_frequencies: Floats,
    attention_factor: float = 1.0,
    factor: float = 1.0,
    isa: str | None = None,
) -> Floats:
    """Turn a head float32 [head_dim] by its position (halves form the pairs), then multiply by factor.

    Pair i turns by position * inverse_frequencies[i] radians, cosine and sine times attention_factor.
    """
    return _core.rotate(_floats(head), position, _floats(inverse_frequencies), attention_factor, factor, isa)


def hadamard(values: Floats, block_size: int, isa: str | None = None) -> Floats:
    """Return H v / sqrt(block_size) for every block v of values [rows, width]; H is Sylvester's matrix."""
    return _core.hadamard(_floats(values), block_size, isa)


def softmax(scores: Floats, isa: str | None = None) -> Floats:
    """Return exp(scores - max), divided by its sum."""
    return _core.softmax(_floats(scores), isa)


def softmax_sums(scores: Floats, isa: str | None = None) -> tuple[Floats, tuple[float, float]]:
    """Return softmax(scores), and max(scores) and the sum of exp(scores - max), which merging needs."""
    weights, greatest, total = _core.softmax_sums(_floats(scores), isa)
    return weights, (greatest, total)


def merge_softmax(
    average: Floats,
    sums: tuple[float, float],
    other: Floats,
    other_sums: tuple[float, float],
    isa: str | None = None,
) -> tuple[Floats, tuple[float, float]]:
    """Return the average over two sets of scores from the averages [width] over each, and its sums."""
    merged, greatest, total = _core.merge_softmax(_floats(average), *sums, _floats(other), *other_sums, isa)
    return merged, (greatest, total)


def dot_rows(rows: npt.NDArray[np.generic], vectors: Floats, isa: str | None = None) -> Floats:
    """Return vectors @ rows.T, float32 [vectors, rows]; rows are float32, float16 or bfloat16 as uint16."""
    return _core.dot_rows(_matrix(rows), _floats(vectors), isa)


def add_weighted_rows(
    rows: npt.NDArray[np.generic], weights: Floats, to: Floats, isa: str | None = None
) -> Floats:
    """Return to + weights @ rows, where row after row is added; rows are float32 or float16."""
    return _core.add_weighted_rows(_matrix(rows), _floats(weights), _floats(to), isa)


def widen(values: npt.NDArray[np.generic], isa: str | None = None) -> Floats:
    """Return values [rows, depth] (float16, or bfloat16 as uint16) as float32, exactly."""
    return _core.widen(_matrix(values), isa)


def narrow_f16(values: Floats, isa: str | None = None) -> npt.NDArray[np.float16]:
    """Round float32 values to float16, half to even."""
    return _core.narrow_f16(_floats(values), isa).view(np.float16)


def _floats(values: npt.ArrayLike) -> Floats:
    return np.ascontiguousarray(values, np.float32)


def _matrix(values: npt.NDArray[np.generic]) -> _core.FloatMatrix:
    contiguous = np.ascontiguousarray(values)
    return _core.FloatMatrix(contiguous.ravel(), _FLOAT_TYPES[contiguous.dtype], *contiguous.shape)
