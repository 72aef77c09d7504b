// two_bit x int8 with a scale for each row and group of columns: the loops of ternary_two_bit.cpp, group after group.
//
//   out[t][r] = sum over groups g, in order, of float(sum of g) * (activation_scales[t] * scale(r, g))       in float32
//
// The integers of a group are complete before they become floats: in the stream form when its tiles have passed, in the
// panel form when a panel ends, since a panel never crosses from one group to the next (a group longer than a panel
// leaves its integers in memory until its last panel). For groups of 128 columns that is a conversion, two
// multiplications and two additions beside 32 vpdpbusd, for each token and 16 rows.
#include <iterator>

#include "two_bit_tiles.hpp"

namespace tercet::avx512_vnni {
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
};

// total + float(sum) * (activation_scale * scale): no fused addition, so that it rounds as everywhere.
[[gnu::always_inline]] inline __m512 add_group(__m512 total, __m512i sum, float activation_scale, __m512 scale) {
    const __m512 factor = _mm512_mul_ps(_mm512_set1_ps(activation_scale), scale);
    return _mm512_add_ps(total, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), factor));
}

template <std::size_t tokens, std::size_t streams>
void stream_row_tiles(const GroupedRows& rows, std::size_t distance) {
    const std::size_t stream_bytes = distance * rows.depth_tiles * tile_bytes;
    __m512 totals[streams][tokens];
#pragma GCC unroll 4
    for (std::size_t stream = 0; stream < streams; ++stream)
#pragma GCC unroll 6
        for (std::size_t token = 0; token < tokens; ++token) totals[stream][token] = _mm512_setzero_ps();

    for (std::size_t group = 0; group < rows.groups; ++group) {
        const std::size_t begin = group * rows.group_tiles, left = rows.depth_tiles - begin;
        __m512i sums[streams][tokens][2] = {};
        add_tiles<tokens, streams>(rows.packed + begin * tile_bytes, stream_bytes,
                                   left < rows.group_tiles ? left : rows.group_tiles,
                                   rows.activations + begin * two_bit_tile_columns, rows.activation_stride, sums);
#pragma GCC unroll 4
        for (std::size_t stream = 0; stream < streams; ++stream) {
            const __m512 scale = _mm512_loadu_ps(rows.scales + (stream * distance * rows.groups + group) * 16);
#pragma GCC unroll 6
            for (std::size_t token = 0; token < tokens; ++token) {
                const __m512i total =
                    _mm512_add_epi32(sums[stream][token][0], _mm512_srai_epi32(sums[stream][token][1], 2));
                const __m512i offset = _mm512_set1_epi32(rows.group_sums[token * rows.groups + group]);
                totals[stream][token] = add_group(totals[stream][token], _mm512_sub_epi32(total, offset),
                                                  rows.activation_scales[token], scale);
            }
        }
    }
#pragma GCC unroll 4
    for (std::size_t stream = 0; stream < streams; ++stream)
#pragma GCC unroll 6
        for (std::size_t token = 0; token < tokens; ++token)
            _mm512_storeu_ps(rows.out + stream * distance * two_bit_tile_rows + token * rows.out_stride,
                             totals[stream][token]);
}

// The part of a group that a panel holds.
struct Panel {
    const std::uint8_t* codes;
    std::size_t begin, depth_tiles;  // along the depth
    std::size_t group;
    bool first, last;  // of the group
    const std::uint8_t* next_packed;
};

// Adds a panel to the integers of its group, and the group to `out` where the panel is its last. `partial` keeps integers
// [tokens][tiles][16] between the panels of a group.
template <std::size_t tiles, std::size_t tokens, bool read_ahead>
void multiply_panel(const Panel& panel, const GroupedRows& rows, std::int32_t* partial) {
    __m512i sums[tokens][tiles];
#pragma GCC unroll 8
    for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 3
        for (std::size_t tile = 0; tile < tiles; ++tile)
            sums[token][tile] = panel.first ? _mm512_set1_epi32(-rows.group_sums[token * rows.groups + panel.group])
                                            : _mm512_loadu_si512(partial + (token * tiles + tile) * 16);
    add_panel<tiles, tokens, read_ahead>(panel.codes, panel.depth_tiles,
                                         rows.activations + panel.begin * two_bit_tile_columns, rows.activation_stride,
                                         panel.next_packed, rows.depth_tiles * tile_bytes, sums);
    if (!panel.last) {
#pragma GCC unroll 8
        for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 3
            for (std::size_t tile = 0; tile < tiles; ++tile)
                _mm512_storeu_si512(partial + (token * tiles + tile) * 16, sums[token][tile]);
        return;
    }
#pragma GCC unroll 3
    for (std::size_t tile = 0; tile < tiles; ++tile) {
        const __m512 scale = _mm512_loadu_ps(rows.scales + (tile * rows.groups + panel.group) * 16);
#pragma GCC unroll 8
        for (std::size_t token = 0; token < tokens; ++token) {
            float* out = rows.out + token * rows.out_stride + 16 * tile;
            const __m512 total = panel.group == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(out);
            _mm512_storeu_ps(out, add_group(total, sums[token][tile], rows.activation_scales[token], scale));
        }
    }
}

using MultiplyPanel = void (*)(const Panel&, const GroupedRows&, std::int32_t*);

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

// `tiles` row tiles next to each other with up to max_pass_tokens tokens, panel after panel along the depth.
template <std::size_t tiles>
void multiply_row_tiles(const GroupedRows& rows, std::size_t tokens) {
    alignas(64) std::uint8_t codes[panel_depth_tiles * 4 * tiles * tile_bytes];
    std::int32_t partial[max_pass_tokens * tiles * 16];
    const std::size_t row_tile_bytes = rows.depth_tiles * tile_bytes;
    const std::size_t num_blocks = (tokens + max_block_tokens - 1) / max_block_tokens;
    for (std::size_t begin = 0, depth_tiles; begin < rows.depth_tiles; begin += depth_tiles) {
        const std::size_t group = begin / rows.group_tiles, group_begin = group * rows.group_tiles;
        const std::size_t whole_end = group_begin + rows.group_tiles;
        const std::size_t group_end = whole_end < rows.depth_tiles ? whole_end : rows.depth_tiles;
        depth_tiles = group_end - begin < panel_depth_tiles ? group_end - begin : panel_depth_tiles;
        const std::uint8_t* packed = rows.packed + begin * tile_bytes;
        for (std::size_t tile = 0; tile < tiles; ++tile)
            for (std::size_t k = 0; k < depth_tiles; ++k)
                spread_tile(packed + tile * row_tile_bytes + k * tile_bytes, codes + (4 * k * tiles + tile) * tile_bytes,
                            tiles * tile_bytes);

        const std::size_t end = begin + depth_tiles;
        const std::uint8_t* next_packed = end < rows.depth_tiles ? packed + depth_tiles * tile_bytes
                                                                 : rows.packed + tiles * row_tile_bytes;
        const Panel panel{codes, begin, depth_tiles, group, begin == group_begin, end == group_end, next_packed};
        for (std::size_t block = 0; block < num_blocks; ++block) {
            const std::size_t token = tokens * block / num_blocks, token_end = tokens * (block + 1) / num_blocks;
            GroupedRows part = rows;
            part.activations += token * rows.activation_stride;
            part.group_sums += token * rows.groups;
            part.activation_scales += token;
            part.out += token * rows.out_stride;
            const auto& multiply = block == 0 ? multiply_panel_of<tiles, true> : multiply_panel_of<tiles, false>;
            multiply[token_end - token](panel, part, partial + token * tiles * 16);
        }
    }
}

GroupedRows rows_of(const GroupedTernaryMatmul& task, std::size_t row_tile, std::size_t token) {
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

template <std::size_t tokens>
void stream(const GroupedTernaryMatmul& task) {
    constexpr std::size_t streams = num_streams(tokens);
    const std::size_t distance = (task.row_tile_end - task.row_tile_begin) / streams;
    std::size_t row_tile = task.row_tile_begin;
    for (; row_tile < task.row_tile_begin + distance; ++row_tile)
        stream_row_tiles<tokens, streams>(rows_of(task, row_tile, 0), distance);
    for (row_tile = task.row_tile_begin + streams * distance; row_tile < task.row_tile_end; ++row_tile)
        stream_row_tiles<tokens, 1>(rows_of(task, row_tile, 0), 0);
}

void matmul_two_bit_grouped(const GroupedTernaryMatmul& task) noexcept {
    using Stream = void (*)(const GroupedTernaryMatmul&);
    static constexpr Stream stream_of[] = {nullptr,   stream<1>, stream<2>, stream<3>,
                                           stream<4>, stream<5>, stream<6>};
    if (task.tokens == 0) return;
    if (task.tokens < std::size(stream_of)) return stream_of[task.tokens](task);
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

void install_two_bit_grouped(TernaryKernels& kernels) noexcept {
    kernels.matmul_two_bit_grouped = matmul_two_bit_grouped;
}

}  // namespace tercet::avx512_vnni
