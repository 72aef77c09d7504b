// Sums of products of 4 rows x 4 columns of codes with 4 activations: the step that all NEON kernels are made of.
//
//     codes        | row 0: c c c c | row 1: c c c c | row 2: c c c c | row 3: c c c c |   16 bytes
//     activations  | lane 0         | lane 1         | lane 2         | lane 3         |   16 columns of one token
//
// add<lane> multiplies each row of codes with the same four activations. With dot products (sdot) that is one instruction
// and the sums have 32 bits. Without, products are added in 16 bits, one sum for each row and column of four (smlal on
// each half), which is what bounds a window: 80 steps of codes up to 3 times 128 are 80 * 3 * 128 = 30,720 < 2^15.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "tercet/ternary_kernels.hpp"

namespace tercet {
namespace {

constexpr std::size_t quads = 4;              // of rows in a tile of 16
constexpr std::size_t window_columns = 320;   // 80 steps: after so many, sums are widened and added to the results
constexpr std::size_t step_bytes = 64;        // 16 rows x 4 columns
static_assert(window_columns == prepared_piece_columns);

#if defined(__ARM_FEATURE_DOTPROD)

struct QuadSums {
    int32x4_t rows;
};
template <int lane>
[[gnu::always_inline]] inline void add(QuadSums& sums, int8x16_t codes, int8x16_t activations) {
    sums.rows = vdotq_laneq_s32(sums.rows, codes, activations, lane);
}
[[gnu::always_inline]] inline int32x4_t total(const QuadSums& sums) { return sums.rows; }
[[gnu::always_inline]] inline QuadSums no_sums() { return {vdupq_n_s32(0)}; }

// Tokens at once: so many that four sums of each, their activations and a few codes fit the 32 registers.
constexpr std::size_t max_stream_tokens = 4, max_block_tokens = 5;

#else

struct QuadSums {
    int16x8_t low, high;  // rows 0, 1 and rows 2, 3: four columns each
};
template <int lane>
[[gnu::always_inline]] inline void add(QuadSums& sums, int8x16_t codes, int8x16_t activations) {
    const int8x16_t four = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(activations), lane));
    sums.low = vmlal_s8(sums.low, vget_low_s8(codes), vget_low_s8(four));
    sums.high = vmlal_high_s8(sums.high, codes, four);
}
[[gnu::always_inline]] inline int32x4_t total(const QuadSums& sums) {
    return vpaddq_s32(vpaddlq_s16(sums.low), vpaddlq_s16(sums.high));
}
[[gnu::always_inline]] inline QuadSums no_sums() { return {vdupq_n_s16(0), vdupq_n_s16(0)}; }

constexpr std::size_t max_stream_tokens = 2, max_block_tokens = 2;

#endif

// Calls action(integral_constant) for 0, 1, 2, 3: a lane is part of an instruction.
template <class Action>
[[gnu::always_inline]] inline void for_each_lane(Action&& action) {
    [&]<int... lane>(std::integer_sequence<int, lane...>) __attribute__((always_inline)) {
        (action(std::integral_constant<int, lane>{}), ...);
    }(std::make_integer_sequence<int, 4>{});
}

// The sums of one tile of rows, of a few tokens.
template <std::size_t tokens>
struct TileSums {
    QuadSums of[tokens][quads];

    [[gnu::always_inline]] TileSums() {
#pragma GCC unroll 8
        for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 4
            for (std::size_t quad = 0; quad < quads; ++quad) of[token][quad] = no_sums();
    }

    // out[token][row] += the sums, for 16 rows.
    [[gnu::always_inline]] void add_to(std::int32_t* out, std::size_t out_stride) const {
#pragma GCC unroll 8
        for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 4
            for (std::size_t quad = 0; quad < quads; ++quad) {
                std::int32_t* rows = out + token * out_stride + 4 * quad;
                vst1q_s32(rows, vaddq_s32(vld1q_s32(rows), total(of[token][quad])));
            }
    }
};

// Activations of a few tokens, 16 columns of each.
template <std::size_t tokens>
struct SixteenColumns {
    int8x16_t of[tokens];

    [[gnu::always_inline]] SixteenColumns(const std::int8_t* activations, std::size_t stride) {
#pragma GCC unroll 8
        for (std::size_t token = 0; token < tokens; ++token) of[token] = vld1q_s8(activations + token * stride);
    }
};

}  // namespace
}  // namespace tercet
