// exp of sixteen floats, the same bits on every instruction set.
//
//     n = rint(x * log2(e))                        by adding and subtracting 1.5 * 2^23
//     r = (x - n * 0.693359375) + n * 2.12194440e-4    ln 2 in two parts; the first product is exact, |r| <= 0.3466
//     p = 1 + r + r^2 * P(r)                       P of degree 5 (Horner), the coefficients of Cephes' expf (S. Moshier)
//     exp(x) = p * 2^n                             2^n put together from its exponent bits
//
// Relative error at most 2^-23 (a test measures it). x below -87 gives exactly 0, x above 88 gives exp(88) = 1.65e38, so
// that a sigmoid never meets an infinity; a NaN stays a NaN. Other ways weighed: the C library's expf (not the same bits
// everywhere), a table (gathers are slow where registers are short).
#pragma once

#include "vector.hpp"

namespace tercet {
namespace {

constexpr float round_by_adding = 12582912.0F;  // 1.5 * 2^23: the sum's last bit is worth 1, for |x| < 2^22

TERCET_INLINE f32x16 exponential(f32x16 x) {
    const f32x16 bounded = where_less(splat(88.0F), x, splat(88.0F), x);
    const f32x16 shifted = bounded * splat(1.44269504088896341F) + splat(round_by_adding);
    const f32x16 n = shifted - splat(round_by_adding);
    const f32x16 r = (bounded - n * splat(0.693359375F)) + n * splat(2.12194440e-4F);

    f32x16 p = splat(1.9875691500e-4F);
    p = p * r + splat(1.3981999507e-3F);
    p = p * r + splat(8.3334519073e-3F);
    p = p * r + splat(4.1665795894e-2F);
    p = p * r + splat(1.6666665459e-1F);
    p = p * r + splat(5.0000001201e-1F);
    p = (p * (r * r) + r) + splat(1.0F);

    const i32x16 power = shift_left(float_as_bits(shifted) - float_as_bits(splat(round_by_adding)) + splat(127), 23);
    return where_less(x, splat(-87.0F), zeros(), p * bits_as_float(power));
}

}  // namespace
}  // namespace tercet
