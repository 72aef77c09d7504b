// The shape of a model as a file says it: src/tercet/models/config.py has the fields and the checks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "decoder/assembly.hpp"
#include "formats/json.hpp"
#include "tercet/decoder.hpp"

namespace tercet {

struct ModelConfig {
    DecoderConfig decoder;
    WeightOptions weights;
    RotatedBasis basis;
    std::optional<std::int32_t> first_token_id;  // what a text that is no conversation begins with
    std::vector<std::int32_t> eos_token_ids;
    bool makes_embeddings = false;
};

// Throws FormatError when a key is unknown or missing, or a value out of range or at odds with another.
ModelConfig read_config(JsonValue config, const std::string& file);

// Canonical name and shape of every tensor, [size] as {1, size}: src/tercet/models/tensor_names.py.
struct TensorShape {
    std::string name;
    std::size_t rows, depth;
    bool is_norm;
};
std::vector<TensorShape> tensor_shapes(const ModelConfig& config);

}  // namespace tercet
