// five_per_byte x int8 on matrix tiles, for 4 tokens and more; fewer look sums up in tables, as avx512_vbmi does.
//
// Bytes of 64 rows x 16 groups are spread to digits, a byte each, 20 rows of 64 bytes for each row tile (see
// ../avx512_vbmi/five_per_byte_digits.hpp); sixteen such rows are a weight operand. Activations are prepared to the
// same order of columns (../generic/five_per_byte_order.hpp), where a step of 64 columns may begin anywhere in a unit
// of 80.
//
// Panel: 64 rows x 320 columns (20 KB, stays in L1), then blocks of 32 tokens run over its two halves of rows.
//
// Overflow: sums stay below 2^18 * 3 * 128 < 2^27.
//
// Tried and lost: panels of 2,560 columns, which stay in L2 (a Xeon of the Sapphire Rapids family, one thread, from
// cache: 219, 400 and 907 GMAC/s with 8, 16 and 64 tokens instead of 386, 692 and 991); panels of 240 columns, which
// are no whole number of steps (744 with 64); prefetching activation tiles into L1 (nothing); for 4 to 8 tokens the
// panels of avx512_vbmi (185 and 238 with 4 and 8 tokens instead of 195 and 386).
#include "../avx512_vbmi/five_per_byte_digits.hpp"
#include "tile_products.hpp"

namespace tercet::avx512_vbmi {
void look_up_five_per_byte(const TernaryMatmul& task) noexcept;
}

namespace tercet::amx_int8 {
namespace {

constexpr std::size_t row_tiles = five_per_byte_tile_rows / tile_size;
constexpr std::size_t panel_units = panel_steps * step_columns / unit_columns;
constexpr std::size_t unit_spread = unit_columns / 4 * tile_bytes;
static_assert(panel_units * unit_columns == panel_steps * step_columns, "a panel is whole units and whole steps");

void multiply_panels(const TernaryMatmul& task) noexcept {
    alignas(64) std::uint8_t panel[row_tiles * panel_steps * step_bytes];
    const std::size_t groups = groups_of(task.depth), units = units_of(task.depth);
    const auto* codes = reinterpret_cast<const std::int8_t*>(task.prepared);
    for (std::size_t row_block = task.row_tile_begin; row_block < task.row_tile_end; ++row_block) {
        std::int32_t* out = task.out + (row_block - task.row_tile_begin) * five_per_byte_tile_rows;
        begin_sums(task.activation_sums, task.tokens, row_tiles, out, task.out_stride);
        for (std::size_t begin = 0; begin < units; begin += panel_units) {
            const std::size_t end = units - begin < panel_units ? units : begin + panel_units;
            const std::size_t steps = ((end - begin) * unit_columns + step_columns - 1) / step_columns;
            const std::size_t tile_distance = steps * step_bytes;
            const std::uint8_t* packed = task.packed + row_block * groups * tile_bytes;
            const std::uint8_t* next = packed + (end == units ? groups : end * unit_groups) * tile_bytes;
            avx512_vbmi::spread_units<tile_bytes>(packed, groups, begin, end, panel, tile_distance);
            for (std::size_t tile = 0; tile < row_tiles; ++tile)  // the rest of the last step meets zeros
                for (std::size_t at = (end - begin) * unit_spread; at < tile_distance; at += tile_bytes)
                    _mm512_store_si512(panel + tile * tile_distance + at, _mm512_setzero_si512());
            multiply_tokens({panel, tile_distance, steps, codes + begin * unit_columns, task.prepared_stride, out,
                             task.out_stride, next, panel_units * unit_groups * tile_bytes / row_tiles},
                            row_tiles, task.tokens);
        }
    }
    _tile_release();
}

void matmul_five_per_byte(const TernaryMatmul& task) noexcept {
    task.prepared_stride == ordered_stride(task.depth) ? multiply_panels(task)
                                                       : avx512_vbmi::look_up_five_per_byte(task);
}

}  // namespace

void install_five_per_byte(TernaryKernels& kernels) noexcept { kernels.matmul_five_per_byte = matmul_five_per_byte; }

}  // namespace tercet::amx_int8
