"""The native file: codes and scales exactly as they are, in one of our packings; the head as it is wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tercet.conversion.outputs.output import (
    CHUNK_ELEMENTS,
    LOGIT_ERRORS,
    Change,
    Exactness,
    Matrix,
    Output,
    Sink,
    float_chunks,
)
from tercet.errors import ParameterError
from tercet.formats.floats import FLOAT_TYPES, to_float32
from tercet.formats.matrices import FloatMatrix, PackedMatrix, PlaneMatrix
from tercet.formats.tercet import FilePlan, FileWriter, TensorPlan
from tercet.models.loading import LoadedModel, TensorInfo, may_be_planes
from tercet.quantization.packings import packing as packing_of
from tercet.quantization.planes import PLANES, Planes

__all__ = ["HEAD_TYPES", "NativeOutput"]

HEAD_TYPES = {"f32": "f32", "f16": "f16", "bf16": "bf16", "int8": "int8_planes", "6bit": "int6_planes"}
"""What `--head` may say, and the type that it stands for."""


class NativeOutput(Output):
    """A native file to be.

    Args:
        source: the model.
        packing: how ternary matrices are stored.
        embedding_type: how other matrices are stored.
        metadata: added to the source's.
        head: how the output head is stored (with it the embedding, where they are one): one of `HEAD_TYPES`;
            None for `embedding_type`, or as it is where it is in planes already.

    Raises:
        ParameterError: there is no such packing, float type or head, or the head is ternary.
    """

    format = "native"

    def __init__(
        self,
        source: LoadedModel,
        packing: str,
        embedding_type: str | None,
        metadata: Mapping[str, Any],
        head: str | None = None,
    ) -> None:
        packing_of(packing)
        if embedding_type is not None and embedding_type not in FLOAT_TYPES:
            raise ParameterError(
                f"there is no float type {embedding_type!r}; the types are {', '.join(FLOAT_TYPES)}"
            )
        self.plan = FilePlan(
            config=source.config.to_dict(),
            tensors=[
                _tensor(name, info, packing, _float_type(name, source, embedding_type, head))
                for name, info in source.tensors.items()
            ],
            blobs={} if source.tokenizer_json is None else {"tokenizer.json": source.tokenizer_json},
            generation=source.generation_config,
            chat_template=source.chat_template,
            metadata={**source.metadata, **metadata},
        )
        self.file_bytes = self.plan.file_bytes
        self.changes = [
            Change(tensor.name, tensor.type, tensor.data_bytes + 4 * tensor.num_scales, tensor.granularity)
            for tensor in self.plan.tensors
        ]
        types = {tensor.type for tensor in self.plan.tensors} & set(LOGIT_ERRORS)
        self.exactness = Exactness(logit_error=max(LOGIT_ERRORS[name] for name in types))

    def fingerprint(self) -> str:
        """Return a digest of everything about the result but its tensors."""
        return hashlib.sha256(repr(self.plan).encode()).hexdigest()

    def sink(self, file: BinaryIO) -> Sink:
        """Begin to write tensors into a file that is open at its beginning."""
        return _NativeSink(file, self.plan)


class _NativeSink(Sink):
    def __init__(self, file: BinaryIO, plan: FilePlan) -> None:
        self._writer = FileWriter(file, plan)
        self._plans = {tensor.name: tensor for tensor in plan.tensors}

    def write(self, name: str, matrix: Matrix) -> str:
        plan = self._plans[name]
        if isinstance(matrix, PackedMatrix):
            return self._writer.write_tensor(name, _repacked(matrix, plan), matrix.scales)
        if isinstance(matrix, PlaneMatrix):
            if matrix.type == plan.type:
                return self._writer.write_tensor(name, [matrix.data], matrix.scales)
            matrix = matrix.floats()
        if plan.type in PLANES:
            scales = np.zeros(plan.rows, np.float32)  # filled while the high plane is written
            return self._writer.write_tensor(name, _plane_chunks(matrix, PLANES[plan.type], scales), scales)
        return self._writer.write_tensor(name, float_chunks(name, matrix, plan.type))

    def skip(self, name: str, digest: str) -> None:
        self._writer.skip_tensor(name, digest)

    def finish(self) -> None:
        self._writer.finish()


def _tensor(name: str, info: TensorInfo, packing: str, other_type: str) -> TensorPlan:
    if len(info.shape) == 1:
        return TensorPlan(name, "f32", 1, info.shape[0])
    rows, depth = info.shape
    if info.granularity is None:
        return TensorPlan(name, other_type, rows, depth, "row" if other_type in PLANES else None)
    return TensorPlan(name, packing, rows, depth, info.granularity, info.group_size)


def _float_type(name: str, source: LoadedModel, embedding_type: str | None, head: str | None) -> str:
    """Choose how a matrix that is not ternary is stored."""
    if name == ("embedding" if source.config.tied_embeddings else "output_head") and head is not None:
        if head not in HEAD_TYPES:
            raise ParameterError(f"there is no head {head!r}; a head is stored as {', '.join(HEAD_TYPES)}")
        if source.tensors[name].granularity is not None:
            raise ParameterError(f"the output head of {source.path} is ternary and stays so, not {head}")
        return HEAD_TYPES[head]
    stored = source.tensors[name].type
    if embedding_type is None and stored in PLANES and may_be_planes(name):
        return stored
    return embedding_type or "f16"


def _plane_chunks(
    matrix: FloatMatrix, planes: Planes, scales: npt.NDArray[np.float32]
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the high plane and then the low plane, a few rows at a time; fill in the scales."""
    step = max(1, CHUNK_ELEMENTS // matrix.depth)
    for low in (False, True):
        for start in range(0, matrix.rows, step):
            stored = matrix.data[start * matrix.depth : (start + step) * matrix.depth]
            codes, found = planes.quantize(to_float32(stored, matrix.type).reshape(-1, matrix.depth))
            scales[start : start + step] = found
            yield planes.pack_planes(codes)[low]


def _repacked(matrix: PackedMatrix, tensor: TensorPlan) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the codes in the planned packing."""
    if matrix.packing == tensor.type:
        yield matrix.data
    else:
        yield packing_of(tensor.type).pack(matrix.unpack().codes)
