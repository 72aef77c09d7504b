// The float kernels of whichever instruction set includes this file: one definition, one object per folder.
#pragma once

#include "hadamard.hpp"
#include "row_kernels.hpp"
#include "token_kernels.hpp"

namespace tercet {
namespace {

constexpr FloatKernels generic_float_kernels = {
    .quantize = quantize,
    .rms_norm = rms_norm,
    .gated_relu2 = gated_relu2,
    .gated_silu = gated_silu,
    .gated_gelu_tanh = gated_gelu_tanh,
    .rescale = rescale,
    .rescale_add = rescale_add,
    .rotate = rotate,
    .hadamard = hadamard,
    .softmax = softmax,
    .merge_softmax = merge_softmax,
    .dot_rows_f32 = dot_rows_f32,
    .dot_rows_f16 = dot_rows_f16,
    .dot_rows_bf16 = dot_rows_bf16,
    .dot_rows_i8 = dot_rows_i8,
    .add_weighted_rows_f32 = add_weighted_rows_f32,
    .add_weighted_rows_f16 = add_weighted_rows_f16,
    .add_weighted_rows_i8 = add_weighted_rows_i8,
    .widen_f16 = widen_f16,
    .widen_bf16 = widen_bf16,
    .narrow_f16 = narrow_f16,
};

}  // namespace
}  // namespace tercet
