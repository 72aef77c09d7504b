// The forward pass. Read it beside src/tercet/reference/decoder.py, which is the same model in NumPy; how rows enter and
// leave the ternary matrices is in projections.cpp.
#include <algorithm>

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

DecoderWeights numbered(DecoderWeights weights) {
    std::size_t index = 0;
    for (LayerWeights& layer : weights.layers) {
        for (Projection* projection : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down})
            projection->index = index++;
    }
    return weights;
}

}  // namespace

Decoder::Decoder(const DecoderConfig& config, DecoderWeights weights, const KernelTable& kernels, int num_threads)
    : config_(checked(config, weights)),
      weights_(numbered(std::move(weights))),
      shares_inputs_(projections_share_inputs(weights_.layers)),
      team_(kernels, num_threads) {}

void Decoder::forward(KvCache& cache, const Batch& batch, float* logits, std::span<const LogitUse> uses) {
    const std::lock_guard turn(one_caller_);
    check_batch("Decoder.forward", config_, cache.shape(), batch, writers_);
    const FloatEnvironment environment;
    const std::size_t rows = batch.logit_rows.size(), hidden = config_.hidden_size;
    run_layers(cache, batch, grown(wanted_, rows * hidden));
    if (rows == 0) return;
    if (const BasisRotation* rotation = weights_.head_rotation.get()) {
        for (std::size_t i = 0; i < rows; ++i) rotate_in(kernels().floats, *rotation, wanted_.data() + i * hidden, hidden);
    }
    project(team_, weights_.output_head, wanted_.data(), rows, logits, uses);
    profile_.add(Operation::output_head);
}

void Decoder::hidden_states(KvCache& cache, const Batch& batch, float* states) {
    const std::lock_guard turn(one_caller_);
    check_batch("Decoder.hidden_states", config_, cache.shape(), batch, writers_);
    const FloatEnvironment environment;
    run_layers(cache, batch, states);
}

// Everything but the output head: states[i] = norm(x of token logit_rows[i]).
void Decoder::run_layers(KvCache& cache, const Batch& batch, float* states) {
    const std::size_t tokens = batch.token_ids.size(), hidden = config_.hidden_size;
    profile_.begin_step();
    for (std::size_t begin = 0; begin < tokens; begin += tokens_per_step) {
        const std::size_t end = std::min(begin + tokens_per_step, tokens);
        place_tokens(batch, begin, end);
        profile_.add(Operation::preparation);
        embed_tokens(batch.token_ids.subspan(begin, end - begin));
        profile_.add(Operation::embedding);
        for (std::size_t layer = 0; layer < config_.num_layers; ++layer) {
            attention(layer, cache);
            feed_forward(weights_.layers[layer]);
        }
        for (std::size_t i = 0; i < batch.logit_rows.size(); ++i) {
            const auto row = static_cast<std::size_t>(batch.logit_rows[i]);
            if (begin <= row && row < end) {
                kernels().floats.rms_norm(residual(row - begin), weights_.final_norm.data(), hidden,
                                          config_.rms_norm_epsilon, states + i * hidden);
            }
        }
        profile_.add(Operation::final_norm);
    }
}

std::size_t Decoder::scratch_bytes() const noexcept {
    std::size_t floats = 0;
    for (const AlignedBuffer<float>* buffer :
         {&angles_.cosines, &angles_.sines, &local_angles_.cosines, &local_angles_.sines, &residual_, &query_, &key_, &value_,
          &gate_, &up_, &branch_, &wanted_, &unturned_})
        floats += buffer->size();
    return floats * sizeof(float) + input_.scratch_bytes() + own_input_.scratch_bytes() + shared_spans_.num_bytes() +
           adapters_.scratch_bytes() + team_.scratch_bytes();
}

// x = embedding[token_ids] * embedding_scale
void Decoder::embed_tokens(std::span<const std::int32_t> token_ids) {
    const std::size_t hidden = config_.hidden_size;
    const BasisRotation* rotation = weights_.embedding_rotation.get();
    embed(team_, weights_.embedding, token_ids, residual_.data());
    if (rotation == nullptr && config_.embedding_scale == 1.0F) return;
    team_.for_each(token_ids.size(), cost::value * static_cast<double>(hidden), [&](std::size_t token) {
        if (rotation != nullptr) rotate_back(kernels().floats, *rotation, residual(token), hidden);
        for (float& value : std::span(residual(token), hidden)) value *= config_.embedding_scale;
    });
}

// x = x + post_norm( O( sub_norm( attend( rotate(norm(Q h)), rotate(norm(K h)), V h ) ) ) ),  h = norm(x)
void Decoder::attention(std::size_t layer, KvCache& cache) {
    const LayerWeights& weights = weights_.layers[layer];
    const FloatKernels& floats = kernels().floats;
    const std::size_t head_dim = config_.head_dim, half = head_dim / 2, block_tokens = cache.shape().block_tokens;
    const std::size_t window = config_.windows[layer];
    const RotaryAngles& angles = window == 0 ? angles_ : local_angles_;

    normalize_residual(weights.attention_norm, weights.q);
    profile_.add(Operation::attention_norm);
    project_input({{weights.q, query_.data()}, {weights.k, key_.data()}, {weights.v, value_.data()}});
    profile_.add(Operation::query_key_value);

    const double row_work = cost::value * static_cast<double>(config_.query_size() + 2 * config_.kv_size());
    team_.for_each(places_.size(), row_work, [&](std::size_t token) {
        const float *cosines = angles.cosines.data() + token * half, *sines = angles.sines.data() + token * half;
        const auto place_heads = [&](float* heads, std::size_t num_heads, const NormWeight& norm, float scale) {
            for (float* head = heads; head < heads + num_heads * head_dim; head += head_dim) {
                if (!norm.empty()) floats.rms_norm(head, norm.data(), head_dim, config_.rms_norm_epsilon, head);
                floats.rotate(head, cosines, sines, half, scale);
            }
        };
        float *query = query_.data() + token * config_.query_size(), *key = key_.data() + token * config_.kv_size();
        place_heads(query, config_.num_heads, weights.q_norm, config_.attention_scale);
        place_heads(key, config_.num_kv_heads, weights.k_norm, 1.0F);
        const auto [position, block_table] = places_[token];
        cache.store(floats, layer, static_cast<std::size_t>(block_table[position / block_tokens]), position % block_tokens,
                    key, value_.data() + token * config_.kv_size());
    });
    profile_.add(Operation::rotation);

    prepare_input(config_.query_size(), weights.o);
    attend(team_, cache, layer, places_, window, query_.data(), config_.num_heads, shared_spans_, input_.row(0));
    profile_.add(Operation::attention);
    team_.for_each(places_.size(), row_work,
                   [&](std::size_t token) { finish_input(weights.attention_sub_norm, weights.o, token); });
    profile_.add(Operation::attention_sub_norm);
    add_to_residual(weights.o, weights.attention_post_norm);
    profile_.add(Operation::attention_output);
}

// x = x + post_norm( Down( sub_norm( activation(Gate h) * (Up h) ) ) ),  h = norm(x)
void Decoder::feed_forward(const LayerWeights& weights) {
    const auto gated = gated_kernel(kernels().floats, config_.activation);
    const std::size_t ffn = config_.ffn_size;

    normalize_residual(weights.ffn_norm, weights.gate);
    profile_.add(Operation::ffn_norm);
    project_input({{weights.gate, gate_.data()}, {weights.up, up_.data()}});
    profile_.add(Operation::gate_up);

    prepare_input(ffn, weights.down);
    team_.for_each(places_.size(), cost::value * static_cast<double>(2 * ffn), [&](std::size_t token) {
        gated(gate_.data() + token * ffn, up_.data() + token * ffn, ffn, input_.row(token));
        finish_input(weights.ffn_sub_norm, weights.down, token);
    });
    profile_.add(Operation::ffn_sub_norm);
    add_to_residual(weights.down, weights.ffn_post_norm);
    profile_.add(Operation::down);
}

// Positions, block tables and rotations of tokens [begin, end), and room for everything that a step computes.
void Decoder::place_tokens(const Batch& batch, std::size_t begin, std::size_t end) {
    const std::size_t tokens = end - begin;
    grown(residual_, tokens * config_.hidden_size);
    grown(query_, tokens * config_.query_size());
    grown(key_, tokens * config_.kv_size());
    grown(value_, tokens * config_.kv_size());
    grown(gate_, tokens * config_.ffn_size);
    grown(up_, tokens * config_.ffn_size);
    if (!weights_.layers[0].attention_post_norm.empty()) grown(branch_, tokens * config_.hidden_size);

    places_.resize(tokens);
    std::size_t sequence = 0;
    for (std::size_t token = begin; token < end; ++token) {
        while (token >= static_cast<std::size_t>(batch.sequence_starts[sequence + 1])) ++sequence;
        const std::size_t offset = token - static_cast<std::size_t>(batch.sequence_starts[sequence]);
        places_[token - begin] = {static_cast<std::size_t>(batch.context_lengths[sequence]) + offset,
                                  batch.block_tables.row(sequence).data()};
    }
    adapters_.clear();
    for (const AdapterUse& use : batch.adapters) {
        const auto first = std::max(begin, static_cast<std::size_t>(batch.sequence_starts[use.sequence]));
        const auto last = std::min(end, static_cast<std::size_t>(batch.sequence_starts[use.sequence + 1]));
        for (std::size_t token = first; token < last; ++token) adapters_.add(token - begin, use);
    }
    adapters_.sort();
    if (!adapters_.empty()) grown(unturned_, tokens * std::max({config_.hidden_size, config_.query_size(), config_.ffn_size}));
    const auto num_global = std::count(config_.windows.begin(), config_.windows.end(), 0);
    if (num_global > 0) place_angles(config_.rotary, angles_);
    if (num_global < std::ssize(config_.windows)) place_angles(config_.local_rotary, local_angles_);
}

void Decoder::place_angles(const RotaryConfig& rotary, RotaryAngles& angles) {
    const std::size_t half = config_.head_dim / 2;
    grown(angles.cosines, places_.size() * half);
    grown(angles.sines, places_.size() * half);
    team_.for_each(places_.size(), cost::angle * static_cast<double>(half), [&](std::size_t token) {
        rotation(places_[token].position, rotary.inverse_frequencies, rotary.attention_factor,
                 angles.cosines.data() + token * half, angles.sines.data() + token * half);
    });
}

}  // namespace tercet
