// Kernels on the values of one token: quantization, norm, gates, rescaling, rotation, softmax.
// What each computes, and in which order it adds, is stated in tercet/float_kernels.hpp.
#pragma once

#include "exponential.hpp"
#include "tercet/float_kernels.hpp"
#include "vector.hpp"

namespace tercet {
namespace {

// Calls step(offset) for each whole vector of [0, size), then tail(offset, rest) once when rest > 0.
template <class Step, class Tail>
TERCET_INLINE void for_each_vector(std::size_t size, Step step, Tail tail) {
    std::size_t i = 0;
    for (; i + lanes <= size; i += lanes) step(i);
    if (i < size) tail(i, size - i);
}

// out[i] = function(load at i): the shape of every kernel without a sum.
template <class Function>
TERCET_INLINE void map_vectors(std::size_t size, float* out, Function function) {
    for_each_vector(
        size,
        [&](std::size_t i) TERCET_LAMBDA { store(out + i, function([i](auto* x) TERCET_LAMBDA { return load(x + i); })); },
        [&](std::size_t i, std::size_t rest) TERCET_LAMBDA {
            store_tail(out + i, function([i, rest](auto* x) TERCET_LAMBDA { return load_tail(x + i, rest); }), rest);
        });
}

// The greatest magnitude is found in the bits: of floats without sign, the integer order is the float order, infinity is
// above every number and NaN above infinity. So one NaN is enough to make gamma, and with it the scale, a NaN.
TERCET_INLINE i32x16 magnitude_bits(f32x16 x) { return float_as_bits(x) & splat(0x7FFFFFFF); }

float quantize(const float* x, std::size_t depth, std::size_t stride, std::int8_t* codes, std::int32_t* sum) noexcept {
    i32x16 greatest = splat(0);
    for_each_vector(
        depth, [&](std::size_t i) TERCET_LAMBDA { greatest = greater(magnitude_bits(load(x + i)), greatest); },
        [&](std::size_t i, std::size_t rest)
            TERCET_LAMBDA { greatest = greater(magnitude_bits(load_tail(x + i, rest)), greatest); });
    const std::int32_t bits = greatest_lane(greatest);
    float gamma;
    std::memcpy(&gamma, &bits, sizeof gamma);
    if (gamma < 1e-5F) gamma = 1e-5F;

    // Adding 1.5 * 2^23 rounds half to even and leaves the integer in the low bits; the bounds only ever act on NaN.
    const f32x16 inverse = splat(127.0F / gamma);
    i32x16 sums = splat(0);
    const auto encode = [&](f32x16 value, std::int8_t* to) TERCET_LAMBDA {
        const i32x16 rounded = float_as_bits(value * inverse + splat(round_by_adding));
        const i32x16 code = greater(lesser(rounded - float_as_bits(splat(round_by_adding)), splat(127)), splat(-127));
        sums = sums + code;
        store(to, code);
    };
    std::size_t written = 0;
    for (; written + lanes <= depth; written += lanes) encode(load(x + written), codes + written);
    if (written < depth) {
        std::int8_t padded[lanes];
        encode(load_tail(x + written, depth - written), padded);
        std::memcpy(codes + written, padded, depth - written);
    }
    std::memset(codes + depth, 0, stride - depth);
    *sum = sum_lanes(sums);
    return gamma / 127.0F;
}

void rms_norm(const float* x, const float* weight, std::size_t depth, float epsilon, float* out) noexcept {
    f32x16 squares = zeros();
    const auto add = [&](f32x16 value) TERCET_LAMBDA { squares = squares + value * value; };
    for_each_vector(
        depth, [&](std::size_t i) TERCET_LAMBDA { add(load(x + i)); },
        [&](std::size_t i, std::size_t rest) TERCET_LAMBDA { add(load_tail(x + i, rest)); });
    const float mean = sum_lanes(squares) / static_cast<float>(depth);
    const f32x16 factor = splat(1.0F / __builtin_sqrtf(mean + epsilon));
    map_vectors(depth, out, [=](auto read) TERCET_LAMBDA { return (read(x) * factor) * read(weight); });
}

void gated_relu2(const float* gate, const float* up, std::size_t size, float* out) noexcept {
    map_vectors(size, out, [=](auto read) TERCET_LAMBDA {
        const f32x16 g = read(gate);
        const f32x16 positive = where_less(g, zeros(), zeros(), g);  // a NaN stays
        return (positive * positive) * read(up);
    });
}

void gated_silu(const float* gate, const float* up, std::size_t size, float* out) noexcept {
    map_vectors(size, out, [=](auto read) TERCET_LAMBDA {
        const f32x16 g = read(gate);
        return (g / (splat(1.0F) + exponential(zeros() - g))) * read(up);
    });
}

void gated_gelu_tanh(const float* gate, const float* up, std::size_t size, float* out) noexcept {
    constexpr float linear = 1.5957691216057308F;  // 2 sqrt(2 / pi)
    constexpr float cubic = 0.07135481627260025F;  // the same times 0.044715
    map_vectors(size, out, [=](auto read) TERCET_LAMBDA {
        const f32x16 g = read(gate);
        const f32x16 twice_u = g * (splat(linear) + (g * g) * splat(cubic));
        return (g / (splat(1.0F) + exponential(zeros() - twice_u))) * read(up);
    });
}

// The two rescalings differ in one addition.
template <bool add>
TERCET_INLINE void rescale_rows(const std::int32_t* sums, float activation_scale, const float* row_scales,
                                std::size_t scale_step, std::size_t size, float* out) {
    const f32x16 one_scale = splat(activation_scale * row_scales[0]);
    map_vectors(size, out, [=](auto read) TERCET_LAMBDA {
        const f32x16 scale = scale_step == 0 ? one_scale : splat(activation_scale) * read(row_scales);
        const f32x16 product = to_float(read(sums)) * scale;
        if constexpr (add) {
            return read(static_cast<const float*>(out)) + product;
        } else {
            return product;
        }
    });
}
void rescale(const std::int32_t* sums, float activation_scale, const float* row_scales, std::size_t scale_step,
             std::size_t size, float* out) noexcept {
    rescale_rows<false>(sums, activation_scale, row_scales, scale_step, size, out);
}
void rescale_add(const std::int32_t* sums, float activation_scale, const float* row_scales, std::size_t scale_step,
                 std::size_t size, float* out) noexcept {
    rescale_rows<true>(sums, activation_scale, row_scales, scale_step, size, out);
}

void rotate(float* head, const float* cosines, const float* sines, std::size_t half, float factor) noexcept {
    const f32x16 scale = splat(factor);
    float* const other = head + half;
    for_each_vector(
        half,
        [=](std::size_t i) TERCET_LAMBDA {
            const f32x16 a = load(head + i), b = load(other + i), cosine = load(cosines + i), sine = load(sines + i);
            store(head + i, (a * cosine - b * sine) * scale);
            store(other + i, (b * cosine + a * sine) * scale);
        },
        [=](std::size_t i, std::size_t rest) TERCET_LAMBDA {
            const f32x16 a = load_tail(head + i, rest), b = load_tail(other + i, rest);
            const f32x16 cosine = load_tail(cosines + i, rest), sine = load_tail(sines + i, rest);
            store_tail(head + i, (a * cosine - b * sine) * scale, rest);
            store_tail(other + i, (b * cosine + a * sine) * scale, rest);
        });
}

SoftmaxSums softmax(float* scores, std::size_t size) noexcept {
    f32x16 greatest = splat(scores[0]);
    std::size_t whole = size / lanes * lanes;
    for (std::size_t i = 0; i < whole; i += lanes) greatest = greater(load(scores + i), greatest);
    float maximum = greatest_lane(greatest);
    for (std::size_t i = whole; i < size; ++i) maximum = scores[i] > maximum ? scores[i] : maximum;

    const f32x16 shift = splat(maximum);
    f32x16 sums = zeros();
    for (std::size_t i = 0; i < whole; i += lanes) {
        const f32x16 e = exponential(load(scores + i) - shift);
        sums = sums + e;
        store(scores + i, e);
    }
    if (whole < size) {
        store_tail(scores + whole, exponential(load_tail(scores + whole, size - whole) - shift), size - whole);
        sums = sums + load_tail(scores + whole, size - whole);
    }
    const float sum = sum_lanes(sums);
    const f32x16 factor = splat(1.0F / sum);
    map_vectors(size, scores, [=](auto read) TERCET_LAMBDA { return read(static_cast<const float*>(scores)) * factor; });
    return {maximum, sum};
}

void merge_softmax(SoftmaxSums* sums, float* out, SoftmaxSums other_sums, const float* other, std::size_t size) noexcept {
    const float greatest = other_sums.greatest > sums->greatest ? other_sums.greatest : sums->greatest;
    float differences[lanes] = {sums->greatest - greatest, other_sums.greatest - greatest};
    store(differences, exponential(load(differences)));
    const float mine = sums->sum * differences[0], theirs = other_sums.sum * differences[1], total = mine + theirs;
    const f32x16 my_share = splat(mine / total), their_share = splat(theirs / total);
    map_vectors(size, out, [=](auto read) TERCET_LAMBDA {
        return read(static_cast<const float*>(out)) * my_share + read(other) * their_share;
    });
    *sums = {greatest, total};
}

}  // namespace
}  // namespace tercet
