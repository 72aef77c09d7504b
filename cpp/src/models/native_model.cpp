#include "models/native_model.hpp"

#include <algorithm>
#include <cstring>

#include "formats/failures.hpp"
#include "tercet/kernel_table.hpp"
#include "tercet/mapped_guard.hpp"

namespace tercet {
namespace {

constexpr std::uint64_t verify_up_to_bytes = std::uint64_t{4} << 30;
constexpr int max_threads = 1024;

std::string shape_text(std::uint64_t rows, std::uint64_t depth) {
    return "[" + std::to_string(rows) + ", " + std::to_string(depth) + "]";
}

// Tensors of a file, read in place; only norms are copied.
class FileWeights final : public WeightSource {
  public:
    explicit FileWeights(const NativeFile& file) : file_(file) {}

    EmbeddingMatrix matrix(const std::string& name) override {
        const TensorEntry& entry = *file_.tensor(name);
        if (is_float(entry.type)) return floats(entry);
        if (is_planes(entry.type)) return planes(entry);
        const std::uint64_t num_scales = entry.scales->num_bytes / sizeof(float);
        if (entry.group_size % two_bit_tile_columns != 0)
            throw UnsupportedError(file_.path() + ": " + name + " has a scale for every " + std::to_string(entry.group_size) +
                                   " columns; the decoder computes groups of a multiple of 16 columns");
        const Packing packing = entry.type == TensorType::two_bit ? Packing::two_bit : Packing::five_per_byte;
        return TernaryMatrix{packing, data(entry.piece), entry.rows, entry.depth, numbers(*entry.scales),
                             num_scales == 1 ? std::size_t{0} : std::size_t{1}, entry.group_size};
    }
    EmbeddingMatrix token_table(const std::string& name) override { return matrix(name); }
    NormWeight norm(const std::string& name) override {
        const TensorEntry& entry = *file_.tensor(name);
        const float* const values = numbers(entry.piece);
        return {values, values + entry.depth};
    }

  private:
    const std::uint8_t* data(const Piece& piece) const noexcept { return file_.view(piece).data(); }
    const float* numbers(const Piece& piece) const noexcept { return reinterpret_cast<const float*>(data(piece)); }

    FloatMatrix floats(const TensorEntry& entry) const noexcept {
        FloatMatrix matrix{numbers(entry.piece), entry.rows, entry.depth};
        if (entry.type == TensorType::f16) matrix.data = reinterpret_cast<const float16*>(data(entry.piece));
        if (entry.type == TensorType::bf16) matrix.data = reinterpret_cast<const bfloat16*>(data(entry.piece));
        return matrix;
    }

    PlaneMatrix planes(const TensorEntry& entry) const noexcept {
        PlaneMatrix matrix{entry.type == TensorType::int8_planes ? 8 : 6, data(entry.piece), nullptr, entry.rows, entry.depth,
                           numbers(*entry.scales)};
        matrix.low = matrix.high + matrix.rows * matrix.chunks() * four_bit_chunk_bytes;
        matrix.measure_scales();
        return matrix;
    }

    const NativeFile& file_;
};

}  // namespace

NativeModel::NativeModel(const std::string& path, Verification verification, const std::string& isa, int threads, bool guarded)
    : file_(path), config_(read_config(file_.config(), path)) {
    if (threads < 1 || threads > max_threads)
        throw std::invalid_argument("threads should be 1 to " + std::to_string(max_threads) + ", got " + std::to_string(threads));
    check_tensors();
    if (guarded) guard_ = guard_mapped(file_.bytes().data(), file_.bytes().size());
    try {
        const bool is_small = file_.bytes().size() <= verify_up_to_bytes;
        if (verification == Verification::always || (verification == Verification::by_size && is_small)) file_.verify();
        FileWeights weights(file_);
        const KernelTable& kernels = kernel_table(choose_isa(isa).isa);
        decoder_ = std::make_unique<Decoder>(config_.decoder, assemble_weights(config_.weights, config_.basis, weights), kernels, threads);
    } catch (...) {
        release_mapped(guard_);
        throw;
    }
}

NativeModel::~NativeModel() {
    decoder_.reset();
    release_mapped(guard_);
}

bool NativeModel::is_damaged() const noexcept { return is_mapped_damaged(guard_); }

// Every tensor that the config calls for is there, in its shape and in a type that it may have, and no other.
void NativeModel::check_tensors() const {
    const std::vector<TensorShape> shapes = tensor_shapes(config_);
    for (const TensorShape& shape : shapes) {
        const TensorEntry* const entry = file_.tensor(shape.name);
        if (entry == nullptr)
            throw FormatError(file_.path() + " lacks the tensor " + shape.name +
                              ". It is incomplete, or its config is that of another model.");
        if (entry->rows != shape.rows || entry->depth != shape.depth)
            throw FormatError(file_.path() + ": tensor " + shape.name + " has the shape " + shape_text(entry->rows, entry->depth) +
                              ", expected " + shape_text(shape.rows, shape.depth));
        const bool is_table = shape.name == "embedding" || shape.name == "output_head";
        const bool is_allowed = shape.is_norm ? entry->type == TensorType::f32 : is_table || !is_planes(entry->type);
        if (!is_allowed)
            throw UnsupportedError(file_.path() + ": tensor " + shape.name + " is stored as " + tensor_type_name(entry->type) +
                                   ", expected " + (shape.is_norm ? "f32" : "a packing or floats"));
    }
    if (file_.tensors().size() != shapes.size())
        throw FormatError(file_.path() + " holds " + std::to_string(file_.tensors().size()) + " tensors, expected the " +
                          std::to_string(shapes.size()) + " of its config. Its config is that of another model.");
}

}  // namespace tercet
