// Products with planes on NEON, written once for processors with dot products and without.
//
// A plane is row-major, and a field of 16 of its bytes is 16 columns of one row, in the order of the vector: masks and
// shifts, then multiply-adds into sums of which every lane has columns of its own. Without dot products, two products of a
// code and an activation are added in 16 bits, at most 2 * 15 * 128, before they are widened.
#pragma once

#include <arm_neon.h>

#include "../generic/plane_products.hpp"

namespace tercet {
namespace {

constexpr std::size_t plane_read_ahead_bytes = 2048;

[[gnu::always_inline]] inline int32x4_t add_sixteen(int32x4_t sums, int8x16_t codes, int8x16_t vector) {
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sums, codes, vector);
#else
    const int16x8_t products = vmull_s8(vget_low_s8(codes), vget_low_s8(vector));
    return vpadalq_s16(sums, vmlal_high_s8(products, codes, vector));
#endif
}

// The product of one row of a plane with a few vectors.
template <std::size_t bits, std::size_t count>
void multiply_row(const std::uint8_t* row, std::size_t chunks, const std::int8_t* vectors, std::size_t stride,
                  std::int32_t (&products)[count]) {
    constexpr std::size_t fields = 8 / bits, bytes = plane_chunk_columns / fields;
    const uint8x16_t mask = vdupq_n_u8((1 << bits) - 1);
    int32x4_t sums[count] = {};
    for (std::size_t chunk = 0; chunk < chunks; ++chunk, row += bytes, vectors += plane_chunk_columns) {
        __builtin_prefetch(row + plane_read_ahead_bytes, 0, 2);
#pragma GCC unroll 4
        for (std::size_t j = 0; j < bytes; j += 16) {
            uint8x16_t left = vld1q_u8(row + j);
#pragma GCC unroll 4
            for (std::size_t field = 0; field < fields; ++field) {
                const int8x16_t codes = vreinterpretq_s8_u8(vandq_u8(left, mask));
                left = vshrq_n_u8(left, bits);
#pragma GCC unroll 4
                for (std::size_t v = 0; v < count; ++v)
                    sums[v] = add_sixteen(sums[v], codes, vld1q_s8(vectors + v * stride + field * bytes + j));
            }
        }
    }
#pragma GCC unroll 4
    for (std::size_t v = 0; v < count; ++v) products[v] = vaddvq_s32(sums[v]);
}

// out[v][i] = unit * out[v][i] + the product with a plane of 8 / bits columns a byte.
template <std::size_t bits, std::size_t count>
void add_plane_of(const PlaneMatmul& task, const std::uint8_t* plane, std::int32_t unit, std::size_t first_vector) {
    const std::size_t row_bytes = task.chunks * plane_chunk_columns * bits / 8;
    for (std::size_t i = 0; i < task.num_rows; ++i) {
        std::int32_t products[count];
        multiply_row<bits, count>(plane + task.row(i) * row_bytes, task.chunks,
                                  task.vectors + first_vector * task.vector_stride, task.vector_stride, products);
        for (std::size_t v = 0; v < count; ++v) {
            std::int32_t& out = task.out[(first_vector + v) * task.out_stride + i];
            out = unit == 0 ? products[v] : unit * out + products[v];
        }
    }
}

template <std::size_t bits>
void add_plane(const PlaneMatmul& task, const std::uint8_t* plane, std::int32_t unit) {
    std::size_t vector = 0;
    for (; vector + 4 <= task.num_vectors; vector += 4) add_plane_of<bits, 4>(task, plane, unit, vector);
    for (; vector + 2 <= task.num_vectors; vector += 2) add_plane_of<bits, 2>(task, plane, unit, vector);
    if (vector < task.num_vectors) add_plane_of<bits, 1>(task, plane, unit, vector);
}

using Products = PlaneProducts<add_plane<4>, add_plane<2>>;

}  // namespace
}  // namespace tercet
