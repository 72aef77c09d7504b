"""Attention over a paged cache: queries and keys are rotated, keys and values stored, and then read.

The cache of a layer is slots of [kv_heads, head_dim], one for each position of each block: block b has the
slots from b * block_tokens on. A row of the block table names a sequence's blocks in the order of positions.

A program of `attend` takes a tile of consecutive tokens of a sequence and a head of keys and values, with all
the query heads that share it as rows of one product: a single token fills a tile with its heads where a long
prompt fills it with tokens. Softmax is computed on the way (FlashAttention, Dao et al. 2022). Positions may
be divided among several programs (`SPLITS`), for a few long sequences would otherwise leave most of the GPU
idle; `combine` puts the parts together.
"""

import triton
import triton.language as tl

__all__ = ["attend", "combine", "rotate_and_store"]

NEVER = tl.constexpr(-1e30)
"""In the place of minus infinity: differences of it are numbers."""


@triton.jit
def rotate_and_store(
    q, k, v, q_norm, k_norm, cosines, sines, slots, query, keys, values, key_scales, value_scales,
    q_stride, k_stride, v_stride, heads, kv_heads, head_dim, eps,
    HEADS: tl.constexpr, BLOCK: tl.constexpr, NORM: tl.constexpr, INT8: tl.constexpr,
):  # fmt: skip
    """Rotate queries and keys, store keys and values. Programs: [tokens, 3], for the three.

    Args:
        q, k, v: float32, the heads of a token in a row; rows are q_stride, k_stride and v_stride apart.
        q_norm, k_norm: float32 [head_dim], the norms of heads, with NORM.
        cosines, sines: float32 [tokens, head_dim / 2].
        slots: int64 [tokens], where in the cache each token belongs.
        query: float32 [tokens, heads, head_dim], written.
        keys, values: [slots, kv_heads, head_dim], written.
        key_scales, value_scales: float32 [slots, kv_heads], written with INT8.
        HEADS, BLOCK: powers of two that are at least heads and head_dim / 2.
    """
    token = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    half = head_dim // 2
    head = tl.arange(0, HEADS)
    column = tl.arange(0, BLOCK)[None, :]
    slot = tl.load(slots + token) * kv_heads + head  # of the cache, a head of a position
    if part == 0:
        inside = (head < heads)[:, None] & (column < half)
        place = head[:, None] * head_dim + column
        first, second = _halves(q + token * q_stride + place, half, inside)
        first, second = _rotated(
            first, second, q_norm, cosines, sines, token, half, column, inside, eps, NORM
        )
        target = query + token * heads * head_dim + place
        tl.store(target, first, inside)
        tl.store(target + half, second, inside)
    else:
        inside = (head < kv_heads)[:, None] & (column < half)
        place = head[:, None] * head_dim + column
        if part == 1:
            first, second = _halves(k + token * k_stride + place, half, inside)
            first, second = _rotated(
                first, second, k_norm, cosines, sines, token, half, column, inside, eps, NORM
            )
            _store(keys, key_scales, slot, first, second, half, column, inside, head < kv_heads, INT8)
        else:
            first, second = _halves(v + token * v_stride + place, half, inside)
            _store(values, value_scales, slot, first, second, half, column, inside, head < kv_heads, INT8)


@triton.jit
def _halves(place, half, inside):
    return tl.load(place, inside, 0.0), tl.load(place + half, inside, 0.0)


@triton.jit
def _rotated(first, second, weight, cosines, sines, token, half, column, inside, eps, NORM: tl.constexpr):
    """Normalize and rotate heads, given in halves [heads, head_dim / 2]."""
    if NORM:
        squares = tl.sum(first * first, 1) + tl.sum(second * second, 1)
        inverse = tl.div_rn(1.0, tl.sqrt_rn(tl.div_rn(squares, (2 * half).to(tl.float32)) + eps))[:, None]
        first = first * inverse * tl.load(weight + column, column < half, 0.0)
        second = second * inverse * tl.load(weight + half + column, column < half, 0.0)
    cosine = tl.load(cosines + token * half + column, column < half, 0.0)
    sine = tl.load(sines + token * half + column, column < half, 0.0)
    return first * cosine - second * sine, second * cosine + first * sine


@triton.jit
def _store(cache, scales, slot, first, second, half, column, inside, is_head, INT8: tl.constexpr):
    """Write heads, given in halves, in the type of the cache."""
    target = cache + slot[:, None] * (2 * half) + column
    if INT8:
        largest = tl.maximum(tl.max(tl.abs(first), 1), tl.max(tl.abs(second), 1))
        factor = tl.where(largest > 0, tl.div_rn(127.0, tl.maximum(largest, 1e-30)), 0.0)[:, None]
        tl.store(scales + slot, tl.div_rn(largest, 127.0), is_head)
        first = (first * factor + 12582912.0) - 12582912.0
        second = (second * factor + 12582912.0) - 12582912.0
    kind = cache.dtype.element_ty
    tl.store(target, first.to(kind), inside)
    tl.store(target + half, second.to(kind), inside)


@triton.jit
def attend(
    query, keys, values, key_scales, value_scales, positions, tables, tiles, output, log_sums,
    num_tokens, table_width, block_tokens, heads, kv_heads, head_dim, scale, window,
    ROWS: tl.constexpr, POSITIONS: tl.constexpr, BLOCK: tl.constexpr, SPLITS: tl.constexpr,
    INT8: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Attend for a tile of tokens. Programs: [tiles, kv_heads, SPLITS].

    Args:
        query: float32 [tokens, heads, head_dim].
        keys, values, key_scales, value_scales: as `rotate_and_store` has written them.
        positions: int64 [tokens].
        tables: int64 [sequences, table_width].
        tiles: int64 [tiles, 3]: sequence, first token, number of tokens (at most ROWS * kv_heads / heads).
        output: float32 [SPLITS, tokens, heads, head_dim], written.
        log_sums: float32 [SPLITS, tokens, heads], the logarithm (base 2) of the sum in the softmax, written.
        scale: what scores are multiplied by, times log2 e.
        window: how many positions a token sees, itself included.
        HALF: whether products are of float16 (sums are float32 always).
    """
    tile = tl.program_id(0)
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    shared_by = heads // kv_heads
    sequence = tl.load(tiles + 3 * tile)
    first = tl.load(tiles + 3 * tile + 1)
    count = tl.load(tiles + 3 * tile + 2)
    row = tl.arange(0, ROWS)
    token = first + row // shared_by
    head = kv_head * shared_by + row % shared_by
    is_row = row < count * shared_by
    column = tl.arange(0, BLOCK)
    is_column = column < head_dim
    position = tl.load(positions + token, is_row, 0)
    q_place = (token * heads + head)[:, None] * head_dim + column[None, :]
    q = tl.load(query + q_place, is_row[:, None] & is_column[None, :], 0.0) * scale
    if HALF:
        q = q.to(tl.float16)

    begin = tl.maximum(tl.load(positions + first) - window + 1, 0) // POSITIONS * POSITIONS
    end = tl.load(positions + first + count - 1) + 1
    share = tl.cdiv(tl.cdiv(end - begin, POSITIONS), SPLITS) * POSITIONS
    begin += split * share
    end = tl.minimum(end, begin + share)

    largest = tl.full([ROWS], NEVER, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    result = tl.zeros([ROWS, BLOCK], tl.float32)
    for start in range(begin, end, POSITIONS):
        seen = start + tl.arange(0, POSITIONS)
        is_there = seen < end
        block = tl.load(tables + sequence * table_width + seen // block_tokens, is_there, 0)
        slot = block * block_tokens + seen % block_tokens
        head_place = slot * kv_heads + kv_head
        place = head_place[:, None] * head_dim + column[None, :]
        is_element = is_there[:, None] & is_column[None, :]
        key = tl.load(keys + place, is_element, 0).to(tl.float32)
        value = tl.load(values + place, is_element, 0).to(tl.float32)
        if INT8:
            key *= tl.load(key_scales + head_place, is_there, 0.0)[:, None]
            value *= tl.load(value_scales + head_place, is_there, 0.0)[:, None]
        if HALF:
            scores = tl.dot(q, tl.trans(key.to(tl.float16)), out_dtype=tl.float32)
        else:
            scores = tl.dot(q, tl.trans(key), input_precision="tf32x3", out_dtype=tl.float32)
        distance = position[:, None] - seen[None, :]
        sees = is_row[:, None] & is_there[None, :] & (distance >= 0) & (distance < window)
        scores = tl.where(sees, scores, NEVER)
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        correction = tl.exp2(largest - new_largest)
        share_of = tl.where(sees, tl.exp2(scores - new_largest[:, None]), 0.0)
        total = total * correction + tl.sum(share_of, 1)
        result *= correction[:, None]
        if HALF:
            result = tl.dot(share_of.to(tl.float16), value.to(tl.float16), result)
        else:
            result = tl.dot(share_of, value, result, input_precision="tf32x3")
        largest = new_largest
    safe_total = tl.where(total > 0, total, 1.0)
    place = (split * num_tokens + token) * heads + head
    tl.store(
        output + place[:, None] * head_dim + column[None, :],
        result / safe_total[:, None],
        is_row[:, None] & is_column[None, :],
    )
    tl.store(log_sums + place, tl.where(total > 0, largest + tl.log2(safe_total), NEVER), is_row)


@triton.jit
def combine(parts, log_sums, output, num_heads_in_all, head_dim, BLOCK: tl.constexpr, SPLITS: tl.constexpr):
    """Put the parts of one head of one token together. Programs: [tokens * heads].

    Args:
        parts: float32 [SPLITS, tokens * heads, head_dim].
        log_sums: float32 [SPLITS, tokens * heads].
        output: float32 [tokens * heads, head_dim], written.
    """
    head = tl.program_id(0).to(tl.int64)
    split = tl.arange(0, SPLITS)
    column = tl.arange(0, BLOCK)
    is_column = column < head_dim
    log_sum = tl.load(log_sums + split * num_heads_in_all + head)
    share = tl.exp2(log_sum - tl.max(log_sum, 0))
    share = share / tl.sum(share, 0)
    place = (split * num_heads_in_all + head)[:, None] * head_dim + column[None, :]
    part = tl.load(parts + place, is_column[None, :], 0.0)
    tl.store(output + head * head_dim + column, tl.sum(part * share[:, None], 0), is_column)
