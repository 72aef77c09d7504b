// The inner loop of the two_bit kernels, which products with one scale per row and with one per group of columns share.
// ternary_two_bit.cpp says why it looks like this.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "tercet/ternary_kernels.hpp"

namespace tercet::avx2 {
namespace {

constexpr std::size_t half_rows = 8;
constexpr std::size_t half_bytes = 32;
constexpr std::size_t window_tiles = 10;
constexpr std::size_t max_block_tokens = 8;
constexpr std::size_t read_ahead_bytes = 4096;

[[gnu::always_inline]] inline __m256i broadcast(const std::int8_t* four) {
    std::int32_t bits;
    std::memcpy(&bits, four, sizeof bits);
    return _mm256_set1_epi32(bits);
}

// Half `half` of several: the two of a row tile, then the two of a row tile that is `distance` row tiles further on.
constexpr std::size_t row_of_half(std::size_t half, std::size_t distance) {
    return half / 2 * distance * two_bit_tile_rows + half % 2 * half_rows;
}

// Adds `depth_tiles` tiles of `halves` halves, with a few tokens; row tiles are `distance_bytes` apart.
template <std::size_t tokens, std::size_t halves>
[[gnu::always_inline]] inline void add_tiles(const std::uint8_t* packed, std::size_t distance_bytes,
                                             std::size_t depth_tiles, const std::int8_t* activations,
                                             std::size_t activation_stride, __m256i (&totals)[tokens][halves]) {
    const __m256i lowest = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
    for (std::size_t begin = 0; begin < depth_tiles; begin += window_tiles) {
        const std::size_t left = depth_tiles - begin, tiles = left < window_tiles ? left : window_tiles;
        __m256i sums[tokens][halves] = {};
        for (std::size_t tile = 0; tile < tiles; ++tile, packed += tile_bytes, activations += two_bit_tile_columns) {
            __m256i fields[halves];
#pragma GCC unroll 4
            for (std::size_t half = 0; half < halves; ++half) {
                const std::uint8_t* from = packed + half / 2 * distance_bytes + half % 2 * half_bytes;
                if (half % 2 == 0) _mm_prefetch(reinterpret_cast<const char*>(from) + read_ahead_bytes, _MM_HINT_T1);
                fields[half] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
            }
#pragma GCC unroll 4
            for (std::size_t field = 0; field < 4; ++field) {
                __m256i codes[halves];
#pragma GCC unroll 4
                for (std::size_t half = 0; half < halves; ++half) {
                    codes[half] = _mm256_and_si256(fields[half], lowest);
                    fields[half] = _mm256_srli_epi16(fields[half], 2);
                }
#pragma GCC unroll 8
                for (std::size_t token = 0; token < tokens; ++token) {
                    const __m256i four = broadcast(activations + token * activation_stride + 4 * field);
#pragma GCC unroll 4
                    for (std::size_t half = 0; half < halves; ++half) {
                        sums[token][half] =
                            _mm256_add_epi16(sums[token][half], _mm256_maddubs_epi16(codes[half], four));
                        asm("" : "+x"(sums[token][half]));  // or GCC adds in another order, with more than 16 registers
                    }
                }
            }
        }
#pragma GCC unroll 8
        for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 4
            for (std::size_t half = 0; half < halves; ++half)
                totals[token][half] = _mm256_add_epi32(totals[token][half], _mm256_madd_epi16(sums[token][half], ones));
    }
}

// How a product goes through rows and tokens. Rows says where the operands of one row tile, or more, with a few tokens
// begin: Rows::of(task, row tile, token) makes it, lower_half() is its second half; multiply_halves<tokens, halves>(rows,
// distance) multiplies one half of a row tile, both, or the four of two row tiles that are `distance` apart.

// 1 or 2 tokens: two streams of weights, each through half of the rows.
template <class Rows, std::size_t tokens, class Task>
void stream(const Task& task) {
    const std::size_t distance = (task.row_tile_end - task.row_tile_begin) / 2;
    for (std::size_t i = 0; i < distance; ++i)
        multiply_halves<tokens, 4>(Rows::of(task, task.row_tile_begin + i, 0), distance);
    if ((task.row_tile_end - task.row_tile_begin) % 2 != 0)
        multiply_halves<tokens, 2>(Rows::of(task, task.row_tile_end - 1, 0), 0);
}

// One row tile with up to 8 tokens.
template <class Rows, std::size_t tokens>
void multiply_row_tile(const Rows& rows) {
    if constexpr (tokens <= max_block_tokens / 2) {
        multiply_halves<tokens, 2>(rows, 0);
    } else {
        multiply_halves<tokens, 1>(rows, 0);
        multiply_halves<tokens, 1>(rows.lower_half(), 0);
    }
}

template <class Rows, class Task>
void multiply_rows(const Task& task) noexcept {
    if (task.tokens == 1) return stream<Rows, 1>(task);
    if (task.tokens == 2) return stream<Rows, 2>(task);

    using MultiplyRowTile = void (*)(const Rows&);
    static constexpr MultiplyRowTile multiply[max_block_tokens + 1] = {nullptr,
                                                                       multiply_row_tile<Rows, 1>,
                                                                       multiply_row_tile<Rows, 2>,
                                                                       multiply_row_tile<Rows, 3>,
                                                                       multiply_row_tile<Rows, 4>,
                                                                       multiply_row_tile<Rows, 5>,
                                                                       multiply_row_tile<Rows, 6>,
                                                                       multiply_row_tile<Rows, 7>,
                                                                       multiply_row_tile<Rows, 8>};
    const std::size_t num_blocks = (task.tokens + max_block_tokens - 1) / max_block_tokens;
    for (std::size_t row_tile = task.row_tile_begin; row_tile < task.row_tile_end; ++row_tile) {
        for (std::size_t block = 0; block < num_blocks; ++block) {
            const std::size_t token = task.tokens * block / num_blocks, end = task.tokens * (block + 1) / num_blocks;
            multiply[end - token](Rows::of(task, row_tile, token));
        }
    }
}

}  // namespace
}  // namespace tercet::avx2
