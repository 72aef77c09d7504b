#include "tercet/attention.hpp"

#include <algorithm>

namespace tercet {
namespace {

// The kernels for the element type of a cache.
auto dot_rows(const FloatKernels& kernels, const float*) { return kernels.dot_rows_f32; }
auto dot_rows(const FloatKernels& kernels, const float16*) { return kernels.dot_rows_f16; }
auto add_weighted_rows(const FloatKernels& kernels, const float*) { return kernels.add_weighted_rows_f32; }
auto add_weighted_rows(const FloatKernels& kernels, const float16*) { return kernels.add_weighted_rows_f16; }

// Which positions a token sees: [begin, end). A window of 0 has no bound.
struct Context {
    Context(const TokenPlace& place, std::size_t window)
        : begin(window == 0 || place.position < window ? 0 : place.position + 1 - window), end(place.position + 1) {}
    std::size_t size() const noexcept { return end - begin; }
    std::size_t begin, end;
};

// `num_heads` query heads of one token that share a kv head: they read its keys and values together.
template <class Element>
void attend_heads(const FloatKernels& kernels, const KvCache& cache, std::size_t layer, std::size_t kv_head,
                  const TokenPlace& place, std::size_t window, const float* queries, std::size_t num_heads, float* scores,
                  std::size_t score_stride, float* out) noexcept {
    const std::size_t head_dim = cache.shape().head_dim, block_tokens = cache.shape().block_tokens;
    const Context context(place, window);
    const Element* type = nullptr;
    const auto dot = dot_rows(kernels, type);
    const auto add_weighted = add_weighted_rows(kernels, type);

    // Calls rows(block, first row in it, number of rows, how many came before) for each block of the context.
    const auto for_each_block = [&](auto rows) {
        for (std::size_t position = context.begin; position < context.end;) {
            const auto block = static_cast<std::size_t>(place.block_table[position / block_tokens]);
            const std::size_t first = position % block_tokens;
            const std::size_t count = std::min(block_tokens - first, context.end - position);
            rows(block, first * head_dim, count, position - context.begin);
            position += count;
        }
    };
    for_each_block([&](std::size_t block, std::size_t first, std::size_t count, std::size_t before) {
        dot(cache.keys<Element>(layer, block, kv_head) + first, count, head_dim, queries, head_dim, num_heads,
            scores + before, score_stride);
    });
    for (std::size_t head = 0; head < num_heads; ++head) kernels.softmax(scores + head * score_stride, context.size());

    std::fill_n(out, num_heads * head_dim, 0.0F);
    for_each_block([&](std::size_t block, std::size_t first, std::size_t count, std::size_t before) {
        add_weighted(cache.values<Element>(layer, block, kv_head) + first, count, head_dim, scores + before, score_stride,
                     num_heads, out);
    });
}

}  // namespace

void attend(Team& team, const KvCache& cache, std::size_t layer, std::span<const TokenPlace> places, std::size_t window,
            const float* queries, std::size_t num_heads, float* out) {
    const std::size_t num_kv_heads = cache.shape().num_kv_heads, head_dim = cache.shape().head_dim;
    const std::size_t group = num_heads / num_kv_heads;

    std::size_t longest = 0, positions = 0;
    for (const TokenPlace& place : places) {
        const std::size_t context = Context(place, window).size();
        longest = std::max(longest, context);
        positions += context;
    }
    const std::size_t score_stride = round_up(longest, 16);
    for (ThreadScratch& scratch : team.scratch()) grown(scratch.scores, group * score_stride);

    const auto attend_type = cache.type() == KvType::f32 ? attend_heads<float> : attend_heads<float16>;
    // (token, head) pairs in the order [kv_head][token][head in group]: a thread keeps to few kv heads, whose keys and
    // values then stay in its cache from token to token.
    const double work = cost::float_product * static_cast<double>(2 * positions * num_heads * head_dim);
    team.together(work, [&](auto share, ThreadScratch& scratch) {
        const auto [begin, end] = share(num_kv_heads * places.size() * group);
        for (std::size_t pair = begin; pair < end;) {
            const std::size_t member = pair % group, token = pair / group % places.size();
            const std::size_t kv_head = pair / group / places.size();
            const std::size_t heads = std::min(group - member, end - pair);
            const std::size_t first = (token * num_heads + kv_head * group + member) * head_dim;
            attend_type(team.kernels().floats, cache, layer, kv_head, places[token], window, queries + first, heads,
                        scratch.scores.data(), score_stride, out + first);
            pair += heads;
        }
    });
}

}  // namespace tercet
