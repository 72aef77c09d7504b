// The end of a step: logits from a head in planes, and what looks at all of them to choose a token.
//
// Rows of whole numbers times int8 vectors are the heads and embeddings that are stored as int8_planes or int6_planes.
// A weight w is stored as the unsigned code u = w + bias, its upper four bits in one plane and the rest in another, so that
// a product that is content with four bits reads half of the memory:
//
//     eight bits   u = w + 128 = 16 high + low    high and low: four bits each
//     six bits     u = w + 32  =  4 high + low    low: two bits
//
// Both planes are row-major; a row is a number of chunks of 128 columns, the columns beyond the depth being w = 0:
//
//     four bits    64 bytes a chunk; byte j: column j in bits 0-3, column 64 + j in bits 4-7
//     two bits     32 bytes a chunk; byte j: column 32 i + j in bits 2i and 2i + 1, i = 0..3
//
// Row-major, because a few hundred rows anywhere in the table are looked at more closely after the first pass, and because
// an embedding is a row.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tercet {

inline constexpr std::size_t logit_block = 64;
inline constexpr std::size_t plane_chunk_columns = 128;
inline constexpr std::size_t four_bit_chunk_bytes = 64, two_bit_chunk_bytes = 32;
// Products stay below 2^31: 255 * 128 * 2^16.
inline constexpr std::size_t max_plane_depth = std::size_t{1} << 16;

// out[v][i] = sum over the columns k of code(row i, k) * vectors[v][k], exactly, codes unsigned.
struct PlaneMatmul {
    const std::uint8_t* high;
    const std::uint8_t* low;    // not read by multiply_high
    std::size_t chunks;         // of a row
    const std::uint32_t* rows;  // [num_rows], which rows; null: row_begin and those after it
    std::size_t row_begin;
    std::size_t num_rows;
    const std::int8_t* vectors;  // [num_vectors][vector_stride], zero beyond the depth
    std::size_t vector_stride;   // at least chunks * plane_chunk_columns
    std::size_t num_vectors;
    std::int32_t* out;  // [num_vectors][out_stride]
    std::size_t out_stride;

    std::size_t row(std::size_t i) const noexcept { return rows == nullptr ? row_begin + i : rows[i]; }
};

// out[i] = float((256 coarse[i] + fine[i]) * unit + offset) * (row_scales[i] * scale), the bracket in double and exact.
struct PlaneScaling {
    const std::int32_t* coarse;
    const std::int32_t* fine;
    std::size_t count;
    double unit, offset;
    const float* row_scales;
    float scale;
    float* out;
};

struct HeadKernels {
    void (*multiply_high)(const PlaneMatmul& task) noexcept;   // code = high
    void (*multiply_eight)(const PlaneMatmul& task) noexcept;  // code = 16 high + low
    void (*multiply_six)(const PlaneMatmul& task) noexcept;    // code = 4 high + low
    void (*scale_products)(const PlaneScaling& task) noexcept;
    // maxima[b] = the largest of logits 64 b to 64 b + 63 (the last block may be shorter), NaN if any of them is.
    void (*block_maxima)(const float* logits, std::size_t count, float* maxima) noexcept;
    // The sum of exp((logits[i] - largest) * factor) for logits up to `largest`. Its relative error is below 2^-17:
    // arguments are exact to 2^-23 of themselves, those below -30 hardly count, an exponential is exact to 2^-22.
    double (*sum_of_exponentials)(const float* logits, std::size_t count, float largest, float factor) noexcept;
};

// The names of the operations, in the order of the struct.
inline constexpr const char* head_operation_names[] = {
    "multiply_high", "multiply_eight", "multiply_six", "scale_products", "block_maxima", "sum_of_exponentials",
};

}  // namespace tercet
