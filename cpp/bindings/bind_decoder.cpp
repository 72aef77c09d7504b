// Decoder, its weights and its cache. The decoder keeps its matrices alive, and they their buffers; nothing is copied
// except the weights of norms.
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <tuple>
#include <vector>

#include "decoder_arguments.hpp"
#include "matrix_arrays.hpp"

namespace tercet::bindings {
namespace {

using Integers = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using IntegerTable = nb::ndarray<const std::int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

std::span<const std::int32_t> span_of(const Integers& array) { return {array.data(), array.size()}; }

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

// An adapter and the Python objects that own its matrices.
class AdapterObject {
  public:
    // (layer, matrix, reduce, expand, scale)
    using Pairs = nb::typed<nb::list, nb::typed<nb::tuple, int, int, FloatMatrixArray, FloatMatrixArray, float>>;

    AdapterObject(DecoderObject& decoder, const Pairs& pairs) : adapter_(decoder.decoder().config()) {
        for (const nb::handle entry : pairs) {
            const auto [layer, matrix, reduce, expand, scale] =
                nb::cast<std::tuple<std::size_t, std::size_t, nb::object, nb::object, float>>(entry);
            adapter_.add(layer, matrix, {matrix_of(reduce), matrix_of(expand), scale});
            owners_.push_back(reduce);
            owners_.push_back(expand);
        }
    }

    const Adapter& adapter() const noexcept { return adapter_; }

  private:
    static const FloatMatrix& matrix_of(const nb::object& object) { return nb::cast<FloatMatrixArray&>(object).matrix(); }

    Adapter adapter_;
    std::vector<nb::object> owners_;
};

// The adapters of a batch: (sequence, adapter, weight), which the caller's list keeps alive.
using AdapterList = nb::typed<nb::list, nb::typed<nb::tuple, int, AdapterObject, float>>;

std::vector<AdapterUse> adapter_uses(const AdapterList& adapters) {
    std::vector<AdapterUse> uses;
    for (const nb::handle entry : adapters) {
        const auto [sequence, adapter, weight] = nb::cast<std::tuple<std::size_t, nb::object, float>>(entry);
        uses.push_back({sequence, &nb::cast<const AdapterObject&>(adapter).adapter(), weight});
    }
    return uses;
}

constexpr std::string_view kv_type_names[] = {"f32", "f16", "int8"};  // in the order of KvType

void make_cache(KvCache* self, DecoderObject& decoder, std::size_t num_blocks, std::size_t block_tokens,
                const std::string& dtype) {
    const auto* const found = std::find(std::begin(kv_type_names), std::end(kv_type_names), dtype);
    if (found == std::end(kv_type_names)) reject("KvCache", "dtype", "'f32', 'f16' or 'int8'", "'" + dtype + "'");
    new (self) KvCache(decoder.decoder().cache_shape(num_blocks, block_tokens),
                       static_cast<KvType>(found - std::begin(kv_type_names)));
}

nb::dict profile(DecoderObject& object) {
    const Profile& profile = object.decoder().profile();
    nb::dict seconds;
    for (std::size_t i = 0; i < num_operations; ++i) seconds[operation_names[i]] = profile.seconds(i);
    return seconds;
}

using Uses = nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// What a step gives for each wanted row: logits, or hidden states.
template <class Step>
nb::ndarray<nb::numpy, float> run(std::size_t columns, const Integers& token_ids, const Integers& sequence_starts,
                                  const Integers& context_lengths, const IntegerTable& block_tables,
                                  const Integers& logit_rows, const AdapterList& adapters, Step step) {
    const std::size_t rows = logit_rows.size();
    const std::vector<AdapterUse> uses = adapter_uses(adapters);
    const Batch batch{span_of(token_ids), span_of(sequence_starts), span_of(context_lengths),
                      {block_tables.data(), block_tables.shape(0), block_tables.shape(1), block_tables.shape(1)},
                      span_of(logit_rows),
                      uses};
    auto out = std::make_unique_for_overwrite<float[]>(rows * columns);
    {
        const nb::gil_scoped_release release;
        step(batch, out.get());
    }
    float* data = out.get();
    const nb::capsule owner(out.release(), [](void* memory) noexcept { delete[] static_cast<float*>(memory); });
    return {data, {rows, columns}, owner};
}

// logit_uses: a LogitUse for each of logit_rows, or none at all.
nb::ndarray<nb::numpy, float> forward(DecoderObject& object, KvCache& cache, const Integers& token_ids,
                                      const Integers& sequence_starts, const Integers& context_lengths,
                                      const IntegerTable& block_tables, const Integers& logit_rows, const Uses& logit_uses,
                                      const AdapterList& adapters) {
    if (logit_uses.size() != 0 && logit_uses.size() != logit_rows.size())
        reject("Decoder.forward", "logit_uses", "0 or " + std::to_string(logit_rows.size()) + " numbers",
               std::to_string(logit_uses.size()));
    const std::vector<LogitUse> uses = logit_uses_of("Decoder.forward", {logit_uses.data(), logit_uses.size()});
    Decoder& decoder = object.decoder();
    return run(decoder.config().vocab_size, token_ids, sequence_starts, context_lengths, block_tables, logit_rows, adapters,
               [&](const Batch& batch, float* out) {
                   decoder.forward(cache, batch, out, uses);
               });
}

nb::ndarray<nb::numpy, float> hidden_states(DecoderObject& object, KvCache& cache, const Integers& token_ids,
                                            const Integers& sequence_starts, const Integers& context_lengths,
                                            const IntegerTable& block_tables, const Integers& logit_rows,
                                            const AdapterList& adapters) {
    Decoder& decoder = object.decoder();
    return run(decoder.config().hidden_size, token_ids, sequence_starts, context_lengths, block_tables, logit_rows, adapters,
               [&](const Batch& batch, float* out) { decoder.hidden_states(cache, batch, out); });
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

    nb::class_<PlaneMatrixArray>(module, "PlaneMatrix")
        .def(nb::init<ByteVector, const std::string&, std::size_t, std::size_t, FloatVector>(), nb::arg("data").noconvert(),
             nb::arg("type"), nb::arg("rows"), nb::arg("depth"), nb::arg("scales").noconvert())
        .def_prop_ro("type", &PlaneMatrixArray::type)
        .def_prop_ro("rows", [](const PlaneMatrixArray& array) { return array.matrix().rows; })
        .def_prop_ro("depth", [](const PlaneMatrixArray& array) { return array.matrix().depth; })
        .def_prop_ro("nbytes", &PlaneMatrixArray::num_bytes);

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
        .def_prop_ro("dtype", [](const KvCache& cache) { return std::string(kv_type_names[static_cast<int>(cache.type())]); })
        .def_prop_ro("nbytes", &KvCache::num_bytes);

    nb::class_<AdapterObject>(module, "Adapter")
        .def(nb::init<DecoderObject&, const AdapterObject::Pairs&>(), nb::arg("decoder"), nb::arg("pairs"));

    const auto bind_step = [&](const char* name, auto step, auto... more) {
        decoder.def(name, step, nb::arg("cache"), nb::arg("token_ids").noconvert(), nb::arg("sequence_starts").noconvert(),
                    nb::arg("context_lengths").noconvert(), nb::arg("block_tables").noconvert(),
                    nb::arg("logit_rows").noconvert(), more..., nb::arg("adapters") = nb::list());
    };
    bind_step("forward", &forward, nb::arg("logit_uses").noconvert());
    bind_step("hidden_states", &hidden_states);
    decoder
        .def(nb::init<const nb::dict&, const nb::dict&, int, const IsaName&>(), nb::arg("config"), nb::arg("tensors"),
             nb::arg("threads") = 1, nb::arg("isa") = nb::none())
        .def_prop_ro("isa", [](DecoderObject& object) { return isa_name(object.decoder().kernels().isa); })
        .def_prop_ro("threads", [](DecoderObject& object) { return object.decoder().num_threads(); })
        .def_prop_ro("vocab_size", [](DecoderObject& object) { return object.decoder().config().vocab_size; })
        .def_prop_ro("hidden_size", [](DecoderObject& object) { return object.decoder().config().hidden_size; })
        .def_prop_ro("max_context", [](DecoderObject& object) { return object.decoder().config().max_context; })
        .def("profile", &profile, nb::sig("def profile(self) -> dict[str, float]"))
        .def_prop_ro("steps", [](DecoderObject& object) { return object.decoder().profile().steps(); })
        .def_prop_ro("scratch_bytes", [](DecoderObject& object) { return object.decoder().scratch_bytes(); });
}

}  // namespace tercet::bindings
