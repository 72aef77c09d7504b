"""From a trained network to files: what was measured while training is what these compute.

    export         a native file: codes and scales of the masters by the rule that the training rounded with
    save_masters   a folder for transformers with the masters themselves, float32: to go on training from

Floats keep the type that the source had: a head in planes is rounded into planes again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from tercet.conversion import convert
from tercet.finetuning.trainable import Trainable
from tercet.formats.floats import FLOAT_TYPES, from_float32, to_float32
from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.models.loading import LoadedModel, ReferenceWeight, TensorInfo
from tercet.models.saving import save_huggingface_folder
from tercet.models.tensor_names import tensor_shapes
from tercet.quantization.packings import PACKINGS, packing
from tercet.quantization.planes import PLANES
from tercet.quantization.ternary_tensor import TernaryTensor
from tercet.quantization.weights import absmean_ternary, sign_binary

__all__ = ["as_loaded_model", "export", "has_masters_folder", "save_masters", "values_as_stored"]

T = TypeVar("T")
PACKING = "two_bit"
DEFAULT_TYPE = "f16"
"""What a conversion makes of float matrices."""


def export(
    trainable: Trainable,
    path: str | os.PathLike[str],
    *,
    head: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the model as it is now into a native file, compare the file with it, and return its path.

    Args:
        trainable: the model.
        path: the `.tercet` file to write. It appears complete or not at all.
        head: how the output head is stored (and the embedding where they are one), one of
            `tercet.conversion.outputs.native.HEAD_TYPES`; None for as the source has it.
        metadata: added to the source's.
        overwrite: whether a file of this name may be replaced.

    Raises:
        ParameterError: a weight is not finite: training has diverged.
        StorageError: the file exists or cannot be written, or the disk is full.
    """
    target = Path(path)
    model = as_loaded_model(trainable)
    embedding_type = _stored_type(trainable, "embedding")
    convert(
        model,
        target,
        model.tensors[trainable.ternary[0]].type,
        embedding_type if embedding_type in FLOAT_TYPES and head is None else None,
        to="native",
        head=head,
        metadata={
            **(metadata or {}),
            # Also keeps a killed export from being gone on with by one of other weights.
            "trained_from": trainable.path.name,
            "weights_sha256": _digest(trainable),
        },
        overwrite=overwrite,
    )
    return target


def has_masters_folder(trainable: Trainable) -> bool:
    """Say whether a folder for transformers can tell how these masters are rounded."""
    config = trainable.config
    usual = config.weight_rule == "absmean" and config.activation_rule == "int8" and config.rotation is None
    return usual and config.quantize_activations


def save_masters(trainable: Trainable, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write the model as a folder for transformers with float32 masters, and return its path.

    Raises:
        StorageError: the folder exists or cannot be written.
    """
    target = Path(folder)
    source = trainable.source
    save_huggingface_folder(
        target,
        trainable.config,
        ((name, trainable.values(name)) for name in tensor_shapes(trainable.config)),
        tokenizer_json=source.tokenizer_json,
        chat_template=source.chat_template,
        generation=source.generation_config,
        overwrite=overwrite,
    )
    return target


@contextlib.contextmanager
def values_as_stored(trainable: Trainable) -> Iterator[None]:
    """Let the network compute, inside the block, with the floats that `export` would write."""
    kept: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
    try:
        with torch.no_grad():
            for name in _float_matrices(trainable):
                parameter = trainable.parameter(name)
                kept.append((parameter, parameter.detach().clone()))
                stored = _as_stored(trainable.values(name), _stored_type(trainable, name))
                parameter.copy_(torch.from_numpy(stored))
        yield
    finally:
        with torch.no_grad():
            for parameter, values in kept:
                parameter.copy_(values)


def as_loaded_model(trainable: Trainable) -> LoadedModel:
    """Return the model as it is now, as a reader of files would: made when it is looked up."""
    source = trainable.source
    ternary = set(trainable.ternary)
    round_weights = sign_binary if trainable.config.weight_rule == "sign" else absmean_ternary
    packings = {info.type for name, info in source.tensors.items() if name in ternary} & set(PACKINGS)
    chosen = packings.pop() if len(packings) == 1 else PACKING

    def rounded(name: str) -> TernaryTensor:
        return round_weights(trainable.values(name))

    def matrix(name: str) -> PackedMatrix | FloatMatrix:
        if name not in ternary:
            values = trainable.values(name)
            rows, depth = values.shape if values.ndim == 2 else (1, values.size)
            return FloatMatrix("f32", rows, depth, values.reshape(-1))
        tensor = rounded(name)
        data = packing(chosen).pack(tensor.codes)
        return PackedMatrix(chosen, *tensor.shape, data, tensor.scales.reshape(-1))

    def reference(name: str) -> ReferenceWeight:
        return rounded(name) if name in ternary else trainable.values(name)

    def info(name: str, stored: TensorInfo) -> TensorInfo:
        if name in ternary:
            return TensorInfo(chosen, stored.shape, 0, "tensor")
        if stored.granularity is not None and stored.type in PACKINGS:
            return TensorInfo("f32", stored.shape, 0)  # a ternary embedding was trained as floats
        return TensorInfo(stored.type, stored.shape, 0)

    return dataclasses.replace(
        source,
        tensors={name: info(name, stored) for name, stored in source.tensors.items()},
        weights=_Looked(source.tensors, matrix),
        reference_weights=_Looked(source.tensors, reference),
        masters={},
        in_stored_order={},
        release=lambda: None,
    )


def _float_matrices(trainable: Trainable) -> list[str]:
    tensors = trainable.source.tensors
    return [name for name, info in tensors.items() if len(info.shape) == 2 and name not in trainable.ternary]


def _stored_type(trainable: Trainable, name: str) -> str:
    """How a matrix of floats is exported: as the source file has it; masters of a folder become float16."""
    info = trainable.source.tensors[name]
    if info.type in PLANES or (info.type in FLOAT_TYPES and trainable.path.is_file()):
        return info.type
    return DEFAULT_TYPE


def _as_stored(values: npt.NDArray[np.float32], stored_type: str) -> npt.NDArray[np.float32]:
    if stored_type in FLOAT_TYPES:
        return to_float32(from_float32(values, stored_type), stored_type)
    codes, scales = PLANES[stored_type].quantize(values)
    return np.asarray(codes * scales[:, None], np.float32)


class _Looked(Mapping[str, T]):
    """Makes its values when they are looked up."""

    def __init__(self, names: Mapping[str, object], make: Callable[[str], T]) -> None:
        self._names = names
        self._make = make

    def __getitem__(self, name: str) -> T:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _digest(trainable: Trainable) -> str:
    digest = hashlib.sha256()
    for name in tensor_shapes(trainable.config):
        digest.update(np.ascontiguousarray(trainable.values(name)).tobytes())
    return digest.hexdigest()
