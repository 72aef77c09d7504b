#include "tercet/math.hpp"

#include <bit>
#include <cstdint>

namespace tercet {
namespace {

// 1.5 * 2^52: added and subtracted it rounds half to even, and the sum's low bits are the integer.
constexpr double round_by_adding = 6755399441055744.0;

constexpr double log2_of_e = 1.44269504088896338700;
constexpr double ln2_high = 6.93147180369123816490e-01;  // 32 bits, so that n * ln2_high is exact
constexpr double ln2_low = 1.90821492927058770002e-10;

// 2^n for -1022 <= n <= 1023, n given as the bits of round_by_adding + n.
double power_of_two(double shifted) noexcept {
    const std::uint64_t n = std::bit_cast<std::uint64_t>(shifted) - std::bit_cast<std::uint64_t>(round_by_adding);
    return std::bit_cast<double>((n + 1023) << 52);
}

inline double exponential_inline(double x) noexcept {
    const double bounded = x > 709.0 ? 709.0 : x;
    const double shifted = bounded * log2_of_e + round_by_adding;
    const double n = shifted - round_by_adding;
    const double r = (bounded - n * ln2_high) - n * ln2_low;
    double sum = 1.0 / 6227020800.0;
    sum = sum * r + 1.0 / 479001600.0;
    sum = sum * r + 1.0 / 39916800.0;
    sum = sum * r + 1.0 / 3628800.0;
    sum = sum * r + 1.0 / 362880.0;
    sum = sum * r + 1.0 / 40320.0;
    sum = sum * r + 1.0 / 5040.0;
    sum = sum * r + 1.0 / 720.0;
    sum = sum * r + 1.0 / 120.0;
    sum = sum * r + 1.0 / 24.0;
    sum = sum * r + 1.0 / 6.0;
    sum = sum * r + 0.5;
    const double result = (1.0 + (r + r * r * sum)) * power_of_two(shifted);
    return x < -708.0 ? 0.0 : result;
}

}  // namespace

double exponential(double x) noexcept { return exponential_inline(x); }

void exponentials(const double* x, std::size_t size, double* out) noexcept {
    for (std::size_t i = 0; i < size; ++i) out[i] = exponential_inline(x[i]);
}

SineCosine sine_cosine(double x) noexcept {
    constexpr double two_over_pi = 6.36619772367581382433e-01;
    constexpr double half_pi_1 = 1.57079632673412561417e+00, half_pi_2 = 6.07710050630396597660e-11,
                     half_pi_3 = 2.02226624871116645580e-21;
    const double shifted = x * two_over_pi + round_by_adding;
    const double n = shifted - round_by_adding;
    const std::uint64_t quadrant = std::bit_cast<std::uint64_t>(shifted) & 3;
    const double r = ((x - n * half_pi_1) - n * half_pi_2) - n * half_pi_3, square = r * r;

    double sine = 0.0, cosine = 0.0;
    for (int k = 17; k >= 3; k -= 2) sine = -(sine + 1.0) * square / (k * (k - 1));
    for (int k = 18; k >= 2; k -= 2) cosine = -(cosine + 1.0) * square / (k * (k - 1));
    sine = r + r * sine;
    cosine = 1.0 + cosine;

    switch (quadrant) {
        case 0: return {sine, cosine};
        case 1: return {cosine, -sine};
        case 2: return {-sine, -cosine};
        default: return {-cosine, sine};
    }
}

}  // namespace tercet
