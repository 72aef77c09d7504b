#include "decoder_arguments.hpp"

#include <nanobind/stl/vector.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "activation.hpp"
#include "matrix_arrays.hpp"

namespace tercet::bindings {
namespace {

// Fields of the config and tensors of the model by name, each missing or mistyped one a clear error.
template <class T>
T field(const nb::dict& config, const char* name, const char* expected) {
    if (!config.contains(name)) reject("Decoder", std::string("config"), std::string("a mapping with ") + name, "none");
    T value{};
    if (!nb::try_cast<T>(config[name], value))
        reject("Decoder", std::string("config['") + name + "']", expected, nb::cast<std::string>(nb::repr(config[name])));
    return value;
}

std::size_t count(const nb::dict& config, const char* name) { return field<std::size_t>(config, name, "a whole number"); }
double number(const nb::dict& config, const char* name) { return field<double>(config, name, "a number"); }
bool flag(const nb::dict& config, const char* name) { return field<bool>(config, name, "True or False"); }

std::vector<float> numbers(const nb::dict& config, const char* name) {
    const auto array = field<FloatVector>(config, name, "a vector of float32");
    return {array.data(), array.data() + array.size()};
}

std::vector<std::size_t> windows(const nb::dict& config) {
    return field<std::vector<std::size_t>>(config, "layer_windows", "whole numbers, 0 for none");
}

}  // namespace

DecoderConfig decoder_config(const nb::dict& config) {
    const auto real = [&](const char* name) { return static_cast<float>(number(config, name)); };
    return {
        .hidden_size = count(config, "hidden_size"),
        .ffn_size = count(config, "ffn_size"),
        .num_layers = count(config, "num_layers"),
        .num_heads = count(config, "num_heads"),
        .num_kv_heads = count(config, "num_kv_heads"),
        .head_dim = count(config, "head_dim"),
        .vocab_size = count(config, "vocab_size"),
        .max_context = count(config, "max_context"),
        .windows = windows(config),
        .rotary = {numbers(config, "inverse_frequencies"), real("rope_attention_factor")},
        .local_rotary = {numbers(config, "local_inverse_frequencies"), real("local_rope_attention_factor")},
        .rms_norm_epsilon = real("rms_norm_eps"),
        .projection_norm_epsilon = real("projection_norm_eps"),
        .embedding_scale = real("embedding_scale"),
        .attention_scale = real("attention_scale"),
        .activation = activation_named("Decoder", "config['activation']", field<std::string>(config, "activation", "a name")),
        .quantize_activations = flag(config, "quantize_activations"),
    };
}

namespace {

template <class Array>
const Array& tensor(const nb::dict& tensors, const std::string& name, const char* kind) {
    if (!tensors.contains(name.c_str())) reject("Decoder", "tensors", "a mapping with " + name, "none of that name");
    const nb::handle value = tensors[name.c_str()];
    if (!nb::isinstance<Array>(value)) reject("Decoder", name, kind, nb::cast<std::string>(nb::repr(value.type())));
    return *nb::inst_ptr<Array>(value);
}

const TernaryMatrix& ternary(const nb::dict& tensors, const std::string& name) {
    return tensor<TernaryMatrixArray>(tensors, name, "a TernaryMatrix").matrix();
}
const FloatMatrix& floats(const nb::dict& tensors, const std::string& name) {
    return tensor<FloatMatrixArray>(tensors, name, "a FloatMatrix").matrix();
}

// A matrix of a layer.
EmbeddingMatrix matrix_of(const nb::dict& tensors, const std::string& name) {
    if (tensors.contains(name.c_str()) && nb::isinstance<TernaryMatrixArray>(tensors[name.c_str()]))
        return ternary(tensors, name);
    return floats(tensors, name);
}

// An embedding or an output head: a matrix of any kind.
EmbeddingMatrix table_of_tokens(const nb::dict& tensors, const std::string& name) {
    if (tensors.contains(name.c_str()) && nb::isinstance<PlaneMatrixArray>(tensors[name.c_str()]))
        return tensor<PlaneMatrixArray>(tensors, name, "a PlaneMatrix").matrix();
    return matrix_of(tensors, name);
}

NormWeight norm(const nb::dict& tensors, const std::string& name, const FloatKernels& kernels) {
    const FloatMatrix& matrix = floats(tensors, name);
    if (matrix.rows != 1) reject("Decoder", name, "a FloatMatrix of one row", std::to_string(matrix.rows) + " rows");
    NormWeight weight(matrix.depth);
    struct Widen {
        const FloatKernels& kernels;
        NormWeight& weight;
        void operator()(const float* from) const { std::copy_n(from, weight.size(), weight.data()); }
        void operator()(const float16* from) const { kernels.widen_f16(from, weight.size(), weight.data()); }
        void operator()(const bfloat16* from) const { kernels.widen_bf16(from, weight.size(), weight.data()); }
    };
    std::visit(Widen{kernels, weight}, matrix.data);
    return weight;
}

// The rounding of the input of a matrix by the model's rule and the name of the matrix.
Rounding rounding_of(const std::string& rule, const std::string& name) {
    if (rule == "int8") return Rounding::int8;
    if (rule == "int4") return Rounding::int4;
    if (rule != "int4_int8") reject("Decoder", "config['activation_rule']", "int8, int4 or int4_int8", rule);
    if (name == "ffn.down") return Rounding::int8;
    return name == "attention.o" ? Rounding::int8_top_half : Rounding::int4;
}

// The rotated basis of a model by the names of the tensors that are in it.
class Rotations {
  public:
    explicit Rotations(const nb::dict& config) {
        const auto rotation = field<nb::object>(config, "rotation", "a mapping or None");
        if (rotation.is_none()) return;
        const auto fields = nb::cast<nb::dict>(rotation);
        block_size_ = count(fields, "block_size");
        inputs_ = field<std::vector<std::string>>(fields, "inputs", "names of tensors");
        outputs_ = field<std::vector<std::string>>(fields, "outputs", "names of tensors");
        for (const auto& [width, signs] : field<nb::dict>(fields, "signs", "signs by width")) {
            const auto array = nb::cast<FloatVector>(signs);
            by_width_[nb::cast<std::size_t>(width)] = std::make_shared<const BasisRotation>(
                BasisRotation{block_size_, {array.data(), array.data() + array.size()}});
        }
    }

    using Shared = std::shared_ptr<const BasisRotation>;
    Shared of_input(const std::string& name, std::size_t width) { return contains(inputs_, name) ? shared(width) : nullptr; }
    Shared of_output(const std::string& name, std::size_t width) { return contains(outputs_, name) ? shared(width) : nullptr; }

  private:
    static bool contains(const std::vector<std::string>& names, const std::string& name) {
        return std::find(names.begin(), names.end(), name) != names.end();
    }
    Shared shared(std::size_t width) {  // a width without signs changes none
        Shared& rotation = by_width_[width];
        if (!rotation) rotation = std::make_shared<const BasisRotation>(BasisRotation{block_size_, {}});
        return rotation;
    }

    std::size_t block_size_ = 0;
    std::vector<std::string> inputs_, outputs_;
    std::map<std::size_t, Shared> by_width_;
};

}  // namespace

DecoderWeights decoder_weights(const nb::dict& config, const nb::dict& tensors, const FloatKernels& kernels) {
    const bool attention_sub_norm = flag(config, "attention_sub_norm"), ffn_sub_norm = flag(config, "ffn_sub_norm");
    const bool qk_norm = flag(config, "qk_norm"), projection_norms = flag(config, "projection_norms");
    const bool post_norms = flag(config, "post_norms");
    const std::size_t num_layers = count(config, "num_layers"), hidden = count(config, "hidden_size");
    const std::string head = flag(config, "tied_embeddings") ? "embedding" : "output_head";
    const auto rule = field<std::string>(config, "activation_rule", "a name");
    Rotations rotations(config);
    DecoderWeights weights;
    weights.embedding = table_of_tokens(tensors, "embedding");
    weights.embedding_rotation = rotations.of_output("embedding", hidden);
    for (std::size_t index = 0; index < num_layers; ++index) {
        const std::string layer = "layers." + std::to_string(index) + ".";
        const auto norm_of = [&](const std::string& name, bool present = true) {
            return present ? norm(tensors, layer + name, kernels) : NormWeight{};
        };
        const auto projection = [&](const std::string& name) -> Projection {
            const EmbeddingMatrix matrix = matrix_of(tensors, layer + name);
            const std::size_t depth = std::visit([](const auto& either) { return either.depth; }, matrix);
            return {matrix, norm_of(name + ".input_norm", projection_norms), rotations.of_input(layer + name, depth),
                    rounding_of(rule, name)};
        };
        weights.layers.push_back({
            .attention_norm = norm_of("attention_norm"),
            .q = projection("attention.q"),
            .k = projection("attention.k"),
            .v = projection("attention.v"),
            .q_norm = norm_of("attention.q_norm", qk_norm),
            .k_norm = norm_of("attention.k_norm", qk_norm),
            .attention_sub_norm = norm_of("attention.sub_norm", attention_sub_norm),
            .o = projection("attention.o"),
            .attention_post_norm = norm_of("attention_post_norm", post_norms),
            .ffn_norm = norm_of("ffn_norm"),
            .gate = projection("ffn.gate"),
            .up = projection("ffn.up"),
            .ffn_sub_norm = norm_of("ffn.sub_norm", ffn_sub_norm),
            .down = projection("ffn.down"),
            .ffn_post_norm = norm_of("ffn_post_norm", post_norms),
        });
    }
    weights.final_norm = norm(tensors, "final_norm", kernels);
    weights.output_head = table_of_tokens(tensors, head);
    weights.head_rotation = rotations.of_input(head, hidden);
    return weights;
}

}  // namespace tercet::bindings
