// five_per_byte x int8 with vpshufb, whose tables have 16 entries: magnitudes are taken apart by 9 first.
//
//   magnitude m = 9 q + r      q = 0..14 holds digits 2, 3, 4;  r = -4..4 holds digits 0 and 1
//
//   m + 4              0..131                        (m & 0x7F) + 4
//   q                  57 (m + 4) >> 9               vpmaddubsw for even and for odd bytes: exact up to 131
//   r + 4              m + 4 - 9 q
//
// Table form, 1 and 2 tokens: the sum of five activations that a byte stands for is high_digits(q) + low_digits(r),
// negated where bit 7 is set. Each is split into 32 * high + low with low in [-16, 15], four tables of 16 bytes for a
// group of five columns, made once for each input:
//
//   table of a group   | low of r | high of r | low of q | high of q |           64 bytes
//   32 weight bytes    --vpshufb x 4, vpaddb x 2-->     low and high of 32 rows
//                      --vpsignb x 2, vpaddb x 2-->     sums of bytes, 3 groups long
//   vpunpck + vpmaddubsw with (1, 32)                   low + 32 * high: sums of 16 bits, 48 groups long
//
// vpsignb needs no care where a byte is zero, as its sums are zero then. For 160 weights and one token that is about 12
// instructions to take magnitudes apart and 12 for the sums.
//
// Panel form, 3 tokens and more: 64 rows x 640 columns are rewritten as two_bit (10 KB, stays in L1), then the inner
// loop of two_bit multiplies them; activations are prepared to the order of ../generic/five_per_byte_order.hpp.
//
// Overflow: a sum of r is at most 256, of q 384 in magnitude, so low of both is in [-32, 30] and high in [-20, 20]: 3
// groups give at most 96 and 60 in a byte. 48 groups give 48 * 640 = 30,720 < 2^15. 32-bit sums stay below 2^25, in
// panels below 2^27.
#include "../generic/five_per_byte_order.hpp"
#include "two_bit_tiles.hpp"

namespace tercet::avx2 {
namespace {

constexpr std::size_t group_columns = five_per_byte_tile_columns;
constexpr std::size_t block_rows = five_per_byte_tile_rows;
constexpr std::size_t most_table_tokens = 2;
constexpr std::size_t groups_per_byte_sum = 3;
constexpr std::size_t groups_per_word_sum = 48;
constexpr std::size_t table_bytes = 64;
constexpr std::size_t panel_units = 8;  // 640 columns
constexpr std::size_t unit_tile_bytes = unit_tiles * tile_bytes;

constexpr std::size_t table_stride(std::size_t depth) { return pieces_of(depth) * piece_groups * table_bytes; }

// The digits of q = 0..15 and of r = -4..4 (as r + 4, which 0..8 cover): what remains of a division by 3, where 2 is
// -1.
struct Digits {
    std::int8_t of_q[16][3], of_r[16][2];
};
constexpr Digits digits = [] {
    Digits all{};
    const auto take = [](int& rest) {
        const int remainder = (rest % 3 + 3) % 3, digit = remainder == 2 ? -1 : remainder;
        rest = (rest - digit) / 3;
        return static_cast<std::int8_t>(digit);
    };
    for (int i = 0; i < 16; ++i) {
        int q = i, r = i - 4;
        for (std::int8_t& digit : all.of_q[i]) digit = take(q);
        for (std::int8_t& digit : all.of_r[i]) digit = take(r);
    }
    return all;
}();

// Digits + 1: for vpmaddubsw with pairs of activations, and as fields of a byte for vpshufb (in both halves).
struct Tables {
    alignas(32) std::uint8_t pair_of_r[32], pair_of_q[32], last_of_q[32];
    alignas(32) std::uint8_t fields_of_r[32], fields_of_q[32], field_of_last[32];
};
constexpr Tables tables = [] {
    Tables all{};
    for (std::size_t i = 0; i < 16; ++i) {
        const auto& q = digits.of_q[i];
        const auto& r = digits.of_r[i];
        for (std::size_t side = 0; side < 2; ++side) {
            all.pair_of_r[2 * i + side] = static_cast<std::uint8_t>(r[side] + 1);
            all.pair_of_q[2 * i + side] = static_cast<std::uint8_t>(q[side] + 1);
            all.fields_of_r[16 * side + i] = static_cast<std::uint8_t>((r[0] + 1) | (r[1] + 1) << 2);
            all.fields_of_q[16 * side + i] = static_cast<std::uint8_t>((q[0] + 1) << 4 | (q[1] + 1) << 6);
            all.field_of_last[16 * side + i] = static_cast<std::uint8_t>(q[2] + 1);
        }
        all.last_of_q[2 * i] = static_cast<std::uint8_t>(q[2] + 1);
    }
    return all;
}();

[[gnu::always_inline]] inline __m256i load(const std::uint8_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}
[[gnu::always_inline]] inline __m256i load_both_halves(const std::uint8_t* from) {
    return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(from)));
}

// q and r + 4 of the magnitudes of 32 bytes.
struct Parts {
    __m256i q, r;
};
[[gnu::always_inline]] inline Parts take_apart(__m256i bytes) {
    const __m256i raised = _mm256_add_epi8(_mm256_and_si256(bytes, _mm256_set1_epi8(0x7F)), _mm256_set1_epi8(4));
    const __m256i even = _mm256_srli_epi16(_mm256_maddubs_epi16(raised, _mm256_set1_epi16(57)), 9);
    const __m256i odd = _mm256_srli_epi16(_mm256_maddubs_epi16(raised, _mm256_set1_epi16(57 << 8)), 1);
    const __m256i q = _mm256_or_si256(even, _mm256_and_si256(odd, _mm256_set1_epi16(0x0F00)));
    return {q, _mm256_sub_epi8(raised, _mm256_add_epi8(_mm256_slli_epi16(q, 3), q))};
}

// 16 sums of 16 bits as two tables of bytes: low, then high.
[[gnu::always_inline]] inline void store_tables(__m256i sums, std::uint8_t* to) {
    const __m256i raised = _mm256_add_epi16(sums, _mm256_set1_epi16(16));
    const __m256i low = _mm256_sub_epi16(_mm256_and_si256(raised, _mm256_set1_epi16(31)), _mm256_set1_epi16(16));
    const __m256i packed = _mm256_packs_epi16(low, _mm256_srai_epi16(raised, 5));  // low, high, low, high: 8 bytes each
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), _mm256_permute4x64_epi64(packed, 0xD8));
}

void make_tables(const TernaryPreparation& task) noexcept {
    const std::size_t groups = groups_of(task.depth);
    const std::size_t end = task.piece_end * piece_groups < groups ? task.piece_end * piece_groups : groups;
    for (std::size_t group = task.piece_begin * piece_groups; group < end; ++group) {
        const std::size_t column = group * group_columns, left = task.depth - column;
        std::int8_t codes[6] = {};
        std::memcpy(codes, task.activations + column, left < group_columns ? left : group_columns);
        std::int16_t pair[3];
        std::memcpy(pair, codes, sizeof pair);
        const auto sum = [](int value) { return _mm256_set1_epi16(static_cast<std::int16_t>(value)); };
        const __m256i of_r = _mm256_maddubs_epi16(load(tables.pair_of_r), _mm256_set1_epi16(pair[0]));
        const __m256i of_q = _mm256_add_epi16(_mm256_maddubs_epi16(load(tables.pair_of_q), _mm256_set1_epi16(pair[1])),
                                              _mm256_maddubs_epi16(load(tables.last_of_q), _mm256_set1_epi16(pair[2])));
        store_tables(_mm256_sub_epi16(of_r, sum(codes[0] + codes[1])), task.prepared + group * table_bytes);
        store_tables(_mm256_sub_epi16(of_q, sum(codes[2] + codes[3] + codes[4])),
                     task.prepared + group * table_bytes + 32);
    }
}

// out[t][0..64) of one row block.
template <std::size_t tokens>
void look_up_block(const std::uint8_t* packed, std::size_t groups, const std::uint8_t* table, std::size_t stride,
                   std::int32_t* out, std::size_t out_stride) {
    const __m256i weights = _mm256_set1_epi16(0x2001);  // 1 for low, 32 for high
    for (std::size_t token = 0; token < tokens; ++token)
        for (std::size_t row = 0; row < block_rows; row += 8)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + token * out_stride + row), _mm256_setzero_si256());
    for (std::size_t first = 0; first < groups; first += groups_per_word_sum) {
        const std::size_t end = groups - first < groups_per_word_sum ? groups : first + groups_per_word_sum;
        __m256i sums[tokens][2][2] = {};  // [32 rows][even and odd eights of rows]
        for (std::size_t begin = first; begin < end; begin += groups_per_byte_sum) {
            const std::size_t count = end - begin < groups_per_byte_sum ? end - begin : groups_per_byte_sum;
            __m256i low[tokens][2] = {}, high[tokens][2] = {};
            for (std::size_t g = 0; g < count; ++g, packed += tile_bytes, table += table_bytes) {
                _mm_prefetch(reinterpret_cast<const char*>(packed) + read_ahead_bytes, _MM_HINT_T1);
#pragma GCC unroll 2
                for (std::size_t half = 0; half < 2; ++half) {
                    const __m256i bytes = load(packed + half * half_bytes);
                    const Parts parts = take_apart(bytes);
#pragma GCC unroll 2
                    for (std::size_t token = 0; token < tokens; ++token) {
                        const std::uint8_t* from = table + token * stride;
                        const auto look_up = [](const std::uint8_t* entries, __m256i index)
                                                 __attribute__((always_inline)) {
                                                     return _mm256_shuffle_epi8(load_both_halves(entries), index);
                                                 };
                        const __m256i l = _mm256_add_epi8(look_up(from, parts.r), look_up(from + 32, parts.q));
                        const __m256i h = _mm256_add_epi8(look_up(from + 16, parts.r), look_up(from + 48, parts.q));
                        low[token][half] = _mm256_add_epi8(low[token][half], _mm256_sign_epi8(l, bytes));
                        high[token][half] = _mm256_add_epi8(high[token][half], _mm256_sign_epi8(h, bytes));
                    }
                }
            }
#pragma GCC unroll 2
            for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 2
                for (std::size_t half = 0; half < 2; ++half) {
                    const __m256i even = _mm256_unpacklo_epi8(low[token][half], high[token][half]);
                    const __m256i odd = _mm256_unpackhi_epi8(low[token][half], high[token][half]);
                    sums[token][half][0] = _mm256_add_epi16(sums[token][half][0], _mm256_maddubs_epi16(weights, even));
                    sums[token][half][1] = _mm256_add_epi16(sums[token][half][1], _mm256_maddubs_epi16(weights, odd));
                }
        }
        // 128-bit half q of sums[.][half][odd] is rows 32 half + 16 q + 8 odd ...
        for (std::size_t token = 0; token < tokens; ++token)
            for (std::size_t half = 0; half < 2; ++half)
                for (std::size_t odd = 0; odd < 2; ++odd) {
                    auto* at = reinterpret_cast<__m256i*>(out + token * out_stride + 32 * half + 8 * odd);
                    const __m256i upper = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(sums[token][half][odd], 1));
                    const __m256i lower = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(sums[token][half][odd]));
                    _mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at), lower));
                    _mm256_storeu_si256(at + 2, _mm256_add_epi32(_mm256_loadu_si256(at + 2), upper));
                }
    }
}

void look_up(const TernaryMatmul& task) noexcept {
    const std::size_t groups = groups_of(task.depth);
    const auto look_up_tokens = task.tokens == 1 ? look_up_block<1> : look_up_block<2>;
    for (std::size_t block = task.row_tile_begin; block < task.row_tile_end; ++block)
        look_up_tokens(task.packed + block * groups * tile_bytes, groups, task.prepared, task.prepared_stride,
                       task.out + (block - task.row_tile_begin) * block_rows, task.out_stride);
}

// One unit of 16 groups of 64 rows as five two_bit tiles of each row tile, which are tile_distance bytes apart.
[[gnu::always_inline]] inline void rewrite_unit(const std::uint8_t* packed, std::uint8_t* to,
                                                std::size_t tile_distance) {
    const __m256i fields_of_r = load(tables.fields_of_r), fields_of_q = load(tables.fields_of_q);
    const __m256i field_of_last = load(tables.field_of_last), ones = _mm256_set1_epi8(0x55), one = _mm256_set1_epi8(1);
    for (std::size_t half = 0; half < 2; ++half, packed += half_bytes, to += 2 * tile_distance) {
        __m256i last[4] = {};  // 4 rows of either row tile each
        const auto store = [&](__m256i rows, std::size_t at) __attribute__((always_inline)) {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to + at), _mm256_castsi256_si128(rows));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to + tile_distance + at), _mm256_extracti128_si256(rows, 1));
        };
#pragma GCC unroll 4
        for (std::size_t t = 0; t < 4; ++t) {
            const std::uint8_t* from = packed + 4 * t * tile_bytes;
            const __m256i group0 = load(from), group1 = load(from + tile_bytes);
            const __m256i group2 = load(from + 2 * tile_bytes), group3 = load(from + 3 * tile_bytes);
            const __m256i low01 = _mm256_unpacklo_epi8(group0, group1), high01 = _mm256_unpackhi_epi8(group0, group1);
            const __m256i low23 = _mm256_unpacklo_epi8(group2, group3), high23 = _mm256_unpackhi_epi8(group2, group3);
            const __m256i rows[4] = {_mm256_unpacklo_epi16(low01, low23), _mm256_unpackhi_epi16(low01, low23),
                                     _mm256_unpacklo_epi16(high01, high23), _mm256_unpackhi_epi16(high01, high23)};
#pragma GCC unroll 4
            for (std::size_t part = 0; part < 4; ++part) {
                const Parts parts = take_apart(rows[part]);
                const __m256i negative = _mm256_cmpgt_epi8(_mm256_setzero_si256(), rows[part]);
                const __m256i lowest = _mm256_and_si256(negative, ones);  // d + 1 becomes -d + 1 = ~(d + 1) - 1
                const __m256i four = _mm256_or_si256(_mm256_shuffle_epi8(fields_of_r, parts.r),
                                                     _mm256_shuffle_epi8(fields_of_q, parts.q));
                store(_mm256_sub_epi8(_mm256_xor_si256(four, negative), lowest), t * tile_bytes + 16 * part);
                const __m256i field = _mm256_shuffle_epi8(field_of_last, parts.q);
                const __m256i three = _mm256_and_si256(negative, _mm256_set1_epi8(3));
                const __m256i turned = _mm256_sub_epi8(_mm256_xor_si256(field, three), _mm256_and_si256(negative, one));
                last[part] = _mm256_or_si256(last[part], _mm256_slli_epi16(turned, static_cast<int>(2 * t)));
            }
        }
#pragma GCC unroll 4
        for (std::size_t part = 0; part < 4; ++part) store(last[part], 4 * tile_bytes + 16 * part);
    }
}

// A panel with a block of tokens, for 16 rows or one half of them.
template <std::size_t tokens, std::size_t halves>
void multiply_halves(const std::uint8_t* panel, std::size_t tiles, bool first, const std::int8_t* activations,
                     std::size_t stride, const std::int32_t* activation_sums, std::int32_t* out,
                     std::size_t out_stride) {
    __m256i totals[tokens][halves];
#pragma GCC unroll 8
    for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 2
        for (std::size_t half = 0; half < halves; ++half) {
            const auto* at = reinterpret_cast<const __m256i*>(out + token * out_stride + half * half_rows);
            totals[token][half] = first ? _mm256_set1_epi32(-activation_sums[token]) : _mm256_loadu_si256(at);
        }
    add_tiles<tokens, halves>(panel, 0, tiles, activations, stride, totals);
#pragma GCC unroll 8
    for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 2
        for (std::size_t half = 0; half < halves; ++half)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + token * out_stride + half * half_rows),
                                totals[token][half]);
}

// A row tile: both halves at once for up to 4 tokens, one after the other for up to 8.
template <std::size_t tokens>
void multiply_row_tile(const std::uint8_t* panel, std::size_t tiles, bool first, const std::int8_t* activations,
                       std::size_t stride, const std::int32_t* activation_sums, std::int32_t* out,
                       std::size_t out_stride) {
    if constexpr (tokens <= max_block_tokens / 2) {
        multiply_halves<tokens, 2>(panel, tiles, first, activations, stride, activation_sums, out, out_stride);
    } else {
        multiply_halves<tokens, 1>(panel, tiles, first, activations, stride, activation_sums, out, out_stride);
        multiply_halves<tokens, 1>(panel + half_bytes, tiles, first, activations, stride, activation_sums,
                                   out + half_rows, out_stride);
    }
}

// Brings the weights of the next panel into L2.
void read_ahead(const std::uint8_t* packed, std::size_t num_bytes) {
    for (std::size_t at = 0; at < num_bytes; at += tile_bytes)
        _mm_prefetch(reinterpret_cast<const char*>(packed) + at, _MM_HINT_T1);
}

void multiply_panels(const TernaryMatmul& task) noexcept {
    using MultiplyRowTile = void (*)(const std::uint8_t*, std::size_t, bool, const std::int8_t*, std::size_t,
                                     const std::int32_t*, std::int32_t*, std::size_t);
    static constexpr MultiplyRowTile multiply[max_block_tokens + 1] = {nullptr,
                                                                       multiply_row_tile<1>,
                                                                       multiply_row_tile<2>,
                                                                       multiply_row_tile<3>,
                                                                       multiply_row_tile<4>,
                                                                       multiply_row_tile<5>,
                                                                       multiply_row_tile<6>,
                                                                       multiply_row_tile<7>,
                                                                       multiply_row_tile<8>};
    constexpr std::size_t row_tiles = block_rows / two_bit_tile_rows, unit_bytes = unit_groups * tile_bytes;
    alignas(64) std::uint8_t panel[row_tiles * panel_units * unit_tile_bytes];
    const std::size_t groups = groups_of(task.depth), units = units_of(task.depth);
    const std::size_t num_blocks = (task.tokens + max_block_tokens - 1) / max_block_tokens;
    const auto* codes = reinterpret_cast<const std::int8_t*>(task.prepared);
    for (std::size_t row_block = task.row_tile_begin; row_block < task.row_tile_end; ++row_block) {
        const std::uint8_t* packed = task.packed + row_block * groups * tile_bytes;
        std::int32_t* out = task.out + (row_block - task.row_tile_begin) * block_rows;
        for (std::size_t begin = 0; begin < units; begin += panel_units) {
            const std::size_t end = units - begin < panel_units ? units : begin + panel_units;
            const std::size_t tile_distance = (end - begin) * unit_tile_bytes;
            for (std::size_t unit = begin; unit < end; ++unit) {
                const std::uint8_t* from = packed + unit * unit_bytes;
                std::uint8_t rest[unit_bytes];
                if ((unit + 1) * unit_groups > groups) {
                    std::memset(rest, 0, unit_bytes);
                    std::memcpy(rest, from, (groups - unit * unit_groups) * tile_bytes);
                    from = rest;
                }
                rewrite_unit(from, panel + (unit - begin) * unit_tile_bytes, tile_distance);
            }
            for (std::size_t block = 0; block < num_blocks; ++block) {
                const std::size_t token = task.tokens * block / num_blocks;
                const auto multiply_tokens = multiply[task.tokens * (block + 1) / num_blocks - token];
                for (std::size_t tile = 0; tile < row_tiles; ++tile) {
                    if (block == 0)
                        read_ahead(packed + (end * row_tiles + tile * (end - begin)) * unit_bytes / row_tiles,
                                   (end - begin) * unit_bytes / row_tiles);
                    multiply_tokens(panel + tile * tile_distance, tile_distance / tile_bytes, begin == 0,
                                    codes + token * task.prepared_stride + begin * unit_columns, task.prepared_stride,
                                    task.activation_sums + token,
                                    out + token * task.out_stride + tile * two_bit_tile_rows, task.out_stride);
                }
            }
        }
    }
}

std::size_t prepared_stride(std::size_t depth, std::size_t tokens) noexcept {
    return tokens <= most_table_tokens ? table_stride(depth) : ordered_stride(depth);
}

void prepare(const TernaryPreparation& task) noexcept {
    task.stride == table_stride(task.depth) ? make_tables(task) : order_pieces(task);
}

void matmul_five_per_byte(const TernaryMatmul& task) noexcept {
    task.prepared_stride == table_stride(task.depth) ? look_up(task) : multiply_panels(task);
}

}  // namespace

void install_five_per_byte(TernaryKernels& kernels) noexcept {
    kernels.matmul_five_per_byte = matmul_five_per_byte;
    kernels.prepared_stride_five_per_byte = prepared_stride;
    kernels.prepare_five_per_byte = prepare;
}

}  // namespace tercet::avx2
