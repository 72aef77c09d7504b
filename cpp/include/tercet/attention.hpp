// Causal attention of a step's tokens over the paged cache.
//
// The positions that a token sees are cut into spans of 256, at multiples of 256 whatever the window or the blocks. Within
// a span: scores are dot products, softmax as FloatKernels states it, and the weighted sum of values runs over positions
// in their order. Then spans are merged one after the other (FloatKernels::merge_softmax; the online softmax of Milakov
// and Gimelshein 2018, split as in Flash-Decoding, Dao et al. 2023). A context of one span is plain softmax.
//
// So the order of all sums follows from positions alone: neither threads, nor the size of blocks, nor how a prompt is cut,
// nor what else is in the batch changes a bit. Threads share (token, head) pairs and, where a few tokens have long
// contexts, spans. Scratch memory does not grow with the context unless spans are shared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tercet/kv_cache.hpp"
#include "tercet/ops.hpp"

namespace tercet {

inline constexpr std::size_t span_positions = 256;

// Where a token stands: its position in its sequence, and the blocks that hold the sequence.
struct TokenPlace {
    std::size_t position;
    const std::int32_t* block_table;
};

// What threads that share the spans of a token leave for each other.
struct SharedSpans {
    std::vector<std::size_t> first;    // [tokens + 1]: where the spans of a token begin among all tokens'
    AlignedBuffer<float> outputs;      // [spans][num_heads][head_dim]
    AlignedBuffer<SoftmaxSums> sums;   // [spans][num_heads]

    std::size_t num_bytes() const noexcept {
        return outputs.size() * sizeof(float) + sums.size() * sizeof(SoftmaxSums) +
               first.capacity() * sizeof(std::size_t);
    }
};

// out[t][h] = sum over positions p of softmax(query[t][h] . key[p]) * value[p], where p runs up to places[t].position, from
// 0 or, with a window, over the latest `window` positions; query head h reads kv head h / (num_heads / num_kv_heads), and
// queries have been scaled. queries and out are [tokens][num_heads * head_dim].
void attend(Team& team, const KvCache& cache, std::size_t layer, std::span<const TokenPlace> places, std::size_t window,
            const float* queries, std::size_t num_heads, SharedSpans& shared, float* out);

}  // namespace tercet
