"""What computes: the C++ core on the processor, or a GPU. Both have the same face; here one is chosen.

The GPU's modules, and PyTorch and Triton with them, are imported only where a GPU is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from tercet.engine.kv_blocks import pool_size
from tercet.engine.memory_plan import BLOCK_TOKENS
from tercet.errors import MemoryLimitError, ParameterError
from tercet.gpu import device as gpu_device
from tercet.kernels.adapter import Adapter, AdapterUse, LowRankPair
from tercet.kernels.decoder import Decoder, KvCache
from tercet.models.loading import LoadedModel
from tercet.models.profiles import EngineSettings

__all__ = [
    "CPU",
    "StepCache",
    "StepDecoder",
    "affordable_blocks",
    "gpu_bytes",
    "make_adapter",
    "make_cache",
    "make_decoder",
    "settings_for",
]

CPU = "cpu"
GPU_STEP_TOKENS = 2048
"""Tokens of a step: fewer leave the tensor cores of a GPU idle while prompts are read."""
GPU_CACHE_SHARE = 0.8
"""Of the memory that weights leave free; the rest is for what steps need."""

Logits = npt.NDArray[np.float32]


class StepCache(Protocol):
    """Keys and values; `tercet.kernels.decoder.KvCache` is one."""

    @property
    def nbytes(self) -> int:
        """Memory, or address space, of the whole cache."""


class StepDecoder(Protocol):
    """What computes steps; `tercet.kernels.decoder.Decoder` says what each argument is."""

    @property
    def isa(self) -> str:
        """The instruction set, or the GPU."""

    def profile(self) -> dict[str, float]:
        """Seconds of each kind of operation so far, where they are known."""

    def forward(
        self,
        cache: Any,
        token_ids: Any,
        sequence_starts: Any,
        context_lengths: Any,
        block_tables: Any,
        logit_rows: Any,
        *,
        full_rows: Sequence[int] = (),
        greedy_rows: Sequence[int] = (),
        adapters: Sequence[AdapterUse] = (),
    ) -> Logits:
        """Logits float32 [logit_rows, vocab] of a step."""

    def hidden_states(
        self,
        cache: Any,
        token_ids: Any,
        sequence_starts: Any,
        context_lengths: Any,
        block_tables: Any,
        logit_rows: Any,
        *,
        adapters: Sequence[AdapterUse] = (),
    ) -> Logits:
        """What the output head would read, float32 [logit_rows, hidden]."""


def settings_for(device: str, settings: EngineSettings) -> EngineSettings:
    """Change what a GPU wants otherwise: larger steps, and weights that are read once, to be copied.

    Raises:
        ParameterError: there is no such device, or a scenario was named too.
        DeviceError, MissingExtraError: see `tercet.gpu.device.find_gpu`.
    """
    if device == CPU:
        return settings
    gpu_device.find_gpu(device)
    if settings.memory_bytes is not None:
        raise ParameterError(
            f"the scenario {settings.scenario!r} bounds the memory of a process on the CPU, and "
            f"device is {device!r}; give max_context and kv_dtype instead"
        )
    return replace(settings, weights_memory="mapped", max_step_tokens=GPU_STEP_TOKENS)


def make_decoder(loaded: LoadedModel, settings: EngineSettings, isa: str | None, device: str) -> StepDecoder:
    """Make the decoder of a model; raises what `Decoder` of the device does, and for an isa on a GPU."""
    if device == CPU:
        return Decoder(loaded.config, loaded.weights, threads=settings.threads, isa=isa, head=settings.head)
    if isa is not None:
        raise ParameterError(f"isa is about processors, and device is {device!r}; give one of them")
    found = gpu_device.find_gpu(device)
    from tercet.gpu.decoder import Decoder as GpuDecoder

    return GpuDecoder(loaded.config, loaded.weights, found)


def make_cache(decoder: StepDecoder, num_blocks: int, dtype: str) -> StepCache:
    """Make the cache of a decoder."""
    if isinstance(decoder, Decoder):
        return KvCache(decoder, num_blocks, BLOCK_TOKENS, dtype)
    from tercet.gpu.decoder import Decoder as GpuDecoder
    from tercet.gpu.decoder import KvCache as GpuCache

    return GpuCache(cast(GpuDecoder, decoder), num_blocks, BLOCK_TOKENS, dtype)


def make_adapter(decoder: StepDecoder, pairs: Mapping[str, LowRankPair]) -> Adapter:
    """Make an adapter for a decoder, which alone looks into it."""
    if isinstance(decoder, Decoder):
        return Adapter(decoder, pairs)
    from tercet.gpu.decoder import Decoder as GpuDecoder

    return cast(Adapter, cast(GpuDecoder, decoder).adapter(pairs))


def affordable_blocks(device: str, context: int, num_sequences: int, block_bytes: int) -> int:
    """Say how many blocks a cache has where nothing bounds the memory; on a GPU, after the weights are there.

    Raises:
        MemoryLimitError: a single context does not fit into what is free of the GPU's memory.
    """
    blocks = -(-context // BLOCK_TOKENS)
    free = None if device == CPU else gpu_device.free_bytes(gpu_device.find_gpu(device))
    if free is None:
        return pool_size(blocks, num_sequences, block_bytes)
    affordable = int(free * GPU_CACHE_SHARE) // block_bytes
    if affordable < blocks:
        raise MemoryLimitError(
            f"keys and values of {context} tokens take {blocks * block_bytes / 2**30:.1f} GiB, and beside "
            f"the weights {free / 2**30:.1f} GiB of {device} are free; give a smaller max_context, or "
            "kv_dtype f16"
        )
    return min(blocks * num_sequences, affordable)


def gpu_bytes(device: str) -> int:
    """What this process has allocated on the GPU that computes; 0 on the CPU."""
    return 0 if device == CPU else gpu_device.allocated_bytes(gpu_device.find_gpu(device))
