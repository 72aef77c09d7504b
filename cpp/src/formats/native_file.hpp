// A native file, opened: src/tercet/formats/tercet/layout.py has the format, and this reader refuses what that one does.
//
// Opening checks the header against the file; `verify` reads everything else: the SHA-256 of each piece, the zeros between
// pieces, and that the values mean something (no code that a packing does not have, no infinite scale).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "formats/file_mapping.hpp"
#include "formats/json.hpp"

namespace tercet {

enum class TensorType { two_bit, five_per_byte, int8_planes, int6_planes, f32, f16, bf16 };

const char* tensor_type_name(TensorType type) noexcept;
constexpr bool is_float(TensorType type) noexcept { return type >= TensorType::f32; }
constexpr bool is_planes(TensorType type) noexcept {
    return type == TensorType::int8_planes || type == TensorType::int6_planes;
}
constexpr bool is_packing(TensorType type) noexcept { return type <= TensorType::five_per_byte; }

inline constexpr std::uint64_t piece_alignment = 64;
constexpr std::uint64_t aligned(std::uint64_t size, std::uint64_t multiple = piece_alignment) noexcept {
    return (size + multiple - 1) / multiple * multiple;
}

struct Piece {
    std::uint64_t offset = 0, num_bytes = 0;
};

struct BlobEntry {
    std::string name;
    Piece piece;
    std::string sha256;
};

struct TensorEntry {
    std::string name;
    TensorType type;
    std::uint64_t rows, depth;
    Piece piece;
    std::string sha256;
    std::optional<Piece> scales;
    std::uint64_t group_size = 0;  // 0: a scale for the tensor or for each row
};

class NativeFile {
  public:
    // Throws FormatError, ChecksumError, UnsupportedError, NotFoundError, StorageError.
    explicit NativeFile(const std::string& path);

    const std::string& path() const noexcept { return mapping_.path(); }
    std::span<const std::uint8_t> bytes() const noexcept { return mapping_.bytes(); }
    std::span<const std::uint8_t> view(const Piece& piece) const noexcept {
        return bytes().subspan(piece.offset, piece.num_bytes);
    }

    JsonValue config() const noexcept { return header_->root()["config"]; }
    JsonValue generation() const noexcept { return header_->root()["generation"]; }
    JsonValue chat_template() const noexcept { return header_->root()["chat_template"]; }
    const std::vector<TensorEntry>& tensors() const noexcept { return tensors_; }
    const TensorEntry* tensor(const std::string& name) const noexcept;
    const BlobEntry* blob(const std::string& name) const noexcept;

    // Reads every byte behind the header, in up to 4 threads. Throws ChecksumError or FormatError, naming what is damaged.
    void verify() const;

  private:
    std::uint64_t read_preamble();  // the bytes of the header
    void read_header(std::uint64_t header_bytes);
    void check_places(std::uint64_t expected) const;
    void verify_tensor(const TensorEntry& entry) const;
    void verify_digest(const std::string& what, std::initializer_list<Piece> pieces, const std::string& expected) const;
    void verify_gap(const std::string& what, const Piece& piece) const;

    FileMapping mapping_;
    std::unique_ptr<Json> header_;
    std::vector<BlobEntry> blobs_;
    std::vector<TensorEntry> tensors_;
    std::unordered_map<std::string, std::size_t> tensor_index_;
};

}  // namespace tercet
