// Probes of AVX2: the shared memory readers, and vpmaddubsw + vpaddw, the pair that the ternary kernels are made of.
#include <immintrin.h>

#include "../generic/memory_readers.hpp"
#include "tercet/probe_kernels.hpp"

namespace tercet::avx2 {
namespace {

std::uint64_t int8_dot_products(std::size_t repeats) noexcept {
    constexpr int independent = 10;  // more than latency x throughput, fewer than the registers
    __m256i weights = _mm256_set1_epi8(1);
    const __m256i activations = _mm256_set1_epi8(3);
    __m256i sums[independent] = {};
    for (std::size_t repeat = 0; repeat < repeats; ++repeat) {
#pragma GCC unroll 10
        for (int i = 0; i < independent; ++i) {
            asm volatile("" : "+x"(weights));  // so that no two products are known to be the same
            sums[i] = _mm256_add_epi16(sums[i], _mm256_maddubs_epi16(weights, activations));
        }
    }
#pragma GCC unroll 10
    for (int i = 0; i < independent; ++i) asm volatile("" : : "x"(sums[i]));  // the sums are needed
    return repeats * independent * 32;
}

// vpshufb: 32 bytes from tables of 16.
std::uint64_t byte_lookups(std::size_t repeats) noexcept {
    constexpr int independent = 10;
    __m256i table = _mm256_set1_epi8(1);
    __m256i indices[independent] = {};
    for (std::size_t repeat = 0; repeat < repeats; ++repeat) {
#pragma GCC unroll 10
        for (int i = 0; i < independent; ++i) {
            asm volatile("" : "+x"(table));  // so that no two look-ups are known to be the same
            indices[i] = _mm256_shuffle_epi8(table, indices[i]);
        }
    }
#pragma GCC unroll 10
    for (int i = 0; i < independent; ++i) asm volatile("" : : "x"(indices[i]));  // the bytes are needed
    return repeats * independent * 32;
}

}  // namespace

void install_probes(ProbeKernels& kernels) noexcept {
    kernels = {read_plain, read_prefetched, read_streams, int8_dot_products, byte_lookups};
}

}  // namespace tercet::avx2
