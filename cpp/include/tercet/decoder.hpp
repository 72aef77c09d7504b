// The decoder: a batch of tokens of several sequences in, logits out. BitNet b1.58 2B-4T is the plain case,
//
//     x = embedding[token_ids]
//     for each layer:
//         x = x + O( sub_norm( attend( rotate(Q h), rotate(K h), V h ) ) )        h = norm(x)
//         x = x + Down( sub_norm( activation(Gate h) * (Up h) ) )                 h = norm(x)
//     logits = norm(x) . output_head
//
// and the other families are options of it, each absent by default:
//
//     sub-norms         absent in models converted from Llama
//     query, key norm   Qwen3, Gemma3: every head of Q h and K h is normalized before it is rotated
//     input norms       embedding models of BitNet: each of the seven matrices normalizes its own input first
//     post norms        Gemma3: what O and Down give is normalized before it is added to x
//     windows           Gemma3: in some layers a token sees only the latest positions, with other rotary frequencies
//     scales            Gemma3: of the embedding and of the attention scores
//     rotated basis     Bonsai: inputs of ternary matrices are turned by a Hadamard transform first (ops.hpp)
//     adapters          of single sequences: low-rank additions to the matrices (adapter.hpp)
//
// Q, K, V, O, Gate, Up and Down are ternary; their inputs are rounded to int8 or int4 per token (Projection::rounding), or
// (quantize_activations false) left as they are. There are no biases. The specification is src/tercet/reference; src/decoder/forward.cpp is the same
// text on kernels.
//
// The logits of a row are the same bits whatever else is in the batch, however a prompt is cut into chunks, and for every
// number of threads and instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "tercet/adapter.hpp"
#include "tercet/attention.hpp"
#include "tercet/kv_cache.hpp"
#include "tercet/ops.hpp"
#include "tercet/profile.hpp"

namespace tercet {

enum class Activation { relu2, silu, gelu_tanh };

constexpr auto gated_kernel(const FloatKernels& kernels, Activation activation) noexcept {
    switch (activation) {
        case Activation::relu2: return kernels.gated_relu2;
        case Activation::silu: return kernels.gated_silu;
        default: return kernels.gated_gelu_tanh;
    }
}

// How heads are rotated: the radians of each pair from one position to the next, and a factor of cosines and sines.
struct RotaryConfig {
    std::vector<float> inverse_frequencies;  // [head_dim / 2]
    float attention_factor;
};

struct DecoderConfig {
    std::size_t hidden_size, ffn_size, num_layers;
    std::size_t num_heads, num_kv_heads, head_dim;
    std::size_t vocab_size, max_context;
    std::vector<std::size_t> windows;  // [num_layers]: how many positions a token sees, its own included; 0 = all
    RotaryConfig rotary, local_rotary;  // of layers without a window and with one
    float rms_norm_epsilon, projection_norm_epsilon;
    float embedding_scale, attention_scale;
    Activation activation;
    bool quantize_activations;

    std::size_t query_size() const noexcept { return num_heads * head_dim; }
    std::size_t kv_size() const noexcept { return num_kv_heads * head_dim; }
};

// Norm weights are copied (they are small and may be stored in 16 bits); an empty one means that there is no norm.
using NormWeight = std::vector<float>;

// A matrix of a layer, the norm of its input, and the basis that its input is turned into after that. Some models keep
// some matrices as floats, or all; those read their input as it is, whatever the others' inputs are rounded to.
struct Projection {
    EmbeddingMatrix matrix;
    NormWeight input_norm;
    std::shared_ptr<const BasisRotation> rotation;  // shared by the matrices of one depth; null: none
    Rounding rounding = Rounding::int8;             // of its input, where inputs are rounded
    std::size_t index = 0;                          // layer * layer_matrices + which; the decoder sets it
};

struct LayerWeights {
    NormWeight attention_norm;
    Projection q, k, v;
    NormWeight q_norm, k_norm;  // [head_dim]
    NormWeight attention_sub_norm;
    Projection o;
    NormWeight attention_post_norm;
    NormWeight ffn_norm;
    Projection gate, up;
    NormWeight ffn_sub_norm;
    Projection down;
    NormWeight ffn_post_norm;
};

struct DecoderWeights {
    EmbeddingMatrix embedding;
    std::shared_ptr<const BasisRotation> embedding_rotation;  // rows are turned back from this basis
    std::vector<LayerWeights> layers;
    NormWeight final_norm;
    EmbeddingMatrix output_head;  // the embedding again when they are tied
    std::shared_ptr<const BasisRotation> head_rotation;
};

// The tokens of one step: those of sequence s are token_ids[sequence_starts[s]] up to sequence_starts[s + 1], they follow
// context_lengths[s] tokens whose keys and values are in the cache, and block_tables row s names the sequence's blocks.
struct Batch {
    std::span<const std::int32_t> token_ids;
    std::span<const std::int32_t> sequence_starts;  // one more than there are sequences
    std::span<const std::int32_t> context_lengths;
    MatrixView<const std::int32_t> block_tables;  // [sequences][max_blocks], -1 = none
    std::span<const std::int32_t> logit_rows;     // tokens whose logits are wanted, in this order
    std::span<const AdapterUse> adapters = {};    // in any order, an adapter at most once for each sequence
};

// Throws std::invalid_argument, saying which operand should be what and is what, unless the batch fits: ids in the
// vocabulary, contexts within max_context, tables that name enough existing blocks, no block that one sequence writes
// while another uses it, and adapters that were made for the decoder. `operation` is what the message says was called; `writers` is scratch memory.
void check_batch(const char* operation, const DecoderConfig& config, const KvShape& cache, const Batch& batch,
                 std::vector<std::int32_t>& writers);

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

    // Where the time of all steps so far has gone. Not while a step runs.
    const Profile& profile() const noexcept { return profile_; }

    // Writes the keys and values of the batch's tokens into the cache and the wanted logits to
    // logits [logit_rows][vocab_size], as exact as their use wants. Throws as check_batch does, before anything is written. Callers take turns.
    void forward(KvCache& cache, const Batch& batch, float* logits, std::span<const LogitUse> uses = {});

    // The same without the output head: what it would read, norm(x), to states [logit_rows][hidden_size].
    void hidden_states(KvCache& cache, const Batch& batch, float* states);

  private:
    // A projection, where its product goes, and whether it is added to what is there.
    struct Target {
        const Projection& projection;
        float* out;
        bool accumulate = false;
    };
    struct RotaryAngles {
        AlignedBuffer<float> cosines, sines;  // [tokens][head_dim / 2]
    };

    void run_layers(KvCache& cache, const Batch& batch, float* states);
    void place_tokens(const Batch& batch, std::size_t begin, std::size_t end);
    void place_angles(const RotaryConfig& rotary, RotaryAngles& angles);
    void embed_tokens(std::span<const std::int32_t> token_ids);
    void attention(std::size_t layer, KvCache& cache);
    void feed_forward(const LayerWeights& weights);
    void prepare_input(std::size_t depth, const Projection& reader);
    void normalize_residual(const NormWeight& weight, const Projection& reader);
    void finish_input(const NormWeight& sub_norm, const Projection& reader, std::size_t token) noexcept;
    void finish_row(LinearInput& input, const Projection& reader, std::size_t token) noexcept;
    void finish_shared_row(const Projection& reader, std::size_t token) noexcept;
    void project_input(std::initializer_list<Target> targets);
    void multiply_input(LinearInput& input, std::span<const Target> targets);
    void add_adapters(std::span<const Target> targets);
    void add_to_residual(const Projection& projection, const NormWeight& post_norm);
    float* residual(std::size_t token) noexcept { return residual_.data() + token * config_.hidden_size; }

    const DecoderConfig config_;
    const DecoderWeights weights_;
    const bool shares_inputs_;  // q, k, v read the same, and so do gate and up
    Team team_;
    std::mutex one_caller_;
    Profile profile_;

    // Scratch of a step: grows to the largest step, then stays.
    std::vector<std::int32_t> writers_;           // [blocks], for check_batch
    std::vector<TokenPlace> places_;
    RotaryAngles angles_, local_angles_;
    AlignedBuffer<float> residual_;               // [tokens][hidden_size]
    SharedSpans shared_spans_;
    AlignedBuffer<float> query_, key_, value_;    // [tokens][query_size or kv_size]
    AlignedBuffer<float> gate_, up_;              // [tokens][ffn_size]
    AlignedBuffer<float> branch_;                 // [tokens][hidden_size], before it is added to the residual
    LinearInput input_;                           // what the next linear layer reads
    LinearInput own_input_;                       // the same as one projection wants it, where they differ
    std::vector<Product> products_;               // what is computed of it together
    AdapterRows adapters_;
    AlignedBuffer<float> unturned_;               // the input as adapters read it, where it has been turned
    AlignedBuffer<float> wanted_;                 // [logit_rows][hidden_size], normalized
};

}  // namespace tercet
