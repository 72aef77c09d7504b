"""A linear layer that computes with Tercet's kernels and otherwise is the layer that it stands for.

Its state is the original's: `state_dict`, `load_state_dict` and `to` reach through. Only the product differs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from tercet.errors import ParameterError
from tercet.integrations.transformers_layers import codes_and_scale
from tercet.kernels.linear_team import LinearTeam, PackedWeight

__all__ = ["TernaryLinear"]


class TernaryLinear(nn.Module):
    """x -> round(x to int8 per token) @ codes.T * scales, for x [..., in_features] of any float type.

    Args:
        original: the layer of transformers to stand for.
        name: its name in the model, for messages.
        threads: threads that share a product.
        isa: an instruction set, None for TERCET_ISA or the best.

    Raises:
        UnsupportedModelError: the weights are not ternary.
        ParameterError: they are not on the CPU.
        IsaError: this machine lacks the instruction set.
    """

    def __init__(self, original: Any, name: str, threads: int, isa: str | None) -> None:
        super().__init__()
        self._original = (original,)  # in a tuple, which keeps it out of the names of the state
        self._arguments = (name, threads, isa)
        self.in_features: int = original.in_features
        self.out_features: int = original.out_features
        self.training = original.training
        self._team = _team(threads, isa)
        self._weight = self._packed()

    @property
    def original(self) -> Any:
        """The layer that this one stands for."""
        return self._original[0]

    @property
    def weight(self) -> torch.Tensor:
        """The original's weight."""
        weight: torch.Tensor = self.original.weight
        return weight

    @property
    def bias(self) -> torch.Tensor | None:
        """The original's bias."""
        bias: torch.Tensor | None = self.original.bias
        return bias

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the layer's output, of the input's type.

        Raises:
            ParameterError: the layer is in training mode, or the input does not fit.
        """
        if self.training:
            raise ParameterError(
                f"{self._arguments[0]} is in training mode, and Tercet's kernels compute no gradients. Call "
                "model.eval() to generate, or tercet.integrations.transformers.restore(model) to train."
            )
        if self.original.rms_norm is not None:
            input = self.original.rms_norm(input)
        output: torch.Tensor
        if torch.is_grad_enabled() and input.requires_grad:
            output = _WithoutGradient.apply(input, self._multiply)  # type: ignore[no-untyped-call]
        else:
            output = self._multiply(input)
        return output if self.bias is None else output + self.bias

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _multiply(self, input: torch.Tensor) -> torch.Tensor:
        rows = input.detach().reshape(-1, input.shape[-1]).float().contiguous()
        product = torch.from_numpy(self._team.multiply(rows.numpy(), self._weight))
        return product.to(input.dtype).reshape(*input.shape[:-1], self.out_features)

    def _packed(self) -> PackedWeight:
        device = self.original.weight.device
        if device.type != "cpu":
            raise ParameterError(
                f"{self._arguments[0]} is on the device {device}, and Tercet's kernels run on the CPU. "
                'Load the model with device_map="cpu", or call '
                "tercet.integrations.transformers.restore(model) before you move it."
            )
        codes, scale = codes_and_scale(self.original, self._arguments[0])
        return PackedWeight(codes, np.array([scale]))

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> TernaryLinear:
        self.original._apply(fn, recurse)
        self._weight = self._packed()
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        self.original.state_dict(destination=destination, prefix=prefix, keep_vars=keep_vars)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        self.original._load_from_state_dict(state_dict, prefix, *rest)
        self._weight = self._packed()

    def __reduce__(self) -> tuple[Any, ...]:
        return TernaryLinear, (self.original, *self._arguments)  # copies pack their own weights

    def extra_repr(self) -> str:
        """Return what `print(model)` shows."""
        threads = self._arguments[1]
        return (
            f"{self.in_features}, {self.out_features}, threads={threads}, for {type(self.original).__name__}"
        )


class _WithoutGradient(torch.autograd.Function):
    """Lets evaluation run outside of `torch.no_grad`; only a backward pass is an error, and never silent."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, multiply: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        return multiply(input)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise ParameterError(
            "Tercet's kernels compute no gradients. Call tercet.integrations.transformers.restore(model) "
            "before a backward pass."
        )


@functools.cache
def _team(threads: int, isa: str | None) -> LinearTeam:
    """Return the threads that all layers share, which compute one after the other."""
    return LinearTeam(threads, isa)
