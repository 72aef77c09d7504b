#include "models/config.hpp"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "models/config_fields.hpp"
#include "models/rope.hpp"
#include "models/rotation.hpp"

namespace tercet {
namespace {

constexpr std::int64_t max_layers = 1024;

void read_sizes(const ConfigFields& fields, DecoderConfig& config) {
    config.hidden_size = fields.whole("hidden_size");
    config.ffn_size = fields.whole("ffn_size");
    config.num_heads = fields.whole("num_heads");
    config.num_kv_heads = fields.whole("num_kv_heads");
    config.head_dim = fields.whole("head_dim");
    config.vocab_size = fields.whole("vocab_size");
    config.max_context = fields.whole("max_context");
    config.num_layers = fields.whole("num_layers", 1, max_layers);
    if (config.num_heads % config.num_kv_heads != 0) fields.refuse("num_heads", "a multiple of num_kv_heads");
    if (config.head_dim % 2 != 0) fields.refuse("head_dim", "an even number, since RoPE turns pairs");
    if (config.query_size() > max_dimension) fields.refuse("num_heads", "at most 2^24 together with head_dim");
}

void read_options(const ConfigFields& fields, ModelConfig& config) {
    // These two are for people and for training; what is computed does not depend on them.
    if (fields.has("architecture")) fields.choice("architecture", {"bitnet", "llama", "qwen3", "gemma3"});
    if (fields.has("weight_rule")) fields.choice("weight_rule", {"absmean", "sign"});
    const std::string activation = fields.choice("activation", {"relu2", "silu", "gelu_tanh"});
    config.decoder.activation = activation == "relu2"  ? Activation::relu2
                                : activation == "silu" ? Activation::silu
                                                       : Activation::gelu_tanh;
    config.decoder.quantize_activations = fields.flag("quantize_activations", true);
    config.weights = {
        .num_layers = config.decoder.num_layers,
        .hidden_size = config.decoder.hidden_size,
        .attention_sub_norm = fields.flag("attention_sub_norm"),
        .ffn_sub_norm = fields.flag("ffn_sub_norm"),
        .qk_norm = fields.flag("qk_norm", false),
        .projection_norms = fields.flag("projection_norms", false),
        .post_norms = fields.flag("post_norms", false),
        .tied_embeddings = fields.flag("tied_embeddings"),
        .activation_rule = fields.has("activation_rule") ? fields.choice("activation_rule", {"int8", "int4", "int4_int8"}) : "int8",
    };
    const bool normalizes = fields.flag("normalize_embeddings", false);
    config.makes_embeddings = !fields.is_null("pooling");
    if (config.makes_embeddings) fields.choice("pooling", {"last"});
    else if (normalizes) fields.refuse("normalize_embeddings", "false, since there is no pooling");
}

void read_positions(const ConfigFields& fields, const std::string& file, DecoderConfig& config) {
    const double theta = fields.positive("rope_theta");
    std::optional<RopeScaling> scaling;
    if (!fields.is_null("rope_scaling")) {
        scaling = read_rope_scaling({fields["rope_scaling"], file, "config.rope_scaling"});
        if (scaling->kind == RopeScaling::Kind::yarn && theta <= 1) fields.refuse("rope_theta", "above 1 with yarn");
        if (scaling->kind == RopeScaling::Kind::factors && scaling->factors.size() != config.head_dim / 2)
            fields.refuse("rope_scaling", std::to_string(config.head_dim / 2) + " factors, half of head_dim");
    }
    const float factor = scaling ? static_cast<float>(scaling->attention_factor) : 1.0F;
    config.rotary = {inverse_frequencies(theta, config.head_dim, scaling ? &*scaling : nullptr), factor};
    config.local_rotary = config.rotary;
    if (!fields.is_null("rope_local_theta"))
        config.local_rotary = {inverse_frequencies(fields.positive("rope_local_theta"), config.head_dim, nullptr), 1.0F};
    for (const RotaryConfig* rotary : {&config.rotary, &config.local_rotary})
        if (!std::all_of(rotary->inverse_frequencies.begin(), rotary->inverse_frequencies.end(), [](float f) { return std::isfinite(f); }))
            fields.refuse("rope_theta", "a base whose frequencies are finite");

    const bool has_window = !fields.is_null("sliding_window"), has_pattern = !fields.is_null("sliding_pattern");
    const std::size_t window = has_window ? fields.whole("sliding_window") : 0;
    const std::size_t pattern = has_pattern ? fields.whole("sliding_pattern") : config.num_layers + 1;
    if (has_pattern && !has_window) fields.refuse("sliding_pattern", "nothing, since there is no sliding_window");
    for (std::size_t layer = 1; layer <= config.num_layers; ++layer)
        config.windows.push_back(layer % pattern != 0 ? window : 0);
}

void read_factors(const ConfigFields& fields, DecoderConfig& config) {
    const auto number = [&](std::string_view key, double other) {
        return static_cast<float>(fields.is_null(key) ? other : fields.positive(key));
    };
    config.rms_norm_epsilon = static_cast<float>(fields.positive("rms_norm_eps"));
    config.projection_norm_epsilon = number("projection_norm_eps", fields.positive("rms_norm_eps"));
    config.embedding_scale = fields.has("embedding_scale") ? static_cast<float>(fields.positive("embedding_scale")) : 1.0F;
    config.attention_scale = number("attention_scale", 1 / std::sqrt(static_cast<double>(config.head_dim)));
}

void read_tokens(const ConfigFields& fields, ModelConfig& config) {
    const auto highest = static_cast<std::int64_t>(config.decoder.vocab_size) - 1;
    const JsonValue ends = fields["eos_token_ids"];
    if (!ends.is(JsonValue::Kind::array)) fields.refuse("eos_token_ids", "a list of token ids");
    ends.for_each([&](JsonValue value) {
        std::int64_t token = 0;
        if (!value.integer_within(0, highest, token)) fields.refuse("eos_token_ids", "token ids of the vocabulary");
        config.eos_token_ids.push_back(static_cast<std::int32_t>(token));
    });
    const bool adds_bos = fields.flag("add_bos", true);
    if (!fields.is_null("pad_token_id")) fields.whole("pad_token_id", 0, highest);
    if (fields.is_null("bos_token_id")) return;
    const auto bos = static_cast<std::int32_t>(fields.whole("bos_token_id", 0, highest));
    if (adds_bos) config.first_token_id = bos;
}

// The width of what each matrix is multiplied with.
std::unordered_map<std::string, std::size_t> input_widths(const ModelConfig& config) {
    std::unordered_map<std::string, std::size_t> widths;
    for (const TensorShape& shape : tensor_shapes(config))
        if (!shape.is_norm && shape.name.starts_with("layers.")) widths[shape.name] = shape.depth;
    widths[config.weights.tied_embeddings ? "embedding" : "output_head"] = config.decoder.hidden_size;
    return widths;
}

void read_basis(const ConfigFields& fields, const std::string& file, ModelConfig& config) {
    if (fields.is_null("rotation")) return;
    config.basis = read_rotation({fields["rotation"], file, "config.rotation"});
    const auto check = [&](const std::string& name, std::size_t width) {
        if (width == 0) fields.refuse("rotation", "names of the model's matrices, not " + name);
        if (width % config.basis.block_size != 0) fields.refuse("rotation", "blocks that divide the width of " + name);
        if (!config.basis.signs.empty() && !config.basis.signs.contains(width))
            fields.refuse("rotation", "signs for the width of " + name + ", " + std::to_string(width));
    };
    std::unordered_map<std::string, std::size_t> widths = input_widths(config);
    for (const std::string& name : config.basis.inputs) check(name, widths[name]);
    for (const std::string& name : config.basis.outputs) check(name, name == "embedding" ? config.decoder.hidden_size : 0);
}

}  // namespace

ModelConfig read_config(JsonValue value, const std::string& file) {
    const ConfigFields fields(value, file, "config");
    fields.only({"architecture", "hidden_size", "ffn_size", "num_layers", "num_heads", "num_kv_heads", "head_dim",
                 "vocab_size", "max_context", "rope_theta", "rms_norm_eps", "activation", "attention_sub_norm",
                 "ffn_sub_norm", "tied_embeddings", "quantize_activations", "activation_rule", "weight_rule", "qk_norm",
                 "projection_norms", "projection_norm_eps", "post_norms", "embedding_scale", "attention_scale",
                 "rope_scaling", "sliding_window", "sliding_pattern", "rope_local_theta", "pooling",
                 "normalize_embeddings", "rotation", "bos_token_id", "add_bos", "eos_token_ids", "pad_token_id"});
    fields.require({"bos_token_id"});  // which may be null; others that must be there are checked as they are read
    ModelConfig config;
    read_sizes(fields, config.decoder);
    read_options(fields, config);
    read_positions(fields, file, config.decoder);
    read_factors(fields, config.decoder);
    read_tokens(fields, config);
    read_basis(fields, file, config);
    return config;
}

std::vector<TensorShape> tensor_shapes(const ModelConfig& config) {
    const DecoderConfig& sizes = config.decoder;
    const WeightOptions& has = config.weights;
    const std::size_t hidden = sizes.hidden_size, query = sizes.query_size(), kv = sizes.kv_size();
    std::vector<TensorShape> shapes{{"embedding", sizes.vocab_size, hidden, false}};
    for (std::size_t layer = 0; layer < sizes.num_layers; ++layer) {
        const std::string prefix = "layers." + std::to_string(layer) + ".";
        const auto norm = [&](const char* name, std::size_t size, bool is_there = true) {
            if (is_there) shapes.push_back({prefix + name, 1, size, true});
        };
        const auto matrix = [&](const char* name, std::size_t rows, std::size_t depth) {
            if (has.projection_norms) shapes.push_back({prefix + name + ".input_norm", 1, depth, true});
            shapes.push_back({prefix + name, rows, depth, false});
        };
        norm("attention_norm", hidden);
        matrix("attention.q", query, hidden);
        matrix("attention.k", kv, hidden);
        matrix("attention.v", kv, hidden);
        norm("attention.q_norm", sizes.head_dim, has.qk_norm);
        norm("attention.k_norm", sizes.head_dim, has.qk_norm);
        norm("attention.sub_norm", query, has.attention_sub_norm);
        matrix("attention.o", hidden, query);
        norm("attention_post_norm", hidden, has.post_norms);
        norm("ffn_norm", hidden);
        matrix("ffn.gate", sizes.ffn_size, hidden);
        matrix("ffn.up", sizes.ffn_size, hidden);
        norm("ffn.sub_norm", sizes.ffn_size, has.ffn_sub_norm);
        matrix("ffn.down", hidden, sizes.ffn_size);
        norm("ffn_post_norm", hidden, has.post_norms);
    }
    shapes.push_back({"final_norm", 1, hidden, true});
    if (!has.tied_embeddings) shapes.push_back({"output_head", sizes.vocab_size, hidden, false});
    return shapes;
}

}  // namespace tercet
