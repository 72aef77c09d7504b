// The forward pass. Read it beside src/tercet/reference/decoder.py, which is the same model in NumPy.
#include <algorithm>
#include <cmath>

#include "decoder/weights.hpp"
#include "tercet/decoder.hpp"

namespace tercet {
namespace {

// A batch runs in steps of at most so many tokens: scratch memory stays small and activations stay in the cache, while a
// weight that has been read serves hundreds of tokens. Keys and values of a step are stored before the next one begins.
constexpr std::size_t tokens_per_step = 256;

const DecoderConfig& checked(const DecoderConfig& config, const DecoderWeights& weights) {
    check_weights(config, weights);
    return config;
}

}  // namespace

Decoder::Decoder(const DecoderConfig& config, DecoderWeights weights, const KernelTable& kernels, int num_threads)
    : config_(checked(config, weights)),
      weights_(std::move(weights)),
      inverse_frequencies_(inverse_frequencies(config.rope_theta, config.head_dim)),
      team_(kernels, num_threads) {}

void Decoder::forward(KvCache& cache, const Batch& batch, float* logits) {
    const std::lock_guard turn(one_caller_);
    check_batch(config_, cache.shape(), batch, writers_);
    const FloatEnvironment environment;
    const std::size_t tokens = batch.token_ids.size(), hidden = config_.hidden_size;
    grown(wanted_, batch.logit_rows.size() * hidden);

    for (std::size_t begin = 0; begin < tokens; begin += tokens_per_step) {
        const std::size_t end = std::min(begin + tokens_per_step, tokens);
        place_tokens(batch, begin, end);
        embed(team_, weights_.embedding, batch.token_ids.subspan(begin, end - begin), residual_.data());
        for (std::size_t layer = 0; layer < config_.num_layers; ++layer) {
            attention(layer, cache);
            feed_forward(weights_.layers[layer]);
        }
        for (std::size_t i = 0; i < batch.logit_rows.size(); ++i) {
            const auto row = static_cast<std::size_t>(batch.logit_rows[i]);
            if (begin <= row && row < end) {
                kernels().floats.rms_norm(residual(row - begin), weights_.final_norm.data(), hidden,
                                          config_.rms_norm_epsilon, wanted_.data() + i * hidden);
            }
        }
    }
    if (!batch.logit_rows.empty())
        project(team_, weights_.output_head, wanted_.data(), batch.logit_rows.size(), logits);
}

std::size_t Decoder::scratch_bytes() const noexcept {
    std::size_t floats = 0;
    for (const AlignedBuffer<float>* buffer :
         {&cosines_, &sines_, &residual_, &query_, &key_, &value_, &gate_, &up_, &wanted_})
        floats += buffer->size();
    return floats * sizeof(float) + input_.scratch_bytes() + team_.scratch_bytes();
}

// x = x + O( sub_norm( attend( rotate(Q h), rotate(K h), V h ) ) ),  h = norm(x)
void Decoder::attention(std::size_t layer, KvCache& cache) {
    const LayerWeights& weights = weights_.layers[layer];
    const FloatKernels& floats = kernels().floats;
    const std::size_t head_dim = config_.head_dim, half = head_dim / 2, block_tokens = cache.shape().block_tokens;
    const float score_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));

    normalize_residual(weights.attention_norm);
    multiply(team_, input_, {{weights.q, query_.data()}, {weights.k, key_.data()}, {weights.v, value_.data()}});

    const double row_work = cost::value * static_cast<double>(config_.query_size() + 2 * config_.kv_size());
    team_.for_each(places_.size(), row_work, [&](std::size_t token) {
        float *query = query_.data() + token * config_.query_size(), *key = key_.data() + token * config_.kv_size();
        const float *cosines = cosines_.data() + token * half, *sines = sines_.data() + token * half;
        for (std::size_t head = 0; head < config_.num_heads; ++head)
            floats.rotate(query + head * head_dim, cosines, sines, half, score_scale);
        for (std::size_t head = 0; head < config_.num_kv_heads; ++head)
            floats.rotate(key + head * head_dim, cosines, sines, half, 1.0F);
        const auto [position, block_table] = places_[token];
        cache.store(floats, layer, static_cast<std::size_t>(block_table[position / block_tokens]), position % block_tokens,
                    key, value_.data() + token * config_.kv_size());
    });

    input_.prepare(places_.size(), config_.query_size(), config_.quantize_activations);
    attend(team_, cache, layer, places_, query_.data(), config_.num_heads, input_.row(0));
    team_.for_each(places_.size(), row_work, [&](std::size_t token) { finish_input(weights.attention_sub_norm, token); });
    multiply(team_, input_, {{weights.o, residual_.data(), true}});
}

// x = x + Down( sub_norm( activation(Gate h) * (Up h) ) ),  h = norm(x)
void Decoder::feed_forward(const LayerWeights& weights) {
    const FloatKernels& floats = kernels().floats;
    const auto gated = config_.activation == Activation::relu2 ? floats.gated_relu2 : floats.gated_silu;
    const std::size_t ffn = config_.ffn_size;

    normalize_residual(weights.ffn_norm);
    multiply(team_, input_, {{weights.gate, gate_.data()}, {weights.up, up_.data()}});

    input_.prepare(places_.size(), ffn, config_.quantize_activations);
    team_.for_each(places_.size(), cost::value * static_cast<double>(2 * ffn), [&](std::size_t token) {
        gated(gate_.data() + token * ffn, up_.data() + token * ffn, ffn, input_.row(token));
        finish_input(weights.ffn_sub_norm, token);
    });
    multiply(team_, input_, {{weights.down, residual_.data(), true}});
}

// The next linear layer reads norm(x).
void Decoder::normalize_residual(const NormWeight& weight) {
    input_.prepare(places_.size(), config_.hidden_size, config_.quantize_activations);
    team_.for_each(places_.size(), cost::value * static_cast<double>(config_.hidden_size), [&](std::size_t token) {
        kernels().floats.rms_norm(residual(token), weight.data(), config_.hidden_size, config_.rms_norm_epsilon,
                                  input_.row(token));
        input_.quantize(kernels().floats, token);
    });
}

// The next linear layer reads what is in its input, after the sub-norm if the model has one.
void Decoder::finish_input(const NormWeight& sub_norm, std::size_t token) noexcept {
    float* row = input_.row(token);
    if (!sub_norm.empty())
        kernels().floats.rms_norm(row, sub_norm.data(), sub_norm.size(), config_.rms_norm_epsilon, row);
    input_.quantize(kernels().floats, token);
}

// Positions, block tables and rotations of tokens [begin, end), and room for everything that a step computes.
void Decoder::place_tokens(const Batch& batch, std::size_t begin, std::size_t end) {
    const std::size_t tokens = end - begin, half = config_.head_dim / 2;
    grown(cosines_, tokens * half);
    grown(sines_, tokens * half);
    grown(residual_, tokens * config_.hidden_size);
    grown(query_, tokens * config_.query_size());
    grown(key_, tokens * config_.kv_size());
    grown(value_, tokens * config_.kv_size());
    grown(gate_, tokens * config_.ffn_size);
    grown(up_, tokens * config_.ffn_size);

    places_.resize(tokens);
    std::size_t sequence = 0;
    for (std::size_t token = begin; token < end; ++token) {
        while (token >= static_cast<std::size_t>(batch.sequence_starts[sequence + 1])) ++sequence;
        const std::size_t offset = token - static_cast<std::size_t>(batch.sequence_starts[sequence]);
        places_[token - begin] = {static_cast<std::size_t>(batch.context_lengths[sequence]) + offset,
                                  batch.block_tables.row(sequence).data()};
    }
    team_.for_each(tokens, cost::angle * static_cast<double>(half), [&](std::size_t token) {
        rotation(places_[token].position, inverse_frequencies_, cosines_.data() + token * half, sines_.data() + token * half);
    });
}

}  // namespace tercet
