"""Which optimizer moves which parameter.

`muon` (default): Muon (torch.optim.Muon: momentum whose update is orthogonalized by a Newton-Schulz
iteration) for the weight matrices of the layers, AdamW for embeddings, output head and norms. In our
trials on small ternary models it needed clearly fewer tokens for the same loss (docs/lab_log.md).
`adamw`: AdamW for everything, as the published BitNet recipes do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from tercet.errors import ParameterError
from tercet.training.sharding import distributed_as, whole


@dataclass(frozen=True)
class OptimizerSettings:
    """Peak learning rates and moments; `matrix_rate` is for layer matrices, `rate` for all the rest."""

    kind: str = "muon"
    matrix_rate: float = 3e-3
    rate: float = 3e-3
    momentum: float = 0.95
    beta1: float = 0.9
    beta2: float = 0.95


class Optimizers:
    """The optimizers of a run, stepped together, with rates set anew for every step."""

    def __init__(self, model: nn.Module, settings: OptimizerSettings) -> None:
        self.settings = settings
        matrices, others, norms = [], [], []
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                norms.append(parameter)
            elif ".layers." in name:
                matrices.append(parameter)
            else:
                others.append(parameter)
        betas = (settings.beta1, settings.beta2)
        self.parts: dict[str, torch.optim.Optimizer] = {
            "embeddings": torch.optim.AdamW(others, lr=0.0, betas=betas, weight_decay=0.0),
            "norms": torch.optim.AdamW(norms, lr=0.0, betas=betas, weight_decay=0.0),
        }
        if settings.kind == "muon":
            self.parts["matrices"] = torch.optim.Muon(
                matrices, lr=0.0, momentum=settings.momentum, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
            )
        elif settings.kind == "adamw":
            self.parts["matrices"] = torch.optim.AdamW(matrices, lr=0.0, betas=betas, weight_decay=0.0)
        else:
            raise ParameterError(f"optimizer kind {settings.kind!r} is unknown; it is 'muon' or 'adamw'")

    def step(self, rate_factor: float, weight_decay: float) -> None:
        """Move the parameters and clear the gradients.

        Rates are the peak rates times `rate_factor`; `weight_decay` acts on layer matrices only.
        """
        for name, optimizer in self.parts.items():
            peak = self.settings.matrix_rate if name == "matrices" else self.settings.rate
            for group in optimizer.param_groups:
                group["lr"] = peak * rate_factor
                group["weight_decay"] = weight_decay if name == "matrices" else 0.0
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, torch.Tensor]:
        """All state as named tensors, `part.parameter_index.slot`, for a checkpoint without pickle.

        In a sharded run the moments are sharded like their parameters.
        """
        state: dict[str, torch.Tensor] = {}
        for name, optimizer in self.parts.items():
            for index, slots in optimizer.state_dict()["state"].items():
                for slot, value in slots.items():
                    state[f"{name}.{index}.{slot}"] = torch.as_tensor(value)
        return state

    def load_tensors(self, state: dict[str, torch.Tensor]) -> None:
        """Put back what `tensors` gave, whole tensors even if the parameters are sharded."""
        for name, optimizer in self.parts.items():
            own = optimizer.state_dict()
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            own["state"] = {
                index: {
                    slot: distributed_as(value, parameters[index]) if value.ndim else value
                    for slot, value in slots.items()
                }
                for index, slots in _nested(state, name).items()
            }
            optimizer.load_state_dict(own)


def _nested(state: dict[str, torch.Tensor], part: str) -> dict[int, dict[str, torch.Tensor]]:
    nested: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in state.items():
        name, index, slot = key.split(".")
        if name == part:
            nested.setdefault(int(index), {})[slot] = value
    return nested


def gradient_norm(parameters: Iterable[nn.Parameter], limit: float) -> torch.Tensor:
    """Clip the gradients to a global norm of `limit` and return the norm before clipping."""
    return whole({"norm": nn.utils.clip_grad_norm_(parameters, limit)})["norm"]
