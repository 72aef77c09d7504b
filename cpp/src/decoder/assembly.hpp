// The weights of a decoder, put together from named tensors, whoever holds them: Python's arrays or a mapped file.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "tercet/decoder.hpp"

namespace tercet {

// Which parts a model has: the fields of src/tercet/models/config.py by their names.
struct WeightOptions {
    std::size_t num_layers = 0, hidden_size = 0;
    bool attention_sub_norm = false, ffn_sub_norm = false, qk_norm = false;
    bool projection_norms = false, post_norms = false, tied_embeddings = false;
    std::string activation_rule = "int8";  // or int4, int4_int8
};

// The basis that the weights are in: src/tercet/models/rotation.py. A width without signs changes none.
struct RotatedBasis {
    std::size_t block_size = 0;
    std::vector<std::string> inputs, outputs;  // canonical names
    std::map<std::size_t, std::vector<float>> signs;
};

// Tensors by their canonical names; each is asked for once, but the embedding twice where it is the head as well.
class WeightSource {
  public:
    virtual ~WeightSource() = default;
    virtual EmbeddingMatrix matrix(const std::string& name) = 0;       // of a layer
    virtual EmbeddingMatrix token_table(const std::string& name) = 0;  // an embedding or an output head
    virtual NormWeight norm(const std::string& name) = 0;
};

// Throws what the source throws; std::invalid_argument where there is no such activation rule.
DecoderWeights assemble_weights(const WeightOptions& options, const RotatedBasis& basis, WeightSource& source);

}  // namespace tercet
