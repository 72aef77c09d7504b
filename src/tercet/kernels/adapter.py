"""Adapters (LoRA) as the decoder applies them: low-rank additions to its matrices for single sequences.

    adapter = Adapter(decoder, {"layers.0.attention.q": pair, ...})
    decoder.forward(..., adapters=[AdapterUse(0, adapter), AdapterUse(2, adapter, 0.5)])

The specification is cpp/include/tercet/adapter.hpp: y = W x + scale * weight * B (A x).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tercet import _core
from tercet.errors import ParameterError
from tercet.kernels.decoder import Decoder
from tercet.kernels.matrices import FloatMatrix, borrowed

__all__ = ["MATRICES", "Adapter", "AdapterUse", "LowRankPair"]

MATRICES = (
    "attention.q",
    "attention.k",
    "attention.v",
    "attention.o",
    "ffn.gate",
    "ffn.up",
    "ffn.down",
)
"""The matrices of a layer, in the core's order."""


class LowRankPair(Protocol):
    """What is added to one matrix, for example `tercet.formats.peft.LowRankPair`."""

    @property
    def reduce(self) -> FloatMatrix:
        """A, [rank, depth]."""

    @property
    def expand(self) -> FloatMatrix:
        """B, [rows, rank]."""

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""


class Adapter:
    """An adapter for decoders of one shape; it keeps its matrices alive.

    Args:
        decoder: one of that shape.
        pairs: by the canonical names of the matrices.

    Raises:
        ParameterError: a name is no matrix of a layer, or a shape does not fit.
    """

    def __init__(self, decoder: Decoder, pairs: Mapping[str, LowRankPair]) -> None:
        told = []
        for name, pair in pairs.items():
            match = re.fullmatch(r"layers\.(\d{1,9})\.(.+)", name)
            if match is None or match[2] not in MATRICES:
                raise ParameterError(f"{name} is no matrix of a layer")
            reduce, expand = borrowed(name, pair.reduce), borrowed(name, pair.expand)
            if not (isinstance(reduce, _core.FloatMatrix) and isinstance(expand, _core.FloatMatrix)):
                raise ParameterError(f"the adapter of {name} is not a pair of float matrices")
            told.append((int(match[1]), MATRICES.index(match[2]), reduce, expand, float(pair.scale)))
        self.core = _core.Adapter(decoder.core, told)


@dataclass(frozen=True)
class AdapterUse:
    """One adapter of one sequence of a batch."""

    sequence: int
    """Its index in the batch."""
    adapter: Adapter
    weight: float = 1.0
