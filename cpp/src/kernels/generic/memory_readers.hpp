// Readers that find out how fast memory is, written once and compiled in every ISA folder with registers of its width.
//
// A plain sequential reader gets about half of one core's bandwidth: the hardware prefetcher stops at every 4 KB page
// and keeps few lines in flight. Prefetches into L2 that run some KB ahead cross the page; several streams far enough
// apart that the prefetcher treats them as unrelated do the same. Which is fastest differs by machine, so the probe
// tries all.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tercet {
namespace {

#if defined(__AVX512F__)
constexpr std::size_t reader_register_bytes = 64;
#elif defined(__AVX2__)
constexpr std::size_t reader_register_bytes = 32;
#else
constexpr std::size_t reader_register_bytes = 16;
#endif

constexpr std::size_t line_bytes = 64;
constexpr std::size_t read_ahead_bytes = 4096;
constexpr std::size_t num_far_streams = 4;

using Parity [[gnu::vector_size(reader_register_bytes)]] = std::uint64_t;
using UnalignedParity [[gnu::vector_size(reader_register_bytes), gnu::aligned(1), gnu::may_alias]] = std::uint64_t;

// The exclusive or of one cache line into a register.
[[gnu::always_inline]] inline void read_line(const std::uint8_t* line, Parity& parity) {
    for (std::size_t at = 0; at < line_bytes; at += reader_register_bytes)
        parity ^= *reinterpret_cast<const UnalignedParity*>(line + at);
}

[[gnu::always_inline]] inline void prefetch_into_l2(const std::uint8_t* line) { __builtin_prefetch(line, 0, 2); }

inline std::uint64_t fold(Parity parity) {
    std::uint64_t all = 0;
    for (std::size_t lane = 0; lane < reader_register_bytes / sizeof all; ++lane) all ^= parity[lane];
    return all;
}

std::uint64_t read_plain(const std::uint8_t* bytes, std::size_t size) noexcept {
    Parity even{}, odd{};
    for (std::size_t at = 0; at < size; at += 2 * line_bytes) {
        read_line(bytes + at, even);
        read_line(bytes + at + line_bytes, odd);
    }
    return fold(even ^ odd);
}

std::uint64_t read_prefetched(const std::uint8_t* bytes, std::size_t size) noexcept {
    Parity even{}, odd{};
    for (std::size_t at = 0; at < size; at += 2 * line_bytes) {
        prefetch_into_l2(bytes + at + read_ahead_bytes);
        prefetch_into_l2(bytes + at + read_ahead_bytes + line_bytes);
        read_line(bytes + at, even);
        read_line(bytes + at + line_bytes, odd);
    }
    return fold(even ^ odd);
}

std::uint64_t read_streams(const std::uint8_t* bytes, std::size_t size) noexcept {
    const std::size_t part = size / num_far_streams;
    Parity parity[num_far_streams] = {};
    for (std::size_t at = 0; at < part; at += line_bytes) {
        for (std::size_t stream = 0; stream < num_far_streams; ++stream) {
            const std::uint8_t* line = bytes + stream * part + at;
            prefetch_into_l2(line + read_ahead_bytes / 2);
            read_line(line, parity[stream]);
        }
    }
    return fold(parity[0] ^ parity[1] ^ parity[2] ^ parity[3]);
}

}  // namespace
}  // namespace tercet
