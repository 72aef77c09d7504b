// Probes of the reference: the shared memory readers, and multiply-adds as the compiler vectorizes them.
#include "../generic/memory_readers.hpp"
#include "tercet/probe_kernels.hpp"

namespace tercet::reference {
namespace {

// 16-bit products added into 32 bits: the baseline has no 8-bit dot product.
std::uint64_t int8_dot_products(std::size_t repeats) noexcept {
    constexpr std::size_t lanes = 64;
    std::int16_t weights[lanes], activations[lanes];
    std::uint32_t sums[lanes] = {};  // which may wrap around
    for (std::size_t i = 0; i < lanes; ++i) {
        weights[i] = static_cast<std::int16_t>(i % 3) - 1;
        activations[i] = static_cast<std::int16_t>(i);
    }
    for (std::size_t repeat = 0; repeat < repeats; ++repeat) {
        for (std::size_t i = 0; i < lanes; ++i) sums[i] += static_cast<std::uint32_t>(weights[i] * activations[i]);
        asm volatile("" : "+m"(sums), "+m"(activations));  // every repeat is computed
    }
    return repeats * lanes;
}

// Without an instruction for it: one load each.
std::uint64_t byte_lookups(std::size_t repeats) noexcept {
    constexpr std::size_t lanes = 64;
    std::uint8_t table[256], indices[lanes], found[lanes];
    for (std::size_t i = 0; i < sizeof table; ++i) table[i] = static_cast<std::uint8_t>(i * 7);
    for (std::size_t i = 0; i < lanes; ++i) indices[i] = static_cast<std::uint8_t>(i * 5);
    for (std::size_t repeat = 0; repeat < repeats; ++repeat) {
        for (std::size_t i = 0; i < lanes; ++i) found[i] = table[indices[i]];
        asm volatile("" : "+m"(found), "+m"(indices));  // every repeat is computed
    }
    return repeats * lanes;
}

}  // namespace

void install_probes(ProbeKernels& kernels) noexcept {
    kernels = {read_plain, read_prefetched, read_streams, int8_dot_products, byte_lookups};
}

}  // namespace tercet::reference
