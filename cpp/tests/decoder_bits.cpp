// Small random decoders on every instruction set and several numbers of threads: the same logits, bit for bit.
//
// Prints a digest of the bits for each decoder. The digests are the same on every architecture and are kept in
// decoder_bits.txt, so a run on one machine, or in an emulator, is compared with all others. Their operands lie in memory of
// exactly their size: built with the address sanitizer, this program finds whoever reads beyond.
//
//     decoder_bits [ISA]        all instruction sets that are available here, or one
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>

#include "dispatch/random_values.hpp"
#include "tercet/decoder.hpp"
#include "tercet/isa.hpp"

namespace tercet {
namespace {

enum class Kind { f32, f16, bf16, two_bit, two_bit_rows, two_bit_groups, five_per_byte, planes };

// A decoder in a few words; everything else follows.
struct Sketch {
    const char* name;
    std::size_t hidden, ffn, layers, heads, kv_heads, head_dim;
    Activation activation;
    Kind embedding, matrices;
    bool tied, quantized, sub_norms, qk_norms, input_norms, post_norms;
    std::size_t window, rotation_block;  // 0: none
    KvType cache;
    int first_chunk;  // tokens of one sequence in the first step
};

constexpr Sketch sketches[] = {
    {"bitnet", 80, 112, 3, 4, 2, 20, Activation::relu2, Kind::f16, Kind::two_bit, true, true, true, false, false, false, 0, 0,
     KvType::f16, 11},
    {"llama", 65, 101, 2, 3, 1, 34, Activation::silu, Kind::f32, Kind::five_per_byte, false, true, false, false, false, false,
     0, 0, KvType::f32, 11},
    {"gemma", 96, 160, 3, 4, 2, 48, Activation::gelu_tanh, Kind::bf16, Kind::two_bit_groups, true, true, false, true, false,
     true, 5, 0, KvType::int8, 11},
    {"bonsai", 64, 128, 2, 4, 2, 16, Activation::silu, Kind::two_bit_groups, Kind::two_bit_groups, false, true, false, true,
     false, false, 0, 16, KvType::f32, 11},
    {"floats", 48, 80, 2, 2, 2, 24, Activation::relu2, Kind::two_bit_rows, Kind::two_bit_rows, true, false, true, false, true,
     false, 3, 16, KvType::f32, 11},
    {"deep", 400, 700, 1, 2, 1, 96, Activation::relu2, Kind::planes, Kind::five_per_byte, true, true, true, true, false, false,
     0, 0, KvType::f16, 11},
    {"long", 32, 48, 1, 2, 1, 16, Activation::silu, Kind::planes, Kind::two_bit, false, true, false, false, false, false, 0, 0,
     KvType::int8, 290},
};
constexpr std::size_t vocabulary = 67, group_size = 32;

// Weights of a sketch, and the memory that they lie in.
class Model {
  public:
    explicit Model(const Sketch& sketch) : sketch_(sketch), random_(sketch.hidden + sketch.ffn) {
        const std::size_t heads = sketch.heads * sketch.head_dim, kv_heads = sketch.kv_heads * sketch.head_dim;
        const std::size_t hidden = sketch.hidden, ffn = sketch.ffn;
        const auto norm_if = [&](bool wanted, std::size_t size) { return wanted ? norm(size) : NormWeight(); };
        weights.embedding = matrix(sketch.embedding, vocabulary, hidden);
        for (std::size_t layer = 0; layer < sketch.layers; ++layer) {
            LayerWeights& to = weights.layers.emplace_back();
            to.attention_norm = norm(hidden);
            to.q = projection(heads, hidden);
            to.k = projection(kv_heads, hidden);
            to.v = projection(kv_heads, hidden);
            to.q_norm = norm_if(sketch.qk_norms, sketch.head_dim);
            to.k_norm = norm_if(sketch.qk_norms, sketch.head_dim);
            to.attention_sub_norm = norm_if(sketch.sub_norms, heads);
            to.o = projection(hidden, heads);
            to.attention_post_norm = norm_if(sketch.post_norms, hidden);
            to.ffn_norm = norm(hidden);
            to.gate = projection(ffn, hidden);
            to.up = projection(ffn, hidden);
            to.ffn_sub_norm = norm_if(sketch.sub_norms, ffn);
            to.down = projection(hidden, ffn);
            to.ffn_post_norm = norm_if(sketch.post_norms, hidden);
        }
        weights.final_norm = norm(hidden);
        weights.output_head = sketch.tied ? weights.embedding : matrix(sketch.embedding, vocabulary, hidden);
    }

    DecoderConfig config() const {
        std::vector<std::size_t> windows(sketch_.layers, 0);
        for (std::size_t layer = 0; layer + 1 < sketch_.layers; ++layer) windows[layer] = sketch_.window;
        RotaryConfig rotary{{}, 1.0F}, local{{}, 1.25F};
        for (std::size_t pair = 0; pair < sketch_.head_dim / 2; ++pair) {
            rotary.inverse_frequencies.push_back(1.0F / static_cast<float>(1 + pair * pair));
            local.inverse_frequencies.push_back(0.5F / static_cast<float>(1 + pair));
        }
        return {.hidden_size = sketch_.hidden,
                .ffn_size = sketch_.ffn,
                .num_layers = sketch_.layers,
                .num_heads = sketch_.heads,
                .num_kv_heads = sketch_.kv_heads,
                .head_dim = sketch_.head_dim,
                .vocab_size = vocabulary,
                .max_context = 512,
                .windows = windows,
                .rotary = rotary,
                .local_rotary = local,
                .rms_norm_epsilon = 1e-5F,
                .projection_norm_epsilon = 1e-3F,
                .embedding_scale = sketch_.post_norms ? 3.5F : 1.0F,
                .attention_scale = 0.2F,
                .activation = sketch_.activation,
                .quantize_activations = sketch_.quantized};
    }

    DecoderWeights weights;

  private:
    NormWeight norm(std::size_t size) {
        NormWeight weight(size);
        for (float& value : weight) value = 1.0F + random_.real() / 16.0F;
        return weight;
    }

    Projection projection(std::size_t rows, std::size_t depth) {
        Projection projection{matrix(sketch_.matrices, rows, depth), {}, nullptr};
        if (sketch_.input_norms) projection.input_norm = norm(depth);
        if (sketch_.rotation_block != 0) {
            BasisRotation rotation{sketch_.rotation_block, std::vector<float>(depth)};
            for (float& sign : rotation.signs) sign = random_.byte() % 2 != 0 ? 1.0F : -1.0F;
            projection.rotation = std::make_shared<const BasisRotation>(std::move(rotation));
        }
        return projection;
    }

    EmbeddingMatrix matrix(Kind kind, std::size_t rows, std::size_t depth) {
        const FloatKernels& floats = kernel_table(Isa::reference).floats;
        if (kind == Kind::f32) return FloatMatrix{reals(rows * depth).data(), rows, depth};
        if (kind == Kind::f16) {
            std::vector<float16>& values = f16_.emplace_back(rows * depth);
            floats.narrow_f16(random_.reals(rows * depth).data(), rows * depth, values.data());
            return FloatMatrix{values.data(), rows, depth};
        }
        if (kind == Kind::bf16) {
            std::vector<bfloat16>& values = bf16_.emplace_back(rows * depth);
            for (bfloat16& value : values) {
                const float real = random_.real();
                std::uint32_t bits;
                std::memcpy(&bits, &real, sizeof bits);
                value.bits = static_cast<std::uint16_t>(bits >> 16);
            }
            return FloatMatrix{values.data(), rows, depth};
        }
        if (kind == Kind::planes) return planes(rows, depth);
        return ternary(kind, rows, depth);
    }

    // Eight bits, or six where the depth is small.
    PlaneMatrix planes(std::size_t rows, std::size_t depth) {
        PlaneMatrix made;
        made.bits = depth < plane_chunk_columns ? 6 : 8;
        made.rows = rows;
        made.depth = depth;
        std::vector<std::uint8_t>& high = bytes_.emplace_back(rows * made.chunks() * four_bit_chunk_bytes);
        std::vector<std::uint8_t>& low = bytes_.emplace_back(rows * made.chunks() * made.low_chunk_bytes());
        for (std::uint8_t& byte : high) byte = random_.byte();
        for (std::uint8_t& byte : low) byte = random_.byte();
        std::vector<float>& scales = reals(rows);
        for (float& scale : scales) scale = 0.02F + scale / 500.0F;
        made.high = high.data();
        made.low = low.data();
        made.scales = scales.data();
        return made;
    }

    TernaryMatrix ternary(Kind kind, std::size_t rows, std::size_t depth) {
        const TernaryKernels& kernels = kernel_table(Isa::reference).ternary;
        TernaryMatrix made;
        made.packing = kind == Kind::five_per_byte ? Packing::five_per_byte : Packing::two_bit;
        made.rows = rows;
        made.depth = depth;
        made.scale_step = kind == Kind::two_bit || kind == Kind::two_bit_groups ? 0 : 1;
        made.group_size = kind == Kind::two_bit_groups ? group_size : 0;
        const std::size_t scales = made.grouped() ? rows * made.groups() : made.scale_step == 0 ? 1 : rows;
        std::vector<float>& scale = reals(scales);
        for (float& value : scale) value = 0.06F + value / 100.0F;
        made.scales = scale.data();

        std::vector<std::int8_t> codes(rows * depth);
        for (std::int8_t& code : codes) code = static_cast<std::int8_t>(random_.byte() % 3 - 1);
        std::vector<std::uint8_t>& packed = bytes_.emplace_back(made.row_tiles() * made.row_tile_bytes());
        const auto pack =
            made.packing == Packing::five_per_byte ? kernels.pack_five_per_byte : kernels.pack_two_bit;
        pack(codes.data(), rows, depth, packed.data());
        made.packed = packed.data();
        return made;
    }

    std::vector<float>& reals(std::size_t size) { return f32_.emplace_back(random_.reals(size)); }

    const Sketch sketch_;
    RandomValues random_;
    std::deque<std::vector<float>> f32_;
    std::deque<std::vector<float16>> f16_;
    std::deque<std::vector<bfloat16>> bf16_;
    std::deque<std::vector<std::uint8_t>> bytes_;
};

// Logits of a conversation between two sequences: a long chunk beside a short one, then steps of one token and of two.
std::vector<float> logits_of(const Model& model, const Sketch& sketch, Isa isa, int threads) {
    constexpr std::size_t block_tokens = 4, blocks = 256;
    Decoder decoder(model.config(), model.weights, kernel_table(isa), threads);
    KvCache cache(decoder.cache_shape(blocks, block_tokens), sketch.cache);
    std::vector<std::int32_t> tables(blocks);
    for (std::size_t block = 0; block < blocks; ++block)  // in no order
        tables[block] = static_cast<std::int32_t>(block * 5 % blocks);
    const MatrixView<const std::int32_t> block_tables{tables.data(), 2, blocks / 2, blocks / 2};

    RandomValues random(7);
    std::vector<float> all;
    std::vector<std::int32_t> contexts = {0, 0};
    for (const auto& [first, second] : {std::pair{sketch.first_chunk, 3}, {1, 1}, {2, 1}, {1, 9}, {1, 1}}) {
        const std::vector<std::int32_t> starts = {0, first, first + second};
        std::vector<std::int32_t> ids(static_cast<std::size_t>(first + second)), rows;
        for (std::size_t token = 0; token < ids.size(); ++token) {
            ids[token] = random.byte() % static_cast<std::int32_t>(vocabulary);
            rows.push_back(static_cast<std::int32_t>(token));
        }
        std::vector<float> logits(ids.size() * vocabulary);
        decoder.forward(cache, {ids, starts, contexts, block_tables, rows}, logits.data());
        all.insert(all.end(), logits.begin(), logits.end());
        contexts[0] += first;
        contexts[1] += second;
    }
    return all;
}

// FNV-1a over the bits, a number at a time.
std::uint64_t digest_of(const std::vector<float>& values) {
    std::uint64_t digest = 0xCBF29CE484222325u;
    for (const float value : values) {
        std::uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        digest = (digest ^ bits) * 0x100000001B3u;
    }
    return digest;
}

int run(const std::string& wanted) {
    int differences = 0;
    for (const Sketch& sketch : sketches) {
        const Model model(sketch);
        const std::vector<float> expected = logits_of(model, sketch, Isa::reference, 1);
        for (const float value : expected) differences += std::isfinite(value) ? 0 : 1;
        for (const Isa isa : available_isas()) {
            if (!wanted.empty() && wanted != isa_name(isa)) continue;
            for (const int threads : {1, 2, 3}) {
                const std::vector<float> got = logits_of(model, sketch, isa, threads);
                if (std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0) continue;
                std::printf("%s: %s with %d threads gives other bits\n", sketch.name, isa_name(isa), threads);
                differences += 1;
            }
        }
        std::printf("%s %016" PRIx64 "\n", sketch.name, digest_of(expected));
    }
    return differences == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tercet

int main(int count, char** arguments) { return tercet::run(count > 1 ? arguments[1] : ""); }
