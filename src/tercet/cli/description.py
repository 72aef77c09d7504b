"""What is inside a model, as data: the one source of both the tables and the JSON of `tercet inspect`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tercet.formats.huggingface import HuggingFaceFolder
from tercet.formats.matrices import PackedMatrix
from tercet.formats.tercet import TercetFile
from tercet.models.config import ModelConfig
from tercet.models.loading import load_model
from tercet.quantization.packings.statistics import count_zeros


@dataclasses.dataclass(frozen=True)
class TensorDescription:
    """One tensor. `bytes` counts codes and scales; `zeros` and `sha256` are None where the file has none."""

    name: str
    type: str
    shape: list[int]
    bytes: int
    zeros: int | None = None
    sha256: str | None = None

    @property
    def weights(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count


def describe(path: Path) -> dict[str, Any]:
    """Open a model, check all of it, and say what is inside.

    Raises:
        TercetError: it is damaged, of another kind, or not there.
    """
    if path.is_dir():
        return _describe_folder(path)
    # Which errors a wrong or damaged file gives is decided in one place: where models are opened.
    config = load_model(path, verify=False).config
    file = TercetFile(path, verify=True)
    tensors = []
    for name, entry in file.header.tensors.items():
        matrix = file.tensor(name)
        zeros = None
        if isinstance(matrix, PackedMatrix):
            zeros = count_zeros(matrix.data, matrix.packing, matrix.rows, matrix.depth)
        num_bytes = sum(piece.num_bytes for piece in entry.pieces)
        tensors.append(
            TensorDescription(name, entry.type, [entry.rows, entry.depth], num_bytes, zeros, entry.sha256)
        )
    header = file.header
    return _description(path, "tercet file, version 1", file.num_bytes, config, tensors) | {
        "generation": dict(header.generation),
        "chat_template": header.chat_template,
        "metadata": dict(header.metadata),
        "blobs": {
            name: {"bytes": blob.piece.num_bytes, "sha256": blob.sha256}
            for name, blob in header.blobs.items()
        },
    }


def _describe_folder(path: Path) -> dict[str, Any]:
    model = load_model(path)
    tensors = [
        TensorDescription(name, tensor.dtype, list(tensor.shape), tensor.data.nbytes)
        for name, tensor in HuggingFaceFolder(path).tensors.items()
    ]
    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    return _description(path, "folder of BitNetForCausalLM", size, model.config, tensors) | {
        "generation": dict(model.generation_config),
        "chat_template": model.chat_template,
        "metadata": dict(model.metadata),
        "blobs": {},
    }


def _description(
    path: Path, kind: str, size: int, config: ModelConfig, tensors: Sequence[TensorDescription]
) -> dict[str, Any]:
    return {
        "path": str(path),
        "kind": kind,
        "bytes": size,
        "parameters": config.num_parameters,
        "ternary_parameters": config.num_ternary_weights,
        **_totals(tensors),
        "config": config.to_dict(),
        "tensors": [{**dataclasses.asdict(tensor), **_ratios([tensor])} for tensor in tensors],
    }


def _totals(tensors: Sequence[TensorDescription]) -> dict[str, float | None]:
    """Bits per weight of everything, and of the ternary matrices alone with their share of zeros."""
    ternary = [tensor for tensor in tensors if tensor.zeros is not None]
    of_ternary = _ratios(ternary) if ternary else {"bits_per_weight": None, "share_of_zeros": None}
    return {
        "bits_per_weight": _ratios(tensors)["bits_per_weight"],
        "ternary_bits_per_weight": of_ternary["bits_per_weight"],
        "share_of_zeros": of_ternary["share_of_zeros"],
    }


def _ratios(tensors: Sequence[TensorDescription]) -> dict[str, float | None]:
    weights = sum(tensor.weights for tensor in tensors)
    zeros = [tensor.zeros for tensor in tensors if tensor.zeros is not None]
    return {
        "bits_per_weight": 8 * sum(tensor.bytes for tensor in tensors) / weights,
        "share_of_zeros": sum(zeros) / weights if zeros else None,
    }


def grouped(tensors: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a short table: a tensor that all layers have is one row, `layers.*.ffn.up`, with sums."""
    rows: dict[tuple[str, str, tuple[int, ...]], list[Mapping[str, Any]]] = {}
    for tensor in tensors:
        parts = ["*" if part.isdigit() else part for part in tensor["name"].split(".")]
        rows.setdefault((".".join(parts), tensor["type"], tuple(tensor["shape"])), []).append(tensor)
    return [
        {
            "name": name,
            "count": len(members),
            "type": kind,
            "shape": list(shape),
            "bytes": sum(member["bytes"] for member in members),
            "bits_per_weight": members[0]["bits_per_weight"],
            "share_of_zeros": None
            if members[0]["share_of_zeros"] is None
            else sum(member["share_of_zeros"] for member in members) / len(members),
        }
        for (name, kind, shape), members in rows.items()
    ]
