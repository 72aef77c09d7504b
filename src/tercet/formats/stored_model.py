"""What a reader of foreign formats arrives at: a model's parts in our names, nothing read yet.

A reader's whole job is to get here: the fields of a `ModelConfig`, and for every tensor, by its canonical
name, what the file says about it and a way to read it. Scales are multipliers, norms are what they multiply
by, whatever the file's own conventions were. `tercet.models.loading` checks the parts against each other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tercet.formats.matrices import FloatMatrix
from tercet.quantization.ternary_tensor import TernaryTensor

__all__ = ["StoredModel", "StoredWeight"]


@dataclasses.dataclass(frozen=True, eq=False)
class StoredWeight:
    """One tensor of a model, as it lies in a file."""

    name: str
    """What the file calls it."""
    type: str
    """How its elements are stored: a float type, a packing, or a type of the foreign format."""
    shape: tuple[int, ...]
    """[rows, depth], or [size] for the weight of a norm."""
    num_bytes: int
    """Bytes in the file, scales included."""
    read: Callable[[], TernaryTensor | FloatMatrix]
    """Makes the tensor, anew each time. Raises FormatError if its bytes mean nothing."""
    granularity: str | None = None
    """How far a scale reaches in a matrix that is ternary, or becomes so on reading; None for floats."""
    group_size: int | None = None
    read_in_stored_order: Callable[[], TernaryTensor] | None = None
    """Makes a ternary matrix with its rows as the file has them, where that order is not ours."""
    masters: Callable[[], FloatMatrix] | None = None
    """Reads the real-valued weights of a matrix that becomes ternary on reading, where the file has them."""


@dataclasses.dataclass(frozen=True, eq=False)
class StoredModel:
    """A file or folder, opened."""

    path: Path
    kind: str
    """What it is, for people: `folder of LlamaForCausalLM, packed`."""
    model_fields: Mapping[str, Any]
    """What `ModelConfig.from_dict` takes."""
    weights: Mapping[str, StoredWeight]
    """Canonical name -> tensor; one that has no canonical name is here under the file's."""
    tokenizer_json: bytes | None = None
    chat_template: str | None = None
    generation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Sampling settings under the names of `SamplingParams`."""
    remarks: tuple[str, ...] = ()
    """Oddities that a person should know of."""
    release: Callable[[], None] = lambda: None
    """Gives the memory back that reading the mapped file has filled; what is read later is mapped again."""
