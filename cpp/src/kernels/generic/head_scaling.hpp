// Integer products of the head to logits, written once: the compiler makes vectors of it in each folder.
#pragma once

#include "tercet/head_kernels.hpp"

namespace tercet {
namespace {

void scale_products(const PlaneScaling& task) noexcept {
    for (std::size_t i = 0; i < task.count; ++i) {
        const double product = 256.0 * static_cast<double>(task.coarse[i]) + static_cast<double>(task.fine[i]);
        task.out[i] = static_cast<float>(product * task.unit + task.offset) * (task.row_scales[i] * task.scale);
    }
}

}  // namespace
}  // namespace tercet
