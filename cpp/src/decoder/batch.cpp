// Everything that could be wrong with a batch, checked before the first byte is written.
#include <cmath>

#include "decoder/rejection.hpp"
#include "tercet/decoder.hpp"

namespace tercet {
namespace {

std::string element(const char* operand, std::size_t index) {
    return std::string(operand) + "[" + std::to_string(index) + "]";
}

// Each value in [0, limit).
void check_range(const char* operation, const char* operand, std::span<const std::int32_t> values, std::size_t limit) {
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (values[i] < 0 || static_cast<std::size_t>(values[i]) >= limit)
            reject(operation, element(operand, i), "0 to " + std::to_string(limit - 1), std::to_string(values[i]));
    }
}

void check_starts(const char* operation, const Batch& batch) {
    const auto starts = batch.sequence_starts;
    const std::size_t tokens = batch.token_ids.size();
    if (starts.size() < 2) reject(operation, "sequence_starts", "at least two numbers", std::to_string(starts.size()));
    if (starts.front() != 0) reject(operation, "sequence_starts[0]", "0", std::to_string(starts.front()));
    for (std::size_t s = 1; s < starts.size(); ++s) {
        if (starts[s] <= starts[s - 1])
            reject(operation, element("sequence_starts", s), "above " + std::to_string(starts[s - 1]),
                   std::to_string(starts[s]));
    }
    if (static_cast<std::size_t>(starts.back()) != tokens)
        reject(operation, element("sequence_starts", starts.size() - 1), "the number of tokens, " + std::to_string(tokens),
               std::to_string(starts.back()));
}

// Positions [begin, end) that the batch writes for one sequence; [0, end) is what it uses.
struct Extent {
    std::size_t begin, end;
};

Extent extent(const Batch& batch, std::size_t sequence) {
    const auto begin = static_cast<std::size_t>(batch.context_lengths[sequence]);
    return {begin, begin + static_cast<std::size_t>(batch.sequence_starts[sequence + 1] - batch.sequence_starts[sequence])};
}

void check_tables(const char* operation, const DecoderConfig& config, const KvShape& cache, const Batch& batch,
                  std::vector<std::int32_t>& writer) {
    constexpr std::int32_t nobody = -1;
    writer.assign(cache.num_blocks, nobody);
    const std::size_t sequences = batch.context_lengths.size();
    const auto for_each_block = [&](std::size_t s, auto visit) {  // visit(block, column, is it written)
        const Extent positions = extent(batch, s);
        for (std::size_t column = 0; column * cache.block_tokens < positions.end; ++column) {
            visit(static_cast<std::size_t>(batch.block_tables(s, column)), column,
                  (column + 1) * cache.block_tokens > positions.begin);
        }
    };
    const auto name = [](std::size_t s, std::size_t column) {
        return "block_tables[" + std::to_string(s) + ", " + std::to_string(column) + "]";
    };
    for (std::size_t s = 0; s < sequences; ++s) {
        if (batch.context_lengths[s] < 0)
            reject(operation, element("context_lengths", s), "at least 0", std::to_string(batch.context_lengths[s]));
        const Extent positions = extent(batch, s);
        if (positions.end > config.max_context)
            reject(operation, "sequence " + std::to_string(s),
                   "at most " + std::to_string(config.max_context) + " tokens long, the model's context",
                   std::to_string(positions.end));
        const std::size_t needed = (positions.end + cache.block_tokens - 1) / cache.block_tokens;
        if (needed > batch.block_tables.columns)
            reject(operation, "block_tables",
                   "at least " + std::to_string(needed) + " blocks wide for sequence " + std::to_string(s),
                   std::to_string(batch.block_tables.columns));
        for (std::size_t column = 0; column < needed; ++column) {
            const std::int32_t block = batch.block_tables(s, column);
            if (block < 0 || static_cast<std::size_t>(block) >= cache.num_blocks)
                reject(operation, name(s, column), "0 to " + std::to_string(cache.num_blocks - 1), std::to_string(block));
        }
        for_each_block(s, [&](std::size_t block, std::size_t column, bool written) {
            if (!written) return;
            if (writer[block] != nobody)
                reject(operation, name(s, column), "a block that nothing else in the batch writes",
                       "block " + std::to_string(block) + ", which sequence " + std::to_string(writer[block]) + " writes");
            writer[block] = static_cast<std::int32_t>(s);
        });
    }
    for (std::size_t s = 0; s < sequences; ++s) {
        for_each_block(s, [&](std::size_t block, std::size_t column, bool written) {
            if (!written && writer[block] != nobody)
                reject(operation, name(s, column), "a block that nobody writes in this batch",
                       "block " + std::to_string(block) + ", which sequence " + std::to_string(writer[block]) + " writes");
        });
    }
}

void check_adapters(const char* operation, const DecoderConfig& config, const Batch& batch) {
    const auto uses = batch.adapters;
    for (std::size_t i = 0; i < uses.size(); ++i) {
        const std::string name = element("adapters", i);
        const std::size_t sequences = batch.context_lengths.size();
        if (uses[i].sequence >= sequences)
            reject(operation, name, "of a sequence below " + std::to_string(sequences), std::to_string(uses[i].sequence));
        if (!uses[i].adapter->fits(config)) reject(operation, name, "made for this decoder", "one of another shape");
        if (!std::isfinite(uses[i].weight)) reject(operation, name, "of finite weight", std::to_string(uses[i].weight));
        for (const AdapterUse& other : uses.first(i)) {
            if (other.sequence == uses[i].sequence && other.adapter == uses[i].adapter)
                reject(operation, name, "another adapter than the sequence has already", "the same");
        }
    }
}

}  // namespace

void check_batch(const char* operation, const DecoderConfig& config, const KvShape& cache, const Batch& batch,
                 std::vector<std::int32_t>& writers) {
    if (cache.num_layers != config.num_layers || cache.num_kv_heads != config.num_kv_heads ||
        cache.head_dim != config.head_dim)
        reject(operation, "cache", "one made for this decoder",
               std::to_string(cache.num_layers) + " layers of " + std::to_string(cache.num_kv_heads) + " heads of " +
                   std::to_string(cache.head_dim));
    check_starts(operation, batch);
    const std::size_t sequences = batch.sequence_starts.size() - 1;
    if (batch.context_lengths.size() != sequences)
        reject(operation, "context_lengths", std::to_string(sequences) + " numbers, one per sequence",
               std::to_string(batch.context_lengths.size()));
    if (batch.block_tables.rows != sequences)
        reject(operation, "block_tables", std::to_string(sequences) + " rows, one per sequence",
               std::to_string(batch.block_tables.rows));
    check_range(operation, "token_ids", batch.token_ids, config.vocab_size);
    check_range(operation, "logit_rows", batch.logit_rows, batch.token_ids.size());
    check_tables(operation, config, cache, batch, writers);
    check_adapters(operation, config, batch);
}

}  // namespace tercet
