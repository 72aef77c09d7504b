// Counts what a decoder allocates once its buffers have grown: nothing, for any step that is no larger than an earlier one.
// Says "ok", or which step allocated.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

#include "dispatch/random_values.hpp"
#include "tercet/decoder.hpp"

namespace {

std::atomic<long> allocations{0};

void* counted(std::size_t bytes, std::size_t alignment) {
    allocations.fetch_add(1);
#if defined(_WIN32)
    void* memory = _aligned_malloc(bytes, alignment);
#else
    void* memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
#endif
    if (memory == nullptr) std::abort();
    return memory;
}

void release(void* memory) noexcept {
#if defined(_WIN32)
    _aligned_free(memory);
#else
    std::free(memory);
#endif
}

}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes, alignof(std::max_align_t)); }
void* operator new[](std::size_t bytes) { return counted(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
    return counted(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { release(memory); }
void operator delete[](void* memory) noexcept { release(memory); }
void operator delete(void* memory, std::size_t) noexcept { release(memory); }
void operator delete[](void* memory, std::size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }

namespace tercet {
namespace {

constexpr std::size_t hidden = 64, ffn = 96, heads = 2, head_dim = 32, vocabulary = 50, max_context = 700;

// Ternary matrices of zeros and a scale each: what they multiply to does not matter here.
class Weights {
  public:
    explicit Weights(Packing packing) : packing_(packing), packed_(1 << 16, packing == Packing::two_bit ? 0x55 : 0) {}

    DecoderWeights weights(const std::vector<float>& embedding) const {
        const NormWeight norm(hidden, 1.0F);
        LayerWeights layer;
        layer.attention_norm = layer.ffn_norm = layer.attention_sub_norm = norm;
        layer.ffn_sub_norm = NormWeight(ffn, 1.0F);
        layer.q = layer.k = layer.v = layer.o = {matrix(hidden, hidden), {}, nullptr};
        layer.gate = layer.up = {matrix(ffn, hidden), {}, nullptr};
        layer.down = {matrix(hidden, ffn), {}, nullptr};
        DecoderWeights weights;
        weights.embedding = weights.output_head = FloatMatrix{embedding.data(), vocabulary, hidden};
        weights.layers = {layer, layer};
        weights.final_norm = norm;
        return weights;
    }

  private:
    TernaryMatrix matrix(std::size_t rows, std::size_t depth) const {
        return {.packing = packing_, .packed = packed_.data(), .rows = rows, .depth = depth, .scales = &scale_};
    }

    Packing packing_;
    float scale_ = 0.5F;
    std::vector<std::uint8_t> packed_;
};

bool allocates_nothing(Packing packing, KvType type, int threads, const KernelTable& kernels) {
    RandomValues random(1);
    const std::vector<float> embedding = random.reals(vocabulary * hidden);
    const Weights weights(packing);
    const RotaryConfig rotary = {std::vector<float>(head_dim / 2, 0.1F), 1.0F};
    const DecoderConfig config = {.hidden_size = hidden, .ffn_size = ffn, .num_layers = 2, .num_heads = heads,
                                  .num_kv_heads = heads, .head_dim = head_dim, .vocab_size = vocabulary,
                                  .max_context = max_context, .windows = {0, 0}, .rotary = rotary, .local_rotary = rotary,
                                  .rms_norm_epsilon = 1e-5F, .projection_norm_epsilon = 1e-5F, .embedding_scale = 1.0F,
                                  .attention_scale = 0.2F, .activation = Activation::relu2, .quantize_activations = true};
    Decoder decoder(config, weights.weights(embedding), kernels, threads);
    KvCache cache(decoder.cache_shape(1, max_context), type);

    const std::int32_t table = 0;
    std::vector<std::int32_t> tokens(600, 7);
    std::vector<float> logits(vocabulary);
    const auto step = [&](std::size_t size, std::int32_t context) {
        const auto count = static_cast<std::int32_t>(size), last = count - 1;
        const std::int32_t starts[] = {0, count};
        const Batch batch = {{tokens.data(), size}, starts, {&context, 1}, {&table, 1, 1, 1}, {&last, 1}};
        decoder.forward(cache, batch, logits.data());
    };
    step(600, 0);
    step(1, max_context - 1);  // the longest context of a single token, whose spans the threads share
    for (std::int32_t context = 500; context < 600; ++context) {
        const long before = allocations.load();
        step(context % 10 == 0 ? 20 : 1, context);
        if (const long made = allocations.load() - before; made != 0) {
            std::printf("%s: %ld allocations after %d tokens, packing %d, cache %d, %d threads\n", isa_name(kernels.isa), made,
                        context, static_cast<int>(packing), static_cast<int>(type), threads);
            return false;
        }
    }
    return true;
}

}  // namespace
}  // namespace tercet

int main() {
    using namespace tercet;
    bool good = true;
    for (const Isa isa : available_isas())
        for (const Packing packing : {Packing::two_bit, Packing::five_per_byte})
            for (const KvType type : {KvType::f32, KvType::int8})
                for (const int threads : {1, 3}) good = allocates_nothing(packing, type, threads, kernel_table(isa)) && good;
    if (good) std::printf("ok\n");
    return good ? 0 : 1;
}
