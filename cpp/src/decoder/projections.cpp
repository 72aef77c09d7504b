// From the residual stream into ternary matrices and back: norms, rotated bases, rounding, and what reads one input.
#include <algorithm>

#include "decoder/weights.hpp"

namespace tercet {
namespace {

// to += from
void add_row(const float* from, std::size_t size, float* to) noexcept {
    for (std::size_t i = 0; i < size; ++i) to[i] += from[i];
}

}  // namespace

bool projections_share_inputs(std::span<const LayerWeights> layers) noexcept {
    return std::all_of(layers.begin(), layers.end(), [](const LayerWeights& layer) {
        return layer.q.input_norm.empty() && layer.q.rotation == layer.k.rotation && layer.q.rotation == layer.v.rotation &&
               layer.gate.rotation == layer.up.rotation && layer.q.rounding == layer.k.rounding &&
               layer.q.rounding == layer.v.rounding && layer.gate.rounding == layer.up.rounding;
    });
}

// Room for the input of the next linear layer.
void Decoder::prepare_input(std::size_t depth, const Projection& reader) {
    input_.prepare(places_.size(), depth, config_.quantize_activations);
    if (shares_inputs_ && reader.rounding == Rounding::int8_top_half) input_.make_room_for_halves();
}

// The next linear layer, of which `reader` is the first matrix, reads norm(x).
void Decoder::normalize_residual(const NormWeight& weight, const Projection& reader) {
    prepare_input(config_.hidden_size, reader);
    team_.for_each(places_.size(), cost::value * static_cast<double>(config_.hidden_size), [&](std::size_t token) {
        kernels().floats.rms_norm(residual(token), weight.data(), config_.hidden_size, config_.rms_norm_epsilon,
                                  input_.row(token));
        finish_shared_row(reader, token);
    });
}

// The next linear layer reads what is in its input, after the sub-norm if the model has one.
void Decoder::finish_input(const NormWeight& sub_norm, const Projection& reader, std::size_t token) noexcept {
    float* row = input_.row(token);
    if (!sub_norm.empty())
        kernels().floats.rms_norm(row, sub_norm.data(), sub_norm.size(), config_.rms_norm_epsilon, row);
    finish_shared_row(reader, token);
}

// Where all matrices read the same, it is finished at once.
void Decoder::finish_shared_row(const Projection& reader, std::size_t token) noexcept {
    if (!shares_inputs_) return;
    const std::size_t depth = input_.depth();
    if (reader.rotation && !adapters_.empty()) std::copy_n(input_.row(token), depth, unturned_.data() + token * depth);
    finish_row(input_, reader, token);
}

void Decoder::finish_row(LinearInput& input, const Projection& reader, std::size_t token) noexcept {
    if (reader.rotation) rotate_in(kernels().floats, *reader.rotation, input.row(token), input.depth());
    input.quantize(kernels().floats, token, reader.rounding);
}

// Multiplies the input with several matrices: together, or one after the other where each makes its own of it.
void Decoder::project_input(std::initializer_list<Target> targets) {
    if (shares_inputs_) {
        multiply_input(input_, targets);
        return add_adapters(targets);
    }
    const std::size_t depth = input_.depth();
    own_input_.prepare(places_.size(), depth, config_.quantize_activations);
    for (const Target& target : targets) {
        const Projection& reader = target.projection;
        if (reader.rounding == Rounding::int8_top_half) own_input_.make_room_for_halves();
        team_.for_each(places_.size(), cost::value * static_cast<double>(depth), [&](std::size_t token) {
            const float* from = input_.row(token);
            float* row = own_input_.row(token);
            if (reader.input_norm.empty())
                std::copy_n(from, depth, row);
            else
                kernels().floats.rms_norm(from, reader.input_norm.data(), depth, config_.projection_norm_epsilon, row);
            finish_row(own_input_, reader, token);
        });
        multiply_input(own_input_, {&target, 1});
    }
    add_adapters(targets);
}

// What the adapters of some tokens add to the products: they read the input as it was before it was turned.
void Decoder::add_adapters(std::span<const Target> targets) {
    if (adapters_.empty()) return;
    const std::size_t depth = input_.depth();
    for (const auto& [projection, out, accumulate] : targets) {
        const float* x = shares_inputs_ && projection.rotation ? unturned_.data() : input_.values();
        const std::size_t rows = std::visit([](const auto& matrix) { return matrix.rows; }, projection.matrix);
        adapters_.multiply(team_, projection.index, x, depth, out, rows);
    }
}

// Ternary matrices together; float ones, which hardly any model has, one after the other.
void Decoder::multiply_input(LinearInput& input, std::span<const Target> targets) {
    products_.clear();
    for (const auto& [projection, out, accumulate] : targets) {
        if (const auto* matrix = std::get_if<TernaryMatrix>(&projection.matrix)) {
            products_.push_back({*matrix, out, accumulate});
            continue;
        }
        const std::size_t rows = std::get<FloatMatrix>(projection.matrix).rows;
        float* product = accumulate ? grown(branch_, input.tokens() * rows) : out;
        project(team_, projection.matrix, input.values(), input.tokens(), product);
        if (accumulate) add_row(product, input.tokens() * rows, out);
    }
    if (!products_.empty()) multiply(team_, input, products_);
}

// x = x + projection of the input, after the post norm if the model has one.
void Decoder::add_to_residual(const Projection& projection, const NormWeight& post_norm) {
    if (post_norm.empty()) return project_input({{projection, residual_.data(), true}});
    const std::size_t hidden = config_.hidden_size;
    project_input({{projection, branch_.data()}});
    team_.for_each(places_.size(), cost::value * static_cast<double>(hidden), [&](std::size_t token) {
        float* row = branch_.data() + token * hidden;
        kernels().floats.rms_norm(row, post_norm.data(), hidden, config_.rms_norm_epsilon, row);
        add_row(row, hidden, residual(token));
    });
}

}  // namespace tercet
