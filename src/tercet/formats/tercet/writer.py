"""Writing a `.tercet` file in one pass and little memory.

The lengths of all pieces are known before the first byte of any, from types and shapes alone; so is the
length of the header, since a checksum has 64 digits whatever it is. The writer leaves room for the header,
streams the pieces, and fills the header in at the end. The same plan and the same data always give the same
bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from tercet.environment import atomic_write
from tercet.errors import ParameterError
from tercet.formats.floats import FLOAT_TYPES
from tercet.formats.tercet.layout import (
    PREAMBLE_BYTES,
    BlobEntry,
    Header,
    Piece,
    Preamble,
    ScaleEntry,
    TensorEntry,
    aligned,
    data_bytes,
    num_scales,
)

__all__ = ["FilePlan", "FileWriter", "TensorPlan", "create_file"]

_NO_DIGEST = "0" * 64


@dataclasses.dataclass(frozen=True)
class TensorPlan:
    """One tensor to be written: a packing or planes with the granularity of its scales, or a float type."""

    name: str
    type: str
    rows: int
    depth: int
    granularity: str | None = None
    group_size: int | None = None

    @property
    def data_bytes(self) -> int:
        """Bytes of the packed codes, or of the floats."""
        return data_bytes(self.type, self.rows, self.depth)

    @property
    def num_scales(self) -> int:
        """How many float32 scales follow; none for floats."""
        return (
            0
            if self.granularity is None
            else num_scales(self.granularity, self.rows, self.depth, self.group_size)
        )

    def __post_init__(self) -> None:
        if (self.granularity is None) != (self.type in FLOAT_TYPES):
            raise ParameterError(f"{self.name}: ternary tensors and planes have scales, floats have none")


@dataclasses.dataclass(frozen=True)
class FilePlan:
    """Everything a file will hold, but the elements of its tensors."""

    config: Mapping[str, Any]
    tensors: Sequence[TensorPlan]
    blobs: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    generation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    chat_template: str | None = None
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def file_bytes(self) -> int:
        """How long the file will be."""
        return _placed_header(self)[1]


class FileWriter:
    """Takes the tensors of a plan, in the order of the plan. Made by `create_file`."""

    def __init__(self, file: BinaryIO, plan: FilePlan) -> None:
        self._file = file
        self._header, self._file_bytes = _placed_header(plan)
        self._waiting = list(reversed(plan.tensors))
        self._blob_digests: dict[str, str] = {}
        self._tensor_digests: dict[str, str] = {}
        header_bytes = len(self._header.pack())
        self._file.write(bytes(PREAMBLE_BYTES + header_bytes))
        self._position = PREAMBLE_BYTES + header_bytes
        for name, data in plan.blobs.items():
            self._blob_digests[name] = hashlib.sha256(data).hexdigest()
            self._write(data)
            self._pad()

    def write_tensor(
        self,
        name: str,
        chunks: Iterable[npt.NDArray[Any]],
        scales: npt.NDArray[np.float32] | None = None,
    ) -> str:
        """Write the next tensor: its bytes in any number of chunks, and its scales if it is ternary.

        Returns:
            its SHA-256, which `skip_tensor` asks for.

        Raises:
            ParameterError: it is not the next tensor of the plan, or not as long as planned.
        """
        plan = self._next(name)
        digest = hashlib.sha256()
        self._write_all(name, chunks, plan.data_bytes, digest)
        if plan.num_scales or scales is not None:
            parts = [] if scales is None else [np.asarray(scales, dtype="<f4")]
            self._write_all(f"scales of {name}", parts, 4 * plan.num_scales, digest)
        self._tensor_digests[name] = digest.hexdigest()
        return self._tensor_digests[name]

    def skip_tensor(self, name: str, digest: str) -> None:
        """Pass over a tensor that the file holds already; `digest` is what `write_tensor` returned for it.

        Raises:
            ParameterError: it is not the next tensor of the plan.
        """
        plan = self._next(name)
        self._tensor_digests[name] = digest
        for num_bytes in (plan.data_bytes, 4 * plan.num_scales):
            self._position += aligned(num_bytes)
        self._file.seek(self._position)

    def finish(self) -> None:
        """Fill the header in. Raises ParameterError if a tensor of the plan is missing."""
        if self._waiting:
            raise ParameterError(
                f"{len(self._waiting)} tensors were not written, {self._waiting[-1].name!r} first"
            )
        blobs = {
            name: dataclasses.replace(blob, sha256=self._blob_digests[name])
            for name, blob in self._header.blobs.items()
        }
        tensors = {
            name: dataclasses.replace(tensor, sha256=self._tensor_digests[name])
            for name, tensor in self._header.tensors.items()
        }
        header = dataclasses.replace(self._header, blobs=blobs, tensors=tensors).pack()
        self._file.seek(0)
        self._file.write(Preamble(zlib.crc32(header), len(header), self._file_bytes).pack())
        self._file.write(header)

    def _next(self, name: str) -> TensorPlan:
        if not self._waiting or self._waiting[-1].name != name:
            expected = repr(self._waiting[-1].name) if self._waiting else "no further tensor"
            raise ParameterError(f"the plan has {expected} here, not {name!r}")
        return self._waiting.pop()

    def _write_all(self, what: str, chunks: Iterable[npt.NDArray[Any]], num_bytes: int, digest: Any) -> None:
        start = self._position
        for chunk in chunks:
            data = np.ascontiguousarray(chunk).reshape(-1).view(np.uint8).data
            digest.update(data)
            self._write(data)
        if self._position - start != num_bytes:
            raise ParameterError(f"{what} should take {num_bytes} bytes and took {self._position - start}")
        self._pad()

    def _write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._position += len(data)

    def _pad(self) -> None:
        self._write(bytes(aligned(self._position) - self._position))


@contextlib.contextmanager
def create_file(path: str | os.PathLike[str], plan: FilePlan) -> Iterator[FileWriter]:
    """Open a writer whose file appears at `path`, complete, when the block ends without an exception.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to.
        ParameterError: what was written is not what was planned.
    """
    with atomic_write(path) as file:
        writer = FileWriter(file, plan)
        yield writer
        writer.finish()


def _placed_header(plan: FilePlan) -> tuple[Header, int]:
    """Give every piece its offset; also returns the length of the file.

    The offsets are written inside the header and depend on its length, so it is placed again until it fits
    itself. More digits in an offset make the header longer and never shorter, so this ends, and almost always
    at once.
    """
    header_bytes = 0
    while True:
        header, file_bytes = _header_of_length(plan, header_bytes)
        if len(header.pack()) == header_bytes:
            return header, file_bytes
        header_bytes = len(header.pack())


def _header_of_length(plan: FilePlan, header_bytes: int) -> tuple[Header, int]:
    position = PREAMBLE_BYTES + header_bytes

    def place(num_bytes: int) -> Piece:
        nonlocal position
        piece = Piece(position, num_bytes)
        position = aligned(piece.end)
        return piece

    blobs = {name: BlobEntry(place(len(data)), _NO_DIGEST) for name, data in plan.blobs.items()}
    tensors = {}
    for tensor in plan.tensors:
        piece = place(tensor.data_bytes)
        scales = None
        if tensor.granularity is not None:
            scales = ScaleEntry(tensor.granularity, place(4 * tensor.num_scales), tensor.group_size)
        tensors[tensor.name] = TensorEntry(tensor.type, tensor.rows, tensor.depth, piece, _NO_DIGEST, scales)
    header = Header(plan.config, plan.generation, plan.chat_template, plan.metadata, blobs, tensors)
    return header, position
