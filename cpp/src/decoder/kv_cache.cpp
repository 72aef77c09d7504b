#include "tercet/kv_cache.hpp"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>

#include "tercet/aligned_buffer.hpp"

namespace tercet {
namespace {

std::size_t checked_bytes(const KvShape& shape, KvType type) {
    std::size_t bytes = 2 * kv_element_bytes(type);  // key and value
    const std::size_t sizes[] = {shape.num_layers, shape.num_kv_heads, shape.head_dim, shape.num_blocks, shape.block_tokens};
    for (const std::size_t size : sizes) {
        if (size == 0 || bytes > static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) / size)
            throw std::invalid_argument("KvCache: " + std::to_string(shape.num_blocks) + " blocks of " +
                                        std::to_string(shape.block_tokens) +
                                        " tokens should be at least one each and fit into memory");
        bytes *= size;
    }
    return bytes;
}

// The scales of keys and values: fewer bytes than the codes unless heads are tiny, so they fit an address, too.
std::size_t scale_bytes(const KvShape& shape, KvType type) noexcept {
    if (type != KvType::int8) return 0;
    return 2 * sizeof(float) * shape.num_layers * shape.num_kv_heads * shape.num_blocks * shape.block_tokens;
}

}  // namespace

KvCache::KvCache(const KvShape& shape, KvType type) : shape_(shape), type_(type), num_bytes_(checked_bytes(shape, type)) {
    const std::size_t rows_bytes = (num_bytes_ + sizeof(float) - 1) / sizeof(float) * sizeof(float);
    num_bytes_ = rows_bytes + scale_bytes(shape, type);
    // calloc takes large pieces fresh from the system, which maps zeros and spends no memory until they are written.
    const bool huge = num_bytes_ >= 2 * huge_page_bytes;
    const std::size_t alignment = huge ? huge_page_bytes : 64;  // a row must not straddle cache lines that it need not touch
    memory_.reset(static_cast<std::byte*>(std::calloc(num_bytes_ + alignment, 1)));
    if (!memory_) throw std::bad_alloc();
    void* first = memory_.get();
    std::size_t space = num_bytes_ + alignment;
    first_ = static_cast<std::byte*>(std::align(alignment, num_bytes_, first, space));
    if (huge) prefer_huge_pages(first_, num_bytes_);
    scales_ = reinterpret_cast<float*>(first_ + rows_bytes);
}

void KvCache::Free::operator()(std::byte* memory) const noexcept { std::free(memory); }

void KvCache::store(const FloatKernels& kernels, std::size_t layer, std::size_t block, std::size_t token,
                    const float* key, const float* value) noexcept {
    const std::size_t head_dim = shape_.head_dim;
    for (std::size_t head = 0; head < shape_.num_kv_heads; ++head) {
        const std::size_t to = offset(layer, block, head) + token * head_dim, values = keys_size();
        if (type_ == KvType::f32) {
            float* const rows = reinterpret_cast<float*>(first_);
            std::copy_n(key + head * head_dim, head_dim, rows + to);
            std::copy_n(value + head * head_dim, head_dim, rows + values + to);
        } else if (type_ == KvType::int8) {
            auto* const rows = reinterpret_cast<std::int8_t*>(first_);
            std::int32_t sum = 0;  // of the codes, which nobody needs here
            scales_[to / head_dim] = kernels.quantize(key + head * head_dim, head_dim, head_dim, rows + to, &sum);
            scales_[(values + to) / head_dim] =
                kernels.quantize(value + head * head_dim, head_dim, head_dim, rows + values + to, &sum);
        } else {
            float16* const rows = reinterpret_cast<float16*>(first_);
            kernels.narrow_f16(key + head * head_dim, head_dim, rows + to);
            kernels.narrow_f16(value + head * head_dim, head_dim, rows + values + to);
        }
    }
}

}  // namespace tercet
