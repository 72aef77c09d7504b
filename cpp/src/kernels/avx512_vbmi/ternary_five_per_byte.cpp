// five_per_byte x int8 with byte permutes: 64 rows x 5 columns of weights are one load.
//
// Table form, 1 to 3 tokens: memory sets the pace. A byte names one of 243 sums of five activations, as a sign and a
// magnitude of 0..121. For each group of five columns a table of all 128 magnitudes is made, once for each input (it is
// what the activations are prepared to), and used by all rows of all matrices that share it:
//
//   value(m) = sum over i of digit_i(m) * a_i                |value| <= 5 * 128
//            = 32 * high(m) + low(m)                         low in [-16, 15], high in [-20, 20]: two tables of bytes
//
//   table of a group   | low(0..127) | high(0..127) |        256 bytes, four registers
//   64 weight bytes    --vpermi2b, which ignores bit 7-->    low, high of 64 rows
//                      --0 - x where bit 7 is set-->         vpmovb2m once, then one masked subtraction each
//                      --vpaddb-->                           sums of bytes, 6 groups long
//   vpunpck + vpmaddubsw with (1, 32)                        low + 32 * high: sums of 16 bits, 48 groups long
//
// Four row blocks that lie far apart are read at the same time, with prefetches into L2 running ahead: for 320 weights
// that is a load, a prefetch, 2 permutes and 5 more instructions. Several tokens take turns after every 48 groups, so
// that weights come from memory once and from L1 after that.
//
// Panel form, 4 tokens and more: the multipliers set the pace. The digits of 64 rows x 320 columns are spread to a byte
// each (20 KB, stays in L1), then blocks of 64 rows x up to 6 tokens (24 accumulators) run over them with vpdpbusd, as
// in avx512_vnni. The first block also prefetches the weights of the next panel. Activations are prepared to the order
// of ../generic/five_per_byte_order.hpp.
//
// Overflow: 6 groups add up to 6 * 20 = 120 < 2^7 in a byte (low: 6 * 16 = 96) and to 6 * 640 in 16 bits, 48 groups to
// 48 * 640 = 30,720 < 2^15; 32-bit sums stay below 2^18 * 128 = 2^25, in panels below 2^18 * 3 * 128 < 2^27.
//
// Tried and lost: tables for 48 groups at a time, which stay in L1 while all rows pass by in pieces of 3 KB (38 to 57
// GMAC/s from memory where whole rows and the whole table in L2 give 60); whole rows for one token after the other (two
// tokens from memory: 82 GMAC/s, as memory then rests while the second passes); two tokens reading ahead by turns (93,
// not 105), only the last two of three (117, not 130).
#include "five_per_byte_digits.hpp"

#include "../avx512_vnni/two_bit_tiles.hpp"

namespace tercet::avx512_vbmi {
namespace {

constexpr std::size_t group_columns = five_per_byte_tile_columns;
constexpr std::size_t block_rows = five_per_byte_tile_rows;
constexpr std::size_t most_table_tokens = 3;
constexpr std::size_t groups_per_byte_sum = 6;
constexpr std::size_t groups_per_word_sum = 48;
constexpr std::size_t table_bytes = 256;
constexpr std::size_t num_streams = 4;
constexpr std::size_t read_ahead_bytes = 3072;
constexpr std::size_t panel_units = 4;  // 320 columns
constexpr std::size_t max_block_tokens = 6;

constexpr std::size_t table_stride(std::size_t depth) { return pieces_of(depth) * piece_groups * table_bytes; }

// Of all magnitudes: the digits 2j and 2j + 1 (there is no sixth: 0) beside each other, for vpmaddubsw with activations
// that are 128 too large, and what makes up for that, plus 16. Vector v, lane l is the magnitude whose byte packing two
// vectors of 16-bit sums puts where it belongs.
struct TableMaking {
    alignas(64) std::int8_t pair[3][4][64];
    alignas(64) std::int16_t base[4][32];
};
constexpr std::size_t magnitude_of(std::size_t vector, std::size_t lane) {
    return vector / 2 * 64 + lane / 8 * 16 + vector % 2 * 8 + lane % 8;
}
constexpr TableMaking table_making = [] {
    TableMaking making{};
    for (std::size_t vector = 0; vector < 4; ++vector)
        for (std::size_t lane = 0; lane < 32; ++lane) {
            making.base[vector][lane] = 16;
            for (std::size_t i = 0; i < group_columns; ++i) {
                const std::int8_t digit = magnitude_digits.digit[magnitude_of(vector, lane)][i];
                making.pair[i / 2][vector][2 * lane + i % 2] = digit;
                making.base[vector][lane] = static_cast<std::int16_t>(making.base[vector][lane] - 128 * digit);
            }
        }
    return making;
}();

// The table of one group: its five codes, the first of eight readable bytes.
[[gnu::always_inline]] inline void make_table(const std::int8_t* codes, std::uint8_t* table) {
    std::int64_t eight;
    std::memcpy(&eight, codes, sizeof eight);
    const __m512i raised = _mm512_xor_si512(_mm512_set1_epi64(eight), _mm512_set1_epi8(static_cast<char>(0x80)));
    const __m512i pair0 = _mm512_shuffle_epi8(raised, _mm512_set1_epi16(0x0100));
    const __m512i pair1 = _mm512_shuffle_epi8(raised, _mm512_set1_epi16(0x0302));
    const __m512i pair2 = _mm512_shuffle_epi8(raised, _mm512_set1_epi16(0x0504));
    __m512i low[4], high[4];
#pragma GCC unroll 4
    for (std::size_t v = 0; v < 4; ++v) {
        const auto product = [v](__m512i pair, std::size_t i) __attribute__((always_inline)) {
            return _mm512_maddubs_epi16(pair, _mm512_load_si512(table_making.pair[i][v]));
        };
        const __m512i value =
            _mm512_add_epi16(_mm512_add_epi16(product(pair0, 0), product(pair1, 1)),
                             _mm512_add_epi16(product(pair2, 2), _mm512_load_si512(table_making.base[v])));
        high[v] = _mm512_srai_epi16(value, 5);
        low[v] = _mm512_and_si512(value, _mm512_set1_epi16(31));
    }
#pragma GCC unroll 2
    for (std::size_t half = 0; half < 2; ++half) {
        const __m512i lows = _mm512_packs_epi16(low[2 * half], low[2 * half + 1]);
        _mm512_store_si512(table + 64 * half, _mm512_sub_epi8(lows, _mm512_set1_epi8(16)));
        _mm512_store_si512(table + 128 + 64 * half, _mm512_packs_epi16(high[2 * half], high[2 * half + 1]));
    }
}

void make_tables(const TernaryPreparation& task) noexcept {
    const std::size_t groups = groups_of(task.depth);
    const std::size_t end = task.piece_end * piece_groups < groups ? task.piece_end * piece_groups : groups;
    for (std::size_t group = task.piece_begin * piece_groups; group < end; ++group) {
        const std::int8_t* codes = task.activations + group * group_columns;
        const std::size_t left = task.depth - group * group_columns;
        std::int8_t last[8] = {};
        if (left < sizeof last) {
            std::memcpy(last, codes, left < group_columns ? left : group_columns);
            codes = last;
        }
        make_table(codes, task.prepared + group * table_bytes);
    }
}

// out[0..64) of `blocks` row blocks += the sums of up to 48 groups, for one token. Bit g of `read_ahead` says
// whether the g-th of six groups also brings what lies ahead of it into L2.
template <std::size_t blocks, unsigned read_ahead>
void add_groups(const std::uint8_t* packed, std::size_t distance_bytes, std::size_t groups, const std::uint8_t* table,
                bool first, std::int32_t* out, std::size_t out_distance) {
    const __m512i weights = _mm512_set1_epi16(0x2001);  // 1 for low, 32 for high
    __m512i sums[blocks][2] = {};
    for (std::size_t begin = 0; begin < groups; begin += groups_per_byte_sum) {
        __m512i low[blocks] = {}, high[blocks] = {};
        const auto add_group = [&](std::size_t g) __attribute__((always_inline)) {
            const __m512i low0 = _mm512_load_si512(table), low1 = _mm512_load_si512(table + 64);
            const __m512i high0 = _mm512_load_si512(table + 128), high1 = _mm512_load_si512(table + 192);
#pragma GCC unroll 4
            for (std::size_t b = 0; b < blocks; ++b) {
                const std::uint8_t* from = packed + b * distance_bytes;
                if (read_ahead >> g & 1)
                    _mm_prefetch(reinterpret_cast<const char*>(from) + read_ahead_bytes, _MM_HINT_T1);
                const __m512i bytes = _mm512_loadu_si512(from);
                const __mmask64 negative = _mm512_movepi8_mask(bytes);
                const __m512i l = _mm512_permutex2var_epi8(low0, bytes, low1);
                const __m512i h = _mm512_permutex2var_epi8(high0, bytes, high1);
                low[b] = _mm512_add_epi8(low[b], _mm512_mask_sub_epi8(l, negative, _mm512_setzero_si512(), l));
                high[b] = _mm512_add_epi8(high[b], _mm512_mask_sub_epi8(h, negative, _mm512_setzero_si512(), h));
            }
            packed += tile_bytes;
            table += table_bytes;
        };
        if (groups - begin >= groups_per_byte_sum) {
#pragma GCC unroll 6
            for (std::size_t g = 0; g < groups_per_byte_sum; ++g) add_group(g);
        } else {
            for (std::size_t g = 0; g < groups - begin; ++g) add_group(g);
        }
#pragma GCC unroll 4
        for (std::size_t b = 0; b < blocks; ++b) {
            const __m512i even = _mm512_unpacklo_epi8(low[b], high[b]), odd = _mm512_unpackhi_epi8(low[b], high[b]);
            sums[b][0] = _mm512_add_epi16(sums[b][0], _mm512_maddubs_epi16(weights, even));
            sums[b][1] = _mm512_add_epi16(sums[b][1], _mm512_maddubs_epi16(weights, odd));
        }
    }
    // 128-bit lane q of sums[.][half] is rows 16 q + 8 half ...
    const __m512i lanes01 = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11),
                  lanes23 = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
#pragma GCC unroll 4
    for (std::size_t b = 0; b < blocks; ++b)
#pragma GCC unroll 4
        for (std::size_t i = 0; i < 4; ++i) {
            const __m512i rows = _mm512_permutex2var_epi64(sums[b][0], i < 2 ? lanes01 : lanes23, sums[b][1]);
            const __m256i words = i % 2 == 0 ? _mm512_castsi512_si256(rows) : _mm512_extracti64x4_epi64(rows, 1);
            std::int32_t* to = out + b * out_distance + 16 * i;
            const __m512i before = first ? _mm512_setzero_si512() : _mm512_loadu_si512(to);
            _mm512_storeu_si512(to, _mm512_add_epi32(before, _mm512_cvtepi16_epi32(words)));
        }
}

using AddGroups = void (*)(const std::uint8_t*, std::size_t, std::size_t, const std::uint8_t*, bool, std::int32_t*,
                           std::size_t);
template <unsigned read_ahead>
constexpr AddGroups add_groups_of[num_streams + 1] = {nullptr, add_groups<1, read_ahead>, add_groups<2, read_ahead>,
                                                      add_groups<3, read_ahead>, add_groups<4, read_ahead>};

// Row blocks that lie `distance` apart, 1 to 4 of them, for all tokens: 48 groups after 48 groups, which come from L1
// for every token but the first. Of two tokens the second reads ahead, three do it by turns: so it was fastest.
void look_up_blocks(const TernaryMatmul& task, std::size_t block, std::size_t blocks, std::size_t distance) {
    const std::size_t groups = groups_of(task.depth), block_bytes = groups * tile_bytes;
    const std::uint8_t* packed = task.packed + (task.row_tile_begin + block) * block_bytes;
    for (std::size_t first = 0; first < groups; first += groups_per_word_sum)
        for (std::size_t token = 0; token < task.tokens; ++token) {
            const auto& add = task.tokens < 3 ? (token + 1 == task.tokens ? add_groups_of<0b111111> : add_groups_of<0>)
                              : token == 0    ? add_groups_of<0b001001>
                              : token == 1    ? add_groups_of<0b010010>
                                              : add_groups_of<0b100100>;
            add[blocks](packed + first * tile_bytes, distance * block_bytes,
                        groups - first < groups_per_word_sum ? groups - first : groups_per_word_sum,
                        task.prepared + token * task.prepared_stride + first * table_bytes, first == 0,
                        task.out + token * task.out_stride + block * block_rows, distance * block_rows);
        }
}

void look_up(const TernaryMatmul& task) noexcept {
    const std::size_t blocks = task.row_tile_end - task.row_tile_begin, distance = blocks / num_streams;
    for (std::size_t block = 0; block < distance; ++block) look_up_blocks(task, block, num_streams, distance);
    if (const std::size_t left = blocks % num_streams; left != 0) look_up_blocks(task, blocks - left, left, 1);
}

// out[t][0..64) += panel * activations[t], or from minus the activation sums when the panel is the first one.
template <std::size_t tokens, bool read_ahead>
void multiply_panel(const std::uint8_t* panel, std::size_t units, bool first, const std::int8_t* activations,
                    std::size_t stride, const std::int32_t* activation_sums, std::int32_t* out, std::size_t out_stride,
                    const std::uint8_t* next) {
    __m512i sums[tokens][4];
#pragma GCC unroll 6
    for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 4
        for (std::size_t tile = 0; tile < 4; ++tile)
            sums[token][tile] = first ? _mm512_set1_epi32(-activation_sums[token])
                                      : _mm512_loadu_si512(out + token * out_stride + 16 * tile);

    // The next panel is units * 1 KB, which four parts of units * 5 lines cover.
    avx512_vnni::add_panel<4, tokens, read_ahead>(panel, units * unit_tiles, activations, stride, next,
                                                  units * unit_groups * tile_bytes / 4, sums);

#pragma GCC unroll 6
    for (std::size_t token = 0; token < tokens; ++token)
#pragma GCC unroll 4
        for (std::size_t tile = 0; tile < 4; ++tile)
            _mm512_storeu_si512(out + token * out_stride + 16 * tile, sums[token][tile]);
}

using MultiplyPanel = void (*)(const std::uint8_t*, std::size_t, bool, const std::int8_t*, std::size_t,
                               const std::int32_t*, std::int32_t*, std::size_t, const std::uint8_t*);

template <bool read_ahead>
constexpr MultiplyPanel multiply_panel_of[max_block_tokens + 1] = {nullptr,
                                                                   multiply_panel<1, read_ahead>,
                                                                   multiply_panel<2, read_ahead>,
                                                                   multiply_panel<3, read_ahead>,
                                                                   multiply_panel<4, read_ahead>,
                                                                   multiply_panel<5, read_ahead>,
                                                                   multiply_panel<6, read_ahead>};

void multiply_panels(const TernaryMatmul& task) noexcept {
    alignas(64) std::uint8_t panel[panel_units * unit_steps * 4 * tile_bytes];
    const std::size_t groups = groups_of(task.depth), units = units_of(task.depth);
    const std::size_t num_blocks = (task.tokens + max_block_tokens - 1) / max_block_tokens;
    const auto* codes = reinterpret_cast<const std::int8_t*>(task.prepared);
    for (std::size_t row_block = task.row_tile_begin; row_block < task.row_tile_end; ++row_block) {
        std::int32_t* out = task.out + (row_block - task.row_tile_begin) * block_rows;
        for (std::size_t begin = 0; begin < units; begin += panel_units) {
            const std::size_t end = units - begin < panel_units ? units : begin + panel_units;
            const std::uint8_t* packed = task.packed + row_block * groups * tile_bytes;
            spread_units<4 * tile_bytes>(packed, groups, begin, end, panel, tile_bytes);
            const std::uint8_t* next = packed + (end == units ? groups : end * unit_groups) * tile_bytes;
            for (std::size_t block = 0; block < num_blocks; ++block) {
                const std::size_t token = task.tokens * block / num_blocks;
                const auto& multiply = block == 0 ? multiply_panel_of<true> : multiply_panel_of<false>;
                multiply[task.tokens * (block + 1) / num_blocks - token](
                    panel, end - begin, begin == 0, codes + token * task.prepared_stride + begin * unit_columns,
                    task.prepared_stride, task.activation_sums + token, out + token * task.out_stride, task.out_stride,
                    next);
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

// For relatives, which multiply many tokens in another way.
void look_up_five_per_byte(const TernaryMatmul& task) noexcept { look_up(task); }

void install_five_per_byte(TernaryKernels& kernels) noexcept {
    kernels.matmul_five_per_byte = matmul_five_per_byte;
    kernels.prepared_stride_five_per_byte = prepared_stride;
    kernels.prepare_five_per_byte = prepare;
}

}  // namespace tercet::avx512_vbmi
