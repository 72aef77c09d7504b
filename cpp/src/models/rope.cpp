#include "models/rope.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tercet {
namespace {

double clip(double value) noexcept { return std::min(std::max(value, 0.0), 1.0); }

// How far each frequency stays as it is, from 0 to 1.
double kept_by_llama3(double frequency, const RopeScaling& scaling) noexcept {
    const double rotations = scaling.original_max_context * frequency / (2 * std::numbers::pi);
    return clip((rotations - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor));
}

// The same for yarn: a ramp between the pairs that turn beta_fast and beta_slow times, whole pairs.
double kept_by_yarn(std::size_t pair, double theta, std::size_t half, const RopeScaling& scaling) noexcept {
    const auto pair_that_turns = [&](double rotations) {
        return static_cast<double>(half) *
               (std::log(scaling.original_max_context) - std::log(2 * std::numbers::pi * rotations)) / std::log(theta);
    };
    const double first = std::max(std::floor(pair_that_turns(scaling.beta_fast)), 0.0);
    const double last = std::min(std::ceil(pair_that_turns(scaling.beta_slow)), static_cast<double>(2 * half - 1));
    const double width = last == first ? 0.001 : last - first;  // as in the authors' code
    return 1 - clip((static_cast<double>(pair) - first) / width);
}

}  // namespace

RopeScaling read_rope_scaling(const ConfigFields& fields) {
    using Kind = RopeScaling::Kind;
    RopeScaling scaling{};
    fields.only({"kind", "factor", "original_max_context", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow",
                 "attention_factor", "factors"});
    const std::string kind = fields.choice("kind", {"linear", "llama3", "yarn", "factors"});
    scaling.kind = kind == "linear" ? Kind::linear : kind == "llama3" ? Kind::llama3 : kind == "yarn" ? Kind::yarn : Kind::factors;
    const bool is_llama3 = scaling.kind == Kind::llama3, is_yarn = scaling.kind == Kind::yarn;
    const auto number = [&](std::string_view key, bool wanted, double& value) {
        if (wanted) value = fields.positive(key);
        else if (!fields.is_null(key)) fields.refuse(key, "nothing, which scaling of the kind " + kind + " has not");
    };
    number("factor", scaling.kind != Kind::factors, scaling.factor);
    if (is_llama3 || is_yarn) scaling.original_max_context = static_cast<double>(fields.whole("original_max_context"));
    else number("original_max_context", false, scaling.original_max_context);
    number("low_freq_factor", is_llama3, scaling.low_freq_factor);
    number("high_freq_factor", is_llama3, scaling.high_freq_factor);
    number("beta_fast", is_yarn, scaling.beta_fast);
    number("beta_slow", is_yarn, scaling.beta_slow);
    number("attention_factor", is_yarn, scaling.attention_factor);
    if (scaling.kind == Kind::factors) {
        const JsonValue factors = fields["factors"];
        if (!factors.is(JsonValue::Kind::array) || factors.size() == 0) fields.refuse("factors", "a list of positive numbers");
        factors.for_each([&](JsonValue one) { scaling.factors.push_back(fields.checked_positive("factors", one)); });
    } else if (!fields.is_null("factors")) {
        fields.refuse("factors", "nothing, which scaling of the kind " + kind + " has not");
    }
    if (is_llama3 && scaling.low_freq_factor >= scaling.high_freq_factor)
        fields.refuse("low_freq_factor", "a smaller number than high_freq_factor");
    if (is_yarn && scaling.beta_slow >= scaling.beta_fast) fields.refuse("beta_slow", "a smaller number than beta_fast");
    return scaling;
}

std::vector<float> inverse_frequencies(double theta, std::size_t head_dim, const RopeScaling* scaling) {
    const std::size_t half = head_dim / 2;
    std::vector<float> frequencies(half);
    for (std::size_t i = 0; i < half; ++i) {
        double frequency = std::pow(theta, -static_cast<double>(i) / static_cast<double>(half));
        if (scaling != nullptr) {
            switch (scaling->kind) {
                case RopeScaling::Kind::factors: frequency /= scaling->factors[i]; break;
                case RopeScaling::Kind::linear: frequency /= scaling->factor; break;
                default: {
                    const double kept = scaling->kind == RopeScaling::Kind::llama3
                                            ? kept_by_llama3(frequency, *scaling)
                                            : kept_by_yarn(i, theta, half, *scaling);
                    frequency = frequency * kept + frequency / scaling->factor * (1 - kept);
                }
            }
        }
        frequencies[i] = static_cast<float>(frequency);
    }
    return frequencies;
}

}  // namespace tercet
