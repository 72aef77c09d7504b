// Products of matrix tiles, which both packings share: 16 tokens x 16 rows x 64 columns an instruction.
//
// Weights come spread to a byte each, 16 rows x 4 columns in 64 bytes; 16 of these, that is 64 columns, are a tile of
// 16 rows of 64 bytes as tdpbsud wants its right operand. The left operand is 64 columns of 16 tokens as they lie in
// memory, and the 16 x 16 sums of 32 bits come out as rows of the output.
//
//   tiles 0-3  sums, [half of the tokens][half of the rows]      two halves of 16 tokens, two of 16 rows
//   tiles 4, 5 activations of either half of the tokens
//   tiles 6, 7 weights of either half of the rows
//
// so four tile loads feed four products. Sums visit memory once for each panel of weights.
#pragma once

#include <immintrin.h>

#include "tercet/ternary_kernels.hpp"

namespace tercet::amx_int8 {
namespace {

constexpr std::size_t tile_size = 16;  // rows of a tile register; each is 64 bytes
constexpr std::size_t step_columns = 64;
constexpr std::size_t step_bytes = tile_size * 64;  // of 16 rows of weights
constexpr std::size_t panel_steps = 5;              // a panel of 64 rows is 20 KB and stays in L1
constexpr std::size_t max_block_tokens = 2 * tile_size;

// The intrinsics are assembler statements that do not name the memory that they read, so the compiler must be kept from
// moving or dropping the stores before them and the loads after them.
[[gnu::always_inline]] inline void fence_compiler() { asm volatile("" ::: "memory"); }

struct alignas(64) TileConfig {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {};
};

// For blocks of 1 to 32 tokens. Products take time by the rows that are configured.
[[maybe_unused]] void configure_tiles(std::size_t tokens) noexcept {
    const auto first = static_cast<std::uint8_t>(tokens < tile_size ? tokens : tile_size);
    const auto second = static_cast<std::uint8_t>(tokens > tile_size ? tokens - tile_size : 1);
    TileConfig config;
    const std::uint8_t rows[8] = {first, first, second, second, first, second, tile_size, tile_size};
    for (int tile = 0; tile < 8; ++tile) config.rows[tile] = rows[tile];
    fence_compiler();
    _tile_loadconfig(&config);
}

// Where one product of a panel of weights with a block of tokens finds its operands.
struct PanelProduct {
    const std::uint8_t* panel;  // [row tile][step], row tiles tile_distance bytes apart
    std::size_t tile_distance;
    std::size_t steps;
    const std::int8_t* activations;
    std::size_t activation_stride;
    std::int32_t* out;  // sums are added to what is there
    std::size_t out_stride;
    const std::uint8_t* next;  // the packed weights of the next panel: for each row tile and step, four lines
    std::size_t next_tile_distance;
};

constexpr std::size_t next_step_bytes = 4 * tile_bytes;

[[gnu::always_inline]] inline void read_step_ahead(const std::uint8_t* next) {
#pragma GCC unroll 4
    for (std::size_t line = 0; line < 4; ++line)
        _mm_prefetch(reinterpret_cast<const char*>(next) + line * tile_bytes, _MM_HINT_T1);
}

// With read_ahead, the next panel is brought into L2 meanwhile, spread evenly over the products: a burst of prefetches
// would wait for memory.
template <bool two_token_halves, bool two_row_tiles, bool read_ahead>
void multiply_panel(const PanelProduct& product) noexcept {
    const std::size_t out_bytes = product.out_stride * sizeof(std::int32_t), stride = product.activation_stride;
    std::int32_t* const out = product.out;
    std::int32_t* const out_second = out + tile_size * product.out_stride;
    const std::int8_t* activations = product.activations;
    const std::int8_t* second = activations + tile_size * stride;
    const std::uint8_t* panel = product.panel;
    fence_compiler();
    _tile_loadd(0, out, out_bytes);
    if constexpr (two_row_tiles) _tile_loadd(1, out + tile_size, out_bytes);
    if constexpr (two_token_halves) _tile_loadd(2, out_second, out_bytes);
    if constexpr (two_token_halves && two_row_tiles) _tile_loadd(3, out_second + tile_size, out_bytes);
    for (std::size_t step = 0; step < product.steps; ++step) {
        _tile_loadd(6, panel, 64);
        _tile_loadd(4, activations, stride);
        _tile_dpbsud(0, 4, 6);
        if constexpr (two_row_tiles) {
            _tile_loadd(7, panel + product.tile_distance, 64);
            _tile_dpbsud(1, 4, 7);
        }
        if constexpr (two_token_halves) {
            _tile_loadd(5, second, stride);
            _tile_dpbsud(2, 5, 6);
            if constexpr (two_row_tiles) _tile_dpbsud(3, 5, 7);
        }
        if constexpr (read_ahead) read_step_ahead(product.next + step * next_step_bytes);
        if constexpr (read_ahead && two_row_tiles)
            read_step_ahead(product.next + product.next_tile_distance + step * next_step_bytes);
        panel += step_bytes;
        activations += step_columns;
        second += step_columns;
    }
    _tile_stored(0, out, out_bytes);
    if constexpr (two_row_tiles) _tile_stored(1, out + tile_size, out_bytes);
    if constexpr (two_token_halves) _tile_stored(2, out_second, out_bytes);
    if constexpr (two_token_halves && two_row_tiles) _tile_stored(3, out_second + tile_size, out_bytes);
    fence_compiler();
}

// A block of tokens with `row_tiles` row tiles of a panel.
template <bool two_token_halves, bool read_ahead>
void multiply_block(PanelProduct product, std::size_t row_tiles) noexcept {
    std::size_t tile = 0;
    for (; tile + 2 <= row_tiles; tile += 2) {
        multiply_panel<two_token_halves, true, read_ahead>(product);
        product.panel += 2 * product.tile_distance;
        product.next += 2 * product.next_tile_distance;
        product.out += 2 * tile_size;
    }
    if (tile < row_tiles) multiply_panel<two_token_halves, false, read_ahead>(product);
}

// All tokens with `row_tiles` row tiles of a panel. product.activations and product.out are those of the first token.
[[maybe_unused]] void multiply_tokens(PanelProduct product, std::size_t row_tiles, std::size_t tokens) noexcept {
    std::size_t configured = 0;
    bool first = true;
    while (tokens != 0) {
        const std::size_t block = tokens < max_block_tokens ? tokens : max_block_tokens;
        if (block != configured) configure_tiles(block);
        configured = block;
        const auto multiply = block > tile_size ? (first ? multiply_block<true, true> : multiply_block<true, false>)
                                                : (first ? multiply_block<false, true> : multiply_block<false, false>);
        multiply(product, row_tiles);
        first = false;
        tokens -= block;
        product.activations += block * product.activation_stride;
        product.out += block * product.out_stride;
    }
}

// Sums begin at minus the activation sums: weights are codes + 1.
[[maybe_unused]] void begin_sums(const std::int32_t* activation_sums, std::size_t tokens, std::size_t row_tiles,
                                 std::int32_t* out, std::size_t out_stride) noexcept {
    for (std::size_t token = 0; token < tokens; ++token)
        for (std::size_t tile = 0; tile < row_tiles; ++tile)
            _mm512_storeu_si512(out + token * out_stride + tile_size * tile,
                                _mm512_set1_epi32(-activation_sums[token]));
}

}  // namespace
}  // namespace tercet::amx_int8
