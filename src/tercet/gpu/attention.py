"""The cache on the GPU, and attention over it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import triton

from tercet.errors import ParameterError
from tercet.gpu.batch import Batch
from tercet.gpu.kernels import EXACT, INTERPRETED
from tercet.gpu.kernels.attention import attend, combine, rotate_and_store

if TYPE_CHECKING:
    from tercet.gpu.decoder import Decoder

__all__ = ["Attention", "KvCache", "prompt_rows"]

TYPES = {"f32": torch.float32, "f16": torch.float16, "int8": torch.int8}
USUAL_HEAD_DIM = 128
ENOUGH_PROGRAMS = 256
"""What keeps a large GPU busy; fewer tiles than that divide their positions."""
MOST_SPLITS = 2 if INTERPRETED else 16


class KvCache:
    """Keys and values of `num_blocks` blocks of `block_tokens` positions, in the GPU's memory at once.

    Args:
        decoder: the decoder that will fill it.
        num_blocks: blocks that sequences can own together.
        block_tokens: positions in a block.
        dtype: `f32`, `f16`, or `int8` with a scale for each token and head. Products with a cache of f16 or
            int8 are of float16.

    Raises:
        ParameterError: a size is zero, or there is no such type.
    """

    def __init__(self, decoder: Decoder, num_blocks: int, block_tokens: int = 16, dtype: str = "f32") -> None:
        if num_blocks < 1 or block_tokens < 1:
            raise ParameterError(
                f"a KV cache has at least one block of one token, not {num_blocks} of {block_tokens}"
            )
        if dtype not in TYPES:
            raise ParameterError(f"a KV cache holds {', '.join(TYPES)}, not {dtype!r}")
        self.num_blocks, self.block_tokens, self.dtype = num_blocks, block_tokens, dtype
        config = decoder.config
        heads = (config.num_layers, 2, num_blocks * block_tokens, config.num_kv_heads)
        self.heads = torch.empty((*heads, config.head_dim), dtype=TYPES[dtype], device=decoder.device)
        """[layers, keys and values, slots, kv_heads, head_dim]."""
        has_scales = dtype == "int8"
        self.scales = torch.empty(heads if has_scales else (heads[0], 2), device=decoder.device)
        """float32 [layers, keys and values, slots, kv_heads]; nothing in it for other types."""

    @property
    def nbytes(self) -> int:
        """Memory of the whole cache."""
        return self.heads.nbytes + (self.scales.nbytes if self.dtype == "int8" else 0)


def prompt_rows(shared_by: int, head_dim: int, dtype: str) -> int:
    """Rows of a tile of `attend` in a step that reads prompts: what fits every GPU's shared memory.

    Args:
        shared_by: query heads for each key head.
        head_dim: width of a head.
        dtype: of the cache; products with f32 need twice the shared memory.
    """
    fitting = _fitting(64, head_dim) // (2 if dtype == "f32" else 1)
    return max(16, int(triton.next_power_of_2(shared_by)), fitting)


def _fitting(most: int, head_dim: int) -> int:
    """A number of rows or positions: fewer where heads are wider than usual."""
    return max(16, min(most, most * USUAL_HEAD_DIM // int(triton.next_power_of_2(head_dim))))


@dataclass(frozen=True, eq=False)
class Attention:
    """The attention of one layer.

    `rotation` is what the caller makes of the positions of a step: cosines and sines float32 [tokens,
    head_dim / 2].
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    window: int | None
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    eps: float

    def __call__(
        self,
        qkv: list[torch.Tensor],
        rotation: tuple[torch.Tensor, torch.Tensor],
        batch: Batch,
        cache: KvCache,
        layer: int,
    ) -> torch.Tensor:
        """Store keys and values of a step and attend; float32 [tokens, heads * head_dim]."""
        q, k, v = qkv
        num_tokens, is_int8 = len(q), cache.dtype == "int8"
        (keys, values), (key_scales, value_scales) = cache.heads[layer], cache.scales[layer]
        query = q.new_empty((num_tokens, self.heads, self.head_dim))
        rotate_and_store[(num_tokens, 3)](
            q, k, v, q if self.q_norm is None else self.q_norm, q if self.k_norm is None else self.k_norm,
            *rotation, batch.slots, query, keys, values, key_scales, value_scales,
            q.stride(0), k.stride(0), v.stride(0), self.heads, self.kv_heads, self.head_dim, self.eps,
            HEADS=triton.next_power_of_2(self.heads), BLOCK=triton.next_power_of_2(self.head_dim // 2),
            NORM=self.q_norm is not None, INT8=is_int8, num_warps=4, **EXACT,
        )  # fmt: skip
        splits = self._splits(batch)
        output = q.new_empty((splits, num_tokens, self.heads, self.head_dim))
        log_sums = q.new_empty((splits, num_tokens, self.heads))
        block = max(16, triton.next_power_of_2(self.head_dim))
        half, shared_by = cache.dtype != "f32", self.heads // self.kv_heads
        rows = prompt_rows(shared_by, self.head_dim, cache.dtype)
        if batch.is_decode:
            rows = max(16, triton.next_power_of_2(shared_by))
        attend[(len(batch.tiles), self.kv_heads, splits)](
            query, keys, values, key_scales, value_scales, batch.positions, batch.tables, batch.tiles,
            output, log_sums, num_tokens, batch.tables.shape[1], cache.block_tokens,
            self.heads, self.kv_heads, self.head_dim, self.scale * math.log2(math.e), self.window or 1 << 30,
            ROWS=rows, POSITIONS=_fitting(64 if half else 32, self.head_dim),
            BLOCK=block, SPLITS=splits, INT8=is_int8, HALF=half, num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
        if splits == 1:
            return output.view(num_tokens, -1)
        whole = torch.empty_like(output[0])
        combine[(num_tokens * self.heads,)](
            output, log_sums, whole, num_tokens * self.heads, self.head_dim, BLOCK=block, SPLITS=splits,
            num_warps=1, enable_fp_fusion=True,
        )  # fmt: skip
        return whole.view(num_tokens, -1)

    def _splits(self, batch: Batch) -> int:
        """How many programs share the positions of a tile: of a step's shape, never of its lengths."""
        programs = len(batch.tiles) * self.kv_heads
        if not batch.is_decode or programs >= ENOUGH_PROGRAMS:
            return 1
        return min(MOST_SPLITS, 1 << (ENOUGH_PROGRAMS // programs).bit_length() - 1)
