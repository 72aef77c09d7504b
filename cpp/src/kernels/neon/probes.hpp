// Probes of NEON: the shared memory readers, and the multiply-adds that the ternary kernels are made of (quad_sums.hpp).
#pragma once

#include "../generic/memory_readers.hpp"
#include "quad_sums.hpp"
#include "tercet/probe_kernels.hpp"

namespace tercet {
namespace {

std::uint64_t int8_dot_products(std::size_t repeats) noexcept {
    constexpr int independent = 10;  // with two registers each still fewer than the registers
    int8x16_t codes = vdupq_n_s8(1);
    const int8x16_t activations = vdupq_n_s8(3);
    QuadSums sums[independent];
    for (QuadSums& sum : sums) sum = no_sums();
    for (std::size_t repeat = 0; repeat < repeats; ++repeat) {
#pragma GCC unroll 10
        for (int i = 0; i < independent; ++i) {
            asm volatile("" : "+w"(codes));  // so that no two products are known to be the same
            add<0>(sums[i], codes, activations);
        }
    }
#pragma GCC unroll 10
    for (int i = 0; i < independent; ++i) asm volatile("" : : "w"(total(sums[i])));  // the sums are needed
    return repeats * independent * 16;
}

// tbl: 16 bytes from a table of 64, which four registers hold.
std::uint64_t byte_lookups(std::size_t repeats) noexcept {
    constexpr int independent = 10;
    uint8x16x4_t table{};
    uint8x16_t indices[independent] = {};
    for (std::size_t repeat = 0; repeat < repeats; ++repeat) {
#pragma GCC unroll 10
        for (int i = 0; i < independent; ++i) {
            asm volatile("" : "+w"(indices[i]));  // so that no look-up is left out
            indices[i] = vqtbl4q_u8(table, indices[i]);
        }
    }
#pragma GCC unroll 10
    for (int i = 0; i < independent; ++i) asm volatile("" : : "w"(indices[i]));  // the bytes are needed
    return repeats * independent * 16;
}

}  // namespace
}  // namespace tercet
