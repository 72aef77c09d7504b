// Probes of AVX-512 VNNI: the shared memory readers, and vpdpbusd on 64 bytes.
#include <immintrin.h>

#include "../generic/memory_readers.hpp"
#include "tercet/probe_kernels.hpp"

namespace tercet::avx512_vnni {
namespace {

std::uint64_t int8_dot_products(std::size_t repeats) noexcept {
    constexpr int independent = 24;  // more than latency x throughput (5 x 2), fewer than the registers
    __m512i weights = _mm512_set1_epi8(1);
    const __m512i activations = _mm512_set1_epi8(3);
    __m512i sums[independent] = {};
    for (std::size_t repeat = 0; repeat < repeats; ++repeat) {
#pragma GCC unroll 24
        for (int i = 0; i < independent; ++i) {
            asm volatile("" : "+v"(weights));  // so that no two sums are known to be the same
            sums[i] = _mm512_dpbusd_epi32(sums[i], weights, activations);
        }
    }
#pragma GCC unroll 24
    for (int i = 0; i < independent; ++i) asm volatile("" : : "v"(sums[i]));  // the sums are needed
    return repeats * independent * 64;
}

}  // namespace

void install_probes(ProbeKernels& kernels) noexcept {
    kernels = {read_plain, read_prefetched, read_streams, int8_dot_products};
}

}  // namespace tercet::avx512_vnni
