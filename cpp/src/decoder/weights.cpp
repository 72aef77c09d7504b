// Checks that every tensor has the shape that the config gives it.
#include "decoder/weights.hpp"

#include "decoder/rejection.hpp"

namespace tercet {
namespace {

std::string shape_text(std::size_t rows, std::size_t depth) {
    std::string text = "[";
    return text.append(std::to_string(rows)).append(", ").append(std::to_string(depth)).append("]");
}

template <class Matrix>
void check_matrix(const std::string& name, const Matrix& matrix, std::size_t rows, std::size_t depth) {
    if (matrix.rows != rows || matrix.depth != depth)
        reject("Decoder", name, shape_text(rows, depth), shape_text(matrix.rows, matrix.depth));
}

void check_norm(const std::string& name, const NormWeight& weight, std::size_t size, bool optional = false) {
    if (weight.size() != size && !(optional && weight.empty()))
        reject("Decoder", name, shape_text(1, size), shape_text(1, weight.size()));
}

void check_config(const DecoderConfig& config) {
    const auto positive = [](const char* name, std::size_t value) {
        if (value == 0) reject("Decoder", name, "at least 1", "0");
    };
    positive("hidden_size", config.hidden_size);
    positive("ffn_size", config.ffn_size);
    positive("num_layers", config.num_layers);
    positive("num_kv_heads", config.num_kv_heads);
    positive("head_dim", config.head_dim);
    positive("vocab_size", config.vocab_size);
    positive("max_context", config.max_context);
    if (config.num_heads == 0 || config.num_heads % config.num_kv_heads != 0)
        reject("Decoder", "num_heads", "a multiple of num_kv_heads = " + std::to_string(config.num_kv_heads),
               std::to_string(config.num_heads));
    if (config.head_dim % 2 != 0) reject("Decoder", "head_dim", "even", std::to_string(config.head_dim));
    for (const std::size_t depth : {config.hidden_size, config.ffn_size, config.query_size()}) {
        if (depth > max_depth)
            reject("Decoder", "the depth of a ternary matrix", "at most " + std::to_string(max_depth), std::to_string(depth));
    }
    if (!(config.rope_theta > 0)) reject("Decoder", "rope_theta", "positive", std::to_string(config.rope_theta));
    if (!(config.rms_norm_epsilon >= 0))
        reject("Decoder", "rms_norm_eps", "not negative", std::to_string(config.rms_norm_epsilon));
}

}  // namespace

void check_weights(const DecoderConfig& config, const DecoderWeights& weights) {
    check_config(config);
    const std::size_t hidden = config.hidden_size, ffn = config.ffn_size;
    const std::size_t query = config.query_size(), kv = config.kv_size();
    check_matrix("embedding", weights.embedding, config.vocab_size, hidden);
    check_matrix("output_head", weights.output_head, config.vocab_size, hidden);
    check_norm("final_norm", weights.final_norm, hidden);
    if (weights.layers.size() != config.num_layers)
        reject("Decoder", "layers", std::to_string(config.num_layers), std::to_string(weights.layers.size()));
    for (std::size_t index = 0; index < weights.layers.size(); ++index) {
        const LayerWeights& layer = weights.layers[index];
        const std::string name = "layers." + std::to_string(index) + ".";
        check_norm(name + "attention_norm", layer.attention_norm, hidden);
        check_matrix(name + "attention.q", layer.q, query, hidden);
        check_matrix(name + "attention.k", layer.k, kv, hidden);
        check_matrix(name + "attention.v", layer.v, kv, hidden);
        check_norm(name + "attention.sub_norm", layer.attention_sub_norm, query, true);
        check_matrix(name + "attention.o", layer.o, hidden, query);
        check_norm(name + "ffn_norm", layer.ffn_norm, hidden);
        check_matrix(name + "ffn.gate", layer.gate, ffn, hidden);
        check_matrix(name + "ffn.up", layer.up, ffn, hidden);
        check_norm(name + "ffn.sub_norm", layer.ffn_sub_norm, ffn, true);
        check_matrix(name + "ffn.down", layer.down, hidden, ffn);
    }
}

}  // namespace tercet
