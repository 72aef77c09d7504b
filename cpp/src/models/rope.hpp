// How fast each pair of a head turns: src/tercet/reference/rotary.py and src/tercet/models/rope_scaling.py.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "models/config_fields.hpp"

namespace tercet {

struct RopeScaling {
    enum class Kind { linear, llama3, yarn, factors } kind;
    double factor = 1, original_max_context = 0;
    double low_freq_factor = 0, high_freq_factor = 0;          // llama3
    double beta_fast = 0, beta_slow = 0, attention_factor = 1;  // yarn
    std::vector<double> factors;
};

// Throws FormatError.
RopeScaling read_rope_scaling(const ConfigFields& fields);

// Radians that each pair turns by from one position to the next, [head_dim / 2].
std::vector<float> inverse_frequencies(double theta, std::size_t head_dim, const RopeScaling* scaling);

}  // namespace tercet
