"""The native file: codes and scales exactly as they are, in one of our packings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tercet.conversion.outputs.output import (
    LOGIT_ERRORS,
    Change,
    Exactness,
    Matrix,
    Output,
    Sink,
    float_chunks,
)
from tercet.errors import ParameterError
from tercet.formats.floats import FLOAT_TYPES
from tercet.formats.matrices import PackedMatrix
from tercet.formats.tercet import FilePlan, FileWriter, TensorPlan
from tercet.models.loading import LoadedModel, TensorInfo
from tercet.quantization.packings import packing as packing_of

__all__ = ["NativeOutput"]


class NativeOutput(Output):
    """A native file to be.

    Args:
        source: the model.
        packing: how ternary matrices are stored.
        embedding_type: how other matrices are stored.
        metadata: added to the source's.

    Raises:
        ParameterError: there is no such packing or float type.
    """

    format = "native"

    def __init__(
        self, source: LoadedModel, packing: str, embedding_type: str, metadata: Mapping[str, Any]
    ) -> None:
        packing_of(packing)
        if embedding_type not in FLOAT_TYPES:
            raise ParameterError(
                f"there is no float type {embedding_type!r}; the types are {', '.join(FLOAT_TYPES)}"
            )
        self.plan = FilePlan(
            config=source.config.to_dict(),
            tensors=[_tensor(name, info, packing, embedding_type) for name, info in source.tensors.items()],
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
        types = {tensor.type for tensor in self.plan.tensors} & set(FLOAT_TYPES)
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
        return self._writer.write_tensor(name, float_chunks(name, matrix, plan.type))

    def skip(self, name: str, digest: str) -> None:
        self._writer.skip_tensor(name, digest)

    def finish(self) -> None:
        self._writer.finish()


def _tensor(name: str, info: TensorInfo, packing: str, embedding_type: str) -> TensorPlan:
    if len(info.shape) == 1:
        return TensorPlan(name, "f32", 1, info.shape[0])
    rows, depth = info.shape
    if info.granularity is None:
        return TensorPlan(name, embedding_type, rows, depth)
    return TensorPlan(name, packing, rows, depth, info.granularity, info.group_size)


def _repacked(matrix: PackedMatrix, tensor: TensorPlan) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the codes in the planned packing."""
    if matrix.packing == tensor.type:
        yield matrix.data
    else:
        yield packing_of(tensor.type).pack(matrix.unpack().codes)
