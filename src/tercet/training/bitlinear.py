"""BitLinear: a linear layer that computes with weights of two or three values and rounded activations.

    y = (codes of x · codes of Wᵀ) · scale of x · scale of W

The float32 latent weight W is what the optimizer moves; the forward pass only ever sees its projection (after
the warm-up). No bias, one scale a matrix, one scale a token. The published variants are options of this one
layer, and `Quantization` holds them:

    weight_rule       absmean     {-1, 0, +1} · mean|W|                      BitNet b1.58
                      sign        {-1, +1} · mean|W|, around the mean        BitNet
    activation_rule   int8        [-127, 127], absmax                        BitNet b1.58
                      int4        [-8, 7], absmean                           BitNet v2, second phase
                      int4_int8   int4 into q, k, v, gate, up; int8 into down; the larger half of o's input in
                                  int8, the rest 0                           BitNet a4.8
    rotation          a Hadamard transform before the rounding, of the matrices that it names (v2: o and down)

Which of these an input gets follows from the canonical name of the matrix, such as `layers.3.attention.o`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from tercet.errors import ParameterError
from tercet.models.config import ACTIVATION_RULES, WEIGHT_RULES, ModelConfig
from tercet.models.field_checks import check_choice
from tercet.models.rotation import Rotation
from tercet.quantization.activations import input_rounding
from tercet.training.straight_through import (
    absmax_int8,
    absmean_int4,
    absmean_ternary,
    hadamard,
    sign_binary,
    straight_through,
    top_half,
)

PROJECTIONS = {
    "q_proj": "attention.q",
    "k_proj": "attention.k",
    "v_proj": "attention.v",
    "o_proj": "attention.o",
    "gate_proj": "ffn.gate",
    "up_proj": "ffn.up",
    "down_proj": "ffn.down",
}
"""What transformers calls the matrices of a layer -> the last part of their canonical names."""


class Quantization(nn.Module):
    """What the BitLinear layers of a model quantize, and how strongly; one object for all of them.

    `weight_rule="none"` makes them ordinary float layers: the full-precision twin of an experiment differs in
    nothing else. `strength` is λ of the warm-up in [0, 1], a buffer rather than a Python float, so that
    changing it costs no recompilation and it follows the model from device to device.

    Raises:
        ParameterError: there is no such rule.
    """

    def __init__(
        self,
        weight_rule: str = "absmean",
        activation_rule: str = "int8",
        rotation: Rotation | None = None,
    ) -> None:
        super().__init__()
        check_choice("weight_rule", weight_rule, (*WEIGHT_RULES, "none"))
        check_choice("activation_rule", activation_rule, (*ACTIVATION_RULES, "none"))
        self.weight_rule = weight_rule
        self.activation_rule = activation_rule if weight_rule != "none" else "none"
        self.rotation = rotation
        self.strength: Tensor
        self.register_buffer("strength", torch.ones(()), persistent=False)
        if rotation is not None:
            for width in rotation.signs:
                signs = torch.from_numpy(rotation.signs_of(int(width)))
                self.register_buffer(f"signs_{width}", signs, persistent=False)

    @classmethod
    def of_model(cls, config: ModelConfig, ternary: bool = True) -> Quantization:
        """What the file of a model says; with `ternary=False` the full-precision twin of that model."""
        return cls(
            config.weight_rule if ternary else "none",
            config.activation_rule if config.quantize_activations else "none",
            config.rotation,
        )

    def follow(self, activation_rule: str) -> None:
        """Round activations by this rule from now on, if they are rounded at all."""
        if self.activation_rule != "none":
            self.activation_rule = activation_rule

    @property
    def asks_for_names(self) -> bool:
        """Whether a layer must know which matrix of a model it is."""
        return self.activation_rule == "int4_int8" or self.rotation is not None

    def of_weights(self, weights: Tensor) -> Tensor:
        """The weights that the forward pass sees: values in units of the matrix' scale, times that scale."""
        values, scale = self.scaled_weights(weights)
        return values * scale

    def of_activations(self, x: Tensor, matrix: str = "") -> Tensor:
        """What the forward pass of the matrix with this canonical name sees of its input `x`."""
        values, scale = self.scaled_activations(x, matrix)
        return values * scale

    def scaled_weights(self, weights: Tensor) -> tuple[Tensor, Tensor | float]:
        """Codes (between them and W / scale during the warm-up) and the scale of a matrix."""
        if self.weight_rule == "none":
            return weights, 1.0
        latent = weights.detach()
        codes, scale = absmean_ternary(latent) if self.weight_rule == "absmean" else sign_binary(latent)
        return straight_through(weights / scale, codes, self.strength), scale

    def scaled_activations(self, x: Tensor, matrix: str = "") -> tuple[Tensor, Tensor | float]:
        """Codes (between them and x / scale during the warm-up) and the scales [..., 1] of an input `x`."""
        if self.rotation is not None and matrix in self.rotation.inputs:
            signs = getattr(self, f"signs_{x.shape[-1]}", None)
            x = hadamard(x if signs is None else x * signs, self.rotation.block_size)
        if self.activation_rule == "none":
            return x, 1.0
        rounding = input_rounding(self.activation_rule, matrix)
        kept = top_half(x.detach()) if rounding == "int8_top_half" else x.detach()
        codes, scale = absmean_int4(kept) if rounding == "int4" else absmax_int8(kept)
        return straight_through(x / scale, codes, self.strength), scale


class BitLinear(nn.Linear):
    """Ternary or binary linear layer, [..., in_features] -> [..., out_features]; never with a bias.

    It is an `nn.Linear`, so that what looks for those (PEFT, for one) finds it.

    Args:
        in_features: depth of the matrix.
        out_features: rows of the matrix.
        quantization: the rules, shared by all layers of a model.
        name: canonical name of the matrix, such as `layers.3.attention.o`.

    Raises:
        ParameterError: the rules differ from matrix to matrix, and there is no name.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        quantization: Quantization,
        name: str = "",
        *,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias=False, device=device)
        if quantization.asks_for_names and not name:
            raise ParameterError(
                "with int4_int8 or a rotation matrices differ in what happens to their inputs: "
                "a BitLinear needs the canonical name of its matrix, such as layers.3.attention.o"
            )
        self.quantization = quantization
        self.name = name

    @classmethod
    def from_linear(cls, linear: nn.Linear, quantization: Quantization, name: str = "") -> BitLinear:
        """Make a layer that has the weight of `linear` (the same parameter, not a copy) as its master.

        Raises:
            ParameterError: the layer has a bias, or the rules call for a name.
        """
        if linear.bias is not None:
            raise ParameterError("the linear layer has a bias, and a BitLinear has none")
        layer = cls(linear.in_features, linear.out_features, quantization, name, device="meta")
        layer.weight = linear.weight
        return layer.train(linear.training)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to `x` [..., in_features]; all rounding is in float32."""
        inputs, input_scale = self.quantization.scaled_activations(x.float(), self.name)
        values, scale = self.quantization.scaled_weights(self.weight.float())
        y = functional.linear(inputs, values)
        dtype = y.dtype if self.weight.dtype == torch.float32 else self.weight.dtype
        return (y * (input_scale * scale)).to(dtype)


def replace_linears(
    model: nn.Module, quantization: Quantization, names: Sequence[str] = tuple(PROJECTIONS)
) -> int:
    """Make every linear layer of `model` whose attribute is one of `names` a BitLinear with the same weight.

    Their canonical names follow from where they are: `model.layers.3.self_attn.o_proj` is
    `layers.3.attention.o`. Returns how many layers were replaced; those that are BitLinear stay.

    Raises:
        ParameterError: one has a bias, or the rules call for names and a layer is not of `PROJECTIONS`.
    """
    found = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and not isinstance(module, BitLinear)
        if path.rpartition(".")[2] in names
    ]
    for path, linear in found:
        parent, _, attribute = path.rpartition(".")
        try:
            layer = BitLinear.from_linear(linear, quantization, _canonical_name(path))
        except ParameterError as error:
            raise ParameterError(f"{path}: {error}") from error
        setattr(model.get_submodule(parent), attribute, layer)
    return len(found)


def _canonical_name(path: str) -> str:
    place = re.search(r"(?:^|\.)(layers\.\d+\.)(?:.*\.)?(\w+)$", path)
    if place is None or place[2] not in PROJECTIONS:
        return ""
    return place[1] + PROJECTIONS[place[2]]
