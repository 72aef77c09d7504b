// two_bit x int8 with a scale for each row and group of columns: the loops of ternary_two_bit.cpp, group after group.
//
//   out[t][r] = sum over groups g, in order, of float(sum of g) * (activation_scales[t] * scale(r, g))       in float32
//
// The integers of a group are complete before they become floats: in the stream form when its tiles have passed, in the
// panel form when a panel ends, since a panel never crosses from one group to the next (a group longer than a panel
// leaves its integers in memory until its last panel). For groups of 128 columns that is a conversion, two
// multiplications and two additions beside 32 vpdpbusd, for each token and 16 rows.
#include "two_bit_tiles.hpp"

namespace tercet::avx512_vnni {
namespace {

// The product of one row tile, or more, with some tokens: where its operands begin.
struct GroupedRows {
    static constexpr bool keeps_partial = true;
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
        const std::size_t groups = (depth_tiles + group_tiles - 1) / group_tiles,
                          skipped = row_tile - task.row_tile_begin;
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
    GroupedRows from(std::size_t token) const noexcept {
        GroupedRows later = *this;
        later.activations += token * activation_stride;
        later.group_sums += token * groups;
        later.activation_scales += token;
        later.out += token * out_stride;
        return later;
    }
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

// Adds a panel to the integers of its group, and the group to `out` where the panel is its last. `partial` keeps
// integers [tokens][tiles][16] between the panels of a group.
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

void matmul_two_bit_grouped(const GroupedTernaryMatmul& task) noexcept { multiply_rows<GroupedRows>(task); }

}  // namespace

void install_two_bit_grouped(TernaryKernels& kernels) noexcept {
    kernels.matmul_two_bit_grouped = matmul_two_bit_grouped;
}

}  // namespace tercet::avx512_vnni
