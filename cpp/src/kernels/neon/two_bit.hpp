// two_bit x int8 on NEON, written once for processors with dot products and without (quad_sums.hpp).
//
//   out[t][r] = sum over k of field(r, k) * a[t][k]  -  sum over k of a[t][k]            field = code + 1 in {0, 1, 2}
//
// A tile of 16 rows x 16 columns is four registers of 4 rows. Field i of their bytes is the columns 4i..4i+3, and meets
// lane i of the register that holds the tile's 16 activations: no shuffle, no broadcast.
//
// A few tokens: fields are taken out in registers (2 instructions each) and used at once. More: the fields of 16 rows x 320
// columns are spread out to one byte each (5 KB, stays in L1) and serve all tokens.
#pragma once

#include "spread_codes.hpp"

namespace tercet {
namespace {

constexpr std::size_t window_tiles = window_columns / two_bit_tile_columns;
constexpr std::size_t read_ahead_bytes = 2048;

constexpr std::size_t depth_tiles_of(std::size_t depth) {
    return (depth + two_bit_tile_columns - 1) / two_bit_tile_columns;
}
constexpr std::size_t smaller(std::size_t a, std::size_t b) { return a < b ? a : b; }

template <int field>
[[gnu::always_inline]] inline int8x16_t field_of(uint8x16_t bytes) {
    if constexpr (field == 0) return vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(3)));
    else if constexpr (field == 3) return vreinterpretq_s8_u8(vshrq_n_u8(bytes, 6));
    else return vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(bytes, 2 * field), vdupq_n_u8(3)));
}

// Adds `tiles` tiles of 16 rows, at most a window.
template <std::size_t tokens>
[[gnu::always_inline]] inline void add_tiles(const std::uint8_t* packed, std::size_t tiles, const std::int8_t* activations,
                                             std::size_t stride, TileSums<tokens>& sums) {
    for (std::size_t tile = 0; tile < tiles; ++tile, packed += tile_bytes, activations += two_bit_tile_columns) {
        __builtin_prefetch(packed + read_ahead_bytes, 0, 2);
        const SixteenColumns<tokens> sixteen(activations, stride);
#pragma GCC unroll 4
        for (std::size_t quad = 0; quad < quads; ++quad) {
            const uint8x16_t bytes = vld1q_u8(packed + 16 * quad);
            for_each_lane([&](auto lane) __attribute__((always_inline)) {
                const int8x16_t codes = field_of<decltype(lane)::value>(bytes);
#pragma GCC unroll 8
                for (std::size_t token = 0; token < tokens; ++token)
                    add<decltype(lane)::value>(sums.of[token][quad], codes, sixteen.of[token]);
            });
        }
    }
}

// The tiles of 16 rows, one byte for each code, step after step.
void spread_two_bit(const std::uint8_t* packed, std::size_t tiles, std::int8_t* codes) {
    for (std::size_t tile = 0; tile < tiles; ++tile, packed += tile_bytes) {
        __builtin_prefetch(packed + read_ahead_bytes, 0, 2);
#pragma GCC unroll 4
        for (std::size_t quad = 0; quad < quads; ++quad) {
            const uint8x16_t bytes = vld1q_u8(packed + 16 * quad);
            for_each_lane([&](auto lane) __attribute__((always_inline)) {
                constexpr int field = decltype(lane)::value;
                vst1q_s8(codes + field * step_bytes + 16 * quad, field_of<field>(bytes));
            });
        }
        codes += 4 * step_bytes;
    }
}

// One window of 16 rows with all tokens of the task.
template <std::size_t tokens>
void stream_window(const std::uint8_t* packed, std::size_t tiles, const std::int8_t* activations, std::size_t stride,
                   std::int32_t* out, std::size_t out_stride) {
    TileSums<tokens> sums;
    add_tiles<tokens>(packed, tiles, activations, stride, sums);
    sums.add_to(out, out_stride);
}

void multiply_window(const std::uint8_t* packed, std::size_t tiles, const std::int8_t* activations, std::size_t stride,
                     std::size_t tokens, std::int32_t* out, std::size_t out_stride) {
    if (tokens <= max_stream_tokens) {
        const auto stream = [&]<std::size_t size>(std::integral_constant<std::size_t, size>) {
            if (tokens == size) stream_window<size>(packed, tiles, activations, stride, out, out_stride);
        };
        [&]<std::size_t... size>(std::index_sequence<size...>) {
            (stream(std::integral_constant<std::size_t, size + 1>{}), ...);
        }(std::make_index_sequence<max_stream_tokens>{});
    } else {
        alignas(64) std::int8_t codes[window_columns / 4 * step_bytes];
        spread_two_bit(packed, tiles, codes);
        multiply_spread_by_all(codes, tiles * two_bit_tile_columns, activations, stride, tokens, out, out_stride);
    }
}

void matmul_two_bit(const TernaryMatmul& task) noexcept {
    const std::size_t depth_tiles = depth_tiles_of(task.depth);
    for (std::size_t row_tile = task.row_tile_begin; row_tile < task.row_tile_end; ++row_tile) {
        std::int32_t* out = task.out + (row_tile - task.row_tile_begin) * two_bit_tile_rows;
        for (std::size_t token = 0; token < task.tokens; ++token)
            for (std::size_t quad = 0; quad < quads; ++quad)
                vst1q_s32(out + token * task.out_stride + 4 * quad, vdupq_n_s32(-task.activation_sums[token]));
        for (std::size_t tile = 0; tile < depth_tiles; tile += window_tiles)
            multiply_window(task.packed + (row_tile * depth_tiles + tile) * tile_bytes,
                            smaller(window_tiles, depth_tiles - tile), task.activations + tile * two_bit_tile_columns,
                            task.activation_stride, task.tokens, out, task.out_stride);
    }
}

// The sums of one group of columns, of 16 rows, less the sums of its activations: the exact integers of a group.
template <std::size_t tokens>
struct GroupSums {
    int32x4_t of[tokens][quads];
};

// A row tile with a few tokens and a scale for each row and group.
template <std::size_t tokens>
void multiply_grouped(const GroupedTernaryMatmul& task, std::size_t row_tile, std::size_t first_token) {
    const std::size_t depth_tiles = depth_tiles_of(task.depth), group_tiles = task.group_size / two_bit_tile_columns;
    const std::size_t groups = (depth_tiles + group_tiles - 1) / group_tiles;
    const std::uint8_t* packed = task.packed + row_tile * depth_tiles * tile_bytes;
    const float* scales = task.scales + (row_tile - task.row_tile_begin) * groups * two_bit_tile_rows;
    const std::int8_t* activations = task.activations + first_token * task.activation_stride;

    float32x4_t totals[tokens][quads] = {};
    for (std::size_t group = 0; group < groups; ++group, scales += two_bit_tile_rows) {
        GroupSums<tokens> integers;
#pragma GCC unroll 8
        for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 4
            for (std::size_t quad = 0; quad < quads; ++quad)
                integers.of[token][quad] = vdupq_n_s32(-task.group_sums[(first_token + token) * groups + group]);

        const std::size_t end = smaller((group + 1) * group_tiles, depth_tiles);
        for (std::size_t tile = group * group_tiles; tile < end; tile += window_tiles) {
            TileSums<tokens> sums;
            add_tiles<tokens>(packed + tile * tile_bytes, smaller(window_tiles, end - tile),
                              activations + tile * two_bit_tile_columns, task.activation_stride, sums);
#pragma GCC unroll 8
            for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 4
                for (std::size_t quad = 0; quad < quads; ++quad)
                    integers.of[token][quad] = vaddq_s32(integers.of[token][quad], total(sums.of[token][quad]));
        }
#pragma GCC unroll 8
        for (std::size_t token = 0; token < tokens; ++token) {
            const float32x4_t activation_scale = vdupq_n_f32(task.activation_scales[first_token + token]);
#pragma GCC unroll 4
            for (std::size_t quad = 0; quad < quads; ++quad) {
                const float32x4_t factor = vmulq_f32(activation_scale, vld1q_f32(scales + 4 * quad));
                const float32x4_t product = vmulq_f32(vcvtq_f32_s32(integers.of[token][quad]), factor);
                totals[token][quad] = vaddq_f32(totals[token][quad], product);
            }
        }
    }
    float* out = task.out + first_token * task.out_stride + (row_tile - task.row_tile_begin) * two_bit_tile_rows;
    for (std::size_t token = 0; token < tokens; ++token)
        for (std::size_t quad = 0; quad < quads; ++quad) vst1q_f32(out + token * task.out_stride + 4 * quad, totals[token][quad]);
}

void matmul_two_bit_grouped(const GroupedTernaryMatmul& task) noexcept {
    for (std::size_t row_tile = task.row_tile_begin; row_tile < task.row_tile_end; ++row_tile) {
        std::size_t token = 0;
        for (; token + 2 <= task.tokens; token += 2) multiply_grouped<2>(task, row_tile, token);
        if (token < task.tokens) multiply_grouped<1>(task, row_tile, token);
    }
}

}  // namespace
}  // namespace tercet
