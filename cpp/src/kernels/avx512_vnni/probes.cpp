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

// vpshufb: 64 bytes from tables of 16.
std::uint64_t byte_lookups(std::size_t repeats) noexcept {
    constexpr int independent = 24;
    __m512i table = _mm512_set1_epi8(1);
    __m512i indices[independent] = {};
    for (std::size_t repeat = 0; repeat < repeats; ++repeat) {
#pragma GCC unroll 24
        for (int i = 0; i < independent; ++i) {
            asm volatile("" : "+v"(table));  // so that no two look-ups are known to be the same
            indices[i] = _mm512_shuffle_epi8(table, indices[i]);
        }
    }
#pragma GCC unroll 24
    for (int i = 0; i < independent; ++i) asm volatile("" : : "v"(indices[i]));  // the bytes are needed
    return repeats * independent * 64;
}

}  // namespace

void install_probes(ProbeKernels& kernels) noexcept {
    kernels = {read_plain, read_prefetched, read_streams, int8_dot_products, byte_lookups};
}

}  // namespace tercet::avx512_vnni
