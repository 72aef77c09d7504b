"""An adapter of codes as a file: a byte for each code of A and B, and whom it belongs to.

    ternary_adapter.safetensors    layers.0.attention.q.A [rank, depth], .B [rows, rank], ..., int8
                                   metadata: format, threshold, digest of the codes it was trained beside

On other codes the same votes would move other weights, so an adapter is merged into its own model only.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tercet.environment import atomic_write
from tercet.errors import FormatError
from tercet.formats.fields import malformed
from tercet.formats.safetensors import SafetensorsFile, SafetensorsPlan, SafetensorsWriter, TensorSpec
from tercet.models.provenance import check_provenance
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["FILE", "TernaryAdapter", "codes_digest", "read_ternary_adapter", "write_ternary_adapter"]

FILE = "ternary_adapter.safetensors"
FORMAT = "tercet ternary adapter 1"
Codes = npt.NDArray[np.int8]


@dataclasses.dataclass(frozen=True, eq=False)
class TernaryAdapter:
    """What was learned beside one model."""

    threshold: int
    base: str
    """`codes_digest` of the model."""
    matrices: Mapping[str, tuple[Codes, Codes]]
    """Canonical name -> A int8 [rank, depth], B int8 [rows, rank]."""


def codes_digest(tensors: Iterable[TernaryTensor]) -> str:
    """Return the SHA-256 of the codes of matrices, in order: it says which model they are of."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(np.ascontiguousarray(tensor.codes).tobytes())
    return digest.hexdigest()


def write_ternary_adapter(folder: Path, adapter: TernaryAdapter) -> Path:
    """Write the adapter into a folder, making it if need be, and return the path of the file.

    Raises:
        StorageError: the folder cannot be written, or the disk is full.
    """
    tensors = {f"{name}.{part}": codes for name, pair in adapter.matrices.items()
               for part, codes in zip("AB", pair, strict=True)}  # fmt: skip
    specs = [TensorSpec(name, "I8", codes.shape) for name, codes in tensors.items()]
    metadata = {"format": FORMAT, "threshold": str(adapter.threshold), "base": adapter.base}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    with atomic_write(path) as file:
        writer = SafetensorsWriter(file, SafetensorsPlan(specs, metadata))
        for name, codes in tensors.items():
            writer.write_tensor(name, [codes])
        writer.finish()
    return path


def read_ternary_adapter(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> TernaryAdapter:
    """Read an adapter for a model whose ternary matrices have these shapes.

    Args:
        path: the file, or the folder it is in.
        shapes: canonical name -> [rows, depth].

    Raises:
        UntrustedModelError: it lacks the manifest or signature that the settings demand.
        FormatError: it is damaged, holds other values than -1, 0 and 1, or is for a model of another shape.
    """
    check_provenance(path)
    file = SafetensorsFile(path / FILE if path.is_dir() else path)
    metadata = file.metadata
    if metadata.get("format") != FORMAT:
        raise malformed(file.path, "metadata.format", metadata.get("format"), repr(FORMAT))
    if not metadata.get("threshold", "").isdecimal():
        raise malformed(file.path, "metadata.threshold", metadata.get("threshold"), "a whole number")
    names = list(dict.fromkeys(name[:-2] for name in file.tensors if name.endswith((".A", ".B"))))
    if len(file.tensors) != 2 * len(names) or not names:
        raise FormatError(
            f"{file.path}: expected an A and a B for each matrix, found {len(file.tensors)} tensors"
        )
    matrices = {name: _pair(file, name, shapes) for name in names}
    return TernaryAdapter(int(metadata["threshold"]), metadata.get("base", ""), matrices)


def _pair(file: SafetensorsFile, name: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Codes, Codes]:
    if name not in shapes:
        raise FormatError(f"{file.path} adapts {name}, which is no ternary matrix of this model")
    rows, depth = shapes[name]
    stored = [file.tensors[f"{name}.A"], file.tensors[f"{name}.B"]]
    rank = stored[0].shape[0] if stored[0].shape else 0
    for tensor, shape in zip(stored, [(rank, depth), (rows, rank)], strict=True):
        if tensor.dtype != "I8" or tensor.shape != shape or not rank:
            raise malformed(
                file.path,
                tensor.name,
                f"{tensor.dtype} {list(tensor.shape)}",
                f"I8 {list(shape)} for this model",
            )
    a, b = (tensor.data.view(np.int8).reshape(tensor.shape) for tensor in stored)
    for tensor, codes in zip(stored, (a, b), strict=True):
        if np.abs(codes.astype(np.int16)).max(initial=0) > 1:
            raise FormatError(f"{file.path}: {tensor.name} holds other values than -1, 0 and 1")
    return a, b
