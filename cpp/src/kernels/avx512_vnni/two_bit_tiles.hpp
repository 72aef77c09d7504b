// What the two_bit kernels share, those with one scale per row and those with one per group of columns: the inner
// loops, and the way through rows, depth and tokens. ternary_two_bit.cpp says why they look like this.
#pragma once

#include <immintrin.h>

#include <cstring>
#include <iterator>

#include "tercet/ternary_kernels.hpp"

namespace tercet::avx512_vnni {
namespace {

constexpr std::size_t read_ahead_bytes = 2048;
constexpr std::size_t max_block_tokens = 8;
constexpr std::size_t panel_tiles = 3;         // side by side: 48 rows
constexpr std::size_t panel_depth_tiles = 32;  // one after the other: 512 columns
constexpr std::size_t max_pass_tokens = 144;   // their activations stay in L2 while the weights pass by

[[gnu::always_inline]] inline __m512i broadcast(const std::int8_t* four) {
    std::int32_t bits;
    std::memcpy(&bits, four, sizeof bits);
    return _mm512_set1_epi32(bits);
}

// Streams of weights that are read at the same time for a number of tokens: as many as the registers allow.
constexpr std::size_t num_streams(std::size_t tokens) { return tokens <= 2 ? 4 : 2; }

// Stream form: adds `depth_tiles` tiles of each stream, `stream_bytes` apart, with a few tokens. The second of two sums
// is in units of 4.
template <std::size_t tokens, std::size_t streams>
[[gnu::always_inline]] inline void add_tiles(const std::uint8_t* packed, std::size_t stream_bytes,
                                             std::size_t depth_tiles, const std::int8_t* activations,
                                             std::size_t activation_stride, __m512i (&sums)[streams][tokens][2]) {
    const __m512i mask[2] = {_mm512_set1_epi8(0x03), _mm512_set1_epi8(0x0C)};
    for (std::size_t k = 0; k < depth_tiles; ++k, packed += tile_bytes, activations += two_bit_tile_columns) {
        __m512i tile[streams];
#pragma GCC unroll 4
        for (std::size_t stream = 0; stream < streams; ++stream) {
            _mm_prefetch(packed + stream * stream_bytes + read_ahead_bytes, _MM_HINT_T1);
            tile[stream] = _mm512_loadu_si512(packed + stream * stream_bytes);
        }
#pragma GCC unroll 4
        for (std::size_t field = 0; field < 4; ++field) {
            if (field == 2)
#pragma GCC unroll 4
                for (std::size_t stream = 0; stream < streams; ++stream)
                    tile[stream] = _mm512_srli_epi16(tile[stream], 4);
            __m512i codes[streams];
#pragma GCC unroll 4
            for (std::size_t stream = 0; stream < streams; ++stream)
                codes[stream] = _mm512_and_si512(tile[stream], mask[field % 2]);
#pragma GCC unroll 6
            for (std::size_t token = 0; token < tokens; ++token) {
                const __m512i four = broadcast(activations + token * activation_stride + 4 * field);
#pragma GCC unroll 4
                for (std::size_t stream = 0; stream < streams; ++stream)
                    sums[stream][token][field % 2] =
                        _mm512_dpbusd_epi32(sums[stream][token][field % 2], codes[stream], four);
            }
        }
    }
}

// Spreads the fields of one tile to a byte each: 4 columns of 16 rows at to, to + step, to + 2 step, to + 3 step.
[[gnu::always_inline]] inline void spread_tile(const std::uint8_t* packed, std::uint8_t* to, std::size_t step) {
    const __m512i tile = _mm512_loadu_si512(packed), lowest = _mm512_set1_epi8(3);
    _mm512_store_si512(to, _mm512_and_si512(tile, lowest));
    _mm512_store_si512(to + step, _mm512_and_si512(_mm512_srli_epi16(tile, 2), lowest));
    _mm512_store_si512(to + 2 * step, _mm512_and_si512(_mm512_srli_epi16(tile, 4), lowest));
    _mm512_store_si512(to + 3 * step, _mm512_and_si512(_mm512_srli_epi16(tile, 6), lowest));
}

// Panel form: adds `depth_tiles` tiles of a panel of `tiles` row tiles with a few tokens. With read_ahead, the weights
// of the next panel, row tiles `next_stride` bytes apart, are brought into L2 on the way, a line for every step.
template <std::size_t tiles, std::size_t tokens, bool read_ahead>
[[gnu::always_inline]] inline void add_panel(const std::uint8_t* panel, std::size_t depth_tiles,
                                             const std::int8_t* activations, std::size_t activation_stride,
                                             const std::uint8_t* next_packed, std::size_t next_stride,
                                             __m512i (&sums)[tokens][tiles]) {
    constexpr std::size_t parts = read_ahead ? 4 : 1;  // one row tile of the next panel in each part
    for (std::size_t part = 0; part < parts; ++part) {
        const std::uint8_t* next = next_packed + (part < tiles ? part : 0) * next_stride;
        for (std::size_t k = 0; k < 4 / parts * depth_tiles; ++k, panel += tiles * tile_bytes, activations += 4) {
            if constexpr (read_ahead) _mm_prefetch(next + k * tile_bytes, _MM_HINT_T1);
            __m512i codes[tiles];
#pragma GCC unroll 4
            for (std::size_t tile = 0; tile < tiles; ++tile) codes[tile] = _mm512_load_si512(panel + tile * tile_bytes);
#pragma GCC unroll 8
            for (std::size_t token = 0; token < tokens; ++token) {
                const __m512i four = broadcast(activations + token * activation_stride);
#pragma GCC unroll 4
                for (std::size_t tile = 0; tile < tiles; ++tile)
                    sums[token][tile] = _mm512_dpbusd_epi32(sums[token][tile], codes[tile], four);
            }
        }
    }
}

// What a panel holds: row tiles side by side, and of their depth a part of one group, which is all of the depth where
// there are no groups.
struct Panel {
    const std::uint8_t* codes;
    std::size_t begin, depth_tiles;  // along the depth
    std::size_t group;
    bool first, last;  // of the group
    const std::uint8_t* next_packed;
};

// How a product goes through rows, depth and tokens. Rows says where the operands of one row tile, or more, with some
// tokens begin: Rows::of(task, row tile, token) makes it, from(token) is what it is for later tokens. Then
//
//   stream_row_tiles<tokens, streams>(rows, distance)                 one row tile of each stream, `distance` apart
//   multiply_panel<tiles, tokens, read_ahead>(panel, rows, partial)   adds a panel to `partial`, or to the result
//
// are what differs. Rows::keeps_partial says whether integers [tokens][tiles][16] must be kept from panel to panel.

template <class Rows, std::size_t tokens, class Task>
void stream(const Task& task) {
    constexpr std::size_t streams = num_streams(tokens);
    const std::size_t distance = (task.row_tile_end - task.row_tile_begin) / streams;
    std::size_t row_tile = task.row_tile_begin;
    for (; row_tile < task.row_tile_begin + distance; ++row_tile)
        stream_row_tiles<tokens, streams>(Rows::of(task, row_tile, 0), distance);
    for (row_tile = task.row_tile_begin + streams * distance; row_tile < task.row_tile_end; ++row_tile)
        stream_row_tiles<tokens, 1>(Rows::of(task, row_tile, 0), 0);
}

template <class Rows, std::size_t tiles, std::size_t tokens, bool read_ahead>
void multiply_block(const Panel& panel, const Rows& rows, std::int32_t* partial) {
    multiply_panel<tiles, tokens, read_ahead>(panel, rows, partial);
}

template <class Rows>
using MultiplyBlock = void (*)(const Panel&, const Rows&, std::int32_t*);

template <class Rows, std::size_t tiles, bool read_ahead>
constexpr MultiplyBlock<Rows> multiply_block_of[max_block_tokens + 1] = {nullptr,
                                                                         multiply_block<Rows, tiles, 1, read_ahead>,
                                                                         multiply_block<Rows, tiles, 2, read_ahead>,
                                                                         multiply_block<Rows, tiles, 3, read_ahead>,
                                                                         multiply_block<Rows, tiles, 4, read_ahead>,
                                                                         multiply_block<Rows, tiles, 5, read_ahead>,
                                                                         multiply_block<Rows, tiles, 6, read_ahead>,
                                                                         multiply_block<Rows, tiles, 7, read_ahead>,
                                                                         multiply_block<Rows, tiles, 8, read_ahead>};

// `tiles` row tiles next to each other with up to max_pass_tokens tokens, panel after panel along the depth.
template <class Rows, std::size_t tiles>
void multiply_row_tiles(const Rows& rows, std::size_t tokens) {
    alignas(64) std::uint8_t codes[panel_depth_tiles * 4 * tiles * tile_bytes];
    std::int32_t partial[Rows::keeps_partial ? max_pass_tokens * tiles * 16 : 1];
    const std::size_t row_tile_bytes = rows.depth_tiles * tile_bytes;
    const std::size_t num_blocks = (tokens + max_block_tokens - 1) / max_block_tokens;
    for (std::size_t begin = 0, depth_tiles; begin < rows.depth_tiles; begin += depth_tiles) {
        const std::size_t group = begin / rows.group_tiles, group_begin = group * rows.group_tiles;
        const std::size_t whole_end = group_begin + rows.group_tiles;
        const std::size_t group_end = whole_end < rows.depth_tiles ? whole_end : rows.depth_tiles;
        depth_tiles = group_end - begin < panel_depth_tiles ? group_end - begin : panel_depth_tiles;
        const std::uint8_t* packed = rows.packed + begin * tile_bytes;
        for (std::size_t tile = 0; tile < tiles; ++tile)
            for (std::size_t k = 0; k < depth_tiles; ++k)
                spread_tile(packed + tile * row_tile_bytes + k * tile_bytes,
                            codes + (4 * k * tiles + tile) * tile_bytes, tiles * tile_bytes);

        const std::size_t end = begin + depth_tiles;
        const std::uint8_t* next_packed =
            end < rows.depth_tiles ? packed + depth_tiles * tile_bytes : rows.packed + tiles * row_tile_bytes;
        const Panel panel{codes, begin, depth_tiles, group, begin == group_begin, end == group_end, next_packed};
        for (std::size_t block = 0; block < num_blocks; ++block) {
            const std::size_t token = tokens * block / num_blocks, token_end = tokens * (block + 1) / num_blocks;
            const auto& multiply =
                block == 0 ? multiply_block_of<Rows, tiles, true> : multiply_block_of<Rows, tiles, false>;
            multiply[token_end - token](panel, rows.from(token),
                                        Rows::keeps_partial ? partial + token * tiles * 16 : partial);
        }
    }
}

template <class Rows, class Task>
void multiply_rows(const Task& task) noexcept {
    using Stream = void (*)(const Task&);
    static constexpr Stream stream_of[] = {nullptr,
                                           stream<Rows, 1, Task>,
                                           stream<Rows, 2, Task>,
                                           stream<Rows, 3, Task>,
                                           stream<Rows, 4, Task>,
                                           stream<Rows, 5, Task>,
                                           stream<Rows, 6, Task>};
    if (task.tokens == 0) return;
    if (task.tokens < std::size(stream_of)) return stream_of[task.tokens](task);
    const std::size_t num_passes = (task.tokens + max_pass_tokens - 1) / max_pass_tokens;
    for (std::size_t pass = 0; pass < num_passes; ++pass) {
        const std::size_t token = task.tokens * pass / num_passes;
        const std::size_t tokens = task.tokens * (pass + 1) / num_passes - token;
        std::size_t row_tile = task.row_tile_begin;
        for (; row_tile + panel_tiles <= task.row_tile_end; row_tile += panel_tiles)
            multiply_row_tiles<Rows, panel_tiles>(Rows::of(task, row_tile, token), tokens);
        const std::size_t left = task.row_tile_end - row_tile;
        if (left == 2) multiply_row_tiles<Rows, 2>(Rows::of(task, row_tile, token), tokens);
        if (left == 1) multiply_row_tiles<Rows, 1>(Rows::of(task, row_tile, token), tokens);
    }
}

}  // namespace
}  // namespace tercet::avx512_vnni
