#include "tercet/math.hpp"
#include "tercet/ops.hpp"

namespace tercet {

void rotation(std::size_t position, std::span<const float> inverse_frequencies, float factor, float* cosines,
              float* sines) noexcept {
    for (std::size_t i = 0; i < inverse_frequencies.size(); ++i) {
        const float angle = static_cast<float>(position) * inverse_frequencies[i];
        const SineCosine exact = sine_cosine(static_cast<double>(angle));
        cosines[i] = static_cast<float>(exact.cosine) * factor;
        sines[i] = static_cast<float>(exact.sine) * factor;
    }
}

}  // namespace tercet
