// Causal attention of a step's tokens over the paged cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tercet/kv_cache.hpp"
#include "tercet/ops.hpp"

namespace tercet {

// Where a token stands: its position in its sequence, and the blocks that hold the sequence.
struct TokenPlace {
    std::size_t position;
    const std::int32_t* block_table;
};

// out[t][h] = sum over positions p of softmax(query[t][h] . key[p]) * value[p], where p runs up to places[t].position, from
// 0 or, with a window, over the latest `window` positions; query head h reads kv head h / (num_heads / num_kv_heads), and
// queries have been scaled. queries and out are [tokens][num_heads * head_dim]. Scores are dot products; the weighted sum
// runs over p in order, so neither block size nor chunking of a prompt changes a bit.
void attend(Team& team, const KvCache& cache, std::size_t layer, std::span<const TokenPlace> places, std::size_t window,
            const float* queries, std::size_t num_heads, float* out);

}  // namespace tercet
