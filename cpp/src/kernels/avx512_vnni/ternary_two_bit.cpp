// two_bit x int8 with vpdpbusd on 64 bytes: 16 rows x 4 columns an instruction.
//
//   out[t][r] = sum over k of field(r, k) * a[t][k]  -  sum over k of a[t][k]            field = code + 1 in {0, 1, 2}
//
// A tile of 16 rows x 16 columns is one 64-byte load. Field i of its bytes is 16 rows x columns 4i..4i+3:
//
//   bytes of the tile  | row 0: c c c c | row 1: c c c c | ... | row 15: c c c c |     c = four 2-bit fields
//   & 0x03 << 2i       |  columns 4i..4i+3 of row 0      | ... |  of row 15      |     unsigned, times 4^i
//   a[t] + 4i          |  a a a a, the same four in each lane (broadcast)        |     signed
//   vpdpbusd           |  += 4 products in lane 0        | ... |  in lane 15     |     lane r is row r
//
// Stream form, 1 to 6 tokens: memory sets the pace, so every byte of weights is read once, from 2 or 4 far-apart rows
// at the same time, with prefetches into L2 running ahead (one sequential stream got 80 % of that bandwidth). Fields 1
// and 3 are masked but not shifted; their products gather in a second accumulator that is divided by 4 at the end. That
// is 1 shift, 4 vpandd and, for each token, 4 vpdpbusd for 256 weights.
//
// Panel form, 7 tokens and more: the multipliers set the pace. The fields of 48 rows x 512 columns are spread out to
// one byte each (24 KB, stays in L1), then blocks of 48 rows x up to 8 tokens (24 accumulators) run over the panel: 3
// loads, 8 broadcasts and 24 vpdpbusd for 4 columns. The first block also prefetches the weights of the next panel.
//
// Overflow: a stream accumulator gets 2 * depth / 16 sums of four products of at most 12 * 128 (three is the value that
// honest weights never hold, times 4): 2 * 2^14 * 6144 < 2^28. A panel accumulator stays below 2^18 * 3 * 128 < 2^27.
//
// Tried and lost: blocks of 32 rows x 12 tokens and 64 x 6 (equal in L1, behind once activations come from L2);
// embedded broadcasts in the panel form (one load for each vpdpbusd: 306 instead of 375 GMAC/s in L1); unrolling its
// loop four times (5 % slower); prefetching activations into L1 (2 % slower); four accumulators for the four fields of
// a stream.
#include "two_bit_tiles.hpp"

namespace tercet::avx512_vnni {
namespace {

// The product of one row tile, or more, with some tokens: where its operands begin.
struct Rows {
    static constexpr bool keeps_partial = false;  // `out` is integers
    const std::uint8_t* packed;
    std::size_t depth_tiles, group_tiles;  // the same: one group
    const std::int8_t* activations;
    std::size_t activation_stride;
    const std::int32_t* activation_sums;
    std::int32_t* out;
    std::size_t out_stride;

    static Rows of(const TernaryMatmul& task, std::size_t row_tile, std::size_t token) noexcept {
        const std::size_t depth_tiles = (task.depth + two_bit_tile_columns - 1) / two_bit_tile_columns;
        return {task.packed + row_tile * depth_tiles * tile_bytes,
                depth_tiles,
                depth_tiles,
                task.activations + token * task.activation_stride,
                task.activation_stride,
                task.activation_sums + token,
                task.out + token * task.out_stride + (row_tile - task.row_tile_begin) * two_bit_tile_rows,
                task.out_stride};
    }
    Rows from(std::size_t token) const noexcept {
        Rows later = *this;
        later.activations += token * activation_stride;
        later.activation_sums += token;
        later.out += token * out_stride;
        return later;
    }
};

// One row tile of each stream, `distance` row tiles apart, with a few tokens.
template <std::size_t tokens, std::size_t streams>
void stream_row_tiles(const Rows& rows, std::size_t distance) {
    const std::size_t stream_bytes = distance * rows.depth_tiles * tile_bytes;
    __m512i sums[streams][tokens][2] = {};  // in units of 1 and of 4
    add_tiles<tokens, streams>(rows.packed, stream_bytes, rows.depth_tiles, rows.activations, rows.activation_stride,
                               sums);
#pragma GCC unroll 4
    for (std::size_t stream = 0; stream < streams; ++stream)
#pragma GCC unroll 6
        for (std::size_t token = 0; token < tokens; ++token) {
            const __m512i total =
                _mm512_add_epi32(sums[stream][token][0], _mm512_srai_epi32(sums[stream][token][1], 2));
            _mm512_storeu_si512(rows.out + stream * distance * two_bit_tile_rows + token * rows.out_stride,
                                _mm512_sub_epi32(total, _mm512_set1_epi32(rows.activation_sums[token])));
        }
}

// out[t][0..16 * tiles) += panel * activations[t], or from minus the activation sums when the panel is the first one.
template <std::size_t tiles, std::size_t tokens, bool read_ahead>
void multiply_panel(const Panel& panel, const Rows& rows, std::int32_t*) {
    __m512i sums[tokens][tiles];
#pragma GCC unroll 8
    for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 3
        for (std::size_t tile = 0; tile < tiles; ++tile)
            sums[token][tile] = panel.first ? _mm512_set1_epi32(-rows.activation_sums[token])
                                            : _mm512_loadu_si512(rows.out + token * rows.out_stride + 16 * tile);

    add_panel<tiles, tokens, read_ahead>(panel.codes, panel.depth_tiles,
                                         rows.activations + panel.begin * two_bit_tile_columns, rows.activation_stride,
                                         panel.next_packed, rows.depth_tiles * tile_bytes, sums);

#pragma GCC unroll 8
    for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 3
        for (std::size_t tile = 0; tile < tiles; ++tile)
            _mm512_storeu_si512(rows.out + token * rows.out_stride + 16 * tile, sums[token][tile]);
}

void matmul_two_bit(const TernaryMatmul& task) noexcept { multiply_rows<Rows>(task); }

}  // namespace

// For relatives, which multiply many tokens in another way.
void multiply_two_bit(const TernaryMatmul& task) noexcept { matmul_two_bit(task); }

void install_two_bit(TernaryKernels& kernels) noexcept { kernels.matmul_two_bit = matmul_two_bit; }

}  // namespace tercet::avx512_vnni
