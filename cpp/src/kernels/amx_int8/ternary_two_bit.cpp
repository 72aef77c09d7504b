// two_bit x int8 on matrix tiles, for 5 tokens and more; fewer are bound by memory and stay with avx512_vnni.
//
// The packed layout and the tile registers fit each other: field i of a packed tile is 16 rows x 4 consecutive columns,
// one row of a weight operand, so four packed tiles, their fields spread out to bytes, are an operand of 64 columns.
//
//   out[t][r] = sum over k of a[t][k] * field(r, k)  -  sum over k of a[t][k]            field = code + 1 in {0, 1, 2}
//
//   packed tiles       | 0        | 1        | 2        | 3        |      64 bytes each, columns 16 j ...
//   weight operand     | 0 1 2 3  | 4 5 6 7  | 8 ...    |    ...15 |      16 rows of 64 bytes: columns 4 k ..., 16 rows
//
// Panel: the fields of 64 rows x 320 columns (20 KB, stays in L1) are spread once, then blocks of 32 tokens run over
// its two halves of rows: for 64 columns 2 + 2 tile loads and 4 products.
//
// Overflow: as in avx512_vnni, sums stay below 2^18 * 3 * 128 < 2^27.
//
// Tried and lost, on a Xeon of the Sapphire Rapids family, one thread, from cache (this form: 460, 749, 965 and 1,140
// to 1,225 GMAC/s with 8, 16, 64 and 256 tokens): panels of 2,560 columns, which stay in L2 (224, 406, 925, 1,171);
// panels of only 32 rows, whose activation tiles serve half as many products (377, 682, 879, 1,048); panels of 192
// columns (377, 679, 788, 894: sums visit memory more often); prefetching activation tiles into L1 (nothing);
// prefetching packed weights while they are spread, in a burst that waits for memory (from DRAM 233, 420 and 723 with
// 8, 16 and 64 tokens instead of 273, 506 and 843).
#include "../avx512_vnni/two_bit_tiles.hpp"
#include "tile_products.hpp"

namespace tercet::avx512_vnni {
void multiply_two_bit(const TernaryMatmul& task) noexcept;
}

namespace tercet::amx_int8 {
namespace {

constexpr std::size_t least_tokens = 5;
constexpr std::size_t packed_tiles_per_step = step_columns / two_bit_tile_columns;
constexpr std::size_t packed_tile_spread = 4 * tile_bytes;
constexpr std::size_t panel_row_tiles = 4;

// Steps [begin, end) of one row tile. Columns beyond the packed ones are zero.
void spread_steps(const std::uint8_t* packed, std::size_t depth_tiles, std::size_t begin, std::size_t end,
                  std::uint8_t* to) noexcept {
    const std::size_t last = end * packed_tiles_per_step < depth_tiles ? end * packed_tiles_per_step : depth_tiles;
    std::size_t tile = begin * packed_tiles_per_step;
    for (; tile < last; ++tile, to += packed_tile_spread) {
        avx512_vnni::spread_tile(packed + tile * tile_bytes, to, tile_bytes);
    }
    for (; tile < end * packed_tiles_per_step; ++tile, to += packed_tile_spread)
        for (std::size_t i = 0; i < 4; ++i) _mm512_store_si512(to + i * tile_bytes, _mm512_setzero_si512());
}

void multiply_row_tiles(const TernaryMatmul& task, std::size_t row_tile, std::size_t row_tiles) noexcept {
    alignas(64) std::uint8_t panel[panel_row_tiles * panel_steps * step_bytes];
    const std::size_t depth_tiles = (task.depth + two_bit_tile_columns - 1) / two_bit_tile_columns;
    const std::size_t steps = (task.depth + step_columns - 1) / step_columns;
    const std::uint8_t* first_packed = task.packed + row_tile * depth_tiles * tile_bytes;
    std::int32_t* out = task.out + (row_tile - task.row_tile_begin) * two_bit_tile_rows;
    begin_sums(task.activation_sums, task.tokens, row_tiles, out, task.out_stride);
    for (std::size_t begin = 0; begin < steps; begin += panel_steps) {
        const std::size_t end = steps - begin < panel_steps ? steps : begin + panel_steps;
        const std::size_t tile_distance = (end - begin) * step_bytes;
        for (std::size_t tile = 0; tile < row_tiles; ++tile)
            spread_steps(first_packed + tile * depth_tiles * tile_bytes, depth_tiles, begin, end,
                         panel + tile * tile_distance);
        const std::uint8_t* next = end < steps ? first_packed + end * packed_tiles_per_step * tile_bytes
                                               : first_packed + row_tiles * depth_tiles * tile_bytes;
        multiply_tokens({panel, tile_distance, end - begin, task.activations + begin * step_columns,
                         task.activation_stride, out, task.out_stride, next, depth_tiles * tile_bytes},
                        row_tiles, task.tokens);
    }
}

void matmul_two_bit(const TernaryMatmul& task) noexcept {
    if (task.tokens < least_tokens) return avx512_vnni::multiply_two_bit(task);
    for (std::size_t row_tile = task.row_tile_begin; row_tile < task.row_tile_end; row_tile += panel_row_tiles) {
        const std::size_t left = task.row_tile_end - row_tile;
        multiply_row_tiles(task, row_tile, left < panel_row_tiles ? left : panel_row_tiles);
    }
    _tile_release();
}

}  // namespace

void install_two_bit(TernaryKernels& kernels) noexcept { kernels.matmul_two_bit = matmul_two_bit; }

}  // namespace tercet::amx_int8
