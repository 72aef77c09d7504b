"""The student as it is now -> a native file, and what that file's own loss is.

The file's codes and scales are those of absmean, the rule that the student's layers round by while they
learn. Its loss is computed by the engine that everybody runs it with (`tercet.evaluation.scoring`), and not
by the network that was trained: bf16 in training is no excuse afterwards.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tercet.conversion import convert
from tercet.distillation.pair import NAMES
from tercet.evaluation.scoring import score
from tercet.formats.matrices import FloatMatrix, PackedMatrix
from tercet.llm import LLM
from tercet.models.loading import LoadedModel, ReferenceWeight, TensorInfo
from tercet.models.tensor_names import is_ternary, tensor_shapes
from tercet.quantization.packings import packing
from tercet.quantization.weights import absmean_ternary
from tercet.training.model import TernaryDecoder

__all__ = ["export", "file_loss", "latent_weights"]

T = TypeVar("T")
PACKING = "two_bit"


def latent_weights(student: TernaryDecoder) -> dict[str, npt.NDArray[np.float32]]:
    """Canonical name -> float32 weights, before rounding; views, no copies."""
    parameters = dict(student.named_parameters())
    return {
        name: parameters[NAMES.tensor(name)].detach().float().cpu().numpy()
        for name in tensor_shapes(student.config)
    }


def export(
    student: TernaryDecoder,
    teacher: LoadedModel,
    path: Path,
    *,
    metadata: Mapping[str, Any],
    verify: bool = False,
    overwrite: bool = True,
) -> Path:
    """Write the student as a native file; tokenizer, chat template and settings are the teacher's.

    Raises:
        ParameterError: a weight is not finite: training has diverged.
        StorageError: the file cannot be written.
    """
    weights = latent_weights(student)
    digest = hashlib.sha256()
    for values in weights.values():
        digest.update(np.ascontiguousarray(values).tobytes())
    model = _as_loaded_model(student, teacher, weights)
    facts = {"distilled_from": teacher.path.name, "weights_sha256": digest.hexdigest()}
    convert(
        model, path, PACKING, to="native", metadata={**metadata, **facts}, overwrite=overwrite, verify=verify
    )
    return path


def _as_loaded_model(
    student: TernaryDecoder, teacher: LoadedModel, weights: Mapping[str, npt.NDArray[np.float32]]
) -> LoadedModel:
    def matrix(name: str) -> PackedMatrix | FloatMatrix:
        values = weights[name]
        rows, depth = values.shape if values.ndim == 2 else (1, values.size)
        if not is_ternary(name):
            return FloatMatrix("f32", rows, depth, values.reshape(-1))
        tensor = absmean_ternary(values)
        return PackedMatrix(
            PACKING, rows, depth, packing(PACKING).pack(tensor.codes), tensor.scales.reshape(-1)
        )

    def reference(name: str) -> ReferenceWeight:
        return absmean_ternary(weights[name]) if is_ternary(name) else weights[name]

    def info(name: str) -> TensorInfo:
        kind, reach = (PACKING, "tensor") if is_ternary(name) else ("f32", None)
        return TensorInfo(kind, weights[name].shape, 0, reach)

    return dataclasses.replace(
        teacher,
        kind="a student in memory",
        config=student.config,
        tensors={name: info(name) for name in weights},
        weights=_Made(weights, matrix),
        reference_weights=_Made(weights, reference),
        masters={},
        in_stored_order={},
        remarks=(),
        release=lambda: None,
    )


class _Made(Mapping[str, T]):
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


def file_loss(path: Path, windows: npt.NDArray[np.int64], threads: int | None = None) -> float:
    """Mean nats a token of a model file over windows [B, T + 1], each on its own."""
    nats = tokens = 0.0
    with LLM(path, threads=threads) as llm:
        for scores in score(llm, windows.tolist()):
            nats -= scores.total
            tokens += len(scores.log_probabilities)
    return nats / tokens
