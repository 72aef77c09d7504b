// Pseudo-random operands for the self-test: the same on every machine and in every run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tercet {

class RandomValues {
  public:
    explicit RandomValues(std::size_t seed) : state_(static_cast<std::uint32_t>(seed)) {}

    std::uint8_t byte() {
        state_ = state_ * 1664525u + 1013904223u;
        return static_cast<std::uint8_t>(state_ >> 24);
    }

    // Between -4 and 4, in steps of 2^-13.
    float real() { return static_cast<float>(byte() * 256 + byte() - 32768) / 8192.0f; }

    std::vector<float> reals(std::size_t size) {
        std::vector<float> values(size);
        for (float& value : values) value = real();
        return values;
    }

  private:
    std::uint32_t state_;
};

}  // namespace tercet
