"""Frozen matrices in 8 bits: a byte a weight instead of a float, and exactly the same numbers.

A ternary matrix that is not trained needs no float master: its codes and its scale are all that the forward
pass sees, and a code fits into a byte. So where other models lose something by loading in 8 bits, this one
does not, and nothing beside PyTorch is needed for it.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tercet.finetuning.trainable import Trainable, master_values
from tercet.quantization.weights import absmean_ternary, sign_binary
from tercet.training.bitlinear import BitLinear, Quantization

__all__ = ["FrozenCodes", "freeze_as_codes", "restore_masters"]


class FrozenCodes(nn.Linear):
    """A `BitLinear` that cannot be trained: weight is int8 codes [rows, depth], scale one number.

    An `nn.Linear`, so that PEFT wraps it.
    """

    def __init__(self, layer: BitLinear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        self.quantization: Quantization = layer.quantization
        self.name = layer.name
        master = layer.weight.detach().to("cpu", torch.float32).numpy()
        rounded = (sign_binary if layer.quantization.weight_rule == "sign" else absmean_ternary)(master)
        device = layer.weight.device
        self.weight = nn.Parameter(torch.from_numpy(rounded.codes).to(device), requires_grad=False)
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(float(rounded.scales), device=device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to `x` [..., depth]; the floats of the matrix live for this product only."""
        inputs, input_scale = self.quantization.scaled_activations(x.float(), self.name)
        y = functional.linear(inputs, self.weight.float())
        return (y * (input_scale * self.scale)).to(y.dtype)


def freeze_as_codes(trainable: Trainable) -> None:
    """Replace every ternary matrix of the network by its codes."""
    network = trainable.network
    for name in trainable.ternary:
        path = trainable.names.module(name)
        parent, _, attribute = path.rpartition(".")
        layer = network.get_submodule(path)
        if isinstance(layer, BitLinear):
            setattr(network.get_submodule(parent), attribute, FrozenCodes(layer))


def restore_masters(trainable: Trainable) -> None:
    """Put layers with the masters of the source where layers were frozen as codes, below an adapter, too."""
    for name in trainable.ternary:
        path = trainable.names.module(name)
        parent, _, attribute = path.rpartition(".")
        holder, layer = trainable.network.get_submodule(parent), trainable.network.get_submodule(path)
        if hasattr(layer, "base_layer"):
            holder, attribute, layer = layer, "base_layer", cast(nn.Module, layer.base_layer)
        if isinstance(layer, FrozenCodes):
            made = BitLinear(
                layer.in_features, layer.out_features, layer.quantization, layer.name, device="meta"
            )
            master = torch.from_numpy(master_values(trainable.source, name))
            made.weight = nn.Parameter(master.to(layer.weight.device), requires_grad=False)
            setattr(holder, attribute, made)
            trainable.source.release()
