"""What the ternary layers of transformers hold: codes, and a multiplier.

    BitLinear        codes packed four rows to a byte; divides by weight_scale
    AutoBitLinear    offline: codes as floats; multiplies by weight_scale
                     online: masters, which every forward pass rounds anew

Source: transformers, `integrations/bitnet.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers.integrations.bitnet import AutoBitLinear, BitLinear

from tercet.errors import UnsupportedModelError
from tercet.formats.huggingface.packing import unpack_rows

__all__ = ["codes_and_scale", "is_ternary_layer"]

_SMALLEST_MEAN = 1e-5
"""As in `WeightQuant` of transformers."""


def is_ternary_layer(module: nn.Module) -> bool:
    """Whether a module is a ternary layer of transformers."""
    return isinstance(module, (BitLinear, AutoBitLinear))


def codes_and_scale(layer: Any, name: str) -> tuple[npt.NDArray[np.int8], np.float32]:
    """Return the codes int8 [out_features, in_features] of a layer and what they are multiplied by.

    Args:
        layer: one that `is_ternary_layer`.
        name: its name in the model, for messages.

    Raises:
        UnsupportedModelError: the weights are not ternary.
        FormatError: packed weights hold a field that is no code.
    """
    with torch.no_grad():
        if isinstance(layer, BitLinear):
            return unpack_rows(layer.weight.numpy()), np.float32(1) / _number(layer.weight_scale, name)
        if layer.online_quant:
            return _rounded_masters(layer.weight)
        codes = layer.weight.float().numpy().astype(np.int8)
        if np.abs(codes).max() > 1 or not torch.equal(layer.weight.float(), torch.from_numpy(codes).float()):
            raise UnsupportedModelError(
                f"{name} is an AutoBitLinear of quantization_mode offline whose weights are not all -1, 0 or "
                "1: transformers would use them as they are, unrounded. Load masters with "
                'quantization_mode="online".'
            )
        return codes, _number(layer.weight_scale, name)


def _rounded_masters(masters: torch.Tensor) -> tuple[npt.NDArray[np.int8], np.float32]:
    """Do what `WeightQuant` does, in its order and by its own operations, so that every code is the same."""
    weight = masters.float()
    scale = 1.0 / weight.abs().mean().clamp_(min=_SMALLEST_MEAN)
    codes = (weight * scale).round_().clamp_(-1, 1)
    multiplier = (1.0 / scale).to(masters.dtype).float()  # the layer rounds its weights to the model's type
    return codes.to(torch.int8).numpy(), np.float32(multiplier.item())


def _number(scale: torch.Tensor, name: str) -> np.float32:
    if scale.numel() != 1:
        raise UnsupportedModelError(
            f"{name} has a weight_scale of {scale.numel()} numbers; layers of transformers have one"
        )
    return np.float32(scale.float().item())
