// Keys and values of all positions seen so far, in blocks that sequences own (PagedAttention, Kwon et al. 2023).
//
// One array of keys and one of values, each [block][layer][kv_head][token][head_dim] in f32, f16 or int8; int8 has a scale
// for each token and head, gamma / 127 as FloatKernels::quantize gives it, in two more arrays. A sequence's block
// table names its blocks in the order of its positions: position p lies in block table[p / block_tokens], at token
// p % block_tokens. The keys of one head in one block are consecutive rows, which is what dot_rows reads.
//
// The memory is zero and untouched until written: a generous pool costs address space, not memory. That is why a block has
// all its layers in one piece, and it lets a large pool ask for huge pages: attention reads a third faster from them, and
// few blocks do not spend a page of 2 MiB on each layer. Who owns which block
// is not known here; the engine counts (tercet/engine/kv_blocks.py), and Decoder::forward refuses tables that collide.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "tercet/float_kernels.hpp"

namespace tercet {

struct KvShape {
    std::size_t num_layers, num_kv_heads, head_dim;
    std::size_t num_blocks, block_tokens;

    // Elements of one layer's keys of one kv head in one block.
    std::size_t rows_size() const noexcept { return block_tokens * head_dim; }
    friend bool operator==(const KvShape&, const KvShape&) = default;
};

enum class KvType { f32, f16, int8 };

constexpr std::size_t kv_element_bytes(KvType type) noexcept {
    return type == KvType::f32 ? sizeof(float) : type == KvType::f16 ? sizeof(float16) : sizeof(std::int8_t);
}

class KvCache {
  public:
    // Throws std::invalid_argument when a size is zero or the whole does not fit an address, std::bad_alloc.
    KvCache(const KvShape& shape, KvType type);

    const KvShape& shape() const noexcept { return shape_; }
    KvType type() const noexcept { return type_; }
    std::size_t num_bytes() const noexcept { return num_bytes_; }

    // Writes the key and value [num_kv_heads][head_dim] of one token.
    void store(const FloatKernels& kernels, std::size_t layer, std::size_t block, std::size_t token, const float* key,
               const float* value) noexcept;

    // The rows [block_tokens][head_dim] of one head in one block.
    template <class Element>
    const Element* keys(std::size_t layer, std::size_t block, std::size_t kv_head) const noexcept {
        return reinterpret_cast<const Element*>(first_) + offset(layer, block, kv_head);
    }
    template <class Element>
    const Element* values(std::size_t layer, std::size_t block, std::size_t kv_head) const noexcept {
        return keys<Element>(layer, block, kv_head) + keys_size();
    }

    // The scales [block_tokens] of one head in one block, of an int8 cache.
    const float* key_scales(std::size_t layer, std::size_t block, std::size_t kv_head) const noexcept {
        return scales_ + offset(layer, block, kv_head) / shape_.head_dim;
    }
    const float* value_scales(std::size_t layer, std::size_t block, std::size_t kv_head) const noexcept {
        return key_scales(layer, block, kv_head) + keys_size() / shape_.head_dim;
    }

  private:
    struct Free {
        void operator()(std::byte* memory) const noexcept;
    };

    std::size_t keys_size() const noexcept {
        return shape_.num_blocks * shape_.num_layers * shape_.num_kv_heads * shape_.rows_size();
    }
    std::size_t offset(std::size_t layer, std::size_t block, std::size_t kv_head) const noexcept {
        return ((block * shape_.num_layers + layer) * shape_.num_kv_heads + kv_head) * shape_.rows_size();
    }

    KvShape shape_;
    KvType type_;
    std::size_t num_bytes_;
    std::unique_ptr<std::byte, Free> memory_;
    std::byte* first_ = nullptr;  // 64-byte aligned within memory_: keys, then values
    float* scales_ = nullptr;     // of keys, then of values, behind them
};

}  // namespace tercet
