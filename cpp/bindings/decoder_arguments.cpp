#include "decoder_arguments.hpp"

#include <nanobind/stl/vector.h>

#include <algorithm>
#include <vector>

#include "activation.hpp"
#include "decoder/assembly.hpp"
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

NormWeight norm_of(const nb::dict& tensors, const std::string& name, const FloatKernels& kernels) {
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

// The tensors of a mapping, which keeps them.
class NamedTensors final : public WeightSource {
  public:
    NamedTensors(const nb::dict& tensors, const FloatKernels& kernels) : tensors_(tensors), kernels_(kernels) {}

    EmbeddingMatrix matrix(const std::string& name) override { return matrix_of(tensors_, name); }
    EmbeddingMatrix token_table(const std::string& name) override { return table_of_tokens(tensors_, name); }
    NormWeight norm(const std::string& name) override { return norm_of(tensors_, name, kernels_); }

  private:
    const nb::dict& tensors_;
    const FloatKernels& kernels_;
};

RotatedBasis rotated_basis(const nb::dict& config) {
    const auto rotation = field<nb::object>(config, "rotation", "a mapping or None");
    RotatedBasis basis;
    if (rotation.is_none()) return basis;
    const auto fields = nb::cast<nb::dict>(rotation);
    basis.block_size = count(fields, "block_size");
    basis.inputs = field<std::vector<std::string>>(fields, "inputs", "names of tensors");
    basis.outputs = field<std::vector<std::string>>(fields, "outputs", "names of tensors");
    for (const auto& [width, signs] : field<nb::dict>(fields, "signs", "signs by width")) {
        const auto array = nb::cast<FloatVector>(signs);
        basis.signs[nb::cast<std::size_t>(width)] = {array.data(), array.data() + array.size()};
    }
    return basis;
}

}  // namespace

DecoderWeights decoder_weights(const nb::dict& config, const nb::dict& tensors, const FloatKernels& kernels) {
    const WeightOptions options{
        .num_layers = count(config, "num_layers"),
        .hidden_size = count(config, "hidden_size"),
        .attention_sub_norm = flag(config, "attention_sub_norm"),
        .ffn_sub_norm = flag(config, "ffn_sub_norm"),
        .qk_norm = flag(config, "qk_norm"),
        .projection_norms = flag(config, "projection_norms"),
        .post_norms = flag(config, "post_norms"),
        .tied_embeddings = flag(config, "tied_embeddings"),
        .activation_rule = field<std::string>(config, "activation_rule", "a name"),
    };
    NamedTensors named(tensors, kernels);
    return assemble_weights(options, rotated_basis(config), named);
}

}  // namespace tercet::bindings
