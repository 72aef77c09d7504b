// The decoder of BitNet b1.58 2B-4T: a batch of tokens of several sequences in, logits out.
//
//     x = embedding[token_ids]
//     for each layer:
//         x = x + O( sub_norm( attend( rotate(Q h), rotate(K h), V h ) ) )        h = norm(x)
//         x = x + Down( sub_norm( activation(Gate h) * (Up h) ) )                 h = norm(x)
//     logits = norm(x) . output_head
//
// Q, K, V, O, Gate, Up and Down are ternary; their inputs are rounded to int8 per token, or (quantize_activations false)
// left as they are. There are no biases. The specification is src/tercet/reference; src/decoder/forward.cpp is the same
// text on kernels.
//
// The logits of a row are the same bits whatever else is in the batch, however a prompt is cut into chunks, and for every
// number of threads and instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "tercet/attention.hpp"
#include "tercet/kv_cache.hpp"
#include "tercet/ops.hpp"

namespace tercet {

enum class Activation { relu2, silu };

struct DecoderConfig {
    std::size_t hidden_size, ffn_size, num_layers;
    std::size_t num_heads, num_kv_heads, head_dim;
    std::size_t vocab_size, max_context;
    double rope_theta;
    float rms_norm_epsilon;
    Activation activation;
    bool quantize_activations;

    std::size_t query_size() const noexcept { return num_heads * head_dim; }
    std::size_t kv_size() const noexcept { return num_kv_heads * head_dim; }
};

// Norm weights are copied (they are small and may be stored in 16 bits); an empty one means that there is no norm.
using NormWeight = std::vector<float>;

struct LayerWeights {
    NormWeight attention_norm;
    TernaryMatrix q, k, v;
    NormWeight attention_sub_norm;
    TernaryMatrix o;
    NormWeight ffn_norm;
    TernaryMatrix gate, up;
    NormWeight ffn_sub_norm;
    TernaryMatrix down;
};

struct DecoderWeights {
    FloatMatrix embedding;
    std::vector<LayerWeights> layers;
    NormWeight final_norm;
    FloatMatrix output_head;  // the embedding again when they are tied
};

// The tokens of one step: those of sequence s are token_ids[sequence_starts[s]] up to sequence_starts[s + 1], they follow
// context_lengths[s] tokens whose keys and values are in the cache, and block_tables row s names the sequence's blocks.
struct Batch {
    std::span<const std::int32_t> token_ids;
    std::span<const std::int32_t> sequence_starts;  // one more than there are sequences
    std::span<const std::int32_t> context_lengths;
    MatrixView<const std::int32_t> block_tables;  // [sequences][max_blocks], -1 = none
    std::span<const std::int32_t> logit_rows;     // tokens whose logits are wanted, in this order
};

// Throws std::invalid_argument, saying which operand should be what and is what, unless the batch fits: ids in the
// vocabulary, contexts within max_context, tables that name enough existing blocks, and no block that one sequence writes
// while another uses it. `writers` is scratch memory.
void check_batch(const DecoderConfig& config, const KvShape& cache, const Batch& batch, std::vector<std::int32_t>& writers);

class Decoder {
  public:
    // Weights are borrowed. Throws std::invalid_argument when a tensor's shape does not follow from the config.
    Decoder(const DecoderConfig& config, DecoderWeights weights, const KernelTable& kernels, int num_threads);

    const DecoderConfig& config() const noexcept { return config_; }
    const KernelTable& kernels() const noexcept { return team_.kernels(); }
    int num_threads() const noexcept { return team_.num_threads(); }
    KvShape cache_shape(std::size_t num_blocks, std::size_t block_tokens) const noexcept {
        return {config_.num_layers, config_.num_kv_heads, config_.head_dim, num_blocks, block_tokens};
    }

    // Memory that steps have needed so far, besides weights and cache.
    std::size_t scratch_bytes() const noexcept;

    // Writes the keys and values of the batch's tokens into the cache and the wanted logits to
    // logits [logit_rows][vocab_size]. Throws as check_batch does, before anything is written. Callers take turns.
    void forward(KvCache& cache, const Batch& batch, float* logits);

  private:
    void place_tokens(const Batch& batch, std::size_t begin, std::size_t end);
    void attention(std::size_t layer, KvCache& cache);
    void feed_forward(const LayerWeights& weights);
    void normalize_residual(const NormWeight& weight);
    void finish_input(const NormWeight& sub_norm, std::size_t token) noexcept;
    float* residual(std::size_t token) noexcept { return residual_.data() + token * config_.hidden_size; }

    const DecoderConfig config_;
    const DecoderWeights weights_;
    const std::vector<float> inverse_frequencies_;
    Team team_;
    std::mutex one_caller_;

    // Scratch of a step: grows to the largest step, then stays.
    std::vector<std::int32_t> writers_;           // [blocks], for check_batch
    std::vector<TokenPlace> places_;
    AlignedBuffer<float> cosines_, sines_;        // [tokens][head_dim / 2]
    AlignedBuffer<float> residual_;               // [tokens][hidden_size]
    AlignedBuffer<float> query_, key_, value_;    // [tokens][query_size or kv_size]
    AlignedBuffer<float> gate_, up_;              // [tokens][ffn_size]
    LinearInput input_;                           // what the next linear layer reads
    AlignedBuffer<float> wanted_;                 // [logit_rows][hidden_size], normalized
};

}  // namespace tercet
