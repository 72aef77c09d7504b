// Output heads in two planes: logits[v][r] = scale_r * sum over k of w(r, k) * vectors[v][k].
//
// A vector becomes 16-bit whole numbers A = 256 coarse + fine, so two int8 vectors (int8 alone would cost more quality
// than the 8-bit weights do: docs/lab_log.md). Everything up to the last step is exact, so that all instruction sets give
// the same bits:
//
//     full         both planes:       logit = float(sum u A - bias sum A) * (scale_r * scale_A)                 u = w + bias
//     first pass   the high plane:    the low bits of every weight are taken to be 7.5 (of six bits: 1.5), their mean
//
// The two-stage product is the first pass, and then the full product for the rows that matter:
//
//   - those that may be the best: low bits are all but uniform and independent, so that the first pass's error of a logit
//     has the standard deviation scale_r * scale_A * |A| * sqrt((4^b - 1) / 12) for b low bits. Rows are taken within 6
//     standard deviations of the difference to the largest logit. A greedy choice needs no others;
//   - and, where a token is drawn, the most likely ones until the rest has so little of the probability that its errors
//     change the distribution by a Kullback-Leibler divergence of about 5e-6: rest * variance / 2.
//
// Likelihood is counted in steps of 1/8, so that no order and no exponential of every logit is needed, and which rows
// are chosen depends neither on threads nor on the instruction set.
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>

#include "tercet/ops.hpp"

namespace tercet {
namespace {

constexpr float largest_code = 32512.0F;   // 127 * 256: the coarse half stays within int8
constexpr std::size_t rows_at_once = 2048;  // their products stay in L1 and L2; a quarter of them is one stream
constexpr std::size_t rows_looked_at_again = 64;
constexpr double steps_of_likelihood = 8.0;
constexpr std::size_t num_steps = 320;  // e^-40 is nothing
constexpr double deviations = 6.0, divergence = 5e-6;

using Counts = std::array<std::atomic<std::uint32_t>, num_steps>;

// How far a logit is below the largest, in steps.
std::size_t steps_below(float logit, float largest) noexcept {
    const double steps = (static_cast<double>(largest) - static_cast<double>(logit)) * steps_of_likelihood;
    return steps < static_cast<double>(num_steps - 1) ? static_cast<std::size_t>(steps) : num_steps - 1;
}

PlaneInput::Vector quantize(std::size_t index, LogitUse use, const float* vector, std::size_t depth, std::int8_t* coarse,
                            std::int8_t* fine) noexcept {
    float largest = 0.0F;
    bool finite = true;
    for (std::size_t k = 0; k < depth; ++k) {
        const float magnitude = std::fabs(vector[k]);
        finite = finite && magnitude <= std::numeric_limits<float>::max();
        largest = std::max(largest, magnitude);
    }
    // What is not finite makes every logit NaN, as it does in a product of floats; nearly nothing is nothing.
    const float factor = finite && largest > 1e-30F ? largest_code / largest : 0.0F;
    double sum = 0.0, squares = 0.0;
    for (std::size_t k = 0; k < depth; ++k) {
        const int code = factor == 0.0F ? 0 : static_cast<int>(std::nearbyint(vector[k] * factor));
        const int upper = (code + 128) >> 8;
        coarse[k] = static_cast<std::int8_t>(upper);
        fine[k] = static_cast<std::int8_t>(code - 256 * upper);
        sum += code;
        squares += static_cast<double>(code) * code;
    }
    return {index, use, sum, std::sqrt(squares), finite ? largest / largest_code : std::numeric_limits<float>::quiet_NaN()};
}

// Products of one matrix with the vectors of an input.
class PlaneProduct {
  public:
    // `keeps_sums`: the first pass's products are kept, so that the second need not read the high plane again.
    PlaneProduct(Team& team, const PlaneMatrix& matrix, bool keeps_sums, float* out)
        : kernels_(team.kernels().head), matrix_(matrix), input_(team.plane_input()), keeps_sums_(keeps_sums), out_(out) {}

    float* logits(std::size_t v) const noexcept { return out_ + input_.vectors[v].index * matrix_.rows; }

    // The logits of rows [begin, end) for vectors [first, last).
    void write_rows(std::size_t begin, std::size_t end, std::size_t first, std::size_t last, bool first_pass,
                    ThreadScratch& scratch) const {
        if (first == last) return;
        for (; begin < end; begin += rows_at_once) {
            const std::size_t count = std::min(rows_at_once, end - begin);
            const bool kept = first_pass && keeps_sums_;
            const std::size_t stride = kept ? matrix_.rows : count;
            std::int32_t* sums =
                kept ? input_.first_sums.data() + begin : grown(scratch.sums, 2 * (last - first) * count);
            multiply(first_pass, {matrix_.high, matrix_.low, matrix_.chunks(), nullptr, begin, count, codes(first),
                                  input_.stride, 2 * (last - first), sums, stride});
            for (std::size_t v = first; v < last; ++v)
                scale(v, first_pass, sums + 2 * (v - first) * stride, stride, count, matrix_.scales + begin,
                      logits(v) + begin);
        }
    }

    // The full logits of a few rows for one of the first vectors. Four low bits lie as the four high ones do, so that only
    // the plane that has not been read is.
    void rewrite(std::size_t v, const std::uint32_t* rows, std::size_t count) const {
        std::array<std::int32_t, 2 * rows_looked_at_again> sums;
        std::array<float, rows_looked_at_again> scales, again;
        const bool only_low = keeps_sums_ && matrix_.low_bits() == 4;
        multiply(only_low, {only_low ? matrix_.low : matrix_.high, matrix_.low, matrix_.chunks(), rows, 0, count, codes(v),
                            input_.stride, 2, sums.data(), rows_looked_at_again});
        for (std::size_t half = 0; only_low && half < 2; ++half) {
            const std::int32_t* high_sums = input_.first_sums.data() + (2 * v + half) * matrix_.rows;
            for (std::size_t i = 0; i < count; ++i) sums[half * rows_looked_at_again + i] += 16 * high_sums[rows[i]];
        }
        for (std::size_t i = 0; i < count; ++i) scales[i] = matrix_.scales[rows[i]];
        scale(v, false, sums.data(), rows_looked_at_again, count, scales.data(), again.data());
        for (std::size_t i = 0; i < count; ++i) logits(v)[rows[i]] = again[i];
    }

    LogitUse use(std::size_t v) const noexcept { return input_.vectors[v].use; }

    // The variance of the first pass's error of a logit, for a row whose scale is 1.
    double variance(std::size_t v) const noexcept {
        const PlaneInput::Vector& of = input_.vectors[v];
        const double low_values = 1 << matrix_.low_bits(), length = static_cast<double>(of.scale) * of.norm;
        return length * length * (low_values * low_values - 1.0) / 12.0;
    }

  private:
    const std::int8_t* codes(std::size_t v) const noexcept { return input_.codes.data() + 2 * v * input_.stride; }

    void multiply(bool first_pass, const PlaneMatmul& task) const noexcept {
        (first_pass ? kernels_.multiply_high : matrix_.bits == 8 ? kernels_.multiply_eight : kernels_.multiply_six)(task);
    }

    void scale(std::size_t vector, bool first_pass, const std::int32_t* sums, std::size_t stride, std::size_t count,
               const float* row_scales, float* logits) const noexcept {
        const double low_values = 1 << matrix_.low_bits(), bias = matrix_.bias();
        const double unit = first_pass ? low_values : 1.0, missing = first_pass ? (low_values - 1.0) / 2.0 : 0.0;
        kernels_.scale_products({sums, sums + stride, count, unit, (missing - bias) * input_.vectors[vector].sum, row_scales,
                                 input_.vectors[vector].scale, logits});
    }

    const HeadKernels& kernels_;
    const PlaneMatrix& matrix_;
    PlaneInput& input_;
    bool keeps_sums_;
    float* out_;
};

// How many steps below the largest logit rows are looked at again because they are likely.
std::size_t likely_steps(const Counts& counts, double variance) noexcept {
    std::array<double, num_steps> mass;
    double total = 0.0;
    for (std::size_t step = 0; step < num_steps; ++step) {
        const double each = std::exp(-static_cast<double>(step) / steps_of_likelihood);
        total += mass[step] = each * counts[step].load(std::memory_order_relaxed);
    }
    const double allowed = total * std::min(1.0, 2.0 * divergence / variance);
    std::size_t steps = num_steps - 1;
    for (double rest = mass[steps]; steps > 0 && rest <= allowed; rest += mass[steps]) --steps;
    return steps;
}

// How often each likelihood occurs.
std::size_t likely_steps(Team& team, std::span<const float> logits, float largest, double variance) {
    Counts counts{};
    team.together(cost::value * static_cast<double>(logits.size()), [&](auto share, ThreadScratch&) {
        const auto [begin, end] = share(logits.size());
        std::array<std::uint32_t, num_steps> own{};
        for (std::size_t row = begin; row < end; ++row) ++own[steps_below(logits[row], largest)];
        for (std::size_t step = 0; step < num_steps; ++step)
            if (own[step] != 0) counts[step].fetch_add(own[step], std::memory_order_relaxed);
    });
    return likely_steps(counts, variance);
}

// The second stage for one vector.
void look_again(Team& team, const PlaneProduct& product, const PlaneMatrix& matrix, std::size_t vector) {
    const std::span<const float> logits(product.logits(vector), matrix.rows);
    const double variance = product.variance(vector);
    const std::size_t num_blocks = (logits.size() + logit_block - 1) / logit_block;
    std::span<float> maxima(grown(team.plane_input().maxima, num_blocks), num_blocks);
    const double work = cost::value / 4.0 * static_cast<double>(logits.size());
    const auto rows_of = [&](std::size_t block) {
        return logits.subspan(block * logit_block, std::min(logit_block, logits.size() - block * logit_block));
    };
    team.together(work, [&](auto share, ThreadScratch&) {
        const auto [begin, end] = share(num_blocks);
        const std::size_t rows = std::min(end * logit_block, logits.size()) - begin * logit_block;
        team.kernels().head.block_maxima(logits.data() + begin * logit_block, rows, maxima.data() + begin);
    });
    const auto best_block = static_cast<std::size_t>(std::max_element(maxima.begin(), maxima.end()) - maxima.begin());
    const float largest = maxima[best_block];
    if (!(variance > 0.0) || !std::isfinite(largest)) return;  // a vector of zeros, or of nothing that is a number
    const auto best_row = static_cast<std::size_t>(std::ranges::find(rows_of(best_block), largest) - logits.begin());

    const bool drawn = product.use(vector) == LogitUse::drawing;
    const std::size_t steps = drawn ? likely_steps(team, logits, largest, variance * matrix.mean_square_scale) : 0;
    const auto squared = [](float value) { return static_cast<double>(value) * static_cast<double>(value); };
    const double unit = deviations * deviations * variance, best_margin = unit * squared(matrix.scales[best_row]);
    const auto matters = [&](float logit, float scale) {
        return (drawn && steps_below(logit, largest) <= steps) || squared(largest - logit) <= best_margin + unit * squared(scale);
    };

    team.together(work, [&](auto share, ThreadScratch&) {
        std::array<std::uint32_t, rows_looked_at_again> chosen;
        std::size_t count = 0;
        for (auto [block, end] = share(num_blocks); block < end; ++block) {
            if (!matters(maxima[block], matrix.largest_scale)) continue;
            for (const float& logit : rows_of(block)) {
                const auto row = static_cast<std::size_t>(&logit - logits.data());
                if (!matters(logit, matrix.scales[row])) continue;
                chosen[count++] = static_cast<std::uint32_t>(row);
                if (count < rows_looked_at_again) continue;
                product.rewrite(vector, chosen.data(), count);
                count = 0;
            }
        }
        if (count > 0) product.rewrite(vector, chosen.data(), count);
    });
}

}  // namespace

void project_planes(Team& team, const PlaneMatrix& matrix, const float* vectors, std::size_t num_vectors, float* out,
                    std::span<const LogitUse> uses) {
    PlaneInput& input = team.plane_input();
    input.stride = matrix.chunks() * plane_chunk_columns;
    input.vectors.resize(num_vectors);
    grown(input.codes, 2 * num_vectors * input.stride);
    const auto use_of = [&](std::size_t v) { return uses.empty() ? LogitUse::exact : uses[v]; };
    std::size_t num_two_stage = 0, num_placed = 0;
    bool any_drawn = false;
    for (const bool two_stage : {true, false}) {
        for (std::size_t v = 0; v < num_vectors; ++v) {
            any_drawn = any_drawn || use_of(v) == LogitUse::drawing;
            if ((use_of(v) != LogitUse::exact) == two_stage) input.vectors[num_placed++].index = v;
        }
        if (two_stage) num_two_stage = num_placed;
    }
    // Hundreds or thousands of rows are looked at again where a token is drawn, a few dozen where it is the best.
    if (any_drawn) grown(input.first_sums, 2 * num_two_stage * matrix.rows);
    team.for_each(num_vectors, 4 * cost::value * static_cast<double>(matrix.depth), [&](std::size_t v) {
        std::int8_t* coarse = input.codes.data() + 2 * v * input.stride;
        std::fill_n(coarse, 2 * input.stride, std::int8_t{0});
        const std::size_t index = input.vectors[v].index;
        input.vectors[v] = quantize(index, use_of(index), vectors + index * matrix.depth, matrix.depth, coarse,
                                    coarse + input.stride);
    });

    const PlaneProduct product(team, matrix, any_drawn, out);
    const double work = cost::plane_product * static_cast<double>(matrix.rows * matrix.depth * num_vectors);
    team.together(work, [&](auto share, ThreadScratch& scratch) {
        const auto [begin, end] = share(matrix.rows);
        product.write_rows(begin, end, 0, num_two_stage, true, scratch);
        product.write_rows(begin, end, num_two_stage, num_vectors, false, scratch);
    });
    for (std::size_t v = 0; v < num_two_stage; ++v) look_again(team, product, matrix, v);
}

}  // namespace tercet
