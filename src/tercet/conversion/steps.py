"""Carrying a conversion out.

Tensors go through one at a time, large float matrices a few rows at a time. The result is written under a
temporary name, compared with its source, and only then gets its own name: what is at the destination was
verified, or is what was there before.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.conversion.plan import ConversionPlan, plan_conversion
from tercet.conversion.verify import Verification, compare_models
from tercet.errors import FormatError, ParameterError, StorageError
from tercet.formats.floats import from_float32, has_only_finite, to_float32
from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.formats.tercet import TensorPlan, create_file
from tercet.models.loading import load_model
from tercet.quantization.packings import packing as packing_of

__all__ = ["Conversion", "Progress", "convert"]

CHUNK_ELEMENTS = 1 << 20
"""Float elements converted at a time."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a conversion is."""

    tensor: str
    """The tensor that was just written."""
    done_bytes: int
    total_bytes: int


@dataclasses.dataclass(frozen=True, eq=False)
class Conversion:
    """What was done."""

    plan: ConversionPlan
    verification: Verification | None
    """How the result compares with the source, or None if this was not asked for."""
    seconds: float


def convert(
    source: str | os.PathLike[str] | ConversionPlan,
    destination: str | os.PathLike[str] | None = None,
    packing: str = "two_bit",
    embedding_type: str = "f16",
    *,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    verify: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> Conversion:
    """Convert a model folder or a native file into a native file.

    Master weights become ternary as the model's authors define it (absmean, one scale per tensor); a matrix
    that is ternary already keeps its codes and scales exactly and may change its packing.

    Args:
        source: the folder or file; or a plan that `plan_conversion` made, which then has the next five in it.
        destination: the file to write.
        packing: how ternary matrices are stored: `two_bit` or `five_per_byte`.
        embedding_type: how the embedding, an output head and any full-precision matrix are stored.
        metadata: added to the metadata of the source.
        overwrite: whether an existing file may be replaced.
        verify: whether to compare the result with the source before it gets its name.
        progress: called after every tensor.

    Raises:
        ParameterError: there is no such packing or float type.
        StorageError: the destination exists or cannot be written, or the disk is full.
        FormatError: the source is damaged, holds values that `embedding_type` cannot, or the result is not
            what it should be.
        UnsupportedModelError, ModelNotFoundError: the source cannot be read.
    """
    started = time.monotonic()
    if isinstance(source, ConversionPlan):
        plan = source
    elif destination is None:
        raise ParameterError(f"no destination was given for {os.fspath(source)}. Name the file to write.")
    else:
        plan = plan_conversion(
            source, destination, packing, embedding_type, metadata=metadata, overwrite=overwrite
        )
    target = plan.destination.absolute()
    staged = target.with_name(f".tercet-{secrets.token_hex(8)}.tmp")
    try:
        _write(plan, staged, progress)
        verification = compare_models(plan.source, load_model(staged)) if verify else None
        if verification is not None and not verification.passed:
            raise FormatError(
                f"{plan.destination} was not written, because the result differs: {verification}"
            )
        try:
            staged.replace(target)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StorageError(f"cannot write {plan.destination}: {reason}.") from error
    finally:
        staged.unlink(missing_ok=True)
    return Conversion(plan, verification, time.monotonic() - started)


def _write(plan: ConversionPlan, path: Path, progress: Callable[[Progress], None] | None) -> None:
    total = plan.file_bytes
    done = 0
    with create_file(path, plan.file) as writer:
        for tensor in plan.file.tensors:
            matrix = plan.source.weights[tensor.name]
            if isinstance(matrix, PackedMatrix):
                writer.write_tensor(tensor.name, _repacked(matrix, tensor), matrix.scales)
            else:
                writer.write_tensor(tensor.name, _rounded(matrix, tensor, plan))
            done += tensor.data_bytes + 4 * tensor.num_scales
            if progress is not None:
                progress(Progress(tensor.name, done, total))


def _repacked(matrix: PackedMatrix, tensor: TensorPlan) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the codes in the planned packing."""
    if matrix.packing == tensor.type:
        yield matrix.data
    else:
        yield packing_of(tensor.type).pack(matrix.unpack().codes)


def _rounded(matrix: FloatMatrix, tensor: TensorPlan, plan: ConversionPlan) -> Iterator[npt.NDArray[Any]]:
    """Yield the floats in the planned type, a few at a time."""
    for start in range(0, matrix.data.size, CHUNK_ELEMENTS):
        stored = matrix.data[start : start + CHUNK_ELEMENTS]
        if matrix.type != tensor.type:
            stored = from_float32(to_float32(stored, matrix.type), tensor.type)
            if not has_only_finite(stored, tensor.type):
                raise FormatError(
                    f"{plan.source.path}: tensor {tensor.name} holds values too large for {tensor.type}. "
                    "Convert with embedding type bf16 or f32."
                )
        yield stored
