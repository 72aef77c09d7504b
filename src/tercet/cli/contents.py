"""What the weights of a model are, found by reading them: zeros, scales, and what identifies a matrix.

The digest of a ternary matrix is the same whatever it is stored as: SHA-256 of its codes as int8, row after
row, in the order of rows that the file has them in. (Files of llama.cpp keep queries and keys in another
order than everyone else.) Scales are multipliers.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tercet.formats.matrices import PackedMatrix
from tercet.models.loading import LoadedModel
from tercet.quantization.packings.statistics import count_zeros
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["TernaryContent", "content_of", "digest_of", "oddities"]

MOST_SCALES = 1 << 16
"""A matrix with more of them is described by their number and their SHA-256."""


@dataclasses.dataclass(frozen=True, eq=False)
class TernaryContent:
    """What was found in one ternary matrix."""

    zeros: int
    smallest_scale: float
    largest_scale: float
    digest: Mapping[str, Any] | None = None


def content_of(model: LoadedModel, name: str, *, digest: bool) -> TernaryContent | None:
    """Read a tensor; what it holds if it is ternary, None for floats (which loading has checked).

    Raises:
        FormatError: it is damaged.
    """
    if model.tensors[name].granularity is None or not digest:
        matrix = model.weights[name]
        if not isinstance(matrix, PackedMatrix):
            return None
        zeros = count_zeros(matrix.data, matrix.packing, matrix.rows, matrix.depth)
        return TernaryContent(zeros, float(matrix.scales.min()), float(matrix.scales.max()))
    found = model.in_stored_order.get(name) or model.reference_weights[name]
    if not isinstance(found, TernaryTensor):
        return None
    zeros = found.codes.size - int(np.count_nonzero(found.codes))
    return TernaryContent(zeros, float(found.scales.min()), float(found.scales.max()), digest_of(found))


def digest_of(tensor: TernaryTensor) -> dict[str, Any]:
    """Return shape, scales and what identifies the codes, as JSON."""
    codes = np.ascontiguousarray(tensor.codes)
    scales = np.asarray(tensor.scales, np.dtype("<f4"), order="C")
    found: dict[str, Any] = {
        "shape": list(tensor.shape),
        "codes_sha256": hashlib.sha256(codes.data).hexdigest(),
        "plus": int(np.count_nonzero(codes > 0)),
        "minus": int(np.count_nonzero(codes < 0)),
        "granularity": tensor.granularity,
        "group_size": tensor.group_size if tensor.granularity == "group" else None,
        "num_scales": scales.size,
        "scales_sha256": hashlib.sha256(scales.tobytes()).hexdigest(),
    }
    if scales.ndim == 0:
        found["scale"] = float(scales)
    elif scales.size <= MOST_SCALES:
        found["scales"] = scales.tolist()
    return found


def oddities(contents: Mapping[str, TernaryContent], sizes: Mapping[str, int]) -> Iterator[str]:
    """Yield what a person should know of the matrices; `sizes` has the number of weights of each."""
    ternary = {name: content for name, content in contents.items() if sizes[name]}
    if ternary and not any(content.zeros for content in ternary.values()):
        yield "no weight is zero: it is a binary model"
    for what, names in {
        "holds nothing but zeros": [name for name, one in ternary.items() if one.zeros == sizes[name]],
        "has a negative scale": [name for name, one in ternary.items() if one.smallest_scale < 0],
        "has scales that are all zero": [name for name, one in ternary.items() if one.largest_scale == 0],
    }.items():
        if names:
            others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            yield f"{names[0]}{others} {what}"
