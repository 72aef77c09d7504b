// An adapter (LoRA): what is added to the products of a decoder's matrices for the sequences that ask for it,
//
//     y = W x + scale * weight * B (A x)          A [rank, depth], B [rows, rank], both as stored: f32, f16 or bf16
//
// with x as the layer reads it, in floats: after the sub-norm, before it is normalized once more, turned or rounded for W.
// `scale` comes with the adapter (alpha / rank), `weight` with the sequence. The sums A x and B (...) have the order of
// every dot product (float_kernels.hpp), so the row of a token is the same bits whoever shares the batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tercet/ops.hpp"

namespace tercet {

struct DecoderConfig;

// The ternary matrices of a layer, in the order of a step.
inline constexpr const char* layer_matrix_names[] = {"attention.q", "attention.k", "attention.v", "attention.o",
                                                     "ffn.gate",    "ffn.up",      "ffn.down"};
inline constexpr std::size_t layer_matrices = sizeof layer_matrix_names / sizeof layer_matrix_names[0];

// A and B of one matrix; none where A has no rows.
struct LowRank {
    FloatMatrix reduce, expand;
    float scale = 0.0F;

    bool empty() const noexcept { return reduce.rows == 0; }
};

class Adapter {
  public:
    // Of no matrix yet, for decoders of this shape.
    explicit Adapter(const DecoderConfig& config);

    // Throws std::invalid_argument where there is no such matrix, or the shapes do not follow from the config.
    void add(std::size_t layer, std::size_t matrix, const LowRank& pair);

    // Whether it was made for decoders of this shape.
    bool fits(const DecoderConfig& config) const noexcept;

    // Of matrix `matrix` of layer `layer` for index = layer * layer_matrices + matrix.
    const LowRank& pair(std::size_t index) const noexcept { return pairs_[index]; }
    // Which adapter of this process it is: where a sequence has several, they are added in this order.
    std::uint64_t number() const noexcept { return number_; }

  private:
    std::size_t hidden_size_, ffn_size_, query_size_, kv_size_;
    std::uint64_t number_;
    std::vector<LowRank> pairs_;
};

// One adapter of one sequence of a batch.
struct AdapterUse {
    std::size_t sequence;
    const Adapter* adapter;
    float weight;
};

// The adapters of the tokens of a step: all tokens of one adapter are multiplied together.
class AdapterRows {
  public:
    void clear() noexcept { uses_.clear(); }
    bool empty() const noexcept { return uses_.empty(); }
    void add(std::size_t token, const AdapterUse& use) { uses_.push_back({use.adapter, token, use.weight}); }
    void sort();  // after the last

    // out[token] += the product of matrix `index` for each token that has an adapter; x is [tokens][depth].
    void multiply(Team& team, std::size_t index, const float* x, std::size_t depth, float* out, std::size_t rows);

    std::size_t scratch_bytes() const noexcept {
        return (gathered_.size() + reduced_.size() + products_.size()) * sizeof(float);
    }

  private:
    struct Use {
        const Adapter* adapter;
        std::size_t token;
        float weight;
    };

    std::vector<Use> uses_;
    AlignedBuffer<float> gathered_, reduced_, products_;
};

}  // namespace tercet
