"""A model without some of its neurons.

Rows of gate and up and columns of down are left out; codes and scales of what stays are not touched. Where a
norm stands before down it divides by the root of the mean square over all n neurons. Over the n' that stay
the mean of the same squares is n / n' times as large, so the norm's weights are multiplied by sqrt(n / n').
Then what down sees is what it saw, to the rounding of float32 and to the norm's epsilon, which counts
n / n' times less; a model without that norm, and with int8 activations, computes the same bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tercet.errors import ParameterError
from tercet.formats.matrices import FloatMatrix, PackedMatrix, PlaneMatrix
from tercet.models.loading import LoadedModel, ReferenceWeight, TensorInfo
from tercet.quantization.packings import PACKINGS, packing
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["narrower"]

T = TypeVar("T")
NORM = "ffn.sub_norm"


def narrower(model: LoadedModel, kept: Sequence[NDArray[np.int64]]) -> LoadedModel:
    """The model with only these neurons in each layer, ascending indices, as many in every layer.

    Raises:
        ParameterError: the layers would differ in width, or the model is of a kind that cannot be cut.
    """
    config = model.config
    width = len(kept[0])
    if width == 0 or any(len(neurons) != width for neurons in kept):
        raise ParameterError("every layer of a model has as many neurons, and at least one")
    _check(model)
    factor = np.float32(np.sqrt(config.ffn_size / width))

    def neurons(name: str) -> NDArray[np.int64] | None:
        """Those that this tensor has rows or columns of, if any."""
        part = name.split(".", 2)[-1]
        return kept[int(name.split(".")[1])] if part in ("ffn.gate", "ffn.up", "ffn.down", NORM) else None

    def reference(name: str) -> ReferenceWeight:
        chosen, weight = neurons(name), model.reference_weights[name]
        if chosen is None:
            return weight
        if isinstance(weight, TernaryTensor):
            if name.endswith("down"):
                return TernaryTensor(np.ascontiguousarray(weight.codes[:, chosen]), weight.scales)
            scales = weight.scales[chosen] if weight.scales.ndim else weight.scales
            return TernaryTensor(weight.codes[chosen], scales)
        if name.endswith(NORM):
            return weight[chosen] * factor
        return np.ascontiguousarray(weight[:, chosen] if name.endswith("down") else weight[chosen])

    def matrix(name: str) -> PackedMatrix | PlaneMatrix | FloatMatrix:
        if neurons(name) is None:
            return model.weights[name]
        weight = reference(name)
        if not isinstance(weight, TernaryTensor):
            rows, depth = weight.shape if weight.ndim == 2 else (1, weight.size)
            return FloatMatrix("f32", rows, depth, weight.reshape(-1))
        kind = info(name).type
        data = packing(kind).pack(weight.codes)
        return PackedMatrix(kind, *weight.shape, data, weight.scales.reshape(-1))

    def info(name: str) -> TensorInfo:
        before, chosen = model.tensors[name], neurons(name)
        if chosen is None:
            return before
        shape = {
            1: (width,),
            2: (before.shape[0], width) if name.endswith("down") else (width, before.shape[-1]),
        }
        kind = before.type if before.type in PACKINGS or before.granularity is None else "two_bit"
        return TensorInfo(kind, shape[len(before.shape)], 0, before.granularity, before.group_size)

    return dataclasses.replace(
        model,
        config=dataclasses.replace(config, ffn_size=width),
        tensors={name: info(name) for name in model.tensors},
        weights=_Made(model.tensors, matrix),
        reference_weights=_Made(model.tensors, reference),
        masters={},
        in_stored_order={},
    )


def _check(model: LoadedModel) -> None:
    config = model.config
    if config.projection_norms or config.rotation is not None:
        raise ParameterError(
            f"{model.path} has norms of single matrices or a rotated basis; its neurons cannot be told apart"
        )
    for name, info in model.tensors.items():
        if ".ffn." in name and info.granularity == "group":
            raise ParameterError(
                f"{model.path} has a scale for groups of columns of {name}, which would no longer be groups. "
                "Prune before the model gets such scales."
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
