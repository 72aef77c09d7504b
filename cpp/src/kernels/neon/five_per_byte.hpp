// five_per_byte x int8 on NEON, written once for processors with dot products and without (quad_sums.hpp).
//
// A byte is taken apart by comparing, four rows x four groups at a time, after the bytes of 16 rows of four groups have
// been put side by side (two zips). Let v in [-121, 121] be its value; each line is so many instructions for 16 bytes:
//
//     v        sign and magnitude; magnitudes above 121, which no honest byte has, stand for 243 less     7
//     digit 4  (v > 40) - (v < -40),   v -= 81 digit                                                      4
//     digit 3  (v > 13) - (v < -13),   v -= 27 digit                                                      4
//     digits 2, 1, 0   of the 27 values that are left: a table, three fields of two bits                   7
//
// That is 22 instructions for 80 weights, where two_bit needs 6 for 64: this packing pays on NEON where memory is the
// limit. A table of all magnitudes (tbl of four registers, twice) would be fewer instructions, but long ones by the tables
// of their makers; it has not been measured.
//
// The digits of 16 rows x 320 columns are spread out to one byte each (5 KB, stays in L1), for one token as for many: used
// as they come, they and the sums are more than the registers hold. Activations are read in the order of
// ../generic/five_per_byte_order.hpp, in which the four bytes of a row meet four consecutive activations.
#pragma once

#include "../generic/five_per_byte_order.hpp"
#include "spread_codes.hpp"

namespace tercet {
namespace {

constexpr std::size_t group_read_ahead_bytes = 2048;

// Digits 0, 1, 2 of -13..13 as two-bit two's complement at bits 2, 4, 6.
struct DigitTable {
    std::uint8_t of[32];
};
constexpr DigitTable three_digits = [] {
    DigitTable table{};
    for (int value = -13; value <= 13; ++value) {
        int rest = value + 13;  // digits + 1, in base 3
        unsigned fields = 0;
        for (int shift = 2; shift <= 6; shift += 2, rest /= 3)
            fields |= (static_cast<unsigned>(rest % 3 - 1) & 3u) << shift;
        table.of[value + 13] = static_cast<std::uint8_t>(fields);
    }
    return table;
}();

struct Digits {
    int8x16_t digit[five_per_byte_tile_columns];
};

// Takes the digit of weight `power` off: it is 1 above power / 2, -1 below minus that.
template <int power>
[[gnu::always_inline]] inline int8x16_t take_digit(int8x16_t& value) {
    const uint8x16_t above = vcgtq_s8(value, vdupq_n_s8(power / 2)), below = vcltq_s8(value, vdupq_n_s8(-(power / 2)));
    const int8x16_t digit = vreinterpretq_s8_u8(vsubq_u8(below, above));  // true is -1
    value = vmlsq_s8(value, digit, vdupq_n_s8(power));
    return digit;
}

[[gnu::always_inline]] inline Digits digits_of(uint8x16_t bytes, const uint8x16x2_t& table) {
    uint8x16_t magnitude = vandq_u8(bytes, vdupq_n_u8(0x7F));
    const uint8x16_t dishonest = vcgtq_u8(magnitude, vdupq_n_u8(121));
    magnitude = vaddq_u8(magnitude, vandq_u8(dishonest, vdupq_n_u8(256 - 243)));
    const uint8x16_t negative = vcltzq_s8(vreinterpretq_s8_u8(bytes));
    int8x16_t value = vreinterpretq_s8_u8(vsubq_u8(veorq_u8(magnitude, negative), negative));

    Digits digits;
    digits.digit[4] = take_digit<81>(value);
    digits.digit[3] = take_digit<27>(value);
    const uint8x16_t index = vreinterpretq_u8_s8(vaddq_s8(value, vdupq_n_s8(13)));
    const int8x16_t fields = vreinterpretq_s8_u8(vqtbl2q_u8(table, index));
    digits.digit[2] = vshrq_n_s8(fields, 6);
    digits.digit[1] = vshrq_n_s8(vshlq_n_s8(fields, 2), 6);
    digits.digit[0] = vshrq_n_s8(vshlq_n_s8(fields, 4), 6);
    return digits;
}

// Four groups of 16 rows; groups at and beyond `groups` are zero. Byte 4 r + c of the result is row r of group c.
struct FourGroups {
    uint8x16_t quad[quads];
};
[[gnu::always_inline]] inline FourGroups load_four_groups(const std::uint8_t* packed, std::size_t groups) {
    uint8x16_t group[4];
#pragma GCC unroll 4
    for (std::size_t g = 0; g < 4; ++g) group[g] = g < groups ? vld1q_u8(packed + g * tile_bytes) : vdupq_n_u8(0);
    const uint8x16_t even_low = vzip1q_u8(group[0], group[2]), even_high = vzip2q_u8(group[0], group[2]);
    const uint8x16_t odd_low = vzip1q_u8(group[1], group[3]), odd_high = vzip2q_u8(group[1], group[3]);
    return {{vzip1q_u8(even_low, odd_low), vzip2q_u8(even_low, odd_low), vzip1q_u8(even_high, odd_high),
             vzip2q_u8(even_high, odd_high)}};
}

// A piece (at most four units) of 16 rows, one byte for each digit, step after step in the order of the activations.
void spread_piece(const std::uint8_t* packed, std::size_t groups, std::int8_t* codes) {
    const uint8x16x2_t table = {{vld1q_u8(three_digits.of), vld1q_u8(three_digits.of + 16)}};
    for (std::size_t group = 0; group < groups; group += unit_groups, codes += unit_columns / 4 * step_bytes) {
        for (std::size_t four = 0; four < 4; ++four) {  // four groups at a time
            const std::size_t first = group + 4 * four;
            __builtin_prefetch(packed + first * tile_bytes + group_read_ahead_bytes, 0, 2);
            const FourGroups rows = load_four_groups(packed + first * tile_bytes, groups > first ? groups - first : 0);
#pragma GCC unroll 4
            for (std::size_t quad = 0; quad < quads; ++quad) {
                const Digits digits = digits_of(rows.quad[quad], table);
                std::int8_t* to = codes + 16 * quad;
#pragma GCC unroll 4
                for (std::size_t i = 0; i < 4; ++i) vst1q_s8(to + (4 * four + i) * step_bytes, digits.digit[i]);
                vst1q_s8(to + (16 + four) * step_bytes, digits.digit[4]);
            }
        }
    }
}

void matmul_five_per_byte(const TernaryMatmul& task) noexcept {
    const std::size_t groups = groups_of(task.depth);
    const auto* prepared = reinterpret_cast<const std::int8_t*>(task.prepared);
    alignas(64) std::int8_t codes[window_columns / 4 * step_bytes];
    for (std::size_t row_tile = task.row_tile_begin; row_tile < task.row_tile_end; ++row_tile) {
        std::int32_t* out = task.out + (row_tile - task.row_tile_begin) * five_per_byte_tile_rows;
        for (std::size_t token = 0; token < task.tokens; ++token)
            for (std::size_t quad = 0; quad < five_per_byte_tile_rows / 4; ++quad)
                vst1q_s32(out + token * task.out_stride + 4 * quad, vdupq_n_s32(0));
        for (std::size_t group = 0; group < groups; group += piece_groups) {
            const std::size_t left = groups - group, count = left < piece_groups ? left : piece_groups;
            const std::size_t columns = (count + unit_groups - 1) / unit_groups * unit_columns;
            for (std::size_t row = 0; row < five_per_byte_tile_rows; row += 16) {
                spread_piece(task.packed + (row_tile * groups + group) * tile_bytes + row, count, codes);
                multiply_spread_by_all(codes, columns, prepared + group * five_per_byte_tile_columns,
                                       task.prepared_stride, task.tokens, out + row, task.out_stride);
            }
        }
    }
}

std::size_t prepared_stride_five_per_byte(std::size_t depth, std::size_t) noexcept { return ordered_stride(depth); }

}  // namespace
}  // namespace tercet
