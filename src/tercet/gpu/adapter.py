"""Adapters (LoRA) in the GPU's memory: `tercet.kernels.adapter`, for this decoder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from tercet.errors import ParameterError
from tercet.gpu.linear import LowRank
from tercet.gpu.weights import upload_rows
from tercet.kernels.adapter import MATRICES, LowRankPair

if TYPE_CHECKING:
    from tercet.kernels.matrices import FloatMatrix

__all__ = ["Adapter"]


class Adapter:
    """An adapter; its matrices are copied.

    Args:
        pairs: by the canonical names of the matrices.
        device: where they go.

    Raises:
        ParameterError: a name is no matrix of a layer.
    """

    def __init__(self, pairs: Mapping[str, LowRankPair], device: torch.device) -> None:
        self.pairs: dict[str, LowRank] = {}
        for name, pair in pairs.items():
            match = re.fullmatch(r"layers\.\d{1,9}\.(.+)", name)
            if match is None or match[1] not in MATRICES:
                raise ParameterError(f"{name} is no matrix of a layer")
            expand = _floats(pair.expand, device) * float(pair.scale)
            self.pairs[name] = LowRank(_floats(pair.reduce, device), expand)


def _floats(matrix: FloatMatrix, device: torch.device) -> torch.Tensor:
    return upload_rows(matrix, device).rows.float()
