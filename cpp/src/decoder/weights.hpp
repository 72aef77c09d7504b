#pragma once

#include "tercet/decoder.hpp"

namespace tercet {

// Throws std::invalid_argument when the config is not one of a decoder, or a tensor's shape does not follow from it.
void check_weights(const DecoderConfig& config, const DecoderWeights& weights);

// Whether the matrices that follow one norm can all read one input.
bool projections_share_inputs(std::span<const LayerWeights> layers) noexcept;

}  // namespace tercet
