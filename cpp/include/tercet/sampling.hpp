// Choosing the next token from logits. The specification is src/tercet/sampling/reference.py; this gives the same tokens
// without sorting the vocabulary.
//
//     repetition penalty     tokens of prompt and answer:  l > 0 ? l / p : l * p
//     presence, frequency    tokens of the answer:         l - frequency * count - presence
//     temperature 0          the largest logit, ties to the lower id; nothing below applies
//     temperature            l / temperature
//     top_k                  the k largest, ties to the lower id
//     softmax
//     top_p                  the shortest prefix, in order, whose probabilities sum to at least top_p
//     min_p                  probabilities of at least min_p times the largest
//     draw                   the first token, in order, where the running sum exceeds u times the whole sum
//
// "In order" is by falling probability, ties by rising id. Logits and penalties are float32, probabilities and sums
// double. Only the front of the order is ever needed: it is selected and sorted piece by piece, and found by the largest
// logits of blocks of 64, the first thing that is computed. What needs all tokens is the whole sum. It is added up roughly
// in float32; where that could decide wrongly, exactly but in another order; and where the last bits could decide, the
// vocabulary is sorted after all and the sum taken in order (see Sampler::find_fraction).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tercet/head_kernels.hpp"

namespace tercet {

struct SamplingRule {
    double temperature = 1.0;
    std::uint32_t top_k = 0;  // 0: all
    double top_p = 1.0;
    double min_p = 0.0;
    float repetition_penalty = 1.0F;
    float presence_penalty = 0.0F;
    float frequency_penalty = 0.0F;
    std::uint64_t seed = 0;
};

// The random number of a step, a multiple of 2^-24 in [0, 1): output number `step` of a SplitMix64 generator that starts
// at the seed ("Fast Splittable Pseudorandom Number Generators", figures 1 and 5), the top 24 bits.
double uniform(std::uint64_t seed, std::uint64_t step) noexcept;

class Sampler {
  public:
    explicit Sampler(const HeadKernels& kernels) : kernels_(kernels), front_(kernels) {}

    // Throws std::invalid_argument when no token can be drawn: the largest logit, before or after the penalties, is NaN
    // or infinite; or a token is not in the vocabulary; or the rule is out of range.
    std::int32_t sample(std::span<const float> logits, const SamplingRule& rule, std::span<const std::int32_t> prompt,
                        std::span<const std::int32_t> generated, std::uint64_t step);

  private:
    // logits after the penalties: the argument itself when there are none.
    std::span<const float> penalize(std::span<const float> logits, const SamplingRule& rule,
                                    std::span<const std::int32_t> prompt, std::span<const std::int32_t> generated);
    // The largest logit, NaN if any is NaN; fills maxima_.
    float largest_of(std::span<const float> logits);
    float checked_largest(std::span<const float> logits, const char* when);
    std::int32_t draw(std::span<const float> logits, float largest, const SamplingRule& rule, double u);

    // The front of the order, extended on demand.
    class Front {
      public:
        explicit Front(const HeadKernels& kernels) : kernels_(kernels) {}

        void start(std::span<const float> logits, std::span<const float> maxima, float largest, double temperature);
        void extend(std::size_t count);  // to at least `count` tokens, or all
        std::size_t size() const noexcept { return sums_.size(); }
        std::size_t vocab_size() const noexcept { return logits_.size(); }
        bool complete() const noexcept { return size() == vocab_size(); }
        double weight(std::size_t i) const noexcept { return weights_[i]; }
        double sum(std::size_t i) const noexcept { return sums_[i]; }  // of the weights up to and with i
        std::int32_t token(std::size_t i) const noexcept { return static_cast<std::int32_t>(keys_[i] & 0xFFFF'FFFF); }
        double total() const;        // of all weights, in the order of ids
        double rough_total() const;  // the same to one part in 2^16, or NaN where that cannot be promised

        // The first i whose running sum is at least (above, when strict) threshold; size() when there is none.
        std::size_t find(double threshold, bool strict) const noexcept;

      private:
        void list(std::size_t count);  // puts at least so many tokens, or all, into keys_

        const HeadKernels& kernels_;
        std::span<const float> logits_, maxima_;
        double largest_ = 0.0, temperature_ = 1.0;
        float near_ = 0.0F;                 // tokens from here up are in keys_; the others join when they are needed
        std::vector<float> ranked_;         // some of the largest of maxima_
        std::vector<std::uint64_t> keys_;   // ascending keys are "in order"; the first size() are sorted
        std::vector<double> weights_, sums_;
    };

    // Like Front::find for threshold = fraction * (sum of all weights), extending the front as far as needed.
    std::size_t find_fraction(double fraction, bool strict);
    // The same where the sum is known up to a band around it; size() when that does not settle it.
    std::size_t find_in_band(double fraction, double total, double band, bool strict);

    const HeadKernels& kernels_;
    Front front_;
    std::vector<float> penalized_;
    std::vector<float> maxima_;  // of blocks of logit_block tokens
    std::vector<std::uint32_t> marks_;  // by token; zero between calls
};

}  // namespace tercet
