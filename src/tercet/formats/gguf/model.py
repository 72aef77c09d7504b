"""A GGUF file as a model: which architecture, which fields, which tensor plays which part.

    model = open_gguf(path)
    model.fields                             # for ModelConfig.from_dict
    model.ternary("layers.0.attention.q")    # codes and scales, rows in our order
    model.float32("embedding")
    model.vocabulary, model.chat_template, model.generation, model.rotation

Two conventions of other programs end here. Files of the architecture `llama` keep the rows of queries and
keys in the order of RoPE over neighbouring pairs (0, 1), (2, 3), ...; they are put back into that of pairs
(i, i + half), in which every other architecture and the decoder have them. And where a file has I2_S
tensors, their layout is found once for all of them.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tercet.errors import FormatError, UnsupportedFormatError
from tercet.formats.gguf.file import GgufFile, StoredGgufTensor
from tercet.formats.gguf.i2_s_layout import LayoutFinding, find_i2_s_layout
from tercet.formats.gguf.model_fields import generation_settings, gguf_architecture, model_fields
from tercet.formats.gguf.rotation import HadamardRotation, read_rotation
from tercet.formats.gguf.tensor_names import PROJECTIONS, from_gguf
from tercet.formats.gguf.tensor_types import LAYOUTS, I2SLayout, I2SType, KernelConfig, LookupTableType
from tercet.formats.gguf.vocabulary import GgufVocabulary, read_vocabulary
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = [
    "NEIGHBOURING_PAIRS",
    "GgufModel",
    "halves_from_neighbours",
    "is_paired",
    "is_projection",
    "neighbours_from_halves",
    "open_gguf",
]

NEIGHBOURING_PAIRS = frozenset({"llama"})
"""Architectures whose queries and keys are stored for RoPE over neighbouring pairs."""

_PAIRED = re.compile(r"layers\.\d+\.attention\.[qk]")
_PROJECTION = re.compile(r"layers\.\d+\.(" + "|".join(re.escape(name) for name in PROJECTIONS.values()) + ")")


class GgufModel:
    """An open file, understood. Tensors go by their canonical names and are decoded when asked for.

    Args:
        file: the open file.
        layout: how its I2_S tensors lie, if the caller knows; otherwise that is found out.

    Raises:
        FormatError: its parts do not fit together.
        UnsupportedFormatError: it is one part of a model, or holds something else.
        UnsupportedModelError: it holds a model that this release does not run.
    """

    def __init__(self, file: GgufFile, layout: I2SLayout | None = None) -> None:
        self.file = file
        self.path: Path = file.path
        self._layout = layout
        metadata = file.metadata
        self.architecture: str = gguf_architecture(metadata, file.path)
        """By the file's own name for it."""
        self.vocabulary: GgufVocabulary | None = read_vocabulary(metadata)
        self.chat_template: str | None = (
            self.vocabulary.chat_templates.get("default") if self.vocabulary is not None else None
        )
        self.generation: dict[str, Any] = generation_settings(metadata)
        """Recommended sampling settings, under the names of `SamplingParams`."""
        shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
        self.rotation: HadamardRotation | None = read_rotation(metadata, shapes)
        self.names: Mapping[str, str] = _canonical_names(file)
        """Canonical name -> name in the file."""
        known = {*self.names.values(), *_scale_names(file, self.names.values())}
        self.unknown_tensors: tuple[str, ...] = tuple(name for name in file.tensors if name not in known)
        """Tensors of the file that play no part we know of. A model that has any must not be run."""
        self._fields = model_fields(metadata, file.tensors, self.vocabulary, file.path)

    @functools.cached_property
    def fields(self) -> dict[str, Any]:
        """What the file says of its model, for `ModelConfig`; see `tercet.formats.gguf.model_fields`.

        Whether activations are rounded to int8 is in no GGUF file. Models with one scale for each matrix are
        BitNet's, which round; models with a scale for each row or group of columns (TriLM, Bonsai), and
        models that are not ternary, do not.

        Raises:
            FormatError: a tensor that had to be looked at is damaged.
            UnsupportedFormatError: it is of a type, or in a layout, that cannot be read.
        """
        fields = self._fields | {"quantize_activations": self._rounds_activations()}
        return fields if self.rotation is None else fields | {"rotation": self.rotation}

    @functools.cached_property
    def i2_s_layout(self) -> LayoutFinding | None:
        """How the I2_S tensors lie and how sure that is, or None if there are none.

        Raises:
            UnsupportedFormatError: it cannot be told.
        """
        if not any(isinstance(tensor.type, I2SType) for tensor in self.file.tensors.values()):
            return None
        if self._layout is not None:
            return LayoutFinding(self._layout, "given", {}, 0.0)
        return find_i2_s_layout(self.file)

    def stored(self, name: str) -> StoredGgufTensor:
        """Return a tensor as it lies in the file. Raises FormatError if the model has none of this name."""
        return self.file.tensor(self._name(name))

    def is_ternary(self, name: str) -> bool:
        """Say whether a matrix is ternary: by its type, or, if it holds plain floats, by its values.

        Raises:
            FormatError: the model has none of this name, or it is damaged.
        """
        stored = self.stored(name)
        if stored.stores_ternary or stored.float_type is None or len(stored.shape) != 2:
            return stored.stores_ternary
        try:
            self.file.ternary(self._name(name))
        except UnsupportedFormatError:
            return False
        return True

    def ternary(self, name: str) -> TernaryTensor:
        """Return a matrix as codes and scales.

        Raises:
            FormatError: it is damaged, or the model has none of this name.
            UnsupportedFormatError: it is not ternary, or of a type that this release does not read.
        """
        found = self.ternary_in_stored_order(name)
        if not self.is_reordered(name):
            return found
        order = halves_from_neighbours(found.shape[0], self._num_heads(name))
        scales = found.scales if found.scales.ndim == 0 else found.scales[order]
        return TernaryTensor(found.codes[order], scales)

    def ternary_in_stored_order(self, name: str) -> TernaryTensor:
        """Return a matrix as codes and scales with its rows in the order of the file; raises as `ternary`."""
        return self.file.ternary(self._name(name), self._layout_of(name))

    def float32(self, name: str, rows: slice | None = None) -> npt.NDArray[np.float32]:
        """Return a tensor, or some of its rows, as real values.

        Raises:
            FormatError: it is damaged, or the model has none of this name.
            UnsupportedFormatError: it is of a type that this release does not read.
        """
        stored_name = self._name(name)
        if not self.is_reordered(name):
            return self.file.float32(stored_name, rows, self._layout_of(name))
        values = self.file.float32(stored_name, None, self._layout_of(name))
        values = values[halves_from_neighbours(len(values), self._num_heads(name))]
        return values if rows is None else values[rows]

    def projections(self) -> tuple[str, ...]:
        """Return the names of the matrices that are ternary in a ternary model, in the order of the file."""
        return tuple(name for name in self.names if is_projection(name))

    def _name(self, name: str) -> str:
        if name not in self.names:
            raise FormatError(f"{self.path} holds no tensor {name!r}")
        return self.names[name]

    def _layout_of(self, name: str) -> I2SLayout:
        if not isinstance(self.stored(name).type, I2SType) or self.i2_s_layout is None:
            return LAYOUTS[0]
        return self.i2_s_layout.layout

    def _rounds_activations(self) -> bool:
        first = next(iter(self.projections()), None)
        if first is None or not self.is_ternary(first):
            return False
        return self.ternary(first).granularity == "tensor"

    def is_reordered(self, name: str) -> bool:
        """Say whether the rows of a tensor are in another order in the file than here."""
        return self.architecture in NEIGHBOURING_PAIRS and is_paired(name)

    def _num_heads(self, name: str) -> int:
        return int(self._fields["num_heads" if name.endswith("q") else "num_kv_heads"])


def open_gguf(
    path: str | os.PathLike[str], *, kernels: KernelConfig | None = None, layout: I2SLayout | None = None
) -> GgufModel:
    """Open the model in a GGUF file.

    Args:
        path: the file.
        kernels: for TL1 and TL2, the parsed `kernel_config.ini` of the build that made the file.
        layout: for I2_S, how the weights lie, if the caller knows better than what can be found out.

    Raises:
        FormatError: it is damaged, or its parts do not fit together.
        UnsupportedFormatError, UnsupportedModelError: it is of a kind that this release does not read or run.
        ModelNotFoundError, StorageError: it is not there, or cannot be read.
    """
    return GgufModel(GgufFile(path, kernels), layout)


def is_projection(name: str) -> bool:
    """Say whether the tensor of this canonical name is a matrix that is ternary in a ternary model."""
    return _PROJECTION.fullmatch(name) is not None


def is_paired(name: str) -> bool:
    """Say whether the tensor of this canonical name makes queries or keys, which RoPE turns in pairs."""
    return _PAIRED.fullmatch(name) is not None


def halves_from_neighbours(rows: int, num_heads: int) -> npt.NDArray[np.intp]:
    """Return the order in which to take rows stored for pairs (0, 1), (2, 3), ... to have them for (i, i +
    half).

    Raises:
        FormatError: the rows do not divide into so many heads of an even width.
    """
    return _check_pairs(rows, num_heads).reshape(num_heads, -1, 2).swapaxes(1, 2).reshape(-1)


def neighbours_from_halves(rows: int, num_heads: int) -> npt.NDArray[np.intp]:
    """Return the order that undoes `halves_from_neighbours`."""
    return _check_pairs(rows, num_heads).reshape(num_heads, 2, -1).swapaxes(1, 2).reshape(-1)


def _check_pairs(rows: int, num_heads: int) -> npt.NDArray[np.intp]:
    if rows % (2 * num_heads):
        raise FormatError(f"{rows} rows do not divide into {num_heads} heads of an even width")
    return np.arange(rows)


def _canonical_names(file: GgufFile) -> dict[str, str]:
    return {canonical: name for name in file.tensors if (canonical := from_gguf(name)) is not None}


def _scale_names(file: GgufFile, names: Collection[str]) -> set[str]:
    """Names that the separate scales of these tensors have, if they have any."""
    scales = {name.removesuffix(".weight") + ".scale" for name in names}
    return scales | {f"{name}_scale" for name in names if isinstance(file.tensor(name).type, LookupTableType)}
