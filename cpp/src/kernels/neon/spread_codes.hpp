// The codes of 16 rows, spread out to one byte each, times many tokens: the second half of both matrix kernels.
#pragma once

#include "quad_sums.hpp"

namespace tercet {
namespace {

// The codes of 16 rows spread out to one byte each, step after step, times a few tokens; columns a multiple of 16, at
// most a window.
template <std::size_t tokens>
void multiply_spread(const std::int8_t* codes, std::size_t columns, const std::int8_t* activations, std::size_t stride,
                     std::int32_t* out, std::size_t out_stride) {
    TileSums<tokens> sums;
    for (std::size_t column = 0; column < columns; column += 16) {
        const SixteenColumns<tokens> sixteen(activations + column, stride);
        for_each_lane([&](auto lane) __attribute__((always_inline)) {
#pragma GCC unroll 4
            for (std::size_t quad = 0; quad < quads; ++quad) {
                const int8x16_t four_columns = vld1q_s8(codes + 16 * quad);
#pragma GCC unroll 8
                for (std::size_t token = 0; token < tokens; ++token)
                    add<decltype(lane)::value>(sums.of[token][quad], four_columns, sixteen.of[token]);
            }
            codes += step_bytes;
        });
    }
    sums.add_to(out, out_stride);
}

// The same for any number of tokens, in blocks of about the same size.
void multiply_spread_by_all(const std::int8_t* codes, std::size_t columns, const std::int8_t* activations,
                            std::size_t stride, std::size_t tokens, std::int32_t* out, std::size_t out_stride) {
    const std::size_t blocks = (tokens + max_block_tokens - 1) / max_block_tokens;
    for (std::size_t block = 0; block < blocks; ++block) {
        const std::size_t first = tokens * block / blocks, count = tokens * (block + 1) / blocks - first;
        const auto multiply = [&]<std::size_t size>(std::integral_constant<std::size_t, size>) {
            if (count == size)
                multiply_spread<size>(codes, columns, activations + first * stride, stride, out + first * out_stride,
                                      out_stride);
        };
        [&]<std::size_t... size>(std::index_sequence<size...>) {
            (multiply(std::integral_constant<std::size_t, size + 1>{}), ...);
        }(std::make_index_sequence<max_block_tokens>{});
    }
}

}  // namespace
}  // namespace tercet
