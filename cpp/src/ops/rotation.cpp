#include "tercet/math.hpp"
#include "tercet/ops.hpp"

namespace tercet {

std::vector<float> inverse_frequencies(double theta, std::size_t head_dim) {
    std::vector<float> frequencies(head_dim / 2);
    const double log_theta = logarithm(theta);
    for (std::size_t i = 0; i < frequencies.size(); ++i) {
        const double exponent = static_cast<double>(2 * i) / static_cast<double>(head_dim);
        frequencies[i] = static_cast<float>(exponential(-exponent * log_theta));
    }
    return frequencies;
}

void rotation(std::size_t position, std::span<const float> frequencies, float* cosines, float* sines) noexcept {
    for (std::size_t i = 0; i < frequencies.size(); ++i) {
        const float angle = static_cast<float>(position) * frequencies[i];
        const SineCosine exact = sine_cosine(static_cast<double>(angle));
        cosines[i] = static_cast<float>(exact.cosine);
        sines[i] = static_cast<float>(exact.sine);
    }
}

}  // namespace tercet
