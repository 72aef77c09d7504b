// two_bit x int8 with vpmaddubsw: 8 rows x 4 columns an instruction, pairs of products in 16 bits.
//
//   out[t][r] = sum over k of field(r, k) * a[t][k]  -  sum over k of a[t][k]            field = code + 1 in {0, 1, 2}
//
// A tile of 16 rows x 16 columns is two 32-byte halves of 8 rows. Of each half:
//
//   bytes             | row 0: c c c c  | row 1: c c c c  | ... | row 7: c c c c  |    c = four 2-bit fields
//   >> 2i & 3         |  columns 4i..4i+3 of row 0        | ... |  of row 7       |    unsigned
//   a[t] + 4i         |  a a a a, the same four in each row (vpbroadcastd)        |    signed
//   vpmaddubsw        |  p01     p23    | p01     p23     | ... |  p01     p23    |    16-bit sums of two products
//   vpaddw            |  added up for a window of 10 tiles (40 products sums)     |
//   vpmaddwd with 1   |  row 0          | row 1           | ... |  row 7          |    widened to 32 bits, lane = row
//
// Overflow: a sum of two products is at most 2 * 3 * 128 = 768 in magnitude (three is the value that honest weights
// never hold), 40 of them are 30,720 < 2^15; so vpmaddubsw never saturates and vpaddw never wraps. The 32-bit sums stay
// below 2^18 * 3 * 128 < 2^27.
//
// For 128 weights and one token: 7 instructions to take the fields apart, 4 vpmaddubsw and 4 vpaddw. 1 or 2 tokens read
// two far-apart row tiles at the same time, with prefetches into L2 running ahead; 3 and 4 tokens share the fields of
// both halves of a row tile, 5 to 8 those of one half after the other (8 accumulators of the 16 registers); more tokens
// come in blocks over the same row tile, which stays in L1 or L2.
#include "two_bit_tiles.hpp"

namespace tercet::avx2 {
namespace {

// The product of one row tile, or more, with a few tokens: where its operands begin.
struct Rows {
    const std::uint8_t* packed;
    std::size_t depth_tiles;
    const std::int8_t* activations;
    std::size_t activation_stride;
    const std::int32_t* activation_sums;
    std::int32_t* out;
    std::size_t out_stride;

    static Rows of(const TernaryMatmul& task, std::size_t row_tile, std::size_t token) noexcept {
        const std::size_t depth_tiles = (task.depth + two_bit_tile_columns - 1) / two_bit_tile_columns;
        return {task.packed + row_tile * depth_tiles * tile_bytes,
                depth_tiles,
                task.activations + token * task.activation_stride,
                task.activation_stride,
                task.activation_sums + token,
                task.out + token * task.out_stride + (row_tile - task.row_tile_begin) * two_bit_tile_rows,
                task.out_stride};
    }
    Rows lower_half() const noexcept {
        Rows lower = *this;
        lower.packed += half_bytes;
        lower.out += half_rows;
        return lower;
    }
};

// `halves` halves of row tiles: one, the two of a row tile, or the four of two row tiles that are `distance` apart.
template <std::size_t tokens, std::size_t halves>
void multiply_halves(const Rows& rows, std::size_t distance) {
    __m256i totals[tokens][halves];
#pragma GCC unroll 8
    for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 4
        for (std::size_t half = 0; half < halves; ++half)
            totals[token][half] = _mm256_set1_epi32(-rows.activation_sums[token]);

    add_tiles<tokens, halves>(rows.packed, distance * rows.depth_tiles * tile_bytes, rows.depth_tiles, rows.activations,
                              rows.activation_stride, totals);

#pragma GCC unroll 8
    for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 4
        for (std::size_t half = 0; half < halves; ++half)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(rows.out + token * rows.out_stride +
                                                               row_of_half(half, distance)),
                                totals[token][half]);
}

void matmul_two_bit(const TernaryMatmul& task) noexcept { multiply_rows<Rows>(task); }

}  // namespace

void install_two_bit(TernaryKernels& kernels) noexcept { kernels.matmul_two_bit = matmul_two_bit; }

}  // namespace tercet::avx2
