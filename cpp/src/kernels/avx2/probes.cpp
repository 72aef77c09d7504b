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

}  // namespace

void install_probes(ProbeKernels& kernels) noexcept {
    kernels = {read_plain, read_prefetched, read_streams, int8_dot_products};
}

}  // namespace tercet::avx2
