"""Several processes, one run.

`torchrun`, `accelerate launch` and Ray Train start the same program several times and say, in the
environment, which of how many each one is; Accelerate reads that and connects them (NCCL between GPUs, gloo
between CPUs). Every process takes its rows of each batch. What each one holds of the model is a choice:

    replicated (default)   all of it; gradients are averaged (DistributedDataParallel)
    sharded                its part of every tensor; the rest of a layer is fetched while the layer computes
                           (FSDP2, torch's `fully_shard`), so that a model may be larger than one device

Either way the run computes what one process with the whole batch computes, up to the order of float sums, and
its checkpoints hold whole tensors: a run may be resumed with another number of processes, or another choice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from accelerate import Accelerator, PartialState
from torch import Tensor
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from tercet.errors import ParameterError
from tercet.training.model import TernaryDecoder

__all__ = ["Processes", "leave_processes", "main_process_first"]


class Processes:
    """This process among those of the run: where it computes, which rows are its own, what all agree on.

    `sharded` asks for FSDP2; so does `accelerate launch --use_fsdp --fsdp_version 2`. One process alone has
    nothing to shard.

    Raises:
        ParameterError: the processes cannot be connected, or Accelerate was asked for version 1 of FSDP.
    """

    def __init__(self, sharded: bool = False) -> None:
        _connect()
        self._accelerator = Accelerator(cpu=_on_cpus())
        self.count: int = self._accelerator.num_processes
        self.index: int = self._accelerator.process_index
        self.is_main: bool = self._accelerator.is_main_process
        self.device: torch.device = self._accelerator.device
        if self._accelerator.distributed_type == "FSDP":
            if not self._accelerator.is_fsdp2:
                raise ParameterError(
                    "Accelerate asks for version 1 of FSDP, which is not supported: set fsdp_version to 2"
                )
            sharded = True
        self.sharded = sharded and self.count > 1

    def distribute(self, model: TernaryDecoder, compiled: bool) -> Any:
        """Make `model`, the same in every process, the network of all of them; returns what to call.

        Sharding replaces the parameters of `model`, so optimizers are made afterwards.
        """
        if not self.sharded:
            model.to(self.device)
            return self._accelerator.prepare_model(torch.compile(model) if compiled else model)
        for layer in model.model.layers:  # each moves to the device, and is cut, before the next one does
            if compiled:
                layer.compile()
            fully_shard(layer)
        fully_shard(model)  # what no layer has: embedding, head and the last norm
        register_fsdp_forward_method(model, "logits")
        return model

    def share(self, rows: Tensor) -> Tensor:
        """The rows of this process, on its device."""
        return rows[self.index :: self.count].to(self.device)

    def accumulating(self, network: Any, last: bool) -> AbstractContextManager[None]:
        """Within it gradients are only summed here, unless it is the `last` part of the batch."""
        if self.sharded:
            network.set_requires_gradient_sync(last)
            return nullcontext()
        if last:
            return nullcontext()
        return cast("AbstractContextManager[None]", self._accelerator.no_sync(network))

    def backward(self, loss: Tensor) -> None:
        """Compute gradients."""
        self._accelerator.backward(loss)

    def mean(self, values: Tensor) -> list[float]:
        """The mean of `values`, element by element, over all processes."""
        if self.count == 1:
            return [float(value) for value in values]
        reduced: Tensor = cast(Tensor, self._accelerator.reduce(values.to(self.device), "mean"))
        return [float(value) for value in reduced]

    def wait(self) -> None:
        """Return when every process has come here."""
        self._accelerator.wait_for_everyone()


@contextmanager
def main_process_first() -> Iterator[bool]:
    """Run the block in the main process, then in all others; the value says which of them this is."""
    state = _connect()
    with state.main_process_first():
        yield state.is_main_process


def _connect() -> PartialState:
    """Find out which process this is; ParameterError if there are others that it cannot talk to."""
    state = PartialState(cpu=_on_cpus())
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != started:
        raise ParameterError(
            f"{started} processes were started, but on {state.device.type} they cannot be connected; "
            "start one, or set ACCELERATE_USE_CPU=true"
        )
    return state


def _on_cpus() -> bool:
    """Whether to compute on CPUs. Accelerate connects processes by gloo only if it is told so."""
    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return asked or not torch.accelerator.is_available()


def leave_processes() -> None:
    """Close the connections to the other processes, if there are any."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
