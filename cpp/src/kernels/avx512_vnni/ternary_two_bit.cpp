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

// The product of one row tile with a few tokens: where its operands begin.
struct Rows {
    const std::uint8_t* packed;
    std::size_t depth_tiles;
    const std::int8_t* activations;
    std::size_t activation_stride;
    const std::int32_t* activation_sums;
    std::int32_t* out;
    std::size_t out_stride;
};

// One row tile of each stream, `distance` row tiles apart, with a few tokens.
template <std::size_t tokens, std::size_t streams>
void stream_row_tiles(const Rows& rows, std::size_t distance) {
    const std::size_t stream_bytes = distance * rows.depth_tiles * tile_bytes;
    __m512i sums[streams][tokens][2] = {};  // in units of 1 and of 4
    add_tiles<tokens, streams>(rows.packed, stream_bytes, rows.depth_tiles, rows.activations, rows.activation_stride, sums);
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
void multiply_panel(const std::uint8_t* panel, std::size_t depth_tiles, bool first, const Rows& rows,
                    const std::uint8_t* next_packed) {
    __m512i sums[tokens][tiles];
#pragma GCC unroll 8
    for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 3
        for (std::size_t tile = 0; tile < tiles; ++tile)
            sums[token][tile] = first ? _mm512_set1_epi32(-rows.activation_sums[token])
                                      : _mm512_loadu_si512(rows.out + token * rows.out_stride + 16 * tile);

    add_panel<tiles, tokens, read_ahead>(panel, depth_tiles, rows.activations, rows.activation_stride, next_packed,
                                         rows.depth_tiles * tile_bytes, sums);

#pragma GCC unroll 8
    for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 3
        for (std::size_t tile = 0; tile < tiles; ++tile)
            _mm512_storeu_si512(rows.out + token * rows.out_stride + 16 * tile, sums[token][tile]);
}

using MultiplyPanel = void (*)(const std::uint8_t*, std::size_t, bool, const Rows&, const std::uint8_t*);

template <std::size_t tiles, bool read_ahead>
constexpr MultiplyPanel multiply_panel_of[max_block_tokens + 1] = {nullptr,
                                                                   multiply_panel<tiles, 1, read_ahead>,
                                                                   multiply_panel<tiles, 2, read_ahead>,
                                                                   multiply_panel<tiles, 3, read_ahead>,
                                                                   multiply_panel<tiles, 4, read_ahead>,
                                                                   multiply_panel<tiles, 5, read_ahead>,
                                                                   multiply_panel<tiles, 6, read_ahead>,
                                                                   multiply_panel<tiles, 7, read_ahead>,
                                                                   multiply_panel<tiles, 8, read_ahead>};

// `tiles` row tiles next to each other with any number of tokens, panel after panel along the depth.
template <std::size_t tiles>
void multiply_row_tiles(const Rows& rows, std::size_t tokens) {
    alignas(64) std::uint8_t panel[panel_depth_tiles * 4 * tiles * tile_bytes];
    const std::size_t row_tile_bytes = rows.depth_tiles * tile_bytes;
    const std::size_t num_blocks = (tokens + max_block_tokens - 1) / max_block_tokens;
    for (std::size_t begin = 0; begin < rows.depth_tiles; begin += panel_depth_tiles) {
        const std::uint8_t* packed = rows.packed + begin * tile_bytes;
        const std::size_t left = rows.depth_tiles - begin;
        const std::size_t depth_tiles = left < panel_depth_tiles ? left : panel_depth_tiles;
        for (std::size_t tile = 0; tile < tiles; ++tile)
            for (std::size_t k = 0; k < depth_tiles; ++k)
                spread_tile(packed + tile * row_tile_bytes + k * tile_bytes,
                            panel + (4 * k * tiles + tile) * tile_bytes, tiles * tile_bytes);

        const std::uint8_t* next_packed =
            left > depth_tiles ? packed + depth_tiles * tile_bytes : rows.packed + tiles * row_tile_bytes;
        for (std::size_t block = 0; block < num_blocks; ++block) {
            const std::size_t token = tokens * block / num_blocks, end = tokens * (block + 1) / num_blocks;
            Rows part = rows;
            part.activations += token * rows.activation_stride + begin * two_bit_tile_columns;
            part.activation_sums += token;
            part.out += token * rows.out_stride;
            const auto& multiply = block == 0 ? multiply_panel_of<tiles, true> : multiply_panel_of<tiles, false>;
            multiply[end - token](panel, depth_tiles, begin == 0, part, next_packed);
        }
    }
}

Rows rows_of(const TernaryMatmul& task, std::size_t row_tile, std::size_t token) {
    const std::size_t depth_tiles = (task.depth + two_bit_tile_columns - 1) / two_bit_tile_columns;
    return {task.packed + row_tile * depth_tiles * tile_bytes,
            depth_tiles,
            task.activations + token * task.activation_stride,
            task.activation_stride,
            task.activation_sums + token,
            task.out + token * task.out_stride + (row_tile - task.row_tile_begin) * two_bit_tile_rows,
            task.out_stride};
}

template <std::size_t tokens>
void stream(const TernaryMatmul& task) {
    constexpr std::size_t streams = num_streams(tokens);
    const std::size_t distance = (task.row_tile_end - task.row_tile_begin) / streams;
    std::size_t row_tile = task.row_tile_begin;
    for (; row_tile < task.row_tile_begin + distance; ++row_tile)
        stream_row_tiles<tokens, streams>(rows_of(task, row_tile, 0), distance);
    for (row_tile = task.row_tile_begin + streams * distance; row_tile < task.row_tile_end; ++row_tile)
        stream_row_tiles<tokens, 1>(rows_of(task, row_tile, 0), 0);
}

void matmul_two_bit(const TernaryMatmul& task) noexcept {
    switch (task.tokens) {
        case 0:
            return;
        case 1:
            return stream<1>(task);
        case 2:
            return stream<2>(task);
        case 3:
            return stream<3>(task);
        case 4:
            return stream<4>(task);
        case 5:
            return stream<5>(task);
        case 6:
            return stream<6>(task);
        default:
            break;
    }
    const std::size_t num_passes = (task.tokens + max_pass_tokens - 1) / max_pass_tokens;
    for (std::size_t pass = 0; pass < num_passes; ++pass) {
        const std::size_t token = task.tokens * pass / num_passes;
        const std::size_t tokens = task.tokens * (pass + 1) / num_passes - token;
        std::size_t row_tile = task.row_tile_begin;
        for (; row_tile + panel_tiles <= task.row_tile_end; row_tile += panel_tiles)
            multiply_row_tiles<panel_tiles>(rows_of(task, row_tile, token), tokens);
        const std::size_t left = task.row_tile_end - row_tile;
        if (left == 2) multiply_row_tiles<2>(rows_of(task, row_tile, token), tokens);
        if (left == 1) multiply_row_tiles<1>(rows_of(task, row_tile, token), tokens);
    }
}

}  // namespace

// For relatives, which multiply many tokens in another way.
void multiply_two_bit(const TernaryMatmul& task) noexcept { matmul_two_bit(task); }

void install_two_bit(TernaryKernels& kernels) noexcept { kernels.matmul_two_bit = matmul_two_bit; }

}  // namespace tercet::avx512_vnni
