// Bytes of five_per_byte to digits, a byte each, with two byte permutes: what products of many tokens read.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "../generic/five_per_byte_order.hpp"

namespace tercet::avx512_vbmi {
namespace {

// digit_i(m) of every magnitude, the definition being reference/ternary_five_per_byte.cpp: remainders by 3, 2 is -1.
struct MagnitudeDigits {
    std::int8_t digit[128][five_per_byte_tile_columns];
};
constexpr MagnitudeDigits magnitude_digits = [] {
    MagnitudeDigits digits{};
    for (int magnitude = 0; magnitude < 128; ++magnitude) {
        int rest = magnitude;
        for (std::int8_t& digit : digits.digit[magnitude]) {
            const int remainder = rest % 3;
            digit = static_cast<std::int8_t>(remainder == 2 ? -1 : remainder);
            rest = rest / 3 + (remainder == 2);
        }
    }
    return digits;
}();

// Digits + 1: 0 to 3 in the fields of a byte, and digit 4.
struct DigitTables {
    alignas(64) std::uint8_t four[128], last[128];
};
constexpr DigitTables digit_tables = [] {
    DigitTables tables{};
    for (int magnitude = 0; magnitude < 128; ++magnitude) {
        const auto& digit = magnitude_digits.digit[magnitude];
        for (int i = 0; i < 4; ++i)
            tables.four[magnitude] = static_cast<std::uint8_t>(tables.four[magnitude] | (digit[i] + 1) << 2 * i);
        tables.last[magnitude] = static_cast<std::uint8_t>(digit[4] + 1);
    }
    return tables;
}();

constexpr std::size_t unit_steps = unit_columns / 4;  // of 16 rows x 4 columns = 64 bytes

// Bytes of 64 rows x 4 groups, as they lie one after the other, to 16 rows x 4 groups in the lanes of rows[j].
[[gnu::always_inline]] inline void transpose_groups(const std::uint8_t* packed, __m512i (&rows)[4]) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i group[4];
#pragma GCC unroll 4
    for (std::size_t g = 0; g < 4; ++g)
        group[g] = _mm512_permutexvar_epi32(order, _mm512_loadu_si512(packed + g * tile_bytes));
    const __m512i low01 = _mm512_unpacklo_epi8(group[0], group[1]), high01 = _mm512_unpackhi_epi8(group[0], group[1]);
    const __m512i low23 = _mm512_unpacklo_epi8(group[2], group[3]), high23 = _mm512_unpackhi_epi8(group[2], group[3]);
    rows[0] = _mm512_unpacklo_epi16(low01, low23);
    rows[1] = _mm512_unpackhi_epi16(low01, low23);
    rows[2] = _mm512_unpacklo_epi16(high01, high23);
    rows[3] = _mm512_unpackhi_epi16(high01, high23);
}

// One unit of 16 groups of 64 rows. Digits + 1 of step k (4 columns in the order of five_per_byte_order.hpp) of row
// tile j are the 64 bytes at to + j * tile_distance + k * step_distance.
template <std::size_t step_distance>
[[gnu::always_inline]] inline void spread_unit(const std::uint8_t* packed, std::uint8_t* to,
                                               std::size_t tile_distance) {
    const __m512i four0 = _mm512_load_si512(digit_tables.four), four1 = _mm512_load_si512(digit_tables.four + 64);
    const __m512i last0 = _mm512_load_si512(digit_tables.last), last1 = _mm512_load_si512(digit_tables.last + 64);
    const __m512i lowest = _mm512_set1_epi8(3), two = _mm512_set1_epi8(2),
                  twos = _mm512_set1_epi8(static_cast<char>(0xAA));
    for (std::size_t t = 0; t < 4; ++t, packed += 4 * tile_bytes) {
        __m512i rows[4];
        transpose_groups(packed, rows);
#pragma GCC unroll 4
        for (std::size_t j = 0; j < 4; ++j) {
            const __mmask64 negative = _mm512_movepi8_mask(rows[j]);
            __m512i four = _mm512_permutex2var_epi8(four0, rows[j], four1);
            __m512i last = _mm512_permutex2var_epi8(last0, rows[j], last1);
            four = _mm512_mask_sub_epi8(four, negative, twos, four);  // d + 1 becomes -d + 1
            last = _mm512_mask_sub_epi8(last, negative, two, last);
            std::uint8_t* at = to + j * tile_distance + 4 * t * step_distance;
            _mm512_store_si512(at, _mm512_and_si512(four, lowest));
            _mm512_store_si512(at + step_distance, _mm512_and_si512(_mm512_srli_epi16(four, 2), lowest));
            _mm512_store_si512(at + 2 * step_distance, _mm512_and_si512(_mm512_srli_epi16(four, 4), lowest));
            _mm512_store_si512(at + 3 * step_distance, _mm512_and_si512(_mm512_srli_epi16(four, 6), lowest));
            _mm512_store_si512(to + j * tile_distance + (16 + t) * step_distance, last);
        }
    }
}

// Units [begin, end) of one row block to `to`.
template <std::size_t step_distance>
void spread_units(const std::uint8_t* block, std::size_t groups, std::size_t begin, std::size_t end, std::uint8_t* to,
                  std::size_t tile_distance) noexcept {
    constexpr std::size_t unit_bytes = unit_groups * tile_bytes;
    for (std::size_t unit = begin; unit < end; ++unit, to += unit_steps * step_distance) {
        const std::uint8_t* from = block + unit * unit_bytes;
        if ((unit + 1) * unit_groups <= groups) {
            spread_unit<step_distance>(from, to, tile_distance);
        } else {
            alignas(64) std::uint8_t rest[unit_bytes] = {};
            std::memcpy(rest, from, (groups - unit * unit_groups) * tile_bytes);
            spread_unit<step_distance>(rest, to, tile_distance);
        }
    }
}

}  // namespace
}  // namespace tercet::avx512_vbmi
