"""The decoder in C++: one call computes a batch of tokens of several sequences over a paged cache.

    decoder = Decoder(config, matrices, threads=2)
    cache = KvCache(decoder, num_blocks=64)
    logits = decoder.forward(cache, token_ids, sequence_starts, context_lengths, block_tables, logit_rows)

A batch is the tokens of its sequences one after the other, each sequence any number of them: a whole
prompt, a piece of one, or the single token that was drawn last. The logits of a token are the same bits
whatever else is in the batch, however a prompt was cut, for every number of threads and instruction set.

Matrices are taken where they lie, memory-mapped files included; only the weights of norms are copied.
`tercet.reference` is the specification, cpp/src/decoder/forward.cpp the code.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from tercet import _core
from tercet.errors import ParameterError
from tercet.kernels.matrices import FloatMatrix, PlaneMatrix, TernaryMatrix, borrowed

if TYPE_CHECKING:
    from tercet.kernels.adapter import AdapterUse

__all__ = ["HEADS", "Decoder", "DecoderConfig", "FloatMatrix", "KvCache", "PlaneMatrix", "TernaryMatrix"]

HEADS = ("full", "two_stage")

EXACT, DRAWING, BEST = range(3)  # what logits are for: LogitUse in cpp/include/tercet/ops.hpp
"""How logits are computed from a head in planes."""

Integers: TypeAlias = "npt.NDArray[np.int32] | Sequence[int]"
_Int32: TypeAlias = "npt.NDArray[np.int32]"
_BatchArrays: TypeAlias = "tuple[_Int32, _Int32, _Int32, _Int32, _Int32]"

_CONFIG_FIELDS = (
    "hidden_size",
    "ffn_size",
    "num_layers",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "vocab_size",
    "max_context",
    "inverse_frequencies",
    "local_inverse_frequencies",
    "rope_attention_factor",
    "rms_norm_eps",
    "embedding_scale",
    "activation",
    "qk_norm",
    "projection_norms",
    "attention_sub_norm",
    "ffn_sub_norm",
    "post_norms",
    "tied_embeddings",
    "quantize_activations",
    "activation_rule",
)


class Rotation(Protocol):
    """The basis that inputs are turned into; `tercet.models.rotation.Rotation` is one."""

    @property
    def block_size(self) -> int:
        """Elements that are turned together."""

    @property
    def inputs(self) -> Sequence[str]:
        """Canonical names of the matrices whose input is turned."""

    @property
    def outputs(self) -> Sequence[str]:
        """Canonical names of the tables whose rows are turned back."""

    @property
    def signs(self) -> Collection[str]:
        """The widths that have signs, in decimal."""

    def signs_of(self, width: int) -> npt.NDArray[np.float32]:
        """The signs of inputs of a width, float32 [width]."""


class DecoderConfig(Protocol):
    """What the decoder must know besides weights; `tercet.models.config.ModelConfig` is one."""

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""

    @property
    def num_layers(self) -> int:
        """How many layers there are."""

    @property
    def head_dim(self) -> int:
        """Width of a head."""

    @property
    def attention_scale(self) -> float | None:
        """What scores are multiplied by, None for 1 / sqrt(head_dim)."""

    @property
    def rope_attention_factor(self) -> float:
        """What cosines and sines are multiplied by, except in layers with a window and their own base."""

    @property
    def rope_local_theta(self) -> float | None:
        """The rotary base of layers with a window, None for the same as elsewhere."""

    @property
    def rotation(self) -> Rotation | None:
        """The rotated basis of the weights, if they are in one."""

    @property
    def rms_norm_eps(self) -> float:
        """What RMSNorm adds to the mean square."""

    @property
    def projection_norm_eps(self) -> float | None:
        """The same for the norms of projections, None for no other."""

    @property
    def layer_windows(self) -> Sequence[int | None]:
        """How many positions a token sees in each layer, None for all. The rest is as in `ModelConfig`."""


class Decoder:
    """A model ready to compute.

    Args:
        config: dimensions and options.
        matrices: canonical name -> matrix; each is looked up once and kept.
        threads: threads that compute, the caller included.
        isa: instruction set of the kernels; None takes `TERCET_ISA` or the best.
        head: how `forward` computes logits from a head in planes. `full` reads both planes for every token
            of the vocabulary; `two_stage` the high plane, and both for the tokens that may be the likeliest
            and, where a token is to be drawn, for the likely ones, until the others hardly matter: half of
            the memory traffic, the same likeliest token, and nearly the same distribution. To other heads
            it makes no difference.

    Raises:
        ParameterError: there is no such head, a matrix is missing, or its shape, type or size does not
            follow from the config.
        UnsupportedModelError: a matrix has a scale for groups that are not a multiple of 16 columns.
        IsaError: the processor lacks the instruction set.
    """

    def __init__(
        self,
        config: DecoderConfig,
        matrices: Mapping[str, TernaryMatrix | PlaneMatrix | FloatMatrix],
        threads: int = 1,
        isa: str | None = None,
        head: str = "full",
    ) -> None:
        if head not in HEADS:
            raise ParameterError(f"there is no head {head!r}; logits are computed {' or '.join(HEADS)}")
        self.head = head
        fields = {name: getattr(config, name) for name in _CONFIG_FIELDS}
        fields["layer_windows"] = [window or 0 for window in config.layer_windows]
        has_own = config.rope_local_theta is not None
        fields["local_rope_attention_factor"] = 1.0 if has_own else config.rope_attention_factor
        fields["rotation"] = None if config.rotation is None else _rotation(config.rotation)
        own = config.projection_norm_eps
        fields["projection_norm_eps"] = config.rms_norm_eps if own is None else own
        scale = config.attention_scale
        fields["attention_scale"] = 1 / math.sqrt(config.head_dim) if scale is None else scale
        tensors = {name: borrowed(name, matrix) for name, matrix in matrices.items()}
        self.core = _core.Decoder(fields, tensors, threads, isa)

    @property
    def isa(self) -> str:
        """The instruction set of the kernels."""
        return self.core.isa

    @property
    def threads(self) -> int:
        """Threads that compute, the caller included."""
        return self.core.threads

    @property
    def vocab_size(self) -> int:
        """Columns of the logits."""
        return self.core.vocab_size

    @property
    def hidden_size(self) -> int:
        """Columns of the hidden states."""
        return self.core.hidden_size

    @property
    def max_context(self) -> int:
        """Most tokens of a sequence."""
        return self.core.max_context

    @property
    def steps(self) -> int:
        """Steps that have been computed so far."""
        return self.core.steps

    def profile(self) -> dict[str, float]:
        """Seconds that each kind of operation has taken in all steps so far, in the order of a step.

        The counter is always on. What threads wait for each other is in the operation that waits.
        """
        return self.core.profile()

    @property
    def scratch_bytes(self) -> int:
        """Memory that steps have needed so far, besides weights and cache; it grows to the largest step."""
        return self.core.scratch_bytes

    def forward(
        self,
        cache: KvCache,
        token_ids: Integers,
        sequence_starts: Integers,
        context_lengths: Integers,
        block_tables: npt.NDArray[np.int32] | Sequence[Sequence[int]],
        logit_rows: Integers,
        *,
        full_rows: Sequence[int] = (),
        greedy_rows: Sequence[int] = (),
        adapters: Sequence[AdapterUse] = (),
    ) -> npt.NDArray[np.float32]:
        """Compute a batch, store its keys and values, and return logits float32 [logit_rows, vocab].

        Other Python threads run meanwhile; calls on the same decoder take turns.

        Args:
            cache: made for this decoder.
            token_ids: [tokens], those of all sequences one after the other.
            sequence_starts: [sequences + 1], where in token_ids each sequence begins, and their number.
            context_lengths: [sequences], how many tokens of each are in the cache already.
            block_tables: [sequences, blocks], the blocks of each in the order of its positions, -1 for none.
                Sequences may share blocks that are only read.
            logit_rows: [rows], the tokens (indices into token_ids) whose logits are wanted.
            full_rows: indices into logit_rows of those that are computed in full even by a decoder whose head
                is `two_stage`, because logits themselves are wanted and not a token drawn from them.
            greedy_rows: those of which only the largest logit is wanted; the others' values are rough then.
            adapters: what is added to the matrices for single sequences (`tercet.kernels.adapter`).

        Raises:
            ParameterError: an operand does not fit; the message names it. Nothing has been written then.
        """
        batch = _batch(
            "Decoder.forward", token_ids, sequence_starts, context_lengths, block_tables, logit_rows
        )
        uses = np.zeros(0, np.uint8)
        if self.head == "two_stage":
            uses = np.full(len(batch[-1]), DRAWING, np.uint8)
            uses[list(greedy_rows)] = BEST
            uses[list(full_rows)] = EXACT
        return self.core.forward(cache.core, *batch, uses, *([_told(adapters)] if adapters else []))

    def hidden_states(
        self,
        cache: KvCache,
        token_ids: Integers,
        sequence_starts: Integers,
        context_lengths: Integers,
        block_tables: npt.NDArray[np.int32] | Sequence[Sequence[int]],
        logit_rows: Integers,
        *,
        adapters: Sequence[AdapterUse] = (),
    ) -> npt.NDArray[np.float32]:
        """Do what `forward` does, without the output head: return what it would read.

        Returns:
            float32 [logit_rows, hidden], the last layer's output after the final norm.

        Raises:
            ParameterError: as for `forward`.
        """
        return self.core.hidden_states(
            cache.core,
            *_batch(
                "Decoder.hidden_states", token_ids, sequence_starts, context_lengths, block_tables, logit_rows
            ),
            *([_told(adapters)] if adapters else []),
        )


class KvCache:
    """Keys and values of `num_blocks` blocks of `block_tokens` positions.

    It costs address space; memory is used as blocks are written.

    Args:
        decoder: the decoder that will fill it.
        num_blocks: blocks that sequences can own together.
        block_tokens: positions in a block.
        dtype: `f32`; `f16` for half the memory; `int8`, with a scale for each token and head, for a bit more
            than a quarter.

    Raises:
        ParameterError: a size is zero, or all together exceed what can be addressed.
    """

    def __init__(self, decoder: Decoder, num_blocks: int, block_tokens: int = 16, dtype: str = "f32") -> None:
        if num_blocks < 1 or block_tokens < 1:
            raise ParameterError(
                f"a KV cache has at least one block of one token, not {num_blocks} of {block_tokens}"
            )
        self.core = _core.KvCache(decoder.core, num_blocks, block_tokens, dtype)

    @property
    def num_blocks(self) -> int:
        """Blocks that sequences can own together."""
        return self.core.num_blocks

    @property
    def block_tokens(self) -> int:
        """Positions in a block."""
        return self.core.block_tokens

    @property
    def dtype(self) -> str:
        """`f32`, `f16` or `int8`."""
        return self.core.dtype

    @property
    def nbytes(self) -> int:
        """Address space of the whole cache."""
        return self.core.nbytes


def _rotation(rotation: Rotation) -> dict[str, Any]:
    return {
        "block_size": rotation.block_size,
        "inputs": list(rotation.inputs),
        "outputs": list(rotation.outputs),
        "signs": {int(width): rotation.signs_of(int(width)) for width in rotation.signs},
    }


def _told(adapters: Sequence[AdapterUse]) -> list[tuple[int, _core.Adapter, float]]:
    return [(use.sequence, use.adapter.core, use.weight) for use in adapters]


def _batch(
    operation: str,
    token_ids: Integers,
    sequence_starts: Integers,
    context_lengths: Integers,
    block_tables: npt.NDArray[np.int32] | Sequence[Sequence[int]],
    logit_rows: Integers,
) -> _BatchArrays:
    return (
        _integers(operation, "token_ids", token_ids, 1),
        _integers(operation, "sequence_starts", sequence_starts, 1),
        _integers(operation, "context_lengths", context_lengths, 1),
        _integers(operation, "block_tables", block_tables, 2),
        _integers(operation, "logit_rows", logit_rows, 1),
    )


def _integers(operation: str, name: str, values: object, dimensions: int) -> npt.NDArray[np.int32]:
    array = np.asarray(values)
    if array.dtype == np.int32 and array.ndim == dimensions:
        return np.ascontiguousarray(array)
    if not array.size and array.ndim == dimensions:
        return np.zeros(array.shape, np.int32)
    if array.dtype.kind not in "iu" or array.ndim != dimensions:
        raise ParameterError(
            f"{operation}: {name} should be {dimensions}-dimensional whole numbers, "
            f"got {array.dtype} {list(array.shape)}"
        )
    limits = np.iinfo(np.int32)
    if array.min() < limits.min or array.max() > limits.max:
        raise ParameterError(f"{operation}: {name} should fit 32 bits, got {array.min()} to {array.max()}")
    return np.ascontiguousarray(array, np.int32)
