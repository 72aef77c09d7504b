// Every byte behind the header.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "formats/checksums.hpp"
#include "formats/failures.hpp"
#include "formats/native_file.hpp"
#include "tercet/head_kernels.hpp"

namespace tercet {
namespace {

using Bytes = std::span<const std::uint8_t>;

constexpr std::size_t max_threads = 4, threads_from_bytes = 1 << 20;

template <class Word, Word exponent>
bool has_only_finite(Bytes data) noexcept {
    for (std::size_t i = 0; i + sizeof(Word) <= data.size(); i += sizeof(Word)) {
        Word word;
        std::memcpy(&word, data.data() + i, sizeof word);
        if ((word & exponent) == exponent) return false;
    }
    return true;
}

bool has_only_finite(Bytes data, TensorType type) noexcept {
    if (type == TensorType::f32) return has_only_finite<std::uint32_t, 0x7F800000>(data);
    return type == TensorType::f16 ? has_only_finite<std::uint16_t, 0x7C00>(data) : has_only_finite<std::uint16_t, 0x7F80>(data);
}

// No field is 3.
bool is_two_bit(Bytes data) noexcept {
    return std::none_of(data.begin(), data.end(), [](std::uint8_t byte) { return (byte & byte >> 1 & 0x55) != 0; });
}

// Sign and magnitude of a number up to 121, and no minus zero.
bool is_five_per_byte(Bytes data) noexcept {
    return std::none_of(data.begin(), data.end(), [](std::uint8_t byte) { return (byte & 0x7F) > 121 || byte == 0x80; });
}

// No code is the lowest of its bits, and what fills a row up is zero (tercet/head_kernels.hpp has the layout).
bool is_planes(Bytes data, TensorType type, std::size_t rows, std::size_t depth) noexcept {
    const int low_bits = type == TensorType::int8_planes ? 4 : 2;
    const std::size_t low_bytes = low_bits == 4 ? four_bit_chunk_bytes : two_bit_chunk_bytes;
    const std::size_t chunks = aligned(depth, plane_chunk_columns) / plane_chunk_columns;
    const std::uint8_t* const low_plane = data.data() + rows * chunks * four_bit_chunk_bytes;
    const auto field = [](const std::uint8_t* chunk, std::size_t column, int bits) {
        const std::size_t width = plane_chunk_columns * static_cast<std::size_t>(bits) / 8;
        return chunk[column % width] >> (static_cast<int>(column / width) * bits) & ((1 << bits) - 1);
    };
    for (std::size_t chunk = 0; chunk < rows * chunks; ++chunk) {
        for (std::size_t column = 0; column < plane_chunk_columns; ++column) {
            const int stored = field(data.data() + chunk * four_bit_chunk_bytes, column, 4) << low_bits |
                               field(low_plane + chunk * low_bytes, column, low_bits);
            const bool is_filling = chunk % chunks * plane_chunk_columns + column >= depth;
            if (stored == 0 || (is_filling && stored != 1 << (3 + low_bits))) return false;
        }
    }
    return true;
}

bool is_valid(Bytes data, const TensorEntry& entry) noexcept {
    if (entry.type == TensorType::two_bit) return is_two_bit(data);
    if (entry.type == TensorType::five_per_byte) return is_five_per_byte(data);
    return is_planes(data, entry.type, entry.rows, entry.depth);
}

}  // namespace

void NativeFile::verify_digest(const std::string& what, std::initializer_list<Piece> pieces,
                               const std::string& expected) const {
    Sha256 hash;
    for (const Piece& piece : pieces) hash.update(view(piece));
    const std::string found = hash.hex_digest();
    if (found != expected)
        throw ChecksumError(path() + ": " + what + " does not match its checksum: found " + found.substr(0, 16) +
                            "..., expected " + expected.substr(0, 16) + "... The file is damaged; get it again.");
}

void NativeFile::verify_gap(const std::string& what, const Piece& piece) const {
    const std::uint64_t end = piece.offset + piece.num_bytes;
    const Bytes gap = view({end, aligned(end) - end});
    if (std::any_of(gap.begin(), gap.end(), [](std::uint8_t byte) { return byte != 0; }))
        throw ChecksumError(path() + ": the bytes after " + what + " are not zero. The file is damaged; get it again.");
}

void NativeFile::verify_tensor(const TensorEntry& entry) const {
    const std::string what = "tensor " + entry.name;
    verify_gap(what, entry.piece);
    if (!entry.scales) {
        verify_digest(what, {entry.piece}, entry.sha256);
        if (!has_only_finite(view(entry.piece), entry.type))
            throw FormatError(path() + ": " + what + " holds values that are infinite or not a number");
        return;
    }
    verify_gap("scales of " + entry.name, *entry.scales);
    verify_digest(what, {entry.piece, *entry.scales}, entry.sha256);
    if (!is_valid(view(entry.piece), entry))
        throw FormatError(path() + ": " + what + " holds bytes that " + tensor_type_name(entry.type) + " does not have");
    if (!has_only_finite(view(*entry.scales), TensorType::f32))
        throw FormatError(path() + ": the scales of " + entry.name + " are infinite or not a number");
}

void NativeFile::verify() const {
    std::vector<std::function<void()>> checks;
    for (const BlobEntry& blob : blobs_)
        checks.emplace_back([&] {
            verify_gap("blob " + blob.name, blob.piece);
            verify_digest("blob " + blob.name, {blob.piece}, blob.sha256);
        });
    // The largest pieces first, so that no thread is left with one of them at the end.
    std::vector<const TensorEntry*> entries;
    for (const TensorEntry& entry : tensors_) entries.push_back(&entry);
    std::stable_sort(entries.begin(), entries.end(),
                     [](const auto* a, const auto* b) { return a->piece.num_bytes > b->piece.num_bytes; });
    for (const TensorEntry* entry : entries) checks.emplace_back([=, this] { verify_tensor(*entry); });

    std::atomic<std::size_t> next{0};
    std::exception_ptr failure;
    std::mutex mutex;
    const auto work = [&]() noexcept {
        for (std::size_t i = next++; i < checks.size(); i = next++) {
            try {
                checks[i]();
            } catch (...) {
                const std::lock_guard lock(mutex);
                if (!failure) failure = std::current_exception();
                next = checks.size();
            }
        }
    };
    std::vector<std::thread> threads;
    const std::size_t cores = std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, max_threads);
    try {
        for (std::size_t i = 1; i < cores && bytes().size() > threads_from_bytes; ++i) threads.emplace_back(work);
    } catch (const std::system_error&) {
        // No more threads are to be had: those that there are do the work.
    }
    work();
    for (std::thread& thread : threads) thread.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace tercet
