#include "tercet/attention.hpp"

#include <algorithm>
#include <type_traits>

namespace tercet {
namespace {

// The kernels for the element type of a cache.
auto dot_rows(const FloatKernels& kernels, const float*) { return kernels.dot_rows_f32; }
auto dot_rows(const FloatKernels& kernels, const float16*) { return kernels.dot_rows_f16; }
auto dot_rows(const FloatKernels& kernels, const std::int8_t*) { return kernels.dot_rows_i8; }
auto add_weighted_rows(const FloatKernels& kernels, const float*) { return kernels.add_weighted_rows_f32; }
auto add_weighted_rows(const FloatKernels& kernels, const float16*) { return kernels.add_weighted_rows_f16; }
auto add_weighted_rows(const FloatKernels& kernels, const std::int8_t*) { return kernels.add_weighted_rows_i8; }

// Which positions a token sees: [begin, end). A window of 0 has no bound.
struct Context {
    Context(const TokenPlace& place, std::size_t window)
        : begin(window == 0 || place.position < window ? 0 : place.position + 1 - window), end(place.position + 1) {}
    std::size_t size() const noexcept { return end - begin; }
    std::size_t num_spans() const noexcept { return (end - 1) / span_positions - begin / span_positions + 1; }
    Context span(std::size_t index) const noexcept {
        const std::size_t start = (begin / span_positions + index) * span_positions;
        return {std::max(begin, start), std::min(end, start + span_positions)};
    }
    std::size_t begin, end;

  private:
    Context(std::size_t first, std::size_t last) : begin(first), end(last) {}
};

// Asks for cache lines that are read soon: blocks lie apart, and the hardware follows no further than a page.
void fetch(const void* memory, std::size_t bytes) noexcept {
    for (std::size_t at = 0; at < bytes; at += 64) __builtin_prefetch(static_cast<const std::byte*>(memory) + at, 0, 2);
}

// `num_heads` query heads of one token that share a kv head: they read its keys and values together.
struct HeadGroup {
    std::size_t kv_head, num_heads;
    const TokenPlace& place;
    const float* queries;  // [num_heads][head_dim]
    bool first_reader;     // of its sequence's cache in this step
};

// Whose keys this thread reads after those at hand, from which position on.
struct Ahead {
    const HeadGroup* group = nullptr;  // nobody's, or in the cache already
    std::size_t begin = 0;
};

// What one thread needs for a span of a group.
struct SpanScratch {
    SpanScratch(ThreadScratch& scratch, std::size_t group, std::size_t head_dim)
        : scores(grown(scratch.scores, size(group, head_dim))), output(scores + group * span_positions) {}
    static std::size_t size(std::size_t group, std::size_t head_dim) { return group * (span_positions + head_dim); }

    float* scores;  // [group][span_positions]
    float* output;  // [group][head_dim]
};

class Attention {
  public:
    Attention(const FloatKernels& kernels, const KvCache& cache, std::size_t layer)
        : kernels_(kernels), cache_(cache), layer_(layer), head_dim_(cache.shape().head_dim) {}

    // The group over one span: out [num_heads][head_dim] and the sums of each head.
    void attend_span(const HeadGroup& group, const Context& span, const Ahead& ahead, float* scores, SoftmaxSums* sums,
                     float* out) const noexcept {
        switch (cache_.type()) {
            case KvType::f32: return attend_rows<float>(group, span, ahead, scores, sums, out);
            case KvType::f16: return attend_rows<float16>(group, span, ahead, scores, sums, out);
            case KvType::int8: return attend_rows<std::int8_t>(group, span, ahead, scores, sums, out);
        }
    }

    // The group over its whole context, span by span.
    void attend_context(const HeadGroup& group, const Context& context, const Ahead& ahead, const SpanScratch& scratch,
                        float* out) const noexcept {
        constexpr std::size_t heads_at_once = 8;
        for (std::size_t head = 0; head < group.num_heads; head += heads_at_once) {
            HeadGroup some = group;
            some.queries += head * head_dim_;
            some.num_heads = std::min(heads_at_once, group.num_heads - head);
            float* to = out + head * head_dim_;
            SoftmaxSums sums[heads_at_once], of_span[heads_at_once];
            const auto after = [&](std::size_t span) -> Ahead {
                if (span + 1 == context.num_spans()) return ahead;
                return {some.first_reader ? &some : nullptr, context.span(span + 1).begin};
            };
            attend_span(some, context.span(0), after(0), scratch.scores, sums, to);
            for (std::size_t span = 1; span < context.num_spans(); ++span) {
                attend_span(some, context.span(span), after(span), scratch.scores, of_span, scratch.output);
                for (std::size_t h = 0; h < some.num_heads; ++h)
                    kernels_.merge_softmax(&sums[h], to + h * head_dim_, of_span[h], scratch.output + h * head_dim_, head_dim_);
            }
        }
    }

  private:
    // Memory is read while something is computed: the values under the dot products with the keys, the keys of what comes
    // next under the sums of the values.
    template <class Element>
    void attend_rows(const HeadGroup& group, const Context& span, const Ahead& ahead, float* scores, SoftmaxSums* sums,
                     float* out) const noexcept {
        constexpr bool scaled = std::is_same_v<Element, std::int8_t>;
        const Element* type = nullptr;
        const auto dot = dot_rows(kernels_, type);
        const auto add_weighted = add_weighted_rows(kernels_, type);
        const auto scale = [&](const float* scales, std::size_t before, std::size_t count) {
            for (std::size_t h = 0; h < group.num_heads; ++h)
                for (std::size_t r = 0; r < count; ++r) scores[h * span_positions + before + r] *= scales[r];
        };
        for_each_block(group, span, [&](std::size_t block, std::size_t first, std::size_t count, std::size_t before) {
            const Element* const keys = cache_.keys<Element>(layer_, block, group.kv_head);
            const Element* const values = cache_.values<Element>(layer_, block, group.kv_head);
            if constexpr (scaled) {
                if (group.first_reader)
                    fetch(cache_.value_scales(layer_, block, group.kv_head) + first, count * sizeof(float));
            }
            const std::size_t at = first * head_dim_;
            dot(keys + at, count, head_dim_, group.queries, head_dim_, group.num_heads, scores + before, span_positions,
                group.first_reader ? values + at : nullptr);
            if constexpr (scaled) scale(cache_.key_scales(layer_, block, group.kv_head) + first, before, count);
        });
        for (std::size_t h = 0; h < group.num_heads; ++h) sums[h] = kernels_.softmax(scores + h * span_positions, span.size());

        std::fill_n(out, group.num_heads * head_dim_, 0.0F);
        for_each_block(group, span, [&](std::size_t block, std::size_t first, std::size_t count, std::size_t before) {
            const Element* const values = cache_.values<Element>(layer_, block, group.kv_head);
            if constexpr (scaled) scale(cache_.value_scales(layer_, block, group.kv_head) + first, before, count);
            const Element* const soon = ahead.group ? keys_ahead<Element>(*ahead.group, ahead.begin + before) : nullptr;
            add_weighted(values + first * head_dim_, count, head_dim_, scores + before, span_positions, group.num_heads, out,
                         soon);
        });
    }

    // The keys from a position on, whose scales are asked for at once; nothing if the context ends before.
    template <class Element>
    const Element* keys_ahead(const HeadGroup& group, std::size_t position) const noexcept {
        if (position > group.place.position) return nullptr;
        const std::size_t block_tokens = cache_.shape().block_tokens, first = position % block_tokens;
        const auto block = static_cast<std::size_t>(group.place.block_table[position / block_tokens]);
        if constexpr (std::is_same_v<Element, std::int8_t>)
            fetch(cache_.key_scales(layer_, block, group.kv_head) + first, (block_tokens - first) * sizeof(float));
        return cache_.keys<Element>(layer_, block, group.kv_head) + first * head_dim_;
    }

    // Calls rows(block, first row in it, number of rows, how many came before) for each block.
    template <class Rows>
    void for_each_block(const HeadGroup& group, const Context& span, Rows rows) const noexcept {
        const std::size_t block_tokens = cache_.shape().block_tokens;
        for (std::size_t position = span.begin; position < span.end;) {
            const std::size_t first = position % block_tokens, count = std::min(block_tokens - first, span.end - position);
            const auto block = static_cast<std::size_t>(group.place.block_table[position / block_tokens]);
            rows(block, first, count, position - span.begin);
            position += count;
        }
    }

    const FloatKernels& kernels_;
    const KvCache& cache_;
    std::size_t layer_, head_dim_;
};

}  // namespace

void attend(Team& team, const KvCache& cache, std::size_t layer, std::span<const TokenPlace> places, std::size_t window,
            const float* queries, std::size_t num_heads, SharedSpans& shared, float* out) {
    const std::size_t num_kv_heads = cache.shape().num_kv_heads, head_dim = cache.shape().head_dim;
    const std::size_t group = num_heads / num_kv_heads, tokens = places.size();
    const Attention attention(team.kernels().floats, cache, layer);
    const auto heads_of = [&](std::size_t kv_head, std::size_t token, std::size_t member, std::size_t count) -> HeadGroup {
        return {kv_head, count, places[token], queries + (token * num_heads + kv_head * group + member) * head_dim,
                token == 0 || places[token].block_table != places[token - 1].block_table};
    };

    shared.first.assign(1, 0);
    std::size_t positions = 0;
    for (const TokenPlace& place : places) {
        const Context context(place, window);
        positions += context.size();
        shared.first.push_back(shared.first.back() + context.num_spans());
    }
    const std::size_t spans = shared.first.back();
    for (ThreadScratch& scratch : team.scratch()) grown(scratch.scores, SpanScratch::size(group, head_dim));
    const double work = cost::float_product * static_cast<double>(2 * positions * num_heads * head_dim);

    const auto threads = static_cast<std::size_t>(team.num_threads());
    const bool share_spans = spans > tokens && num_kv_heads * tokens < 8 * threads;
    if (!share_spans) {
        // (token, head) pairs in the order [kv_head][token][head in group]: a thread keeps to few kv heads, whose keys and
        // values then stay in its cache from token to token.
        team.together(work, [&](auto share, ThreadScratch& scratch) {
            const auto [begin, end] = share(num_kv_heads * tokens * group);
            for (std::size_t pair = begin; pair < end;) {
                const std::size_t member = pair % group, token = pair / group % tokens, kv_head = pair / group / tokens;
                const HeadGroup heads = heads_of(kv_head, token, member, std::min(group - member, end - pair));
                pair += heads.num_heads;
                const std::size_t next_token = (token + 1) % tokens;
                const HeadGroup next = heads_of((kv_head + (token + 1) / tokens) % num_kv_heads, next_token, 0, group);
                const Ahead ahead{pair < end && next.first_reader ? &next : nullptr, Context(places[next_token], window).begin};
                attention.attend_context(heads, Context(places[token], window), ahead, {scratch, group, head_dim},
                                         out + (heads.queries - queries));
            }
        });
        return;
    }

    grown(shared.outputs, spans * num_heads * head_dim);
    grown(shared.sums, spans * num_heads);
    const std::size_t items = spans * num_kv_heads;
    const auto token_of = [&](std::size_t span) {
        const auto after = std::upper_bound(shared.first.begin(), shared.first.end(), span);
        return static_cast<std::size_t>(after - shared.first.begin()) - 1;
    };
    const auto span_of = [&](std::size_t span, std::size_t token) {
        return Context(places[token], window).span(span - shared.first[token]);
    };
    team.together(work, [&](auto share, ThreadScratch& scratch) {
        for (auto [item, end] = share(items); item < end; ++item) {
            const std::size_t kv_head = item % num_kv_heads, span = item / num_kv_heads, token = token_of(span);
            const std::size_t following = (item + 1) % items, next_span = following / num_kv_heads;
            const HeadGroup next = heads_of(following % num_kv_heads, token_of(next_span), 0, group);
            const Ahead ahead{next.first_reader ? &next : nullptr, span_of(next_span, token_of(next_span)).begin};
            const std::size_t at = span * num_heads + kv_head * group;
            attention.attend_span(heads_of(kv_head, token, 0, group), span_of(span, token), ahead,
                                  SpanScratch(scratch, group, head_dim).scores, shared.sums.data() + at,
                                  shared.outputs.data() + at * head_dim);
        }
    });
    team.for_each(tokens * num_heads, cost::value * static_cast<double>(spans * head_dim) / static_cast<double>(tokens),
                  [&](std::size_t pair) {
        const std::size_t token = pair / num_heads, head = pair % num_heads, first = shared.first[token] * num_heads + head;
        float* to = out + pair * head_dim;
        std::copy_n(shared.outputs.data() + first * head_dim, head_dim, to);
        SoftmaxSums sums = shared.sums[first];
        for (std::size_t span = shared.first[token] + 1; span < shared.first[token + 1]; ++span) {
            const std::size_t at = span * num_heads + head;
            team.kernels().floats.merge_softmax(&sums, to, shared.sums[at], shared.outputs.data() + at * head_dim, head_dim);
        }
    });
}

}  // namespace tercet
