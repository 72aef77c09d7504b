// Decoder, its weights and its cache. The decoder keeps its matrices alive, and they their buffers; nothing is copied
// except the weights of norms.
#include <algorithm>
#include <memory>
#include <vector>

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

DecoderConfig decoder_config(const nb::dict& config) {
    const auto activation = field<std::string>(config, "activation", "'relu2' or 'silu'");
    if (activation != "relu2" && activation != "silu")
        reject("Decoder", "config['activation']", "'relu2' or 'silu'", "'" + activation + "'");
    return {count(config, "hidden_size"),
            count(config, "ffn_size"),
            count(config, "num_layers"),
            count(config, "num_heads"),
            count(config, "num_kv_heads"),
            count(config, "head_dim"),
            count(config, "vocab_size"),
            count(config, "max_context"),
            number(config, "rope_theta"),
            static_cast<float>(number(config, "rms_norm_eps")),
            activation == "relu2" ? Activation::relu2 : Activation::silu,
            flag(config, "quantize_activations")};
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

DecoderWeights decoder_weights(const nb::dict& config, const nb::dict& tensors, const FloatKernels& kernels) {
    const auto norm_of = [&](const std::string& name) { return norm(tensors, name, kernels); };
    const bool attention_sub_norm = flag(config, "attention_sub_norm"), ffn_sub_norm = flag(config, "ffn_sub_norm");
    DecoderWeights weights;
    weights.embedding = floats(tensors, "embedding");
    const std::size_t num_layers = count(config, "num_layers");
    for (std::size_t index = 0; index < num_layers; ++index) {
        const std::string layer = "layers." + std::to_string(index) + ".";
        weights.layers.push_back({
            .attention_norm = norm_of(layer + "attention_norm"),
            .q = ternary(tensors, layer + "attention.q"),
            .k = ternary(tensors, layer + "attention.k"),
            .v = ternary(tensors, layer + "attention.v"),
            .attention_sub_norm = attention_sub_norm ? norm_of(layer + "attention.sub_norm") : NormWeight{},
            .o = ternary(tensors, layer + "attention.o"),
            .ffn_norm = norm_of(layer + "ffn_norm"),
            .gate = ternary(tensors, layer + "ffn.gate"),
            .up = ternary(tensors, layer + "ffn.up"),
            .ffn_sub_norm = ffn_sub_norm ? norm_of(layer + "ffn.sub_norm") : NormWeight{},
            .down = ternary(tensors, layer + "ffn.down"),
        });
    }
    weights.final_norm = norm_of("final_norm");
    weights.output_head = floats(tensors, flag(config, "tied_embeddings") ? "embedding" : "output_head");
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

nb::ndarray<nb::numpy, float> forward(DecoderObject& object, KvCache& cache, const Integers& token_ids,
                                      const Integers& sequence_starts, const Integers& context_lengths,
                                      const IntegerTable& block_tables, const Integers& logit_rows) {
    Decoder& decoder = object.decoder();
    const std::size_t rows = logit_rows.size(), vocab_size = decoder.config().vocab_size;
    const Batch batch{span_of(token_ids), span_of(sequence_starts), span_of(context_lengths),
                      {block_tables.data(), block_tables.shape(0), block_tables.shape(1), block_tables.shape(1)},
                      span_of(logit_rows)};
    auto logits = std::make_unique_for_overwrite<float[]>(rows * vocab_size);
    {
        const nb::gil_scoped_release release;
        decoder.forward(cache, batch, logits.get());
    }
    float* data = logits.get();
    const nb::capsule owner(logits.release(), [](void* memory) noexcept { delete[] static_cast<float*>(memory); });
    return {data, {rows, vocab_size}, owner};
}

}  // namespace

void bind_floats(nb::module_& module);

void bind_decoder(nb::module_& module) {
    bind_floats(module);
    nb::class_<TernaryMatrixArray>(module, "TernaryMatrix")
        .def(nb::init<ByteVector, const std::string&, std::size_t, std::size_t, FloatVector>(), nb::arg("data").noconvert(),
             nb::arg("packing"), nb::arg("rows"), nb::arg("depth"), nb::arg("scales").noconvert())
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

    decoder
        .def(nb::init<const nb::dict&, const nb::dict&, int, const IsaName&>(), nb::arg("config"), nb::arg("tensors"),
             nb::arg("threads") = 1, nb::arg("isa") = nb::none())
        .def_prop_ro("isa", [](DecoderObject& object) { return isa_name(object.decoder().kernels().isa); })
        .def_prop_ro("threads", [](DecoderObject& object) { return object.decoder().num_threads(); })
        .def_prop_ro("vocab_size", [](DecoderObject& object) { return object.decoder().config().vocab_size; })
        .def_prop_ro("max_context", [](DecoderObject& object) { return object.decoder().config().max_context; })
        .def_prop_ro("scratch_bytes", [](DecoderObject& object) { return object.decoder().scratch_bytes(); })
        .def("forward", &forward, nb::arg("cache"), nb::arg("token_ids").noconvert(),
             nb::arg("sequence_starts").noconvert(), nb::arg("context_lengths").noconvert(),
             nb::arg("block_tables").noconvert(), nb::arg("logit_rows").noconvert());
}

}  // namespace tercet::bindings
