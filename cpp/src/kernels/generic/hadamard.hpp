// The Hadamard transform of one block, in place: log2(size) passes over it, each a butterfly of values that are 1, 2, 4,
// ... apart. Each value of a pass is one addition or subtraction, so every instruction set gives the same bits.
//
//     (a, b) -> (a + b, a - b)      a at i, b at i + distance, for every i whose bit `distance` is not set
#pragma once

#include <utility>

#include "tercet/float_kernels.hpp"
#include "vector.hpp"

namespace tercet {
namespace {

// One pass within a register: every lane meets lane ^ distance; where that bit is set, it is the one subtracted.
template <std::size_t distance, std::size_t... lane>
TERCET_INLINE f32_register butterfly(f32_register x, std::index_sequence<lane...>) {
    const f32_register other = __builtin_shufflevector(x, x, static_cast<int>(lane ^ distance)...);
    const f32_register signs = {((lane & distance) != 0 ? -1.0F : 1.0F)...};
    return other + x * signs;  // a product with 1 or -1 is exact
}

template <std::size_t distance>
TERCET_INLINE f32x16 butterfly(f32x16 x) {
    f32x16 out;
    if constexpr (distance < register_lanes) {
        for (std::size_t p = 0; p < num_registers; ++p)
            out.part[p] = butterfly<distance>(x.part[p], std::make_index_sequence<register_lanes>());
    } else {
        constexpr std::size_t step = distance / register_lanes;
        for (std::size_t p = 0; p < num_registers; ++p)
            out.part[p] = (p & step) != 0 ? x.part[p ^ step] - x.part[p] : x.part[p] + x.part[p ^ step];
    }
    return out;
}

void hadamard(float* values, std::size_t size) noexcept {
    const f32x16 factor = splat(static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(size))));
    if (size < lanes) {  // too small for a vector; nobody's model has it
        for (std::size_t distance = 1; distance < size; distance *= 2)
            for (std::size_t i = 0; i < size; ++i)
                if ((i & distance) == 0) {
                    const float a = values[i], b = values[i + distance];
                    values[i] = a + b;
                    values[i + distance] = a - b;
                }
        store_tail(values, load_tail(values, size) * factor, size);
        return;
    }
    for (std::size_t i = 0; i < size; i += lanes)
        store(values + i, butterfly<8>(butterfly<4>(butterfly<2>(butterfly<1>(load(values + i))))));
    for (std::size_t distance = lanes; distance < size; distance *= 2)
        for (std::size_t block = 0; block < size; block += 2 * distance)
            for (std::size_t i = block; i < block + distance; i += lanes) {
                const f32x16 a = load(values + i), b = load(values + i + distance);
                store(values + i, a + b);
                store(values + i + distance, a - b);
            }
    for (std::size_t i = 0; i < size; i += lanes) store(values + i, load(values + i) * factor);
}

}  // namespace
}  // namespace tercet
