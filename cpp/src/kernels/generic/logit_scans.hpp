// What looks at every logit of a large vocabulary, written once: a table of 128,256 floats is read from L2 or L3.
#pragma once

#include <limits>

#include "exponential.hpp"
#include "tercet/head_kernels.hpp"
#include "vector.hpp"

namespace tercet {
namespace {

void block_maxima(const float* logits, std::size_t count, float* maxima) noexcept {
    constexpr float lowest = -std::numeric_limits<float>::infinity();
    for (std::size_t begin = 0; begin < count; begin += logit_block, ++maxima) {
        const std::size_t size = count - begin < logit_block ? count - begin : logit_block;
        if (size == logit_block) {
            f32x16 greatest = splat(lowest);
            i32x16 nans = splat(std::int32_t{0});
            for (std::size_t i = 0; i < logit_block; i += lanes) {
                const f32x16 values = load(logits + begin + i);
                greatest = greater(values, greatest);
                for (std::size_t p = 0; p < num_registers; ++p) nans.part[p] |= values.part[p] != values.part[p];
            }
            // A comparison that holds is -1 in every bit, so that the greatest lane of the negated mask is 1.
            const bool has_nan = greatest_lane(splat(std::int32_t{0}) - nans) != 0;
            *maxima = has_nan ? std::numeric_limits<float>::quiet_NaN() : greatest_lane(greatest);
            continue;
        }
        float greatest = lowest;
        bool has_nan = false;
        for (std::size_t i = begin; i < begin + size; ++i) {
            greatest = logits[i] > greatest ? logits[i] : greatest;
            has_nan = has_nan || logits[i] != logits[i];
        }
        *maxima = has_nan ? std::numeric_limits<float>::quiet_NaN() : greatest;
    }
}

double sum_of_exponentials(const float* logits, std::size_t count, float largest, float factor) noexcept {
    const f32x16 shift = splat(largest), times = splat(factor), least = splat(-87.5F);
    double total = 0.0;
    std::size_t i = 0;
    while (i + lanes <= count) {
        f32x16 sums = zeros();  // of so few that rounding hardly adds up
        for (std::size_t step = 0; step < 16 && i + lanes <= count; ++step, i += lanes)
            sums = sums + exponential(greater((load(logits + i) - shift) * times, least));
        total += static_cast<double>(sum_lanes(sums));
    }
    if (i < count) {
        float weights[lanes] = {};
        store_tail(weights, exponential(greater((load_tail(logits + i, count - i) - shift) * times, least)), count - i);
        for (const float weight : weights) total += static_cast<double>(weight);
    }
    return total;
}

}  // namespace
}  // namespace tercet
