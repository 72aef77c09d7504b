// The three products of the head kernels, made of a folder's product with one plane (tercet/head_kernels.hpp).
#pragma once

#include "tercet/head_kernels.hpp"

namespace tercet {
namespace {

// out = the plane times the vectors when unit is 0, or unit * out plus that.
using AddPlane = void (*)(const PlaneMatmul& task, const std::uint8_t* plane, std::int32_t unit);

template <AddPlane add_four_bits, AddPlane add_two_bits>
struct PlaneProducts {
    static void high(const PlaneMatmul& task) noexcept { add_four_bits(task, task.high, 0); }
    static void eight(const PlaneMatmul& task) noexcept {
        add_four_bits(task, task.high, 0);
        add_four_bits(task, task.low, 16);
    }
    static void six(const PlaneMatmul& task) noexcept {
        add_four_bits(task, task.high, 0);
        add_two_bits(task, task.low, 4);
    }
};

}  // namespace
}  // namespace tercet
