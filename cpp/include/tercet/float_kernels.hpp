// The float operations of a decoder, one function pointer each.
//
// Every kernel is written once (src/kernels/generic/) on a vector of 16 floats and compiled in every ISA folder with
// that folder's flags; an ISA changes how wide the registers are, never a result. What makes results bit-identical:
//
//   elements   each element is the same sequence of IEEE additions, multiplications and divisions; no fused
//              multiply-add (-ffp-contract=off), no reassociation (no -ffast-math).
//   sums       lane l of 16 adds the elements l, l+16, l+32, ... in that order, starting from zero, a short tail padded
//              with zeros; then lane l += lane l+8, l+4, l+2, l+1. A dot product rounds each product before adding it.
//   exp        exponential() in generic/exponential.hpp: a stated polynomial, never the C library's.
//   f16, bf16  widening is exact; narrowing rounds half to even.
//
// Kernels are noexcept and trust their arguments: shapes are checked where tensors enter (bindings, decoder).
#pragma once

#include <cstddef>
#include <cstdint>

namespace tercet {

// IEEE binary16 and bfloat16, by their bits: storage, never arithmetic.
struct float16 {
    std::uint16_t bits;
};
struct bfloat16 {
    std::uint16_t bits;
};

// What softmax leaves to be merged with the softmax of other scores: the greatest score, and the sum of the exponentials
// of the differences to it.
struct SoftmaxSums {
    float greatest, sum;
};

struct FloatKernels {
    // codes[i] = rint(x[i] * (127 / gamma)), half to even, with gamma = max(max|x|, 1e-5), for i < depth; zero for
    // depth <= i < stride. Returns the multiplier gamma / 127 and writes the sum of the codes. A NaN or infinity in x
    // makes the returned scale NaN or infinite, so that it reaches the logits instead of vanishing in an integer.
    float (*quantize)(const float* x, std::size_t depth, std::size_t stride, std::int8_t* codes,
                      std::int32_t* sum) noexcept;

    // out = x * (1 / sqrt(sum(x^2) / depth + epsilon)) * weight, the products taken from left to right. May be in place.
    void (*rms_norm)(const float* x, const float* weight, std::size_t depth, float epsilon, float* out) noexcept;

    // out = relu(gate)^2 * up, and silu(gate) * up with silu(g) = g / (1 + exp(-g)). May be in place. gelu_tanh is
    // g / 2 * (1 + tanh(u)) with u = sqrt(2 / pi) * (g + 0.044715 g^3), and (1 + tanh(u)) / 2 = 1 / (1 + exp(-2 u)).
    void (*gated_relu2)(const float* gate, const float* up, std::size_t size, float* out) noexcept;
    void (*gated_silu)(const float* gate, const float* up, std::size_t size, float* out) noexcept;
    void (*gated_gelu_tanh)(const float* gate, const float* up, std::size_t size, float* out) noexcept;

    // out[r] = float(sums[r]) * (activation_scale * row_scales[r * scale_step]): an integer matrix product becomes real.
    // scale_step is 0 (one scale for the tensor) or 1 (one per row). rescale_add adds it to out: the residual stream.
    void (*rescale)(const std::int32_t* sums, float activation_scale, const float* row_scales, std::size_t scale_step,
                    std::size_t size, float* out) noexcept;
    void (*rescale_add)(const std::int32_t* sums, float activation_scale, const float* row_scales,
                        std::size_t scale_step, std::size_t size, float* out) noexcept;

    // (a, b) -> (a cos - b sin, b cos + a sin) for a = head[i], b = head[i + half], i < half; both then times factor.
    void (*rotate)(float* head, const float* cosines, const float* sines, std::size_t half, float factor) noexcept;

    // values <- H values / sqrt(size), in place, with H[i][j] = (-1)^popcount(i & j); size is a power of two. Passes with
    // distances 1, 2, 4, ... of (a, b) -> (a + b, a - b), then every value times float(1 / sqrt(size)).
    void (*hadamard)(float* values, std::size_t size) noexcept;

    // scores <- exp(scores - max) * (1 / sum of the exponentials), in place; size >= 1.
    SoftmaxSums (*softmax)(float* scores, std::size_t size) noexcept;

    // Two averages [size], weighted by the softmax of scores of their own, become the one over all those scores:
    //     m = max(m1, m2)   a1 = sum1 * exp(m1 - m)   a2 = sum2 * exp(m2 - m)   total = a1 + a2
    //     out <- out * (a1 / total) + other * (a2 / total)                      sums <- {m, total}
    void (*merge_softmax)(SoftmaxSums* sums, float* out, SoftmaxSums other_sums, const float* other,
                          std::size_t size) noexcept;

    // out[v * out_stride + r] = dot(rows[r], vectors[v]) for row-major rows [num_rows][depth] and vectors
    // [num_vectors][vector_stride]. Each row is read once for every few vectors; reads run ahead into L2: to what lies at
    // `soon`, as large as rows, where it is not null, else further on in rows. For add_weighted_rows, too.
    void (*dot_rows_f32)(const float* rows, std::size_t num_rows, std::size_t depth, const float* vectors,
                         std::size_t vector_stride, std::size_t num_vectors, float* out,
                         std::size_t out_stride, const void* soon) noexcept;
    void (*dot_rows_f16)(const float16* rows, std::size_t num_rows, std::size_t depth, const float* vectors,
                         std::size_t vector_stride, std::size_t num_vectors, float* out,
                         std::size_t out_stride, const void* soon) noexcept;
    void (*dot_rows_bf16)(const bfloat16* rows, std::size_t num_rows, std::size_t depth, const float* vectors,
                          std::size_t vector_stride, std::size_t num_vectors, float* out,
                          std::size_t out_stride, const void* soon) noexcept;

    void (*dot_rows_i8)(const std::int8_t* rows, std::size_t num_rows, std::size_t depth, const float* vectors,
                        std::size_t vector_stride, std::size_t num_vectors, float* out, std::size_t out_stride,
                        const void* soon) noexcept;

    // out[v][d] += sum over r, in the order of r, of weights[v * weight_stride + r] * rows[r][d], for row-major rows
    // [num_rows][depth] and out [num_vectors][depth]: the values of a KV block under attention's probabilities.
    void (*add_weighted_rows_f32)(const float* rows, std::size_t num_rows, std::size_t depth, const float* weights,
                                  std::size_t weight_stride, std::size_t num_vectors, float* out,
                                  const void* soon) noexcept;
    void (*add_weighted_rows_f16)(const float16* rows, std::size_t num_rows, std::size_t depth, const float* weights,
                                  std::size_t weight_stride, std::size_t num_vectors, float* out,
                                  const void* soon) noexcept;

    void (*add_weighted_rows_i8)(const std::int8_t* rows, std::size_t num_rows, std::size_t depth, const float* weights,
                                 std::size_t weight_stride, std::size_t num_vectors, float* out,
                                 const void* soon) noexcept;

    // Conversions of one row: embeddings in, KV cache out.
    void (*widen_f16)(const float16* from, std::size_t size, float* to) noexcept;
    void (*widen_bf16)(const bfloat16* from, std::size_t size, float* to) noexcept;
    void (*narrow_f16)(const float* from, std::size_t size, float16* to) noexcept;
};

// The names of the operations, in the order of the struct (dispatch checks that there are as many).
inline constexpr const char* float_operation_names[] = {
    "quantize",
    "rms_norm",
    "gated_relu2",
    "gated_silu",
    "gated_gelu_tanh",
    "rescale",
    "rescale_add",
    "rotate",
    "hadamard",
    "softmax",
    "merge_softmax",
    "dot_rows_f32",
    "dot_rows_f16",
    "dot_rows_bf16",
    "dot_rows_i8",
    "add_weighted_rows_f32",
    "add_weighted_rows_f16",
    "add_weighted_rows_i8",
    "widen_f16",
    "widen_bf16",
    "narrow_f16",
};

}  // namespace tercet
