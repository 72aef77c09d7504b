"""Products with the weights: which kernel, in which blocks.

Block sizes follow from the shapes of tensor-core instructions and the size of register files. They have not
been tuned by measurement: no GPU was at hand when they were chosen (docs/guides/gpu.md).
"""

from __future__ import annotations

import torch
import triton

from tercet.gpu.kernels import EXACT, INTERPRETED
from tercet.gpu.kernels.rows import row_product
from tercet.gpu.kernels.ternary import product, vector_product
from tercet.gpu.weights import TILE, RowWeights, TernaryWeights

__all__ = ["float_product", "head_product", "ternary_product"]

VECTOR_ROW_TILES = 64 if INTERPRETED else 1
"""A program of `vector_product` for 16 rows fills the GPU best; NumPy has few programs rather."""
VECTOR_DEPTH_TILES = 32
ROW_TILES = 64 if INTERPRETED else 4
DEPTH_TILES = 8
FLOAT_DEPTH_TILES = 2
HEAD_ROWS = 1024 if INTERPRETED else 64
HEAD_DEPTH = 64
MOST_TOKENS = 64
"""Of a block: beyond it, more blocks."""


def ternary_product(weights: TernaryWeights, codes: torch.Tensor, code_scales: torch.Tensor) -> torch.Tensor:
    """Return float32 [tokens, padded_rows] for codes int8 [tokens, padded_depth] and scales [tokens]."""
    num_tokens = len(codes)
    y = codes.new_empty((num_tokens, weights.padded_rows), dtype=torch.float32)
    row_tiles, depth_tiles, _ = weights.words.shape
    shape = (row_tiles, depth_tiles, _group_tiles(weights), weights.groups)
    if num_tokens == 1:
        vector_product[(triton.cdiv(row_tiles, VECTOR_ROW_TILES),)](
            weights.words, weights.scales, codes.view(torch.int32), code_scales, y, *shape,
            ROW_TILES=min(VECTOR_ROW_TILES, triton.next_power_of_2(row_tiles)),
            DEPTH_TILES=VECTOR_DEPTH_TILES, GROUPED=weights.groups > 1, NATIVE=not INTERPRETED,
            num_warps=4, **EXACT,
        )  # fmt: skip
    elif num_tokens:
        _launch(weights, codes, code_scales, y, shape, DEPTH_TILES)
    return y


def float_product(weights: TernaryWeights, x: torch.Tensor) -> torch.Tensor:
    """Return the same for activations that are not rounded, float32 [tokens, padded_depth]."""
    y = x.new_empty((len(x), weights.padded_rows))
    row_tiles, depth_tiles, _ = weights.words.shape
    if len(x):
        shape = (row_tiles, depth_tiles, _group_tiles(weights), weights.groups)
        _launch(weights, x, x, y, shape, FLOAT_DEPTH_TILES)
    return y


def head_product(weights: RowWeights, x: torch.Tensor) -> torch.Tensor:
    """Return float32 [tokens, rows] for x float32 [tokens, depth]."""
    num_tokens, depth = x.shape
    num_rows = len(weights.rows)
    y = x.new_empty((num_tokens, num_rows))
    if num_tokens:
        block = _block_tokens(num_tokens)
        row_product[(triton.cdiv(num_rows, HEAD_ROWS), triton.cdiv(num_tokens, block))](
            weights.rows, x if weights.scales is None else weights.scales, x.contiguous(), y,
            num_tokens, num_rows, depth,
            BLOCK_TOKENS=block, BLOCK_ROWS=HEAD_ROWS, BLOCK_DEPTH=HEAD_DEPTH,
            SCALED=weights.scales is not None, num_warps=4, **EXACT,
        )  # fmt: skip
    return y


def _launch(
    weights: TernaryWeights,
    x: torch.Tensor,
    x_scales: torch.Tensor,
    y: torch.Tensor,
    shape: tuple[int, int, int, int],
    most_depth_tiles: int,
) -> None:
    """Multiply several tokens. A step of the depth is within a group."""
    depth_tiles = most_depth_tiles
    while weights.groups > 1 and shape[2] % depth_tiles:
        depth_tiles //= 2
    block = _block_tokens(len(x))
    product[(triton.cdiv(shape[0], ROW_TILES), triton.cdiv(len(x), block))](
        weights.words, weights.scales, x.contiguous(), x_scales, y, len(x), *shape,
        BLOCK_TOKENS=block, ROW_TILES=ROW_TILES, DEPTH_TILES=depth_tiles,
        FLOATS=x.dtype == torch.float32, num_warps=4, **EXACT,
    )  # fmt: skip


def _block_tokens(num_tokens: int) -> int:
    """The tokens of a block: at least what a tensor core takes."""
    return max(16, min(MOST_TOKENS, int(triton.next_power_of_2(num_tokens))))


def _group_tiles(weights: TernaryWeights) -> int:
    tiles = weights.padded_depth // TILE
    return tiles // weights.groups if weights.groups > 1 else tiles
