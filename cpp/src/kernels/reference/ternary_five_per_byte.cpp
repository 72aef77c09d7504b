// five_per_byte x int8, the definition: one byte at a time, its five digits taken off by division.
//
//   out[t][r] = sum over groups g, digits i of digit_i(byte(r, g)) * activations[t][5 g + i]
//
// Balanced ternary: the remainder of |v| by 3, where 2 means -1 and carries one. The sign of v negates every digit.
// Columns at and beyond the depth are not read. A byte that no honest packing contains (|v| > 121) gives the digits
// that this division gives; sums stay below 2^18 * 128 = 2^25 in any case.
#include "tercet/ternary_kernels.hpp"

namespace tercet::reference {
namespace {

constexpr std::size_t rows_per_block = five_per_byte_tile_rows;
constexpr std::size_t columns_per_group = five_per_byte_tile_columns;
constexpr int largest_magnitude = 121;  // 1 + 3 + 9 + 27 + 81

std::size_t tiles(std::size_t size, std::size_t per_tile) { return (size + per_tile - 1) / per_tile; }

std::size_t byte_of(std::size_t row, std::size_t group, std::size_t groups) {
    return (row / rows_per_block * groups + group) * tile_bytes + row % rows_per_block;
}

struct Digits {
    int digit[columns_per_group];
};
Digits digits_of(std::uint8_t byte) {
    const int sign = byte & 0x80 ? -1 : 1;
    int rest = byte & 0x7F;
    Digits digits;
    for (int& digit : digits.digit) {
        const int remainder = rest % 3;
        digit = sign * (remainder == 2 ? -1 : remainder);
        rest = rest / 3 + (remainder == 2);
    }
    return digits;
}

void matmul_five_per_byte(const TernaryMatmul& task) noexcept {
    const std::size_t groups = tiles(task.depth, columns_per_group);
    const std::size_t first_row = task.row_tile_begin * rows_per_block, end_row = task.row_tile_end * rows_per_block;
    for (std::size_t row = first_row; row < end_row; ++row) {
        for (std::size_t token = 0; token < task.tokens; ++token)
            task.out[token * task.out_stride + row - first_row] = 0;
        for (std::size_t column = 0; column < task.depth; column += columns_per_group) {
            const Digits digits = digits_of(task.packed[byte_of(row, column / columns_per_group, groups)]);
            const std::size_t left = task.depth - column, count = left < columns_per_group ? left : columns_per_group;
            for (std::size_t token = 0; token < task.tokens; ++token) {
                const std::int8_t* activations = task.activations + token * task.activation_stride + column;
                std::int32_t sum = 0;
                for (std::size_t i = 0; i < count; ++i) sum += digits.digit[i] * activations[i];
                task.out[token * task.out_stride + row - first_row] += sum;
            }
        }
    }
}

// Activations are read as they are.
std::size_t prepared_stride_five_per_byte(std::size_t, std::size_t) noexcept { return 0; }
void prepare_five_per_byte(const TernaryPreparation&) noexcept {}

std::size_t pack_five_per_byte(const std::int8_t* codes, std::size_t rows, std::size_t depth,
                               std::uint8_t* packed) noexcept {
    const std::size_t groups = tiles(depth, columns_per_group);
    const std::size_t num_bytes = tiles(rows, rows_per_block) * groups * tile_bytes;
    for (std::size_t i = 0; i < num_bytes; ++i) packed[i] = 0;
    for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t group = 0; group < groups; ++group) {
            int value = 0, power = 1;
            for (std::size_t i = 0; i < columns_per_group && group * columns_per_group + i < depth; ++i, power *= 3) {
                const std::size_t index = row * depth + group * columns_per_group + i;
                if (codes[index] < -1 || codes[index] > 1) return index;
                value += codes[index] * power;
            }
            packed[byte_of(row, group, groups)] = static_cast<std::uint8_t>(value < 0 ? 0x80 | -value : value);
        }
    }
    return rows * depth;
}

std::size_t unpack_five_per_byte(const std::uint8_t* packed, std::size_t rows, std::size_t depth,
                                 std::int8_t* codes) noexcept {
    const std::size_t groups = tiles(depth, columns_per_group), blocks = tiles(rows, rows_per_block);
    const std::size_t num_bytes = blocks * groups * tile_bytes;
    std::size_t first_bad = num_bytes;
    for (std::size_t row = 0; row < blocks * rows_per_block; ++row) {
        for (std::size_t group = 0; group < groups; ++group) {
            const std::size_t byte = byte_of(row, group, groups);
            bool honest = packed[byte] != 0x80 && (packed[byte] & 0x7F) <= largest_magnitude;
            const Digits digits = digits_of(packed[byte]);
            for (std::size_t i = 0; i < columns_per_group; ++i) {
                const std::size_t column = group * columns_per_group + i;
                if (row < rows && column < depth)
                    codes[row * depth + column] = static_cast<std::int8_t>(digits.digit[i]);
                else
                    honest = honest && digits.digit[i] == 0;
            }
            if (!honest && byte < first_bad) first_bad = byte;
        }
    }
    return first_bad;
}

}  // namespace

void install_five_per_byte(TernaryKernels& kernels) noexcept {
    kernels.matmul_five_per_byte = matmul_five_per_byte;
    kernels.prepared_stride_five_per_byte = prepared_stride_five_per_byte;
    kernels.prepare_five_per_byte = prepare_five_per_byte;
    kernels.pack_five_per_byte = pack_five_per_byte;
    kernels.unpack_five_per_byte = unpack_five_per_byte;
}

}  // namespace tercet::reference
