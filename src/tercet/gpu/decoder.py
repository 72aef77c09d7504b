"""The decoder on the GPU: the methods of `tercet.kernels.decoder.Decoder`, so that the engine cannot tell.

    decoder = Decoder(config, matrices, find_gpu("cuda"))
    cache = KvCache(decoder, num_blocks=64)
    logits = decoder.forward(cache, token_ids, sequence_starts, context_lengths, block_tables, logit_rows)

A layer is ten launches: input, query and key and value, rotate and store, attend (and combine), input, output
projection, input, gate and up, gated input, down. Additions to the residual stream are part of the input that
follows. All weights are in the GPU's memory, ternary ones at two bits; between launches everything is float32
or int8. `tercet.gpu.model` has the layers, `tercet.reference.decoder` is the specification.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from tercet.errors import MemoryLimitError
from tercet.gpu.adapter import Adapter
from tercet.gpu.attention import KvCache, prompt_rows
from tercet.gpu.batch import StepIndices, step_indices
from tercet.gpu.device import CUDA, describe, free_bytes
from tercet.gpu.graphs import StepGraphs
from tercet.gpu.linear import LowRankUse
from tercet.gpu.model import Matrices, Model

if TYPE_CHECKING:
    from tercet.kernels.adapter import AdapterUse, LowRankPair
    from tercet.reference.config import DecoderConfig

__all__ = ["Decoder", "KvCache"]

Logits = npt.NDArray[np.float32]


class Decoder:
    """A model in the memory of a GPU, ready to compute.

    Args:
        config: dimensions and options.
        matrices: canonical name -> matrix; each is looked up once and copied.
        device: what `find_gpu` returned; a device `cpu` where kernels are interpreted.

    Raises:
        ParameterError: a matrix is missing, or its scales do not fit its shape.
        UnsupportedModelError: a matrix has a scale for groups that are not a multiple of 32 columns.
        MemoryLimitError: the weights do not fit into the GPU's memory.
    """

    def __init__(self, config: DecoderConfig, matrices: Matrices, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.steps = 0
        try:
            self._model = Model(config, matrices, device)
        except torch.OutOfMemoryError as error:
            raise MemoryLimitError(
                f"the weights do not fit into the memory of {device}, of which {_gib(free_bytes(device))} "
                "are free; use a smaller model, or device 'cpu'"
            ) from error
        self._graphs = StepGraphs(self._model) if device.type == CUDA else None

    @property
    def isa(self) -> str:
        """What computes, in the place of an instruction set: the GPU and its compute capability."""
        if self.device.type != CUDA:
            return "triton interpreter"
        found = describe(self.device)
        return f"{found.name}, sm_{found.capability.replace('.', '')}"

    @property
    def vocab_size(self) -> int:
        """Columns of the logits."""
        return self.config.vocab_size

    @property
    def max_context(self) -> int:
        """Most tokens of a sequence."""
        return self.config.max_context

    def profile(self) -> dict[str, float]:
        """Nothing: launches do not wait for each other here, so the processor cannot time them one by one."""
        return {}

    def adapter(self, pairs: Mapping[str, LowRankPair]) -> Adapter:
        """Copy an adapter to the GPU; raises as `Adapter` does."""
        return Adapter(pairs, self.device)

    def forward(
        self,
        cache: KvCache,
        token_ids: object,
        sequence_starts: object,
        context_lengths: object,
        block_tables: object,
        logit_rows: object,
        *,
        full_rows: Sequence[int] = (),
        greedy_rows: Sequence[int] = (),
        adapters: Sequence[AdapterUse] = (),
    ) -> Logits:
        """Compute a batch, store its keys and values, and return logits float32 [logit_rows, vocab].

        The arguments are those of `tercet.kernels.decoder.Decoder.forward`; every row is computed in full.

        Raises:
            ParameterError: an operand does not fit; the message names it. Nothing has been written then.
            MemoryLimitError: the GPU has no memory for a step of this size.
        """
        operands = (token_ids, sequence_starts, context_lengths, block_tables, logit_rows)
        step = self._indices("Decoder.forward", cache, *operands)
        uses = _uses(step, adapters)
        if self._graphs is not None and not uses and step.is_decode:
            graphs = self._graphs
            return self._run(lambda: graphs.logits(step, cache))
        return self._run(lambda: self._model.logits(step.upload(self.device), cache, uses))

    def hidden_states(
        self,
        cache: KvCache,
        token_ids: object,
        sequence_starts: object,
        context_lengths: object,
        block_tables: object,
        logit_rows: object,
        *,
        adapters: Sequence[AdapterUse] = (),
    ) -> Logits:
        """Do what `forward` does, without the output head; float32 [logit_rows, hidden]."""
        operands = (token_ids, sequence_starts, context_lengths, block_tables, logit_rows)
        step = self._indices("Decoder.hidden_states", cache, *operands)
        uses = _uses(step, adapters)
        return self._run(lambda: self._model.hidden_states(step.upload(self.device), cache, uses))

    def _indices(self, operation: str, cache: KvCache, *operands: object) -> StepIndices:
        config = self.config
        limits = (config.vocab_size, config.max_context, cache.num_blocks, cache.block_tokens)
        shared_by = config.num_heads // config.num_kv_heads
        tile_tokens = max(1, prompt_rows(shared_by, config.head_dim, cache.dtype) // shared_by)
        return step_indices(operation, limits, tile_tokens, *operands)

    def _run(self, compute: Callable[[], torch.Tensor]) -> Logits:
        self.steps += 1
        # Kernels are launched on the current GPU, which every thread chooses for itself.
        place = torch.cuda.device(self.device) if self.device.type == CUDA else contextlib.nullcontext()
        try:
            with torch.inference_mode(), place:
                result: Logits = compute().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise MemoryLimitError(
                f"a step does not fit into the memory of {self.device}, of which "
                f"{_gib(free_bytes(self.device))} are free; read prompts in smaller pieces"
            ) from error
        return result


def _uses(step: StepIndices, adapters: Sequence[AdapterUse]) -> list[LowRankUse]:
    return [
        LowRankUse(
            slice(int(step.starts[use.sequence]), int(step.starts[use.sequence + 1])),
            use.adapter.pairs,  # type: ignore[attr-defined]  # the engine gives back what `adapter` made
            use.weight,
        )
        for use in adapters
    ]


def _gib(num_bytes: int | None) -> str:
    return f"{(num_bytes or 0) / 2**30:.1f} GiB"
