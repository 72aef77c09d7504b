"""A GGUF file as a `StoredModel`: what `tercet.models.loading` and `tercet inspect` take.

Nothing is decoded here but scales, and matrices of plain floats, which are looked through once to see
whether they are ternary. A matrix is ternary if its type is, or if all its values are a scale times -1, 0
or +1; whether embedding and head are, their type alone says.
"""

from __future__ import annotations

import functools

import numpy as np

from tercet.errors import FormatError
from tercet.formats.floats import has_only_finite
from tercet.formats.gguf.file import StoredGgufTensor
from tercet.formats.gguf.model import GgufModel, is_projection
from tercet.formats.gguf.tensor_types import BlockTernary
from tercet.formats.gguf.ternary import coarsest_scales
from tercet.formats.matrices import FloatMatrix
from tercet.formats.stored_model import StoredModel, StoredWeight
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["stored_model"]

_GRANULARITIES = ("tensor", "row", "group")


def stored_model(model: GgufModel) -> StoredModel:
    """Describe an open file; tensors are read when asked for.

    The tokenizer is not made here: `model.vocabulary` is what `tercet.tokenization.gguf_vocab` makes it from.

    Raises:
        FormatError: a tensor that had to be looked at is damaged.
        UnsupportedFormatError: the layout of its I2_S tensors cannot be told.
    """
    weights = {name: _weight(model, name) for name in model.names}
    for name in model.unknown_tensors:  # loading refuses what it has no place for, by this name
        tensor = model.file.tensor(name)
        weights[name] = StoredWeight(
            name, tensor.type.name, tensor.shape, tensor.data.size, functools.partial(_refuse, model, name)
        )
    return StoredModel(
        path=model.path,
        kind=f"GGUF file of {model.architecture}",
        model_fields=model.fields,
        weights=weights,
        chat_template=model.chat_template,
        generation=model.generation,
        remarks=_remarks(model),
        release=model.file.release,
    )


def _weight(model: GgufModel, name: str) -> StoredWeight:
    tensor = model.stored(name)
    shape = _granularity(model, name, tensor)
    read = functools.partial(model.ternary if shape else functools.partial(_floats, model), name)
    granularity, group_size = shape or (None, None)
    is_moved = granularity is not None and model.is_reordered(name)
    return StoredWeight(
        tensor.name,
        tensor.type.name,
        tensor.shape,
        tensor.data.size,
        read,
        granularity,
        group_size,
        read_in_stored_order=functools.partial(model.ternary_in_stored_order, name) if is_moved else None,
    )


def _granularity(model: GgufModel, name: str, tensor: StoredGgufTensor) -> tuple[str, int] | None:
    """How far a scale reaches in a ternary matrix; None for other tensors."""
    if tensor.stores_ternary:
        if isinstance(tensor.type, BlockTernary):
            scales = coarsest_scales(tensor.type.scales(tensor.data, tensor.rows))
        else:
            scales = model.ternary(name).scales
    elif is_projection(name) and tensor.float_type is not None and model.is_ternary(name):
        scales = model.ternary(name).scales
    else:
        return None
    return _GRANULARITIES[scales.ndim], tensor.depth // (scales.shape[1] if scales.ndim == 2 else 1)


def _floats(model: GgufModel, name: str) -> TernaryTensor | FloatMatrix:
    tensor = model.stored(name)
    rows, depth = tensor.rows, tensor.depth
    if len(tensor.shape) != 2 or tensor.float_type is None or model.is_reordered(name):
        return FloatMatrix("f32", rows, depth, model.float32(name).reshape(-1))
    if not has_only_finite(tensor.elements(), tensor.float_type):
        raise FormatError(f"{model.path}: tensor {tensor.name} holds infinite values or NaN")
    # A file may begin its tensors at any byte; the decoder reads elements where they are aligned.
    return FloatMatrix(tensor.float_type, rows, depth, np.require(tensor.elements(), requirements="A"))


def _refuse(model: GgufModel, name: str) -> TernaryTensor | FloatMatrix:
    raise FormatError(f"{model.path}: the tensor {name} plays no part in a model that this release knows")


def _remarks(model: GgufModel) -> tuple[str, ...]:
    remarks = []
    finding = model.i2_s_layout
    if finding is not None and finding.certainty == "assumed":
        remarks.append(
            "its I2_S tensors are taken to be in the canonical layout: nothing in their weights tells"
        )
    elif finding is not None and finding.layout != "canonical":
        remarks.append(f"its I2_S tensors are in the layout {finding.layout!r}, which most programs misread")
    if any(tensor.type.name.endswith("(group 128)") for tensor in model.file.tensors.values()):
        remarks.append("its Q2_0 blocks have 128 weights, as PrismML's first files had; upstream's have 64")
    return tuple(remarks)
