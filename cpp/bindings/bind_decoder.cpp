// Decoder, its weights and its cache. The decoder keeps its matrices alive, and they their buffers; nothing is copied
// except the weights of norms.
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "activation.hpp"
#include "matrix_arrays.hpp"
#include "tercet/decoder.hpp"

namespace tercet::bindings {
namespace {

using Integers = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using IntegerTable = nb::ndarray<const std::int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

std::span<const std::int32_t> span_of(const Integers& array) { return {array.data(), array.size()}; }

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

// A matrix of either kind.
EmbeddingMatrix matrix_of(const nb::dict& tensors, const std::string& name) {
    if (tensors.contains(name.c_str()) && nb::isinstance<TernaryMatrixArray>(tensors[name.c_str()]))
        return ternary(tensors, name);
    return floats(tensors, name);
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

DecoderWeights decoder_weights(const nb::dict& config, const nb::dict& tensors, const FloatKernels& kernels) {
    const bool attention_sub_norm = flag(config, "attention_sub_norm"), ffn_sub_norm = flag(config, "ffn_sub_norm");
    const bool qk_norm = flag(config, "qk_norm"), projection_norms = flag(config, "projection_norms");
    const bool post_norms = flag(config, "post_norms");
    const std::size_t num_layers = count(config, "num_layers"), hidden = count(config, "hidden_size");
    const std::string head = flag(config, "tied_embeddings") ? "embedding" : "output_head";
    Rotations rotations(config);
    DecoderWeights weights;
    weights.embedding = matrix_of(tensors, "embedding");
    weights.embedding_rotation = rotations.of_output("embedding", hidden);
    for (std::size_t index = 0; index < num_layers; ++index) {
        const std::string layer = "layers." + std::to_string(index) + ".";
        const auto norm_of = [&](const std::string& name, bool present = true) {
            return present ? norm(tensors, layer + name, kernels) : NormWeight{};
        };
        const auto projection = [&](const std::string& name) -> Projection {
            const EmbeddingMatrix matrix = matrix_of(tensors, layer + name);
            const std::size_t depth = std::visit([](const auto& either) { return either.depth; }, matrix);
            return {matrix, norm_of(name + ".input_norm", projection_norms), rotations.of_input(layer + name, depth)};
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
    weights.output_head = matrix_of(tensors, head);
    weights.head_rotation = rotations.of_input(head, hidden);
    return weights;
}

// A decoder and the Python objects that own its weights.
class DecoderObject {
  public:
    DecoderObject(const nb::dict& config, const nb::dict& tensors, int threads, const IsaName& isa) {
        check_threads("Decoder", threads);
        const KernelTable& table = table_of(isa);
        decoder_ = std::make_unique<Decoder>(decoder_config(config), decoder_weights(config, tensors, table.floats), table,
                                             threads);
        for (const auto& [name, value] : tensors) owners_.push_back(nb::borrow(value));
    }

    Decoder& decoder() noexcept { return *decoder_; }

  private:
    std::vector<nb::object> owners_;
    std::unique_ptr<Decoder> decoder_;  // gone before its weights
};

void make_cache(KvCache* self, DecoderObject& decoder, std::size_t num_blocks, std::size_t block_tokens,
                const std::string& dtype) {
    if (dtype != "f32" && dtype != "f16") reject("KvCache", "dtype", "'f32' or 'f16'", "'" + dtype + "'");
    new (self) KvCache(decoder.decoder().cache_shape(num_blocks, block_tokens),
                       dtype == "f32" ? KvType::f32 : KvType::f16);
}

// What a step gives for each wanted row: logits, or hidden states.
template <void (Decoder::*step)(KvCache&, const Batch&, float*), std::size_t DecoderConfig::*width>
nb::ndarray<nb::numpy, float> run(DecoderObject& object, KvCache& cache, const Integers& token_ids,
                                  const Integers& sequence_starts, const Integers& context_lengths,
                                  const IntegerTable& block_tables, const Integers& logit_rows) {
    Decoder& decoder = object.decoder();
    const std::size_t rows = logit_rows.size(), columns = decoder.config().*width;
    const Batch batch{span_of(token_ids), span_of(sequence_starts), span_of(context_lengths),
                      {block_tables.data(), block_tables.shape(0), block_tables.shape(1), block_tables.shape(1)},
                      span_of(logit_rows)};
    auto out = std::make_unique_for_overwrite<float[]>(rows * columns);
    {
        const nb::gil_scoped_release release;
        (decoder.*step)(cache, batch, out.get());
    }
    float* data = out.get();
    const nb::capsule owner(out.release(), [](void* memory) noexcept { delete[] static_cast<float*>(memory); });
    return {data, {rows, columns}, owner};
}

}  // namespace

void bind_floats(nb::module_& module);

void bind_decoder(nb::module_& module) {
    bind_floats(module);
    nb::class_<TernaryMatrixArray>(module, "TernaryMatrix")
        .def(nb::init<ByteVector, const std::string&, std::size_t, std::size_t, FloatVector, std::size_t>(),
             nb::arg("data").noconvert(), nb::arg("packing"), nb::arg("rows"), nb::arg("depth"),
             nb::arg("scales").noconvert(), nb::arg("group_size") = 0)
        .def_prop_ro("packing", &TernaryMatrixArray::packing)
        .def_prop_ro("rows", [](const TernaryMatrixArray& array) { return array.matrix().rows; })
        .def_prop_ro("depth", [](const TernaryMatrixArray& array) { return array.matrix().depth; })
        .def_prop_ro("nbytes", &TernaryMatrixArray::num_bytes);

    nb::class_<FloatMatrixArray>(module, "FloatMatrix")
        .def(nb::init<AnyVector, const std::string&, std::size_t, std::size_t>(), nb::arg("data").noconvert(),
             nb::arg("type"), nb::arg("rows"), nb::arg("depth"))
        .def_prop_ro("type", &FloatMatrixArray::type)
        .def_prop_ro("rows", [](const FloatMatrixArray& array) { return array.matrix().rows; })
        .def_prop_ro("depth", [](const FloatMatrixArray& array) { return array.matrix().depth; })
        .def_prop_ro("nbytes", &FloatMatrixArray::num_bytes);

    nb::class_<DecoderObject> decoder(module, "Decoder");
    nb::class_<KvCache>(module, "KvCache")
        .def("__init__", &make_cache, nb::arg("decoder"), nb::arg("num_blocks"), nb::arg("block_tokens") = 16,
             nb::arg("dtype") = "f32")
        .def_prop_ro("num_blocks", [](const KvCache& cache) { return cache.shape().num_blocks; })
        .def_prop_ro("block_tokens", [](const KvCache& cache) { return cache.shape().block_tokens; })
        .def_prop_ro("dtype", [](const KvCache& cache) { return cache.type() == KvType::f32 ? "f32" : "f16"; })
        .def_prop_ro("nbytes", &KvCache::num_bytes);

    const auto bind_step = [&](const char* name, auto step) {
        decoder.def(name, step, nb::arg("cache"), nb::arg("token_ids").noconvert(), nb::arg("sequence_starts").noconvert(),
                    nb::arg("context_lengths").noconvert(), nb::arg("block_tables").noconvert(),
                    nb::arg("logit_rows").noconvert());
    };
    bind_step("forward", &run<&Decoder::forward, &DecoderConfig::vocab_size>);
    bind_step("hidden_states", &run<&Decoder::hidden_states, &DecoderConfig::hidden_size>);
    decoder
        .def(nb::init<const nb::dict&, const nb::dict&, int, const IsaName&>(), nb::arg("config"), nb::arg("tensors"),
             nb::arg("threads") = 1, nb::arg("isa") = nb::none())
        .def_prop_ro("isa", [](DecoderObject& object) { return isa_name(object.decoder().kernels().isa); })
        .def_prop_ro("threads", [](DecoderObject& object) { return object.decoder().num_threads(); })
        .def_prop_ro("vocab_size", [](DecoderObject& object) { return object.decoder().config().vocab_size; })
        .def_prop_ro("hidden_size", [](DecoderObject& object) { return object.decoder().config().hidden_size; })
        .def_prop_ro("max_context", [](DecoderObject& object) { return object.decoder().config().max_context; })
        .def_prop_ro("scratch_bytes", [](DecoderObject& object) { return object.decoder().scratch_bytes(); });
}

}  // namespace tercet::bindings
