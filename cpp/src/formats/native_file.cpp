// Preamble and header; verify.cpp has the rest.
#include "formats/native_file.hpp"

#include <algorithm>
#include <bit>
#include <string_view>

#include "formats/checksums.hpp"
#include "formats/failures.hpp"
#include "tercet/head_kernels.hpp"
#include "tercet/ternary_kernels.hpp"

namespace tercet {
namespace {

static_assert(std::endian::native == std::endian::little, "a native file is little endian and is read in place");

constexpr std::string_view magic = "TERCET\r\n";
constexpr std::uint64_t preamble_bytes = 64, max_header_bytes = 1 << 26, version = 1;
constexpr std::int64_t max_dimension = INT32_MAX;
constexpr const char* type_names[] = {"two_bit", "five_per_byte", "int8_planes", "int6_planes", "f32", "f16", "bf16"};

std::uint64_t little_endian(const std::uint8_t* bytes, int size) noexcept {
    std::uint64_t value = 0;
    for (int i = size - 1; i >= 0; --i) value = value << 8 | bytes[i];
    return value;
}

// Bytes of the elements, scales apart. Dimensions are below 2^31, so that nothing overflows.
std::uint64_t data_bytes(TensorType type, std::uint64_t rows, std::uint64_t depth) noexcept {
    switch (type) {
        case TensorType::two_bit: return aligned(rows, two_bit_tile_rows) * aligned(depth, two_bit_tile_columns) / 4;
        case TensorType::five_per_byte:
            return aligned(rows, five_per_byte_tile_rows) * (aligned(depth, five_per_byte_tile_columns) / 5);
        case TensorType::int8_planes: return rows * aligned(depth, plane_chunk_columns);
        case TensorType::int6_planes: return rows * aligned(depth, plane_chunk_columns) / 4 * 3;
        case TensorType::f32: return 4 * rows * depth;
        default: return 2 * rows * depth;
    }
}

Piece piece_of(const Fields& fields) { return {fields.integer("offset"), fields.integer("bytes")}; }

std::string sha256_of(const Fields& fields) {
    const std::string digest = fields.text("sha256");
    if (digest.size() != 64 || digest.find_first_not_of("0123456789abcdef") != digest.npos)
        fields.refuse("sha256", "64 hexadecimal digits");
    return digest;
}

void read_scales(const Fields& fields, TensorEntry& entry) {
    fields.only({"granularity", "offset", "bytes", "group_size"});
    const std::string granularity = fields.text("granularity");
    std::uint64_t count = granularity == "row" ? entry.rows : 1;
    if (granularity == "group") {
        entry.group_size = fields.integer("group_size", 1, static_cast<std::int64_t>(entry.depth));
        if (entry.depth % entry.group_size != 0)
            fields.refuse("group_size", "a divisor of the depth, " + std::to_string(entry.depth));
        count = entry.rows * (entry.depth / entry.group_size);
    } else if (granularity != "row" && granularity != "tensor") {
        fields.refuse("granularity", "tensor, row or group");
    } else if (fields.contains("group_size")) {
        fields.refuse("group_size", "nothing, since the granularity is " + granularity);
    }
    entry.scales = piece_of(fields);
    if (entry.scales->num_bytes != 4 * count) fields.refuse("bytes", std::to_string(4 * count));
    if (is_planes(entry.type) && granularity != "row") fields.refuse("granularity", "row, for planes");
    if (count == 1 || count == entry.rows) entry.group_size = 0;  // one group is a row
}

TensorEntry tensor_of(std::string name, const Fields& fields) {
    fields.only({"type", "shape", "offset", "bytes", "sha256", "scales"});
    const std::string type = fields.text("type");
    const auto* const found = std::find(std::begin(type_names), std::end(type_names), type);
    if (found == std::end(type_names))
        throw UnsupportedError("tensor " + name + " is stored as " + fields["type"].shown() + ", which this release does not read");
    TensorEntry entry{std::move(name), static_cast<TensorType>(found - type_names), 0, 0, {}, {}, {}, 0};
    std::vector<std::int64_t> shape;
    bool is_shape = true;
    fields.list("shape").for_each([&](JsonValue value) {
        is_shape = value.integer_within(1, INT64_MAX, shape.emplace_back()) && is_shape;
    });
    if (!is_shape || shape.size() != 2) fields.refuse("shape", "a list of 2 whole numbers, each at least 1");
    if (std::max(shape[0], shape[1]) > max_dimension)
        fields.refuse("shape", "dimensions of at most " + std::to_string(max_dimension));
    entry.rows = static_cast<std::uint64_t>(shape[0]);
    entry.depth = static_cast<std::uint64_t>(shape[1]);
    if (is_planes(entry.type) && entry.depth > max_plane_depth)
        fields.refuse("shape", "rows of at most " + std::to_string(max_plane_depth) + " in planes");
    entry.piece = piece_of(fields);
    const std::uint64_t expected = data_bytes(entry.type, entry.rows, entry.depth);
    if (entry.piece.num_bytes != expected) fields.refuse("bytes", std::to_string(expected) + " for this type and shape");
    if (!is_float(entry.type)) read_scales(fields.object("scales"), entry);
    else if (fields.contains("scales")) fields.refuse("scales", "nothing, since the type is " + type);
    entry.sha256 = sha256_of(fields);
    return entry;
}

}  // namespace

const char* tensor_type_name(TensorType type) noexcept { return type_names[static_cast<int>(type)]; }

NativeFile::NativeFile(const std::string& path) : mapping_(path) { read_header(read_preamble()); }

std::uint64_t NativeFile::read_preamble() {
    const std::span<const std::uint8_t> data = bytes();
    const auto malformed = [&](const std::string& problem) { return FormatError(path() + ": " + problem); };
    if (data.size() < magic.size() || !std::equal(magic.begin(), magic.end(), data.begin()))
        throw FormatError(path() + " is not a .tercet file. If it is a checkpoint of another kind, convert it first: "
                                   "tercet convert SOURCE MODEL.tercet");
    if (data.size() < preamble_bytes)
        throw FormatError(path() + " is " + std::to_string(data.size()) +
                          " bytes long, too short for a .tercet file. It is truncated.");
    if (const std::uint64_t found = little_endian(data.data() + 8, 4); found != version)
        throw UnsupportedError(path() + " is a .tercet file of version " + std::to_string(found) +
                               "; this release reads version 1. Upgrade tercet, or convert the model again.");
    if (const std::uint64_t expected = little_endian(data.data() + 24, 8); expected != data.size())
        throw FormatError(path() + " should be " + std::to_string(expected) + " bytes long and is " +
                          std::to_string(data.size()) + ". It is truncated or damaged; get it again.");
    const std::uint64_t header_bytes = little_endian(data.data() + 16, 8);
    if (header_bytes % piece_alignment != 0 || header_bytes == 0 ||
        header_bytes > std::min(max_header_bytes, data.size() - preamble_bytes))
        throw malformed("header_bytes is " + std::to_string(header_bytes) + ", expected a multiple of 64 within the file");
    if (std::any_of(data.begin() + 32, data.begin() + 64, [](std::uint8_t byte) { return byte != 0; }))
        throw malformed("bytes 32 to 63 are not zero");
    return header_bytes;
}

void NativeFile::read_header(std::uint64_t header_bytes) {
    const auto data = view({preamble_bytes, header_bytes});
    if (crc32(data) != little_endian(bytes().data() + 12, 4))
        throw ChecksumError(path() + ": the header does not match its checksum. The file is damaged; get it again.");
    header_ = std::make_unique<Json>(std::string(data.begin(), data.end()), path() + ": the header");
    const Fields fields(header_->root(), path(), "header");
    fields.only({"config", "generation", "chat_template", "metadata", "blobs", "tensors"});
    for (const char* key : {"config", "generation", "metadata"}) fields.object(key);
    if (fields.contains("chat_template")) fields.text("chat_template");
    const Fields blobs = fields.object("blobs"), tensors = fields.object("tensors");
    blobs.value().for_each_entry([&](std::string_view name, JsonValue value) {
        const Fields entry(value, path(), "header.blobs." + std::string(name));
        entry.only({"offset", "bytes", "sha256"});
        blobs_.push_back({std::string(name), piece_of(entry), sha256_of(entry)});
    });
    tensors.value().for_each_entry([&](std::string_view name, JsonValue value) {
        tensor_index_.emplace(name, tensors_.size());
        tensors_.push_back(tensor_of(std::string(name), {value, path(), "header.tensors." + std::string(name)}));
    });
    check_places(preamble_bytes + header_bytes);
}

// The pieces follow each other without overlap or gap, and end where the file ends.
void NativeFile::check_places(std::uint64_t expected) const {
    const std::uint64_t file_bytes = bytes().size();
    const auto check = [&](const std::string& what, const Piece& piece) {
        if (piece.offset != expected || piece.num_bytes > file_bytes - expected)
            throw FormatError(path() + ": " + what + " is at " + std::to_string(piece.offset) + " with " +
                              std::to_string(piece.num_bytes) + " bytes, expected at " + std::to_string(expected) +
                              ", where the piece before ends, and within the file");
        expected = aligned(piece.offset + piece.num_bytes);
        if (expected > file_bytes) throw FormatError(path() + ": " + what + " reaches past the end of the file");
    };
    for (const BlobEntry& blob : blobs_) check("blob " + blob.name, blob.piece);
    for (const TensorEntry& tensor : tensors_) {
        check("tensor " + tensor.name, tensor.piece);
        if (tensor.scales) check("scales of " + tensor.name, *tensor.scales);
    }
    if (expected != file_bytes)
        throw FormatError(path() + ": the last piece ends at " + std::to_string(expected) +
                          ", expected at the end of the file, " + std::to_string(file_bytes));
}

const TensorEntry* NativeFile::tensor(const std::string& name) const noexcept {
    const auto found = tensor_index_.find(name);
    return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

const BlobEntry* NativeFile::blob(const std::string& name) const noexcept {
    const auto found = std::find_if(blobs_.begin(), blobs_.end(), [&](const BlobEntry& blob) { return blob.name == name; });
    return found == blobs_.end() ? nullptr : &*found;
}

}  // namespace tercet
