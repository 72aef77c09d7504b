// Kernels that measure the machine instead of computing: what its memory and its multipliers can do at best.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tercet {

struct ProbeKernels {
    // Reads bytes [0, size) once, size a multiple of 4096, and returns their exclusive or, so that no read can be
    // left out. Plain loads in one stream; one stream with prefetches into L2 running ahead; four far-apart streams,
    // each with prefetches.
    std::uint64_t (*read_plain)(const std::uint8_t* bytes, std::size_t size) noexcept;
    std::uint64_t (*read_prefetched)(const std::uint8_t* bytes, std::size_t size) noexcept;
    std::uint64_t (*read_streams)(const std::uint8_t* bytes, std::size_t size) noexcept;

    // Runs independent int8 dot products in registers and returns how many multiply-adds they were.
    std::uint64_t (*int8_dot_products)(std::size_t repeats) noexcept;

    // Looks bytes up in tables that registers hold, independently, and returns how many bytes were looked up: the limit of
    // products by lookup, as the other is that of products by multiplication.
    std::uint64_t (*byte_lookups)(std::size_t repeats) noexcept;
};

inline constexpr const char* probe_operation_names[] = {
    "read_plain",
    "read_prefetched",
    "read_streams",
    "int8_dot_products",
    "byte_lookups",
};

}  // namespace tercet
