"""Float matrices times activations, read in the type in which they are stored: the output head.

A head is the largest matrix of a small model, and a step needs it for a few tokens: reading it is what takes
the time. Elements become float32 in registers and are multiplied in three passes of TF32 ("tf32x3"), which
is as good as float32. Heads in int8 with a scale for each row are multiplied by that in the end.
"""

import triton
import triton.language as tl

__all__ = ["row_product"]


@triton.jit
def row_product(
    rows, scales, x, y, num_tokens, num_rows, depth,
    BLOCK_TOKENS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_DEPTH: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    """Write y[t, r] = scale[r] * sum of x[t, k] * rows[r, k] over k.

    Args:
        rows: float32, float16, bfloat16 or int8 [num_rows, depth].
        scales: float32 [num_rows]; read with SCALED alone.
        x: float32 [num_tokens, depth].
        y: float32 [num_tokens, num_rows].
    """
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    token = tl.program_id(1) * BLOCK_TOKENS + tl.arange(0, BLOCK_TOKENS)
    is_row, is_token = row < num_rows, token < num_tokens
    row_start = row.to(tl.int64)[:, None] * depth
    token_start = token.to(tl.int64)[:, None] * depth
    total = tl.zeros([BLOCK_TOKENS, BLOCK_ROWS], tl.float32)
    for first in range(0, depth, BLOCK_DEPTH):
        column = (first + tl.arange(0, BLOCK_DEPTH))[None, :]
        weight = tl.load(rows + row_start + column, is_row[:, None] & (column < depth), 0)
        value = tl.load(x + token_start + column, is_token[:, None] & (column < depth), 0.0)
        total = tl.dot(value, tl.trans(weight.to(tl.float32)), total, input_precision="tf32x3")
    if SCALED:
        total *= tl.load(scales + row, is_row, 0.0)[None, :]
    place = token.to(tl.int64)[:, None] * num_rows + row[None, :]
    tl.store(y + place, total, is_token[:, None] & is_row[None, :])
