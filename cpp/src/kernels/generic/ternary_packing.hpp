// Packing and unpacking, fast: two_bit 16 codes of a row at a time, in words; five_per_byte 16 groups of a row at a
// time, in vectors (unpacking: a group, from a table).
//
// The layouts are drawn in tercet/ternary_kernels.hpp, the definition one code at a time is the reference. A code or
// byte that does not belong there is only noticed on the way; where the first one is, is looked for afterwards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "five_per_byte_order.hpp"

namespace tercet {
namespace {

constexpr std::size_t tiles_of(std::size_t size, std::size_t per_tile) { return (size + per_tile - 1) / per_tile; }
constexpr std::size_t smaller(std::size_t a, std::size_t b) { return a < b ? a : b; }

std::size_t first_code_that_is_not_ternary(const std::int8_t* codes, std::size_t count) noexcept {
    for (std::size_t i = 0; i < count; ++i)
        if (codes[i] < -1 || codes[i] > 1) return i;
    return count;
}

bool all_ternary(const std::int8_t* codes, std::size_t count) noexcept {
    std::uint8_t wrong = 0;
    for (std::size_t i = 0; i < count; ++i)
        wrong |= static_cast<std::uint8_t>(static_cast<std::uint8_t>(codes[i] + 1) > 2);
    return wrong == 0;
}

// Sixteen codes of one row to its four bytes: field i of byte c is code 4 i + c, plus 1.
[[gnu::always_inline]] inline std::uint32_t pack_sixteen(const std::int8_t* codes) {
    std::uint32_t packed = 0;
    for (unsigned i = 0; i < 4; ++i) {
        std::uint32_t four;
        std::memcpy(&four, codes + 4 * i, sizeof four);
        four = ((four ^ 0x80808080U) + 0x01010101U) & 0x03030303U;  // bytes + 1 without carries between them
        packed |= four << 2 * i;
    }
    return packed;
}

std::size_t pack_two_bit(const std::int8_t* codes, std::size_t rows, std::size_t depth, std::uint8_t* packed) noexcept {
    if (!all_ternary(codes, rows * depth)) return first_code_that_is_not_ternary(codes, rows * depth);
    const std::size_t depth_tiles = tiles_of(depth, two_bit_tile_columns), whole_tiles = depth / two_bit_tile_columns;
    for (std::size_t first = 0; first < rows; first += two_bit_tile_rows, packed += depth_tiles * tile_bytes) {
        const std::size_t count = smaller(two_bit_tile_rows, rows - first);
        if (count < two_bit_tile_rows || whole_tiles < depth_tiles) std::memset(packed, 0x55, depth_tiles * tile_bytes);
        for (std::size_t tile = 0; tile < depth_tiles; ++tile) {
            for (std::size_t r = 0; r < count; ++r) {
                const std::int8_t* from = codes + (first + r) * depth + tile * two_bit_tile_columns;
                std::int8_t padded[two_bit_tile_columns] = {};
                if (tile == whole_tiles) {
                    std::memcpy(padded, from, depth - tile * two_bit_tile_columns);
                    from = padded;
                }
                const std::uint32_t bytes = pack_sixteen(from);
                std::memcpy(packed + tile * tile_bytes + 4 * r, &bytes, sizeof bytes);
            }
        }
    }
    return rows * depth;
}

// The first byte of two_bit that is not honest: a field of 3, or padding that is not zero.
std::size_t first_dishonest_two_bit(const std::uint8_t* packed, std::size_t rows, std::size_t depth) noexcept {
    const std::size_t depth_tiles = tiles_of(depth, two_bit_tile_columns);
    const std::size_t num_bytes = tiles_of(rows, two_bit_tile_rows) * depth_tiles * tile_bytes;
    for (std::size_t byte = 0; byte < num_bytes; ++byte) {
        const std::size_t tile = byte / tile_bytes,
                          row = tile / depth_tiles * two_bit_tile_rows + byte % tile_bytes / 4;
        for (std::size_t i = 0; i < 4; ++i) {
            const std::size_t column = tile % depth_tiles * two_bit_tile_columns + 4 * i + byte % 4;
            const int field = packed[byte] >> 2 * i & 3;
            if (field == 3 || (field != 1 && (row >= rows || column >= depth))) return byte;
        }
    }
    return num_bytes;
}

std::size_t unpack_two_bit(const std::uint8_t* packed, std::size_t rows, std::size_t depth,
                           std::int8_t* codes) noexcept {
    const std::size_t depth_tiles = tiles_of(depth, two_bit_tile_columns), whole_tiles = depth / two_bit_tile_columns;
    const std::uint8_t* from = packed;
    std::uint32_t wrong = 0;
    for (std::size_t first = 0; first < rows; first += two_bit_tile_rows) {
        for (std::size_t tile = 0; tile < depth_tiles; ++tile, from += tile_bytes) {
            for (std::size_t r = 0; r < two_bit_tile_rows; ++r) {
                std::uint32_t bytes;
                std::memcpy(&bytes, from + 4 * r, sizeof bytes);
                if (first + r >= rows) {
                    wrong |= bytes ^ 0x55555555U;
                    continue;
                }
                wrong |= bytes & bytes >> 1 & 0x55555555U;
                std::int8_t sixteen[two_bit_tile_columns];
                for (unsigned i = 0; i < 4; ++i) {
                    const std::uint32_t four = ((bytes >> 2 * i & 0x03030303U) | 0x80808080U) - 0x01010101U;
                    const std::uint32_t signed_four = four ^ 0x80808080U;  // bytes - 1 without borrows between them
                    std::memcpy(sixteen + 4 * i, &signed_four, sizeof signed_four);
                }
                std::int8_t* to = codes + (first + r) * depth + tile * two_bit_tile_columns;
                if (tile < whole_tiles) {
                    std::memcpy(to, sixteen, sizeof sixteen);
                } else {
                    const std::size_t left = depth - tile * two_bit_tile_columns;
                    std::memcpy(to, sixteen, left);
                    for (std::size_t c = left; c < two_bit_tile_columns; ++c)
                        wrong |= static_cast<std::uint32_t>(sixteen[c] != 0);
                }
            }
        }
    }
    const std::size_t num_bytes = static_cast<std::size_t>(from - packed);
    return wrong == 0 ? num_bytes : first_dishonest_two_bit(packed, rows, depth);
}

using sixteen_words = std::int32_t __attribute__((vector_size(16)));

// Sixteen groups of codes of one row, that is 80, to their sixteen bytes of five_per_byte.
[[gnu::always_inline]] inline void pack_unit(const std::int8_t* codes, std::uint8_t* to) {
    std::uint8_t ordered[unit_columns];
    order_unit(codes, ordered);
    sixteen_words tile[4];  // word i of tile t: digit i of four groups
    for (std::size_t t = 0; t < 4; ++t) std::memcpy(&tile[t], ordered + 16 * t, sizeof tile[t]);
    const sixteen_words low01 = __builtin_shufflevector(tile[0], tile[1], 0, 4, 1, 5);
    const sixteen_words low23 = __builtin_shufflevector(tile[2], tile[3], 0, 4, 1, 5);
    const sixteen_words high01 = __builtin_shufflevector(tile[0], tile[1], 2, 6, 3, 7);
    const sixteen_words high23 = __builtin_shufflevector(tile[2], tile[3], 2, 6, 3, 7);
    const auto digit0 = reinterpret_cast<sixteen_codes>(__builtin_shufflevector(low01, low23, 0, 1, 4, 5));
    const auto digit1 = reinterpret_cast<sixteen_codes>(__builtin_shufflevector(low01, low23, 2, 3, 6, 7));
    const auto digit2 = reinterpret_cast<sixteen_codes>(__builtin_shufflevector(high01, high23, 0, 1, 4, 5));
    const auto digit3 = reinterpret_cast<sixteen_codes>(__builtin_shufflevector(high01, high23, 2, 3, 6, 7));
    sixteen_codes value = load_sixteen(reinterpret_cast<const std::int8_t*>(ordered) + 64);
    value = digit3 + value + value + value;
    value = digit2 + value + value + value;
    value = digit1 + value + value + value;
    value = digit0 + value + value + value;
    const sixteen_codes negative = value < 0;
    value = ((value ^ negative) - negative) | (negative & static_cast<std::int8_t>(-128));
    std::memcpy(to, &value, sizeof value);
}

std::size_t pack_five_per_byte(const std::int8_t* codes, std::size_t rows, std::size_t depth,
                               std::uint8_t* packed) noexcept {
    if (!all_ternary(codes, rows * depth)) return first_code_that_is_not_ternary(codes, rows * depth);
    const std::size_t groups = groups_of(depth), units = units_of(depth);
    for (std::size_t first = 0; first < rows; first += five_per_byte_tile_rows, packed += groups * tile_bytes) {
        const std::size_t count = smaller(five_per_byte_tile_rows, rows - first);
        std::uint8_t bytes[five_per_byte_tile_rows][unit_groups] = {};
        for (std::size_t unit = 0; unit < units; ++unit) {
            const std::size_t column = unit * unit_columns, left = smaller(unit_columns, depth - column);
            for (std::size_t r = 0; r < count; ++r) {
                const std::int8_t* from = codes + (first + r) * depth + column;
                std::int8_t padded[unit_columns];
                if (left < unit_columns) {
                    std::memset(padded, 0, sizeof padded);
                    std::memcpy(padded, from, left);
                    from = padded;
                }
                pack_unit(from, bytes[r]);
            }
            std::uint8_t* to = packed + unit * unit_groups * tile_bytes;
            for (std::size_t group = 0; group < groups_of(left); ++group)
                for (std::size_t r = 0; r < five_per_byte_tile_rows; ++r) to[group * tile_bytes + r] = bytes[r][group];
        }
    }
    return rows * depth;
}

// For each byte its five digits; digit[5] is 1 where no honest packing contains the byte.
struct ByteDigits {
    alignas(8) std::int8_t digit[8];
};
struct ByteTable {
    ByteDigits of[256];
};
constexpr ByteTable byte_table = [] {
    ByteTable table{};
    for (int byte = 0; byte < 256; ++byte) {
        ByteDigits& digits = table.of[byte];
        int rest = byte & 0x7F;
        digits.digit[5] = byte == 0x80 || rest > 121;
        for (std::size_t i = 0; i < five_per_byte_tile_columns; ++i) {
            const int remainder = rest % 3, digit = remainder == 2 ? -1 : remainder;
            digits.digit[i] = static_cast<std::int8_t>(byte & 0x80 ? -digit : digit);
            rest = rest / 3 + (remainder == 2);
        }
    }
    return table;
}();

std::size_t first_dishonest_five_per_byte(const std::uint8_t* packed, std::size_t rows, std::size_t depth) noexcept {
    const std::size_t groups = tiles_of(depth, five_per_byte_tile_columns);
    const std::size_t num_bytes = tiles_of(rows, five_per_byte_tile_rows) * groups * tile_bytes;
    for (std::size_t byte = 0; byte < num_bytes; ++byte) {
        const std::size_t block = byte / tile_bytes, row = block / groups * five_per_byte_tile_rows + byte % tile_bytes;
        const ByteDigits& digits = byte_table.of[packed[byte]];
        bool honest = digits.digit[5] == 0;
        for (std::size_t i = 0; i < five_per_byte_tile_columns; ++i)
            if (row >= rows || block % groups * five_per_byte_tile_columns + i >= depth)
                honest = honest && digits.digit[i] == 0;
        if (!honest) return byte;
    }
    return num_bytes;
}

constexpr std::size_t groups_at_once = 64;  // of 64 rows: their 4 KB stay in L1

std::size_t unpack_five_per_byte(const std::uint8_t* packed, std::size_t rows, std::size_t depth,
                                 std::int8_t* codes) noexcept {
    const std::size_t groups = tiles_of(depth, five_per_byte_tile_columns);
    const std::uint8_t* from = packed;
    int wrong = 0;
    for (std::size_t first = 0; first < rows; first += five_per_byte_tile_rows, from += groups * tile_bytes) {
        const std::size_t count = smaller(five_per_byte_tile_rows, rows - first);
        for (std::size_t begin = 0; begin < groups; begin += groups_at_once) {
            const std::size_t end = smaller(begin + groups_at_once, groups);
            for (std::size_t r = 0; r < count; ++r) {
                for (std::size_t group = begin; group < end; ++group) {
                    const ByteDigits& digits = byte_table.of[from[group * tile_bytes + r]];
                    const std::size_t column = group * five_per_byte_tile_columns;
                    std::int8_t* to = codes + (first + r) * depth + column;
                    wrong |= digits.digit[5];
                    if (column + sizeof digits.digit <= depth) {  // three bytes too many: the next group's, or later
                        std::memcpy(to, digits.digit, sizeof digits.digit);
                    } else {
                        for (std::size_t i = 0; i < five_per_byte_tile_columns; ++i) {
                            if (column + i < depth)
                                to[i] = digits.digit[i];
                            else
                                wrong |= digits.digit[i];
                        }
                    }
                }
            }
        }
        for (std::size_t group = 0; group < groups; ++group)
            for (std::size_t r = count; r < five_per_byte_tile_rows; ++r) wrong |= from[group * tile_bytes + r];
    }
    const std::size_t num_bytes = static_cast<std::size_t>(from - packed);
    return wrong == 0 ? num_bytes : first_dishonest_five_per_byte(packed, rows, depth);
}

}  // namespace
}  // namespace tercet
