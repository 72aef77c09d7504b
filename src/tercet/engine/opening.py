"""From a loaded model and settings to an engine: decoder, cache and limits, within the settings' memory."""

from __future__ import annotations

from dataclasses import dataclass

from tercet.engine.engine import Engine
from tercet.engine.kv_blocks import KvBlockPool, pool_size
from tercet.engine.memory_plan import (
    BLOCK_TOKENS,
    KV_TYPES,
    MemoryPlan,
    kv_bytes_per_token,
    model_memory,
    plan_memory,
)
from tercet.engine.plan import StepLimits
from tercet.engine.runner import Runner
from tercet.errors import ParameterError
from tercet.kernels.decoder import Decoder, KvCache
from tercet.models.loading import LoadedModel
from tercet.models.profiles import EngineSettings

__all__ = ["OpenModel", "open_engine"]


@dataclass(frozen=True)
class OpenModel:
    """An engine that is ready, and what was found out on the way."""

    engine: Engine
    isa: str
    max_context: int
    memory_plan: MemoryPlan | None
    """How the memory is spent; None where the settings set no limit."""
    kv_cache_bytes: int


def open_engine(
    loaded: LoadedModel, settings: EngineSettings, isa: str | None = None, max_context: int | None = None
) -> OpenModel:
    """Make the decoder and a KV cache that fits.

    Args:
        loaded: the model.
        settings: threads, types and limits.
        isa: the instruction set; None takes `TERCET_ISA` or the best.
        max_context: most tokens of a sequence; None takes what the model was trained for, or what fits.

    Raises:
        MemoryLimitError: the model does not fit into the memory of the settings. Nothing has been read then.
        ParameterError, IsaError, UnsupportedModelError: see `Decoder` and `KvCache`.
    """
    config = loaded.config
    if settings.kv_dtype not in KV_TYPES:
        raise ParameterError(f"kv_dtype must be one of {', '.join(KV_TYPES)}, not {settings.kv_dtype!r}")
    context = _checked_context(max_context, config.max_context)
    num_sequences = settings.max_sequences
    plan = None
    if settings.memory_bytes is not None:
        needs = model_memory(config, loaded.tensors, settings.threads, settings.kv_dtype, loaded.path)
        plan = plan_memory(needs, settings.memory_bytes, context, num_sequences, max_context)
        context, num_sequences, num_blocks = plan.context, plan.max_sequences, plan.num_blocks
    else:
        block_bytes = kv_bytes_per_token(config, settings.kv_dtype) * BLOCK_TOKENS
        num_blocks = pool_size(-(-context // BLOCK_TOKENS), num_sequences, block_bytes)
    decoder = Decoder(config, loaded.weights, threads=settings.threads, isa=isa, head=settings.head)
    cache = KvCache(decoder, num_blocks, BLOCK_TOKENS, settings.kv_dtype)
    limits = StepLimits(settings.max_step_tokens, num_sequences)
    engine = Engine(Runner(decoder, cache), KvBlockPool(num_blocks, BLOCK_TOKENS), limits)
    return OpenModel(engine, decoder.isa, context, plan, cache.nbytes)


def _checked_context(asked: int | None, trained: int) -> int:
    if asked is None:
        return trained
    if isinstance(asked, bool) or not isinstance(asked, int) or not 2 <= asked <= trained:
        raise ParameterError(
            f"max_context must be a whole number from 2 to the model's {trained}, not {asked!r}"
        )
    return asked
