"""How a memory budget is spent: what a model needs at least, and how many sequences fit beside it.

    budget  =  program + weights + scratch                     there before the first token
             + sequences x (context x bytes of keys and values per token + logits)

Program is what the process occupies without the weights: interpreter, libraries, tokenizer. Weights are
counted whole, although a mapped file shares its pages with others: a token reads every one of them, so they
must stay resident. A model that leaves no room for a short context is refused, with the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from tercet.engine.memory import measure_memory
from tercet.errors import MemoryLimitError
from tercet.formats.floats import FLOAT_TYPES
from tercet.formats.tercet.layout import data_bytes
from tercet.models.config import ModelConfig
from tercet.models.tensor_names import tensor_shapes
from tercet.quantization.packings import PACKINGS
from tercet.quantization.planes import PLANES

__all__ = [
    "BLOCK_TOKENS",
    "KV_TYPES",
    "MemoryPlan",
    "ModelMemory",
    "kv_bytes_per_token",
    "model_memory",
    "plan_memory",
    "scratch_bound",
    "weights_bytes",
]

BLOCK_TOKENS = 16
"""Positions in a block of keys and values."""
SHORTEST_CONTEXT = 128
"""Tokens; a model that cannot have as many, or all of its own if those are fewer, does not fit."""
KV_TYPES = ("f32", "f16", "int8")
"""How keys and values can be kept; int8 with a scale (float32) for each token and head."""
_STEP_TOKENS = 256  # the decoder cuts larger batches
_THREAD_SCRATCH = 1 << 20  # accumulators and panels of a thread, with room to spare
_MASTER_PACKING = "two_bit"  # what masters and foreign types become on loading
MIB = 1 << 20


class StoredTensor(Protocol):
    """What is known of a tensor that has not been read; `tercet.models.loading.TensorInfo` is one."""

    @property
    def type(self) -> str:
        """As stored."""

    @property
    def num_bytes(self) -> int:
        """Bytes in the file, scales included."""

    @property
    def granularity(self) -> str | None:
        """How far a scale reaches in a matrix that is ternary; None for others."""

    @property
    def group_size(self) -> int | None:
        """Columns that share a scale."""


@dataclass(frozen=True)
class ModelMemory:
    """What a model needs, in bytes."""

    program: int
    weights: int
    scratch: int
    kv_per_token: int
    logits_per_sequence: int

    @property
    def fixed(self) -> int:
        """What is there before the first token."""
        return self.program + self.weights + self.scratch

    def beside(self, draft: ModelMemory) -> ModelMemory:
        """This model and a draft model, which keeps keys and values of the same sequences."""
        return ModelMemory(
            program=self.program,
            weights=self.weights + draft.weights,
            scratch=self.scratch + draft.scratch,
            kv_per_token=self.kv_per_token + draft.kv_per_token,
            logits_per_sequence=self.logits_per_sequence + draft.logits_per_sequence,
        )

    def sequence(self, context: int) -> int:
        """One sequence of so many tokens, in whole blocks."""
        blocks = -(-context // BLOCK_TOKENS)
        return blocks * BLOCK_TOKENS * self.kv_per_token + self.logits_per_sequence


@dataclass(frozen=True)
class MemoryPlan:
    """How a budget is spent. `num_blocks` of `BLOCK_TOKENS` tokens are enough for all sequences."""

    budget: int
    model: ModelMemory
    context: int
    max_sequences: int
    num_blocks: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    def arithmetic(self) -> str:
        """The batch size as people reckon it."""
        one = self.model.sequence(self.context)
        return (
            f"({_mib(self.budget)} budget - {_fixed(self.model, ' - ')}) / {_mib(one)} for a context of "
            f"{self.context} tokens at {self.model.kv_per_token} bytes of keys and values each "
            f"-> {self.max_sequences} at once"
        )


def model_memory(
    config: ModelConfig,
    tensors: Mapping[str, StoredTensor],
    threads: int,
    kv_dtype: str,
    path: Path | None = None,
    copied_bytes: int = 0,
) -> ModelMemory:
    """What a model needs. What is resident of its weights so far is not counted as program.

    Args:
        config: the model.
        tensors: what is known of each of its tensors.
        threads: how many compute.
        kv_dtype: one of KV_TYPES.
        path: its file or folder if it is mapped in this process already.
        copied_bytes: what of its weights is in memory of our own already.
    """
    usage = measure_memory(path or Path(), 0)
    mapped = usage.mapped_resident_bytes or 0 if path else 0
    return ModelMemory(
        program=max((usage.resident_bytes or 0) - mapped - copied_bytes, 0),
        weights=weights_bytes(config, tensors),
        scratch=scratch_bound(config, threads),
        kv_per_token=kv_bytes_per_token(config, kv_dtype),
        logits_per_sequence=2 * 4 * config.vocab_size,  # and a copy to sample from
    )


def plan_memory(
    model: ModelMemory, budget: int, own_context: int, most_sequences: int, asked_context: int | None = None
) -> MemoryPlan:
    """Spend a budget: as long a context as the model has or was asked for, then as many sequences.

    A context that nobody asked for is shortened to what fits.

    Raises:
        MemoryLimitError: a short context does not fit, or not the one that was asked for.
    """
    context = own_context if asked_context is None else asked_context
    least = context if asked_context is not None else min(context, SHORTEST_CONTEXT)
    room = budget - model.fixed
    if room < model.sequence(least):
        needed = model.fixed + model.sequence(least)
        raise MemoryLimitError(
            f"the model does not fit into {_mib(budget)}: {_fixed(model, ' + ')} and "
            f"{_mib(model.sequence(least))} for one context of {least} tokens are {_mib(needed)}. "
            + _advice(model, budget, asked_context)
        )
    if room < model.sequence(context):
        blocks = (room - model.logits_per_sequence) // (BLOCK_TOKENS * model.kv_per_token)
        context = blocks * BLOCK_TOKENS
    sequences = min(most_sequences, room // model.sequence(context))
    return MemoryPlan(budget, model, context, sequences, sequences * -(-context // BLOCK_TOKENS))


def kv_bytes_per_token(config: ModelConfig, kv_dtype: str) -> int:
    """Keys and values of one token in all layers."""
    head_bytes = {"f32": 4 * config.head_dim, "f16": 2 * config.head_dim, "int8": config.head_dim + 4}
    return config.num_layers * 2 * config.num_kv_heads * head_bytes[kv_dtype]


def weights_bytes(config: ModelConfig, tensors: Mapping[str, StoredTensor]) -> int:
    """What all weights occupy once the decoder has them.

    A ternary matrix of a foreign type is packed on loading, and floats in types that only a foreign format
    has become float32.
    """
    return sum(_tensor_bytes(shape, tensors[name]) for name, shape in tensor_shapes(config).items())


def scratch_bound(config: ModelConfig, threads: int) -> int:
    """What steps need at most besides weights, cache and logits; buffers may grow to twice their use."""
    widest = max(config.hidden_size, config.ffn_size, config.query_size)
    floats = 4 * config.hidden_size + config.query_size + 2 * config.kv_size + 2 * config.ffn_size
    floats += 2 * config.head_dim
    each_token = floats * 4 + 2 * widest * 6  # two inputs: as floats, as codes, and prepared for a kernel
    return 2 * _STEP_TOKENS * each_token + threads * _THREAD_SCRATCH


def _tensor_bytes(shape: tuple[int, ...], tensor: StoredTensor) -> int:
    rows, depth = shape if len(shape) == 2 else (1, shape[0])
    if tensor.granularity is None:
        float_type = tensor.type.lower()
        return data_bytes(float_type if float_type in FLOAT_TYPES else "f32", rows, depth)
    if tensor.type in (*PACKINGS, *PLANES):
        return tensor.num_bytes
    group = {"tensor": rows * depth, "row": depth}.get(tensor.granularity, tensor.group_size or depth)
    return data_bytes(_MASTER_PACKING, rows, depth) + 4 * -(-rows * depth // group)


def _advice(model: ModelMemory, budget: int, asked_context: int | None) -> str:
    if model.program + model.weights > budget:
        return "Choose a scenario with more memory, or a smaller model."
    if asked_context is not None:
        return "Ask for a shorter context, or choose a scenario with more memory."
    return "Choose a scenario with more memory."


def _fixed(model: ModelMemory, sign: str) -> str:
    parts = {"program": model.program, "weights": model.weights, "scratch": model.scratch}
    return sign.join(f"{_mib(num_bytes)} {name}" for name, num_bytes in parts.items())


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / MIB:.1f} MiB"
