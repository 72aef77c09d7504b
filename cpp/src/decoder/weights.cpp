// Checks that every tensor has the shape that the config gives it.
#include "decoder/weights.hpp"

#include <bit>
#include <cmath>

#include "decoder/rejection.hpp"

namespace tercet {
namespace {

std::string shape_text(std::size_t rows, std::size_t depth) {
    std::string text = "[";
    return text.append(std::to_string(rows)).append(", ").append(std::to_string(depth)).append("]");
}

void check_matrix(const std::string& name, const EmbeddingMatrix& either, std::size_t rows, std::size_t depth) {
    const auto check = [&](const auto& matrix) {
        if (matrix.rows != rows || matrix.depth != depth)
            reject("Decoder", name, shape_text(rows, depth), shape_text(matrix.rows, matrix.depth));
    };
    std::visit(check, either);
}

void check_norm(const std::string& name, const NormWeight& weight, std::size_t size) {
    if (weight.size() != size) reject("Decoder", name, shape_text(1, size), shape_text(1, weight.size()));
}

void check_rotation(const std::string& name, const BasisRotation* rotation, std::size_t width) {
    if (rotation == nullptr) return;
    if (rotation->block_size < 2 || !std::has_single_bit(rotation->block_size) || width % rotation->block_size != 0)
        reject("Decoder", "rotation of " + name, "by blocks of a power of two that divides " + std::to_string(width),
               std::to_string(rotation->block_size));
    if (!rotation->signs.empty() && rotation->signs.size() != width)
        reject("Decoder", "rotation of " + name, std::to_string(width) + " signs", std::to_string(rotation->signs.size()));
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
    if (config.windows.size() != config.num_layers)
        reject("Decoder", "layer_windows", std::to_string(config.num_layers) + " of them", std::to_string(config.windows.size()));
    const auto not_negative = [](const std::string& name, float value) {
        if (!(value >= 0) || std::isinf(value)) reject("Decoder", name, "finite and not negative", std::to_string(value));
    };
    not_negative("rms_norm_eps", config.rms_norm_epsilon);
    not_negative("projection_norm_eps", config.projection_norm_epsilon);
    const auto rotary = [&](const std::string& prefix, const RotaryConfig& rotary_config) {
        const std::vector<float>& frequencies = rotary_config.inverse_frequencies;
        if (frequencies.size() != config.head_dim / 2)
            reject("Decoder", prefix + "inverse_frequencies", std::to_string(config.head_dim / 2) + " numbers",
                   std::to_string(frequencies.size()));
        for (const float frequency : frequencies) not_negative(prefix + "inverse_frequencies", frequency);
        not_negative(prefix + "attention_factor", rotary_config.attention_factor);
    };
    rotary("rotary.", config.rotary);
    rotary("local_rotary.", config.local_rotary);
    not_negative("embedding_scale", config.embedding_scale);
    not_negative("attention_scale", config.attention_scale);
}

}  // namespace

void check_weights(const DecoderConfig& config, const DecoderWeights& weights) {
    check_config(config);
    const std::size_t hidden = config.hidden_size, ffn = config.ffn_size;
    const std::size_t query = config.query_size(), kv = config.kv_size();
    check_matrix("embedding", weights.embedding, config.vocab_size, hidden);
    check_matrix("output_head", weights.output_head, config.vocab_size, hidden);
    check_rotation("embedding", weights.embedding_rotation.get(), hidden);
    check_rotation("output_head", weights.head_rotation.get(), hidden);
    check_norm("final_norm", weights.final_norm, hidden);
    if (weights.layers.size() != config.num_layers)
        reject("Decoder", "layers", std::to_string(config.num_layers), std::to_string(weights.layers.size()));
    const LayerWeights& first = weights.layers[0];
    for (std::size_t index = 0; index < weights.layers.size(); ++index) {
        const LayerWeights& layer = weights.layers[index];
        const std::string prefix = "layers." + std::to_string(index) + ".";
        const auto norm = [&](const char* name, const NormWeight& weight, std::size_t size) {
            check_norm(prefix + name, weight, size);
        };
        // What the first layer has, all have.
        const auto norm_like = [&](const NormWeight& of_first, const char* name, const NormWeight& weight, std::size_t size) {
            check_norm(prefix + name, weight, of_first.empty() ? 0 : size);
        };
        const auto projection = [&](const char* name, const Projection& weight, std::size_t rows, std::size_t depth) {
            check_matrix(prefix + name, weight.matrix, rows, depth);
            check_norm(prefix + name + ".input_norm", weight.input_norm, first.q.input_norm.empty() ? 0 : depth);
            check_rotation(prefix + name, weight.rotation.get(), depth);
        };
        norm("attention_norm", layer.attention_norm, hidden);
        projection("attention.q", layer.q, query, hidden);
        projection("attention.k", layer.k, kv, hidden);
        projection("attention.v", layer.v, kv, hidden);
        norm_like(first.q_norm, "attention.q_norm", layer.q_norm, config.head_dim);
        norm_like(first.k_norm, "attention.k_norm", layer.k_norm, config.head_dim);
        norm_like(first.attention_sub_norm, "attention.sub_norm", layer.attention_sub_norm, query);
        projection("attention.o", layer.o, hidden, query);
        norm_like(first.attention_post_norm, "attention_post_norm", layer.attention_post_norm, hidden);
        norm("ffn_norm", layer.ffn_norm, hidden);
        projection("ffn.gate", layer.gate, ffn, hidden);
        projection("ffn.up", layer.up, ffn, hidden);
        norm_like(first.ffn_sub_norm, "ffn.sub_norm", layer.ffn_sub_norm, ffn);
        projection("ffn.down", layer.down, hidden, ffn);
        norm_like(first.attention_post_norm, "ffn_post_norm", layer.ffn_post_norm, hidden);
    }
}

}  // namespace tercet
