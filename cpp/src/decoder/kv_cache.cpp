#include "tercet/kv_cache.hpp"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>

namespace tercet {
namespace {

std::size_t checked_bytes(const KvShape& shape, KvType type) {
    std::size_t bytes = 2 * (type == KvType::f32 ? sizeof(float) : sizeof(float16));  // key and value
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

}  // namespace

KvCache::KvCache(const KvShape& shape, KvType type) : shape_(shape), type_(type), num_bytes_(checked_bytes(shape, type)) {
    // calloc takes large pieces fresh from the system, which maps zeros and spends no memory until they are written.
    constexpr std::size_t alignment = 64;  // a row must not straddle cache lines that it need not touch
    memory_.reset(static_cast<std::byte*>(std::calloc(num_bytes_ + alignment, 1)));
    if (!memory_) throw std::bad_alloc();
    void* first = memory_.get();
    std::size_t space = num_bytes_ + alignment;
    first_ = static_cast<std::byte*>(std::align(alignment, num_bytes_, first, space));
}

void KvCache::Free::operator()(std::byte* memory) const noexcept { std::free(memory); }

void KvCache::store(const FloatKernels& kernels, std::size_t layer, std::size_t block, std::size_t token,
                    const float* key, const float* value) noexcept {
    const std::size_t head_dim = shape_.head_dim;
    for (std::size_t head = 0; head < shape_.num_kv_heads; ++head) {
        const std::size_t to = offset(layer, block, head) + token * head_dim, values = shape_.num_layers * layer_size();
        if (type_ == KvType::f32) {
            float* const rows = reinterpret_cast<float*>(first_);
            std::copy_n(key + head * head_dim, head_dim, rows + to);
            std::copy_n(value + head * head_dim, head_dim, rows + values + to);
        } else {
            float16* const rows = reinterpret_cast<float16*>(first_);
            kernels.narrow_f16(key + head * head_dim, head_dim, rows + to);
            kernels.narrow_f16(value + head * head_dim, head_dim, rows + values + to);
        }
    }
}

}  // namespace tercet
