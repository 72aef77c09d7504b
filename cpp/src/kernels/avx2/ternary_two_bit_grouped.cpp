// two_bit x int8 with a scale for each row and group of columns: the loop of ternary_two_bit.cpp, group after group.
//
//   out[t][r] = sum over groups g, in order, of float(sum of g) * (activation_scales[t] * scale(r, g))       in float32
//
// A group of 128 columns is 8 tiles, which is one window of 16-bit sums: they are widened when the group ends, where they
// become floats. That is a conversion, two multiplications and two additions beside 32 vpmaddubsw and vpaddw.
#include "two_bit_tiles.hpp"

namespace tercet::avx2 {
namespace {

// The product of one row tile, or more, with a few tokens: where its operands begin.
struct GroupedRows {
    const std::uint8_t* packed;
    std::size_t depth_tiles, group_tiles, groups;
    const std::int8_t* activations;
    std::size_t activation_stride;
    const std::int32_t* group_sums;
    const float* activation_scales;
    const float* scales;  // [row tiles][groups][16]
    float* out;
    std::size_t out_stride;

    static GroupedRows of(const GroupedTernaryMatmul& task, std::size_t row_tile, std::size_t token) noexcept {
        const std::size_t depth_tiles = (task.depth + two_bit_tile_columns - 1) / two_bit_tile_columns;
        const std::size_t group_tiles = task.group_size / two_bit_tile_columns;
        const std::size_t groups = (depth_tiles + group_tiles - 1) / group_tiles, skipped = row_tile - task.row_tile_begin;
        return {task.packed + row_tile * depth_tiles * tile_bytes,
                depth_tiles,
                group_tiles,
                groups,
                task.activations + token * task.activation_stride,
                task.activation_stride,
                task.group_sums + token * groups,
                task.activation_scales + token,
                task.scales + skipped * groups * two_bit_tile_rows,
                task.out + token * task.out_stride + skipped * two_bit_tile_rows,
                task.out_stride};
    }
    GroupedRows lower_half() const noexcept {
        GroupedRows lower = *this;
        lower.packed += half_bytes;
        lower.scales += half_rows;
        lower.out += half_rows;
        return lower;
    }
};

// `halves` halves of row tiles: one, the two of a row tile, or the four of two row tiles that are `distance` apart.
template <std::size_t tokens, std::size_t halves>
void multiply_halves(const GroupedRows& rows, std::size_t distance) {
    __m256 totals[tokens][halves];
#pragma GCC unroll 8
    for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 4
        for (std::size_t half = 0; half < halves; ++half) totals[token][half] = _mm256_setzero_ps();

    for (std::size_t group = 0; group < rows.groups; ++group) {
        const std::size_t begin = group * rows.group_tiles, left = rows.depth_tiles - begin;
        __m256i sums[tokens][halves];
#pragma GCC unroll 8
        for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 4
            for (std::size_t half = 0; half < halves; ++half)
                sums[token][half] = _mm256_set1_epi32(-rows.group_sums[token * rows.groups + group]);
        add_tiles<tokens, halves>(rows.packed + begin * tile_bytes, distance * rows.depth_tiles * tile_bytes,
                                  left < rows.group_tiles ? left : rows.group_tiles,
                                  rows.activations + begin * two_bit_tile_columns, rows.activation_stride, sums);
#pragma GCC unroll 4
        for (std::size_t half = 0; half < halves; ++half) {
            const std::size_t row_tile = half / 2 * distance;
            const __m256 scale =
                _mm256_loadu_ps(rows.scales + (row_tile * rows.groups + group) * two_bit_tile_rows + half % 2 * half_rows);
#pragma GCC unroll 8
            for (std::size_t token = 0; token < tokens; ++token) {
                const __m256 factor = _mm256_mul_ps(_mm256_set1_ps(rows.activation_scales[token]), scale);
                const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[token][half]), factor);
                totals[token][half] = _mm256_add_ps(totals[token][half], product);
            }
        }
    }
#pragma GCC unroll 8
    for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 4
        for (std::size_t half = 0; half < halves; ++half)
            _mm256_storeu_ps(rows.out + token * rows.out_stride + row_of_half(half, distance), totals[token][half]);
}

void matmul_two_bit_grouped(const GroupedTernaryMatmul& task) noexcept { multiply_rows<GroupedRows>(task); }

}  // namespace

void install_two_bit_grouped(TernaryKernels& kernels) noexcept {
    kernels.matmul_two_bit_grouped = matmul_two_bit_grouped;
}

}  // namespace tercet::avx2
