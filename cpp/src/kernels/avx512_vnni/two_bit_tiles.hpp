// The inner loops of the two_bit kernels, which products with one scale per row and with one per group of columns share.
// ternary_two_bit.cpp says why they look like this.
#pragma once

#include <immintrin.h>

#include <cstring>

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
[[gnu::always_inline]] inline void add_tiles(const std::uint8_t* packed, std::size_t stream_bytes, std::size_t depth_tiles,
                                             const std::int8_t* activations, std::size_t activation_stride,
                                             __m512i (&sums)[streams][tokens][2]) {
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

// Panel form: adds `depth_tiles` tiles of a panel of `tiles` row tiles with a few tokens. With read_ahead, the weights of
// the next panel, row tiles `next_stride` bytes apart, are brought into L2 on the way, a line for every step.
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

}  // namespace
}  // namespace tercet::avx512_vnni
