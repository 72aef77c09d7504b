"""Ternary matrices times activations, over the bytes of the packing `two_bit` as they lie in a model's file.

A matrix is row tiles of 16 rows, these are depth tiles of 16 columns, and a tile is 16 words of 32 bits, one
for each row. In the word of a row the code of column k, plus 1, is in the bits from 8 (k % 4) + 2 (k // 4):

    word      byte 3     byte 2     byte 1     byte 0
    columns   15 11 7 3  14 10 6 2  13 9 5 1   12 8 4 0         two bits each

So `(word >> 2 i) & 0x03030303` are four bytes, the columns 4 i .. 4 i + 3 in order, each 0, 1 or 2: what the
instruction dp4a multiplies with four int8 activations and sums. It is the layout that the CPU kernels read
with `vpdpbusd`, and a row tile is contiguous, so neighbouring threads read neighbouring words here as well.

Two kernels. `product` is for several tokens: it unpacks a block of the matrix to int8 and leaves the rest to
the tensor cores (`tl.dot` becomes mma, wgmma or tcgen05 with int8 operands and int32 sums). `vector_product`
is for one token, where nothing but reading the weights counts: every word is used in registers by dp4a.

Sums are exact integers: |sum| <= 127 * depth < 2**31 for every depth below 16 million. Then

    y = float(sum) * (scale of the token * scale of the row)

which is the reference to the last bit. With a scale for each group of columns these products are added up
over the groups; `product` does it in the order of the reference, `vector_product` in another one.
"""

# Triton gives meaning to annotations: no `from __future__ import annotations` here.
import triton
import triton.language as tl

__all__ = ["product", "vector_product"]


@triton.jit
def product(
    words, scales, codes, code_scales, y, num_tokens, row_tiles, depth_tiles, group_tiles, groups,
    BLOCK_TOKENS: tl.constexpr, ROW_TILES: tl.constexpr, DEPTH_TILES: tl.constexpr, FLOATS: tl.constexpr,
):  # fmt: skip
    """Write y[t, r] for BLOCK_TOKENS tokens and 16 ROW_TILES rows; depth in steps of 16 DEPTH_TILES columns.

    Args:
        words: int32 [row_tiles, depth_tiles, 16].
        scales: float32 [16 row_tiles, groups].
        codes: int8 [num_tokens, 16 depth_tiles]; with FLOATS float32, activations that are not rounded.
        code_scales: float32 [num_tokens]; not read with FLOATS.
        y: float32 [num_tokens, 16 row_tiles].
        group_tiles: depth tiles of a group; DEPTH_TILES divides it unless there is one group only.
    """
    row_tile = tl.program_id(0) * ROW_TILES + tl.arange(0, ROW_TILES)
    token = tl.program_id(1) * BLOCK_TOKENS + tl.arange(0, BLOCK_TOKENS)
    row = tl.program_id(0) * ROW_TILES * 16 + tl.arange(0, ROW_TILES * 16)
    is_row, is_token = row < row_tiles * 16, token < num_tokens
    lane = tl.arange(0, 16)
    shift = (8 * (lane % 4) + 2 * (lane // 4))[None, None, None, :]
    tile_start = row_tile.to(tl.int64)[:, None, None] * depth_tiles
    token_start = token.to(tl.int64)[:, None] * (depth_tiles * 16)
    if FLOATS:
        token_scale = tl.full([BLOCK_TOKENS], 1.0, tl.float32)
    else:
        token_scale = tl.load(code_scales + token, is_token, 0.0)
    result = tl.zeros([BLOCK_TOKENS, ROW_TILES * 16], tl.float32)
    for group in range(0, groups):
        if FLOATS:
            total = tl.zeros([BLOCK_TOKENS, ROW_TILES * 16], tl.float32)
        else:
            total = tl.zeros([BLOCK_TOKENS, ROW_TILES * 16], tl.int32)
        end = (group + 1) * group_tiles
        for first in range(group * group_tiles, end, DEPTH_TILES):
            tile = first + tl.arange(0, DEPTH_TILES)
            column = first * 16 + tl.arange(0, DEPTH_TILES * 16)
            # [row tile, depth tile, row in the tile]: contiguous words
            place = (tile_start + tile[None, :, None]) * 16 + lane[None, None, :]
            inside = (row_tile < row_tiles)[:, None, None] & (tile < end)[None, :, None]
            word = tl.load(words + place, inside, 0)
            field = ((word[:, :, :, None] >> shift) & 3) - 1
            weight = tl.reshape(tl.permute(field, (0, 2, 1, 3)), (ROW_TILES * 16, DEPTH_TILES * 16))
            # What lies beyond the depth is multiplied by an activation of 0.
            is_column = (column < end * 16)[None, :]
            x = tl.load(codes + token_start + column[None, :], is_token[:, None] & is_column, 0)
            if FLOATS:
                total = tl.dot(x, tl.trans(weight.to(tl.float32)), total, input_precision="tf32x3")
            else:
                total = tl.dot(x, tl.trans(weight.to(tl.int8)), total, out_dtype=tl.int32)
        scale = tl.load(scales + row.to(tl.int64) * groups + group, is_row, 0.0)
        result += total.to(tl.float32) * (token_scale[:, None] * scale[None, :])
    place = token.to(tl.int64)[:, None] * (row_tiles * 16) + row[None, :]
    tl.store(y + place, result, is_token[:, None] & is_row[None, :])


@triton.jit
def vector_product(
    words, scales, codes, code_scales, y, row_tiles, depth_tiles, group_tiles, groups,
    ROW_TILES: tl.constexpr, DEPTH_TILES: tl.constexpr, GROUPED: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """Write y[r] of 16 ROW_TILES rows for one token; arguments as for `product`, but:

    Args:
        codes: int8 [16 depth_tiles], as int32 words of four.
        code_scales: float32 [1].
        y: float32 [16 row_tiles].
    """
    row_tile = tl.program_id(0) * ROW_TILES + tl.arange(0, ROW_TILES)
    lane = tl.arange(0, 16)
    row = row_tile[:, None] * 16 + lane[None, :]
    is_row = row < row_tiles * 16
    token_scale = tl.load(code_scales)
    tile_start = row_tile.to(tl.int64)[:, None, None] * depth_tiles
    total = tl.zeros([ROW_TILES, DEPTH_TILES, 16], tl.int32)
    result = tl.zeros([ROW_TILES, DEPTH_TILES, 16], tl.float32)
    ones = tl.full([1, DEPTH_TILES, 1], 0x01010101, tl.int32)
    for first in range(0, depth_tiles, DEPTH_TILES):
        tile = (first + tl.arange(0, DEPTH_TILES))[None, :, None]
        inside = tile < depth_tiles
        word = tl.load(words + (tile_start + tile) * 16 + lane[None, None, :], is_row[:, None, :] & inside, 0)
        activations = tl.zeros([1, DEPTH_TILES, 1], tl.int32)
        for quad in tl.static_range(4):
            x = tl.load(codes + tile * 4 + quad, inside, 0)
            activations = _dot4(ones, x, activations, NATIVE)
            fields, x = tl.broadcast((word >> (2 * quad)) & 0x03030303, x)
            total = _dot4(fields, x, total, NATIVE)
        total -= activations  # the fields are codes plus 1
        if GROUPED:
            place = row.to(tl.int64)[:, None, :] * groups + tile // group_tiles
            scale = tl.load(scales + place, is_row[:, None, :] & inside, 0.0)
            result += total.to(tl.float32) * (token_scale * scale)
            total = tl.zeros([ROW_TILES, DEPTH_TILES, 16], tl.int32)
    if GROUPED:
        tl.store(y + row, tl.sum(result, 1), is_row)
    else:
        scale = tl.load(scales + row, is_row, 0.0)
        tl.store(y + row, tl.sum(total, 1).to(tl.float32) * (token_scale * scale), is_row)


@triton.jit
def _dot4(unsigned, signed, total, NATIVE: tl.constexpr):
    """Return total + the sum of four products of bytes; NATIVE is one instruction, which NumPy has not."""
    if NATIVE:
        return tl.inline_asm_elementwise(
            "dp4a.u32.s32 $0, $1, $2, $3;", "=r,r,r,r", [unsigned, signed, total], tl.int32, True, 1
        )
    for byte in tl.static_range(4):
        total += ((unsigned >> (8 * byte)) & 255) * ((signed << (24 - 8 * byte)) >> 24)
    return total
