// The tokens in order of falling probability, as many as anybody asks for.
#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

#include "tercet/math.hpp"
#include "tercet/sampling.hpp"

namespace tercet {
namespace {

// Ascending keys: falling logit, then rising id. The bits of a float, with the sign bit (or, below zero, all bits)
// flipped, are ordered like the float; 0 is added so that -0 and 0 are equal.
std::uint64_t order_key(float logit, std::size_t token) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(logit + 0.0F);
    const std::uint32_t ascending = bits ^ (bits >> 31 ? 0xFFFF'FFFFU : 0x8000'0000U);
    return static_cast<std::uint64_t>(~ascending) << 32 | token;
}

}  // namespace

void Sampler::Front::start(std::span<const float> logits, std::span<const float> maxima, float largest,
                           double temperature) {
    logits_ = logits;
    maxima_ = maxima;
    largest_ = static_cast<double>(largest);
    temperature_ = temperature;
    near_ = std::numeric_limits<float>::infinity();
    keys_.clear();
    weights_.clear();
    sums_.clear();
}

// As many blocks as there are tokens wanted have a token that is no smaller than the last of their maxima.
void Sampler::Front::list(std::size_t count) {
    float bound = -std::numeric_limits<float>::infinity();
    if (count < maxima_.size()) {
        ranked_.assign(maxima_.begin(), maxima_.end());
        const auto last = ranked_.begin() + static_cast<std::ptrdiff_t>(count - 1);
        std::nth_element(ranked_.begin(), last, ranked_.end(), std::greater<>());
        bound = *last;
    }
    for (std::size_t block = 0; block < maxima_.size(); ++block) {
        if (!(maxima_[block] >= bound)) continue;
        const std::size_t end = std::min((block + 1) * logit_block, logits_.size());
        for (std::size_t token = block * logit_block; token < end; ++token) {
            if (logits_[token] >= bound && logits_[token] < near_) keys_.push_back(order_key(logits_[token], token));
        }
    }
    near_ = bound;
}

void Sampler::Front::extend(std::size_t count) {
    count = std::min(count, logits_.size());
    if (count > keys_.size()) list(count);  // all of these come after all that are listed
    const std::size_t sorted = size();
    if (count <= sorted) return;
    const auto at = [&](std::size_t i) { return keys_.begin() + static_cast<std::ptrdiff_t>(i); };
    if (count < keys_.size()) std::nth_element(at(sorted), at(count), keys_.end());
    std::sort(at(sorted), at(count));

    weights_.resize(count);
    for (std::size_t i = sorted; i < count; ++i) {
        const double logit = static_cast<double>(logits_[static_cast<std::size_t>(token(i))]);
        weights_[i] = (logit - largest_) / temperature_;
    }
    exponentials(weights_.data() + sorted, count - sorted, weights_.data() + sorted);
    double sum = sorted == 0 ? 0.0 : sums_.back();
    for (std::size_t i = sorted; i < count; ++i) sums_.push_back(sum += weights_[i]);
}

double Sampler::Front::total() const {
    constexpr std::size_t piece = 512;
    double weights[piece], sum = 0.0;
    for (std::size_t begin = 0; begin < logits_.size(); begin += piece) {
        const std::size_t count = std::min(piece, logits_.size() - begin);
        for (std::size_t i = 0; i < count; ++i)
            weights[i] = (static_cast<double>(logits_[begin + i]) - largest_) / temperature_;
        exponentials(weights, count, weights);
        for (std::size_t i = 0; i < count; ++i) sum += weights[i];
    }
    return sum;
}

double Sampler::Front::rough_total() const {
    if (temperature_ < 1e-3 || temperature_ > 1e3) return std::numeric_limits<double>::quiet_NaN();
    return kernels_.sum_of_exponentials(logits_.data(), logits_.size(), static_cast<float>(largest_),
                                        static_cast<float>(1.0 / temperature_));
}

std::size_t Sampler::Front::find(double threshold, bool strict) const noexcept {
    const auto found = strict ? std::upper_bound(sums_.begin(), sums_.end(), threshold)
                              : std::lower_bound(sums_.begin(), sums_.end(), threshold);
    return static_cast<std::size_t>(found - sums_.begin());
}

}  // namespace tercet
