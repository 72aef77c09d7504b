// The codes of five_per_byte in the order of two_bit: what lets products of many tokens share one kernel.
//
// A byte of five_per_byte holds five columns, and its digits 0 to 3 fit the four fields of a byte of two_bit. So 16
// groups of 16 rows become five two_bit tiles, without any byte leaving its row:
//
//     tile t = 0..3     byte 4r + c holds the digits 0..3 of group 4t + c in its fields 0..3
//     tile 4            byte 4r + c holds the digits 4 of the groups c, 4 + c, 8 + c, 12 + c
//
// A column of these tiles is another column of the matrix, so activations are put into the same order, once for each
// input. Of a unit of 16 groups (80 columns), column 5 g + i goes to
//
//     16 (g / 4) + 4 i + g % 4     digits i = 0..3
//     64 + g                       digit 4
//
// Units beyond the depth, up to the end of the piece, are zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tercet/ternary_kernels.hpp"

namespace tercet {
namespace {

constexpr std::size_t unit_groups = 16;
constexpr std::size_t unit_columns = unit_groups * five_per_byte_tile_columns;
constexpr std::size_t unit_tiles = unit_columns / two_bit_tile_columns;
constexpr std::size_t piece_units = prepared_piece_columns / unit_columns;
constexpr std::size_t piece_groups = piece_units * unit_groups;

constexpr std::size_t groups_of(std::size_t depth) {
    return (depth + five_per_byte_tile_columns - 1) / five_per_byte_tile_columns;
}
constexpr std::size_t units_of(std::size_t depth) { return (depth + unit_columns - 1) / unit_columns; }
constexpr std::size_t pieces_of(std::size_t depth) {
    return (depth + prepared_piece_columns - 1) / prepared_piece_columns;
}

// Bytes of the codes of one token in this order.
constexpr std::size_t ordered_stride(std::size_t depth) { return pieces_of(depth) * prepared_piece_columns; }

using sixteen_codes = std::int8_t __attribute__((vector_size(16)));

[[gnu::always_inline]] inline sixteen_codes load_sixteen(const std::int8_t* from) {
    sixteen_codes codes;
    std::memcpy(&codes, from, sizeof codes);
    return codes;
}

// The 80 codes of one unit: four times 20 columns, of which two overlapping loads hold 0..15 and 4..19.
[[gnu::always_inline]] inline void order_unit(const std::int8_t* from, std::uint8_t* to) {
    sixteen_codes last[4];
#pragma GCC unroll 4
    for (std::size_t t = 0; t < 4; ++t) {
        const sixteen_codes low = load_sixteen(from + 20 * t), high = load_sixteen(from + 20 * t + 4);
        const sixteen_codes ordered =
            __builtin_shufflevector(low, high, 0, 5, 10, 15, 1, 6, 11, 16 + 12, 2, 7, 12, 16 + 13, 3, 8, 13, 16 + 14);
        std::memcpy(to + 16 * t, &ordered, sizeof ordered);
        last[t] = __builtin_shufflevector(high, high, 0, 5, 10, 15, 0, 5, 10, 15, 0, 5, 10, 15, 0, 5, 10, 15);
    }
    const sixteen_codes first_half =
        __builtin_shufflevector(last[0], last[1], 0, 1, 2, 3, 16, 17, 18, 19, 0, 1, 2, 3, 16, 17, 18, 19);
    const sixteen_codes second_half =
        __builtin_shufflevector(last[2], last[3], 0, 1, 2, 3, 16, 17, 18, 19, 0, 1, 2, 3, 16, 17, 18, 19);
    const sixteen_codes ordered =
        __builtin_shufflevector(first_half, second_half, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    std::memcpy(to + 64, &ordered, sizeof ordered);
}

// The pieces of one token.
[[maybe_unused]] void order_pieces(const TernaryPreparation& task) noexcept {
    for (std::size_t unit = task.piece_begin * piece_units; unit < task.piece_end * piece_units; ++unit) {
        const std::size_t column = unit * unit_columns;
        std::uint8_t* to = task.prepared + column;
        if (column + unit_columns <= task.depth) {
            order_unit(task.activations + column, to);
        } else {
            std::int8_t codes[unit_columns] = {};
            if (column < task.depth) std::memcpy(codes, task.activations + column, task.depth - column);
            order_unit(codes, to);
        }
    }
}

}  // namespace
}  // namespace tercet
