#include "decoder/assembly.hpp"

#include <algorithm>
#include <memory>

#include "decoder/rejection.hpp"

namespace tercet {
namespace {

// The rounding of the input of a matrix by the model's rule and the name of the matrix.
Rounding rounding_of(const std::string& rule, const std::string& name) {
    if (rule == "int8") return Rounding::int8;
    if (rule == "int4") return Rounding::int4;
    if (rule != "int4_int8") reject("Decoder", "config['activation_rule']", "int8, int4 or int4_int8", rule);
    if (name == "ffn.down") return Rounding::int8;
    return name == "attention.o" ? Rounding::int8_top_half : Rounding::int4;
}

// One rotation for each width, which all tensors of that width share.
class Rotations {
  public:
    explicit Rotations(const RotatedBasis& basis) : basis_(basis) {}

    using Shared = std::shared_ptr<const BasisRotation>;
    Shared of_input(const std::string& name, std::size_t width) { return contains(basis_.inputs, name) ? shared(width) : nullptr; }
    Shared of_output(const std::string& name, std::size_t width) { return contains(basis_.outputs, name) ? shared(width) : nullptr; }

  private:
    static bool contains(const std::vector<std::string>& names, const std::string& name) {
        return std::find(names.begin(), names.end(), name) != names.end();
    }
    Shared shared(std::size_t width) {
        Shared& rotation = by_width_[width];
        const auto signs = basis_.signs.find(width);
        if (!rotation)
            rotation = std::make_shared<const BasisRotation>(BasisRotation{
                basis_.block_size, signs == basis_.signs.end() ? std::vector<float>{} : signs->second});
        return rotation;
    }

    const RotatedBasis& basis_;
    std::map<std::size_t, Shared> by_width_;
};

}  // namespace

DecoderWeights assemble_weights(const WeightOptions& options, const RotatedBasis& basis, WeightSource& source) {
    const std::string head = options.tied_embeddings ? "embedding" : "output_head";
    Rotations rotations(basis);
    DecoderWeights weights;
    weights.embedding = source.token_table("embedding");
    weights.embedding_rotation = rotations.of_output("embedding", options.hidden_size);
    for (std::size_t index = 0; index < options.num_layers; ++index) {
        const std::string layer = "layers." + std::to_string(index) + ".";
        const auto norm_of = [&](const std::string& name, bool present = true) {
            return present ? source.norm(layer + name) : NormWeight{};
        };
        const auto projection = [&](const std::string& name) -> Projection {
            const EmbeddingMatrix matrix = source.matrix(layer + name);
            const std::size_t depth = std::visit([](const auto& either) { return either.depth; }, matrix);
            return {matrix, norm_of(name + ".input_norm", options.projection_norms),
                    rotations.of_input(layer + name, depth), rounding_of(options.activation_rule, name)};
        };
        weights.layers.push_back({
            .attention_norm = norm_of("attention_norm"),
            .q = projection("attention.q"),
            .k = projection("attention.k"),
            .v = projection("attention.v"),
            .q_norm = norm_of("attention.q_norm", options.qk_norm),
            .k_norm = norm_of("attention.k_norm", options.qk_norm),
            .attention_sub_norm = norm_of("attention.sub_norm", options.attention_sub_norm),
            .o = projection("attention.o"),
            .attention_post_norm = norm_of("attention_post_norm", options.post_norms),
            .ffn_norm = norm_of("ffn_norm"),
            .gate = projection("ffn.gate"),
            .up = projection("ffn.up"),
            .ffn_sub_norm = norm_of("ffn.sub_norm", options.ffn_sub_norm),
            .down = projection("ffn.down"),
            .ffn_post_norm = norm_of("ffn_post_norm", options.post_norms),
        });
    }
    weights.final_norm = source.norm("final_norm");
    weights.output_head = source.token_table(head);
    weights.head_rotation = rotations.of_input(head, options.hidden_size);
    return weights;
}

}  // namespace tercet
