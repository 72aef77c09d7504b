// Low-rank additions: their shapes, and their products for the tokens of a step.
#include "tercet/adapter.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "decoder/rejection.hpp"
#include "tercet/decoder.hpp"

namespace tercet {

Adapter::Adapter(const DecoderConfig& config)
    : hidden_size_(config.hidden_size),
      ffn_size_(config.ffn_size),
      query_size_(config.query_size()),
      kv_size_(config.kv_size()),
      pairs_(config.num_layers * layer_matrices) {
    static std::atomic<std::uint64_t> made{0};
    number_ = made.fetch_add(1);
}

void Adapter::add(std::size_t layer, std::size_t matrix, const LowRank& pair) {
    if (matrix >= layer_matrices || layer * layer_matrices >= pairs_.size())
        reject("Adapter", "layer and matrix",
               "below " + std::to_string(pairs_.size() / layer_matrices) + " and " + std::to_string(layer_matrices),
               std::to_string(layer) + " and " + std::to_string(matrix));
    const std::size_t rows[] = {query_size_, kv_size_, kv_size_, hidden_size_, ffn_size_, ffn_size_, hidden_size_};
    const std::size_t depth = matrix == 3 ? query_size_ : matrix == 6 ? ffn_size_ : hidden_size_;
    const auto shape = [](std::size_t height, std::size_t width) {
        std::string text = "[";  // grown by append: GCC 12 warns of what + would do
        return text.append(std::to_string(height)).append(", ").append(std::to_string(width)).append("]");
    };
    const std::string name = "layers." + std::to_string(layer) + "." + layer_matrix_names[matrix];
    const std::size_t rank = pair.reduce.rows;
    if (pair.reduce.depth != depth || rank == 0)
        reject("Adapter", "A of " + name, "[rank, " + std::to_string(depth) + "]", shape(rank, pair.reduce.depth));
    if (pair.expand.rows != rows[matrix] || pair.expand.depth != rank)
        reject("Adapter", "B of " + name, shape(rows[matrix], rank), shape(pair.expand.rows, pair.expand.depth));
    if (!std::isfinite(pair.scale)) reject("Adapter", "the scale of " + name, "finite", std::to_string(pair.scale));
    pairs_[layer * layer_matrices + matrix] = pair;
}

bool Adapter::fits(const DecoderConfig& config) const noexcept {
    return pairs_.size() == config.num_layers * layer_matrices && hidden_size_ == config.hidden_size &&
           ffn_size_ == config.ffn_size && query_size_ == config.query_size() && kv_size_ == config.kv_size();
}

void AdapterRows::sort() {
    std::sort(uses_.begin(), uses_.end(), [](const Use& one, const Use& other) {
        const std::uint64_t a = one.adapter->number(), b = other.adapter->number();
        return a != b ? a < b : one.token < other.token;
    });
}

void AdapterRows::multiply(Team& team, std::size_t index, const float* x, std::size_t depth, float* out, std::size_t rows) {
    for (auto begin = uses_.begin(); begin != uses_.end();) {
        const Adapter* adapter = begin->adapter;
        const auto end = std::find_if(begin, uses_.end(), [&](const Use& use) { return use.adapter != adapter; });
        const std::span<const Use> uses(begin, end);
        begin = end;
        const LowRank& pair = adapter->pair(index);
        if (pair.empty()) continue;

        const std::size_t tokens = uses.size(), rank = pair.reduce.rows;
        const float* vectors = x + uses.front().token * depth;
        if (uses.back().token - uses.front().token + 1 != tokens) {
            float* gathered = grown(gathered_, tokens * depth);
            for (std::size_t i = 0; i < tokens; ++i) std::copy_n(x + uses[i].token * depth, depth, gathered + i * depth);
            vectors = gathered;
        }
        float* reduced = grown(reduced_, tokens * rank);
        project(team, pair.reduce, vectors, tokens, reduced);
        for (std::size_t i = 0; i < tokens; ++i) {
            const float factor = pair.scale * uses[i].weight;
            for (float& value : std::span(reduced + i * rank, rank)) value *= factor;
        }
        const float* products = grown(products_, tokens * rows);
        project(team, pair.expand, reduced, tokens, products_.data());
        team.for_each(tokens, cost::value * static_cast<double>(rows), [&](std::size_t i) {
            float* row = out + uses[i].token * rows;
            for (std::size_t r = 0; r < rows; ++r) row[r] += products[i * rows + r];
        });
    }
}

}  // namespace tercet
