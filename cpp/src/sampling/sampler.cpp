#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "tercet/float_environment.hpp"
#include "tercet/sampling.hpp"

namespace tercet {
namespace {

void check_tokens(const char* name, std::span<const std::int32_t> tokens, std::size_t vocab_size) {
    for (const std::int32_t token : tokens) {
        if (token < 0 || static_cast<std::size_t>(token) >= vocab_size)
            throw std::invalid_argument(std::string("sample: ") + name + " should be 0 to " +
                                        std::to_string(vocab_size - 1) + ", got " + std::to_string(token));
    }
}

void check_rule(const SamplingRule& rule) {
    const auto check = [](bool good, const char* name, const char* expected, double got) {
        if (!good)
            throw std::invalid_argument(std::string("sample: ") + name + " should be " + expected + ", got " +
                                        std::to_string(got));
    };
    check(rule.temperature >= 0 && std::isfinite(rule.temperature), "temperature", "at least 0", rule.temperature);
    check(rule.top_p > 0 && rule.top_p <= 1, "top_p", "above 0 and at most 1", rule.top_p);
    check(rule.min_p >= 0 && rule.min_p <= 1, "min_p", "0 to 1", rule.min_p);
    check(rule.repetition_penalty > 0, "repetition_penalty", "above 0", static_cast<double>(rule.repetition_penalty));
    check(std::isfinite(rule.presence_penalty), "presence_penalty", "finite", static_cast<double>(rule.presence_penalty));
    check(std::isfinite(rule.frequency_penalty), "frequency_penalty", "finite",
          static_cast<double>(rule.frequency_penalty));
}

}  // namespace

double uniform(std::uint64_t seed, std::uint64_t step) noexcept {
    std::uint64_t z = seed + 0x9E3779B97F4A7C15U * (step + 1);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    z ^= z >> 31;
    return static_cast<double>(z >> 40) * 0x1p-24;
}

float Sampler::largest_of(std::span<const float> logits) {
    maxima_.resize((logits.size() + logit_block - 1) / logit_block);
    kernels_.block_maxima(logits.data(), logits.size(), maxima_.data());
    float largest = -std::numeric_limits<float>::infinity();
    for (const float maximum : maxima_) {
        if (std::isnan(maximum)) return maximum;
        largest = std::max(largest, maximum);
    }
    return largest;
}

float Sampler::checked_largest(std::span<const float> logits, const char* when) {
    const float largest = largest_of(logits);
    if (!std::isfinite(largest)) {
        const std::string found = std::isnan(largest) ? "NaN" : largest > 0 ? "infinite" : "minus infinity";
        throw std::invalid_argument(std::string("sample: the largest logit ") + when + " is " + found +
                                    ": there is no probability to draw from");
    }
    return largest;
}

std::int32_t Sampler::sample(std::span<const float> logits, const SamplingRule& rule,
                             std::span<const std::int32_t> prompt, std::span<const std::int32_t> generated,
                             std::uint64_t step) {
    const FloatEnvironment environment;
    check_rule(rule);
    if (logits.empty()) throw std::invalid_argument("sample: logits should be at least one number, got none");
    check_tokens("prompt token", prompt, logits.size());
    check_tokens("generated token", generated, logits.size());

    float largest = checked_largest(logits, "of the model");
    const std::span<const float> penalized = penalize(logits, rule, prompt, generated);
    if (penalized.data() != logits.data()) largest = checked_largest(penalized, "after the penalties");
    if (rule.temperature == 0) {
        const auto block = (std::find(maxima_.begin(), maxima_.end(), largest) - maxima_.begin()) *
                           static_cast<std::ptrdiff_t>(logit_block);
        return static_cast<std::int32_t>(std::find(penalized.begin() + block, penalized.end(), largest) - penalized.begin());
    }
    return draw(penalized, largest, rule, uniform(rule.seed, step));
}

std::span<const float> Sampler::penalize(std::span<const float> logits, const SamplingRule& rule,
                                         std::span<const std::int32_t> prompt,
                                         std::span<const std::int32_t> generated) {
    const bool repetition = rule.repetition_penalty != 1.0F;
    const bool counted = rule.frequency_penalty != 0.0F || rule.presence_penalty != 0.0F;
    if (!repetition && !counted) return logits;
    penalized_.assign(logits.begin(), logits.end());
    if (marks_.size() < logits.size()) marks_.resize(logits.size());

    // One visit per distinct token: a mark counts how often it was met, and is taken back by the last pass.
    const auto for_each_distinct = [&](std::span<const std::int32_t> tokens, auto visit) {
        for (const std::int32_t token : tokens) {
            const auto index = static_cast<std::size_t>(token);
            if (marks_[index] != 0) visit(penalized_[index], std::exchange(marks_[index], 0));
        }
    };
    const auto count = [&](std::span<const std::int32_t> tokens) {
        for (const std::int32_t token : tokens) ++marks_[static_cast<std::size_t>(token)];
    };
    if (repetition) {
        const auto penalty = [&](float& logit, std::uint32_t) {
            logit = logit > 0.0F ? logit / rule.repetition_penalty : logit * rule.repetition_penalty;
        };
        count(prompt);
        count(generated);
        for_each_distinct(prompt, penalty);
        for_each_distinct(generated, penalty);
    }
    if (counted) {
        count(generated);
        for_each_distinct(generated, [&](float& logit, std::uint32_t times) {
            logit -= rule.frequency_penalty * static_cast<float>(times);
            logit -= rule.presence_penalty;
        });
    }
    return penalized_;
}

std::int32_t Sampler::draw(std::span<const float> logits, float largest, const SamplingRule& rule, double u) {
    constexpr std::size_t few = 64;
    front_.start(logits, maxima_, largest, rule.temperature);
    front_.extend(few);

    // How many tokens of the front survive; everything when no filter is on.
    const std::size_t everything = logits.size();
    std::size_t kept = everything;
    if (rule.top_k != 0 && rule.top_k < kept) {
        kept = rule.top_k;
        front_.extend(kept);
        if (rule.top_p < 1) kept = std::min(kept, front_.find(rule.top_p * front_.sum(kept - 1), false) + 1);
    } else if (rule.top_p < 1) {
        kept = std::min(kept, find_fraction(rule.top_p, false) + 1);
    }
    if (rule.min_p > 0) {
        const double lowest = rule.min_p * front_.weight(0);
        while (front_.size() < kept && front_.weight(front_.size() - 1) >= lowest) front_.extend(4 * front_.size());
        std::size_t survivors = 1;
        const std::size_t last = std::min(kept, front_.size());
        while (survivors < last && front_.weight(survivors) >= lowest) ++survivors;
        kept = survivors;
    }

    if (kept == everything && !front_.complete()) return front_.token(std::min(find_fraction(u, true), everything - 1));
    return front_.token(std::min(front_.find(u * front_.sum(kept - 1), true), kept - 1));
}

// The specification adds the whole sum in order. In float32 it is known to one part in 2^16; the front is extended until
// the threshold has a token on either side of that band, which most often settles it. Added in double, in the order of ids,
// it differs in the last bits only, by at most n 2^-53 of itself on each side: outside a band four times as wide both sums
// decide alike, inside it (one draw in millions, or equal logits) the whole vocabulary is sorted and the sum is the
// specification's. A fraction so close to 1 that the first band reaches it would sort the vocabulary for nothing.
std::size_t Sampler::find_fraction(double fraction, bool strict) {
    if (!front_.complete() && fraction < 1.0 - 0x1p-14) {
        const double total = front_.rough_total();
        const std::size_t found = std::isnan(total) ? front_.size() : find_in_band(fraction, total, 0x1p-16 * total, strict);
        if (found < front_.size()) return found;
    }
    if (!front_.complete()) {
        const double total = front_.total(), band = static_cast<double>(front_.vocab_size()) * 0x1p-50 * total;
        if (const std::size_t found = find_in_band(fraction, total, band, strict); found < front_.size()) return found;
        front_.extend(front_.vocab_size());
    }
    return front_.find(fraction * front_.sum(front_.size() - 1), strict);
}

std::size_t Sampler::find_in_band(double fraction, double total, double band, bool strict) {
    const double threshold = fraction * total;
    while (!front_.complete() && front_.sum(front_.size() - 1) <= threshold + band) front_.extend(4 * front_.size());
    const std::size_t first = front_.find(threshold - band, strict), last = front_.find(threshold + band, strict);
    return first == last ? first : front_.size();
}

}  // namespace tercet
