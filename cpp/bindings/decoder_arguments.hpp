// What a decoder is made of, out of the mappings that Python hands over.
#pragma once

#include "bindings.hpp"
#include "tercet/decoder.hpp"

namespace tercet::bindings {

// The config by the names of its fields (kernels/decoder.py makes them), each missing or mistyped one a clear error.
DecoderConfig decoder_config(const nb::dict& config);

// The tensors by their canonical names. Norms are copied and widened, matrices are views of what `tensors` holds.
DecoderWeights decoder_weights(const nb::dict& config, const nb::dict& tensors, const FloatKernels& kernels);

}  // namespace tercet::bindings
