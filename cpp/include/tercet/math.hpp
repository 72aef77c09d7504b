// Elementary functions in double precision, by stated formulas, compiled once for every processor.
//
// C libraries differ in the last bit from version to version, and a rotation angle or a probability would differ with
// them. These are accurate to about one unit in the last place of a double, far more than the float32 they end in.
#pragma once

#include <cstddef>

namespace tercet {

// e^x: n = rint(x / ln 2), r = x - n ln 2 (ln 2 in two parts), Taylor polynomial of degree 13 in r, times 2^n.
// 0 below -708, e^709 above 709, NaN for NaN.
double exponential(double x) noexcept;

// out[i] = exponential(x[i]); may be in place.
void exponentials(const double* x, std::size_t size, double* out) noexcept;

struct SineCosine {
    double sine, cosine;
};

// n = rint(x * 2 / pi), r = x - n pi / 2 (pi / 2 in three parts of 33 bits), Taylor polynomials of degree 17 and 18.
// For |x| up to 2^24 the absolute error stays below 1e-8.
SineCosine sine_cosine(double x) noexcept;

}  // namespace tercet
