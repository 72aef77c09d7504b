// Probes of AVX-512 VBMI: its byte permute. The rest is avx512_vnni's.
#include <immintrin.h>

#include "tercet/probe_kernels.hpp"

namespace tercet::avx512_vbmi {
namespace {

// vpermi2b: 64 bytes from a table of 128, which two registers hold.
std::uint64_t byte_lookups(std::size_t repeats) noexcept {
    constexpr int independent = 24;
    __m512i table = _mm512_set1_epi8(1);
    __m512i indices[independent] = {};
    for (std::size_t repeat = 0; repeat < repeats; ++repeat) {
#pragma GCC unroll 24
        for (int i = 0; i < independent; ++i) {
            asm volatile("" : "+v"(table));  // so that no two look-ups are known to be the same
            indices[i] = _mm512_permutex2var_epi8(table, indices[i], table);
        }
    }
#pragma GCC unroll 24
    for (int i = 0; i < independent; ++i) asm volatile("" : : "v"(indices[i]));  // the bytes are needed
    return repeats * independent * 64;
}

}  // namespace

void install_probes(ProbeKernels& kernels) noexcept { kernels.byte_lookups = byte_lookups; }

}  // namespace tercet::avx512_vbmi
