// Probes of AMX: tdpbsud on full tiles. Memory is read as avx512_vnni reads it.
#include "tercet/probe_kernels.hpp"
#include "tile_products.hpp"

namespace tercet::amx_int8 {
namespace {

std::uint64_t int8_dot_products(std::size_t repeats) noexcept {
    configure_tiles(max_block_tokens);
    const std::size_t rounds = repeats / 16 + 1;  // a product of tiles is as much as 256 of other instruction sets
    for (std::size_t round = 0; round < rounds; ++round) {
        _tile_dpbsud(0, 4, 6);
        _tile_dpbsud(1, 4, 7);
        _tile_dpbsud(2, 5, 6);
        _tile_dpbsud(3, 5, 7);
    }
    _tile_release();
    return rounds * 4 * tile_size * tile_size * step_columns;
}

}  // namespace

void install_probes(ProbeKernels& kernels) noexcept { kernels.int8_dot_products = int8_dot_products; }

}  // namespace tercet::amx_int8
