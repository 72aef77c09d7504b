// two_bit x int8, the definition: one weight at a time, in the order of the formulas.
//
//   out[t][r] = sum over k of (field(r, k) - 1) * activations[t][k]
//
// k runs over the padded depth, where activations are zero. A sum stays below 2^18 * 2 * 128 = 2^26 whatever the bytes
// hold. The field of (r, k) is described in tercet/ternary_kernels.hpp; other instruction sets must equal this file.
#include "tercet/ternary_kernels.hpp"

namespace tercet::reference {
namespace {

constexpr std::size_t rows_per_tile = two_bit_tile_rows;
constexpr std::size_t columns_per_tile = two_bit_tile_columns;

std::size_t tiles(std::size_t size, std::size_t per_tile) { return (size + per_tile - 1) / per_tile; }

// The byte of a row and column, and how far its field is shifted.
struct Field {
    std::size_t byte;
    unsigned shift;
};
Field field_of(std::size_t row, std::size_t column, std::size_t depth_tiles) {
    const std::size_t tile = row / rows_per_tile * depth_tiles + column / columns_per_tile;
    const std::size_t r = row % rows_per_tile, c = column % columns_per_tile;
    return {tile * tile_bytes + 4 * r + c % 4, static_cast<unsigned>(c / 4 * 2)};
}

void matmul_two_bit(const TernaryMatmul& task) noexcept {
    const std::size_t depth_tiles = tiles(task.depth, columns_per_tile);
    const std::size_t first_row = task.row_tile_begin * rows_per_tile, end_row = task.row_tile_end * rows_per_tile;
    for (std::size_t token = 0; token < task.tokens; ++token) {
        const std::int8_t* activations = task.activations + token * task.activation_stride;
        for (std::size_t row = first_row; row < end_row; ++row) {
            std::int32_t sum = 0;
            for (std::size_t column = 0; column < depth_tiles * columns_per_tile; ++column) {
                const Field field = field_of(row, column, depth_tiles);
                sum += ((task.packed[field.byte] >> field.shift & 3) - 1) * activations[column];
            }
            task.out[token * task.out_stride + row - first_row] = sum;
        }
    }
}

// A matrix with a scale per group: the sum over the groups, in order, of an exact integer times two scales.
void matmul_two_bit_grouped(const GroupedTernaryMatmul& task) noexcept {
    const std::size_t depth_tiles = tiles(task.depth, columns_per_tile), groups = tiles(task.depth, task.group_size);
    const std::size_t first_row = task.row_tile_begin * rows_per_tile, end_row = task.row_tile_end * rows_per_tile;
    for (std::size_t token = 0; token < task.tokens; ++token) {
        const std::int8_t* activations = task.activations + token * task.activation_stride;
        for (std::size_t row = first_row; row < end_row; ++row) {
            const std::size_t tile = (row - first_row) / rows_per_tile;
            float total = 0.0F;
            for (std::size_t group = 0; group < groups; ++group) {
                std::int32_t sum = 0;
                for (std::size_t column = group * task.group_size;
                     column < (group + 1) * task.group_size && column < task.depth; ++column) {
                    const Field field = field_of(row, column, depth_tiles);
                    sum += ((task.packed[field.byte] >> field.shift & 3) - 1) * activations[column];
                }
                const float scale = task.scales[(tile * groups + group) * rows_per_tile + row % rows_per_tile];
                total += static_cast<float>(sum) * (task.activation_scales[token] * scale);
            }
            task.out[token * task.out_stride + row - first_row] = total;
        }
    }
}

std::size_t pack_two_bit(const std::int8_t* codes, std::size_t rows, std::size_t depth, std::uint8_t* packed) noexcept {
    const std::size_t depth_tiles = tiles(depth, columns_per_tile);
    const std::size_t num_bytes = tiles(rows, rows_per_tile) * depth_tiles * tile_bytes;
    for (std::size_t i = 0; i < num_bytes; ++i) packed[i] = 0x55;  // four fields of 1, that is, weight 0
    for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t column = 0; column < depth; ++column) {
            const std::int8_t code = codes[row * depth + column];
            if (code < -1 || code > 1) return row * depth + column;
            const Field field = field_of(row, column, depth_tiles);
            const auto kept = static_cast<unsigned>(packed[field.byte]) & ~(3u << field.shift);
            packed[field.byte] = static_cast<std::uint8_t>(kept | static_cast<unsigned>(code + 1) << field.shift);
        }
    }
    return rows * depth;
}

std::size_t unpack_two_bit(const std::uint8_t* packed, std::size_t rows, std::size_t depth,
                           std::int8_t* codes) noexcept {
    const std::size_t depth_tiles = tiles(depth, columns_per_tile), row_tiles = tiles(rows, rows_per_tile);
    const std::size_t num_bytes = row_tiles * depth_tiles * tile_bytes;
    std::size_t first_bad = num_bytes;
    for (std::size_t row = 0; row < row_tiles * rows_per_tile; ++row) {
        for (std::size_t column = 0; column < depth_tiles * columns_per_tile; ++column) {
            const Field field = field_of(row, column, depth_tiles);
            const int code = (packed[field.byte] >> field.shift & 3) - 1;
            const bool inside = row < rows && column < depth;
            if ((code == 2 || (!inside && code != 0)) && field.byte < first_bad) first_bad = field.byte;
            if (inside) codes[row * depth + column] = static_cast<std::int8_t>(code);
        }
    }
    return first_bad;
}

}  // namespace

void install_two_bit(TernaryKernels& kernels) noexcept {
    kernels.matmul_two_bit = matmul_two_bit;
    kernels.matmul_two_bit_grouped = matmul_two_bit_grouped;
    kernels.pack_two_bit = pack_two_bit;
    kernels.unpack_two_bit = unpack_two_bit;
}

}  // namespace tercet::reference
