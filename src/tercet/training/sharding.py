"""Whole tensors and the parts of them that a process holds in a sharded run (torch's DTensor).

In a run that is not sharded every tensor is whole already, and these functions return what they were given.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

__all__ = ["distributed_as", "whole"]


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` with the parts of all processes; all of them must call this, with the same names."""
    return {
        name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in tensors.items()
    }


def distributed_as(value: Tensor, like: Tensor) -> Tensor:
    """`value`, which every process has whole, as `like` is held: this process's part, if it is sharded."""
    if not isinstance(like, DTensor):
        return value
    # Without a source, every process cuts its part out of what it has and nothing is sent.
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
