"""Tercet's kernels inside a model of transformers: `model.generate` stays as it is and becomes fast on a CPU.

    model = AutoModelForCausalLM.from_pretrained("microsoft/bitnet-b1.58-2B-4T")
    use_tercet_kernels(model)
    model.generate(...)
    restore(model)                 the very modules that were there before

transformers multiplies ternary weights as floats, having unpacked them anew for every token. Tercet keeps
them at two bits and adds and subtracts int8 activations: the same rule (each token is rounded to int8 by its
largest magnitude), with exact integers in the middle. So the logits are the same but for the rounding of
floats, and where a model computes in bfloat16 they are the more precise ones.

Only the layers change that `transformers.integrations.bitnet` made (`BitLinear`, `AutoBitLinear`): what the
checkpoint's `modules_to_not_convert` left alone, and everything else of the model, is untouched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tercet.environment import optional_import
from tercet.errors import ParameterError, UnsupportedModelError

if TYPE_CHECKING:
    from torch import nn

    Model = TypeVar("Model", bound=nn.Module)

__all__ = ["restore", "use_tercet_kernels"]

_EXTRA = "transformers"


def use_tercet_kernels(model: Model, *, threads: int | None = None, isa: str | None = None) -> Model:
    """Swap the ternary linear layers of a model for Tercet's, in place, and return the model.

    Layers that are swapped already stay. A layer's weights are packed once more, at two bits each; the
    originals are kept for `restore`, for `state_dict` and for `save_pretrained`, which all go on as before.

    Args:
        model: a model with layers of `transformers.integrations.bitnet`, on the CPU, in evaluation mode,
            in float32, bfloat16 or float16.
        threads: threads for a layer; None for as many as PyTorch uses (`torch.set_num_threads`).
        isa: an instruction set; None for TERCET_ISA or the best.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        UnsupportedModelError: the model has no such layer, or the weights of one are not ternary.
        ParameterError: the model is in training mode or not on the CPU, or there is no such number of
            threads.
        IsaError: this machine lacks the instruction set.
    """
    torch = optional_import("torch", _EXTRA)
    optional_import("transformers", _EXTRA)
    from tercet.integrations.ternary_linear import TernaryLinear
    from tercet.integrations.transformers_layers import is_ternary_layer

    if model.training:
        raise ParameterError(
            "the model is in training mode, and Tercet's kernels compute no gradients. "
            "Call model.eval() first, or train without them."
        )
    number = torch.get_num_threads() if threads is None else threads
    layers = {name: module for name, module in model.named_modules() if is_ternary_layer(module)}
    if not layers and not any(isinstance(module, TernaryLinear) for module in model.modules()):
        raise UnsupportedModelError(
            f"{type(model).__name__} has no ternary layers (BitLinear or AutoBitLinear of transformers): "
            "it was loaded without a quantization_config of quant_method bitnet. Masters get one by "
            "from_pretrained(..., quantization_config=BitNetQuantConfig("
            'linear_class="autobitlinear", quantization_mode="online")).'
        )
    # All are packed before the first is swapped: a model is changed as a whole or not at all.
    swapped = {name: TernaryLinear(layer, name, number, isa) for name, layer in layers.items()}
    for name, layer in swapped.items():
        _put(model, name, layer)
    return model


def restore(model: Model) -> Model:
    """Put back the modules that `use_tercet_kernels` took out, in place, and return the model.

    They are the same objects with the same weights, bit for bit. Where nothing was swapped nothing changes.

    Raises:
        MissingExtraError: torch is not installed.
    """
    optional_import("torch", _EXTRA)
    from tercet.integrations.ternary_linear import TernaryLinear

    swapped = {name: module for name, module in model.named_modules() if isinstance(module, TernaryLinear)}
    for name, layer in swapped.items():
        layer.original.train(layer.training)
        _put(model, name, layer.original)
    return model


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layer)
