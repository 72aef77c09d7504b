// The linear layers: one input, already normalized (and quantized), times one or several ternary matrices.
#include <algorithm>

#include "tercet/ops.hpp"

namespace tercet {
namespace {

// A block of products is computed before it is rescaled: small enough to stay in L1 or L2, large enough that a single
// token is one call. Tokens come in blocks because their activations are read again for every row tile.
constexpr std::size_t products_at_once = 16384;
constexpr std::size_t tokens_at_once = 64;
static_assert(tokens_at_once * five_per_byte_tile_rows <= products_at_once, "a single tile must fit");

// Splits tiles [begin, end) and all tokens into blocks and calls block(first tile, last tile, first token, tokens).
template <class Block>
void for_each_block(Share tiles, std::size_t tile_rows, std::size_t tokens, Block block) {
    const std::size_t token_step = std::min(tokens, tokens_at_once);
    const std::size_t tile_step = std::max<std::size_t>(1, products_at_once / (tile_rows * token_step));
    for (std::size_t tile = tiles.begin; tile < tiles.end; tile += tile_step) {
        for (std::size_t token = 0; token < tokens; token += token_step) {
            block(tile, std::min(tile + tile_step, tiles.end), token, std::min(token_step, tokens - token));
        }
    }
}

void multiply_quantized(const KernelTable& kernels, const LinearInput& input, const Product& product, Share tiles,
                        ThreadScratch& scratch) noexcept {
    const TernaryMatrix& matrix = product.matrix;
    const auto matmul = matrix.packing == Packing::two_bit ? kernels.ternary.matmul_two_bit
                                                           : kernels.ternary.matmul_five_per_byte;
    const auto rescale = product.accumulate ? kernels.floats.rescale_add : kernels.floats.rescale;
    const std::size_t tile_rows = matrix.tile_rows();
    for_each_block(tiles, tile_rows, input.tokens(),
                   [&](std::size_t tile, std::size_t tile_end, std::size_t first_token, std::size_t tokens) {
        const std::size_t row = tile * tile_rows, padded_rows = (tile_end - tile) * tile_rows;
        matmul({matrix.packed, matrix.depth, tile, tile_end, input.codes() + first_token * input.code_stride(),
                input.code_stride(), input.sums() + first_token, tokens, scratch.sums.data(), padded_rows});
        const std::size_t rows = std::min(padded_rows, matrix.rows - row);
        for (std::size_t t = 0; t < tokens; ++t) {
            rescale(scratch.sums.data() + t * padded_rows, input.scales()[first_token + t],
                    matrix.scales + row * matrix.scale_step, matrix.scale_step, rows,
                    product.out + (first_token + t) * matrix.rows + row);
        }
    });
}

// Float activations: the codes of one row tile become floats, then it is a product of float matrices. Plain and exact in
// its order; models that quantize their activations, that is nearly all, never come here.
void multiply_floats(const KernelTable& kernels, const LinearInput& input, const Product& product, Share tiles,
                     ThreadScratch& scratch) noexcept {
    const TernaryMatrix& matrix = product.matrix;
    const auto unpack = matrix.packing == Packing::two_bit ? kernels.ternary.unpack_two_bit
                                                           : kernels.ternary.unpack_five_per_byte;
    const std::size_t tile_rows = matrix.tile_rows(), depth = matrix.depth;
    for (std::size_t tile = tiles.begin; tile < tiles.end; ++tile) {
        const std::size_t row = tile * tile_rows, rows = std::min(tile_rows, matrix.rows - row);
        unpack(matrix.packed + tile * matrix.row_tile_bytes(), rows, depth, scratch.codes.data());
        std::copy_n(scratch.codes.data(), rows * depth, scratch.rows.data());
        for (std::size_t token = 0; token < input.tokens(); token += tokens_at_once) {
            const std::size_t tokens = std::min(tokens_at_once, input.tokens() - token);
            kernels.floats.dot_rows_f32(scratch.rows.data(), rows, depth, input.values() + token * depth, depth,
                                        tokens, scratch.products.data(), rows);
            for (std::size_t t = 0; t < tokens; ++t) {
                float* out = product.out + (token + t) * matrix.rows + row;
                for (std::size_t r = 0; r < rows; ++r) {
                    const float scale = matrix.scales[(row + r) * matrix.scale_step];
                    const float value = scratch.products[t * rows + r] * scale;
                    out[r] = product.accumulate ? out[r] + value : value;
                }
            }
        }
    }
}

}  // namespace

void LinearInput::prepare(std::size_t tokens, std::size_t depth, bool quantized) {
    tokens_ = tokens;
    depth_ = depth;
    quantized_ = quantized;
    grown(values_, tokens * depth);
    if (!quantized) return;
    code_stride_ = round_up(depth, activation_alignment);
    grown(codes_, tokens * code_stride_ + activation_alignment);
    grown(sums_, tokens);
    grown(scales_, tokens);
}

void LinearInput::quantize(const FloatKernels& kernels, std::size_t token) noexcept {
    if (!quantized_) return;
    scales_[token] = kernels.quantize(row(token), depth_, code_stride_, codes_.data() + token * code_stride_, &sums_[token]);
}

std::size_t LinearInput::scratch_bytes() const noexcept {
    return values_.size() * sizeof(float) + codes_.size() + sums_.size() * sizeof(std::int32_t) +
           scales_.size() * sizeof(float);
}

void multiply(Team& team, const LinearInput& input, std::initializer_list<Product> products) {
    for (ThreadScratch& scratch : team.scratch()) {  // grow here, where running out of memory can still be reported
        if (input.quantized()) {
            grown(scratch.sums, products_at_once);
        } else {
            grown(scratch.codes, five_per_byte_tile_rows * input.depth());
            grown(scratch.rows, five_per_byte_tile_rows * input.depth());
            grown(scratch.products, five_per_byte_tile_rows * tokens_at_once);
        }
    }
    double work = 0.0;
    for (const Product& product : products) {
        work += static_cast<double>(product.matrix.rows * product.matrix.depth * input.tokens()) *
                (input.quantized() ? cost::ternary_product : cost::float_product);
    }
    team.together(work, [&](auto share, ThreadScratch& scratch) {
        for (const Product& product : products) {
            const Share tiles = share(product.matrix.row_tiles());
            if (input.quantized()) {
                multiply_quantized(team.kernels(), input, product, tiles, scratch);
            } else {
                multiply_floats(team.kernels(), input, product, tiles, scratch);
            }
        }
    });
}

}  // namespace tercet
