// The roundings of inputs that few models have: int4 by the mean (BitNet v2, a4.8) and int8 of the larger half (a4.8). int8
// by the largest, which all others have, is a kernel. The specification is src/tercet/quantization/activations.py.
#include <algorithm>
#include <bit>
#include <cmath>

#include "tercet/ops.hpp"

namespace tercet {
namespace {

constexpr float smallest_magnitude = 1e-5F;
constexpr float root_of_seven = 2.6457512F;  // float32(sqrt(7))

// The mean of |x|, summed in float64: 8 sums of every eighth, then those in order.
float mean_magnitude(const float* x, std::size_t depth) noexcept {
    constexpr std::size_t lanes = 8;
    double sums[lanes] = {};
    std::size_t i = 0;
    for (; i + lanes <= depth; i += lanes) {
        for (std::size_t lane = 0; lane < lanes; ++lane) sums[lane] += static_cast<double>(std::fabs(x[i + lane]));
    }
    for (std::size_t lane = 0; i < depth; ++i, ++lane) sums[lane] += static_cast<double>(std::fabs(x[i]));
    double total = 0.0;
    for (const double sum : sums) total += sum;
    return static_cast<float>(total / static_cast<double>(depth));
}

std::uint32_t magnitude_bits(float value) noexcept { return std::bit_cast<std::uint32_t>(value) & 0x7FFF'FFFFU; }

}  // namespace

// codes = clip(rint(x * (sqrt 7 / b)), -8, 7), halves to even, with b = max(mean |x|, 1e-5). Returns b / sqrt 7. A NaN or
// infinity in x makes that one, too.
float round_to_int4(const float* x, std::size_t depth, std::size_t stride, std::int8_t* codes, std::int32_t* sum) noexcept {
    constexpr float rounds_to_whole = 12582912.0F;  // 1.5 * 2^23: what is added to it loses its fraction
    const float mean = mean_magnitude(x, depth);
    const float b = mean < smallest_magnitude ? smallest_magnitude : mean;
    const float factor = root_of_seven / b;
    std::int32_t total = 0;
    for (std::size_t i = 0; i < depth; ++i) {
        const float scaled = x[i] * factor;
        const float clipped = scaled >= -8.0F ? (scaled <= 7.0F ? scaled : 7.0F) : -8.0F;
        const auto code = static_cast<std::int32_t>((clipped + rounds_to_whole) - rounds_to_whole);
        codes[i] = static_cast<std::int8_t>(code);
        total += code;
    }
    std::fill(codes + depth, codes + stride, std::int8_t{0});
    *sum = total;
    return b / root_of_seven;
}

// kept = x where |x| is at least the k-th largest of them, k = ceil(depth / 2), and 0 elsewhere. Magnitudes are compared as
// bits, so that a NaN is the largest and stays.
void keep_top_half(const float* x, std::size_t depth, float* kept) noexcept {
    const auto is_smaller = [](float one, float other) { return magnitude_bits(one) < magnitude_bits(other); };
    std::copy_n(x, depth, kept);
    std::nth_element(kept, kept + depth / 2, kept + depth, is_smaller);
    const std::uint32_t threshold = magnitude_bits(kept[depth / 2]);
    for (std::size_t i = 0; i < depth; ++i) kept[i] = magnitude_bits(x[i]) >= threshold ? x[i] : 0.0F;
}

void LinearInput::quantize(const FloatKernels& kernels, std::size_t token, Rounding rounding) noexcept {
    if (!quantized_) return;
    std::int8_t* codes = codes_.data() + token * code_stride_;
    if (rounding == Rounding::int4) {
        scales_[token] = round_to_int4(row(token), depth_, code_stride_, codes, &sums_[token]);
        return;
    }
    const float* values = row(token);
    if (rounding == Rounding::int8_top_half) {
        float* kept = kept_.data() + token * depth_;
        keep_top_half(values, depth_, kept);
        values = kept;
    }
    scales_[token] = kernels.quantize(values, depth_, code_stride_, codes, &sums_[token]);
}

}  // namespace tercet
