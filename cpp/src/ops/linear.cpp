// The linear layers: one input, already normalized (and quantized), times one or several ternary matrices.
#include <algorithm>

#include "ops/lane_scales.hpp"
#include "tercet/ops.hpp"

namespace tercet {
namespace {

// A block of products is computed before it is rescaled: small enough to stay in L1 or L2, large enough that a single
// token is one call. Tokens come in blocks because their activations are read again for every row tile; blocks are as
// large as they are because weights are taken apart again for every block.
constexpr std::size_t products_at_once = 16384;
constexpr std::size_t tokens_at_once = 256;
constexpr std::size_t input_bytes_at_once = std::size_t{1} << 20;  // of int8 activations: they stay in L2
constexpr std::size_t token_multiple = 32;  // that kernels of matrix tiles multiply at once
static_assert(tokens_at_once * five_per_byte_tile_rows <= products_at_once, "a single tile must fit");

// Splits tiles [begin, end) and all tokens into blocks and calls block(first tile, last tile, first token, tokens).
template <class Block>
void for_each_block(Share tiles, std::size_t tile_rows, std::size_t tokens, std::size_t depth, Block block) {
    const std::size_t most = std::clamp(input_bytes_at_once / depth, token_multiple, tokens_at_once);
    const std::size_t num_blocks = (tokens + most - 1) / most;
    const std::size_t token_step = std::min(tokens, round_up((tokens + num_blocks - 1) / num_blocks, token_multiple));
    const std::size_t tile_step = std::max<std::size_t>(1, products_at_once / (tile_rows * token_step));
    for (std::size_t tile = tiles.begin; tile < tiles.end; tile += tile_step) {
        for (std::size_t token = 0; token < tokens; token += token_step) {
            block(tile, std::min(tile + tile_step, tiles.end), token, std::min(token_step, tokens - token));
        }
    }
}

void multiply_quantized(const KernelTable& kernels, const LinearInput& input, const std::uint8_t* prepared,
                        const Product& product, Share tiles, ThreadScratch& scratch) noexcept {
    const TernaryMatrix& matrix = product.matrix;
    const auto matmul = matrix.packing == Packing::two_bit ? kernels.ternary.matmul_two_bit
                                                           : kernels.ternary.matmul_five_per_byte;
    const auto rescale = product.accumulate ? kernels.floats.rescale_add : kernels.floats.rescale;
    const std::size_t tile_rows = matrix.tile_rows();
    for_each_block(tiles, tile_rows, input.tokens(), matrix.depth,
                   [&](std::size_t tile, std::size_t tile_end, std::size_t first_token, std::size_t tokens) {
        const std::size_t row = tile * tile_rows, padded_rows = (tile_end - tile) * tile_rows;
        matmul({.packed = matrix.packed,
                .depth = matrix.depth,
                .row_tile_begin = tile,
                .row_tile_end = tile_end,
                .activations = input.codes() + first_token * input.code_stride(),
                .activation_stride = input.code_stride(),
                .activation_sums = input.sums() + first_token,
                .tokens = tokens,
                .out = scratch.sums.data(),
                .out_stride = padded_rows,
                .prepared = prepared + first_token * input.prepared_stride(),
                .prepared_stride = input.prepared_stride()});
        const std::size_t rows = std::min(padded_rows, matrix.rows - row);
        for (std::size_t t = 0; t < tokens; ++t) {
            rescale(scratch.sums.data() + t * padded_rows, input.scales()[first_token + t],
                    matrix.scales + row * matrix.scale_step, matrix.scale_step, rows,
                    product.out + (first_token + t) * matrix.rows + row);
        }
    });
}

// Row tiles of 16 whose product is computed in one call: their scales, spread over lanes, stay in L2.
constexpr std::size_t lane_scales_at_once = 16384;
std::size_t row_tiles_at_once(const TernaryMatrix& matrix) {
    return std::max<std::size_t>(1, lane_scales_at_once / (two_bit_tile_rows * matrix.groups()));
}

// A part of a matrix as kernels of the two_bit packing read it.
struct TwoBitPart {
    const std::uint8_t* packed;
    std::size_t group_size;
    std::size_t row_tile_begin, row_tile_end;  // of `packed`
    const float* scales;                       // [row tiles][groups][16 rows]
    std::size_t first_row, rows;               // of the matrix
};

// Calls part(TwoBitPart) for the rows of `tiles` (of the packing of the matrix). A matrix of another packing is packed
// again, tile by tile: it has no kernels of its own but those for one scale per row.
template <class Part>
void for_each_two_bit_part(const KernelTable& kernels, const TernaryMatrix& matrix, Share tiles, ThreadScratch& scratch,
                           Part part) noexcept {
    const std::size_t group_size = matrix.grouped() ? matrix.group_size : round_up(matrix.depth, two_bit_tile_columns);
    const auto run = [&](const std::uint8_t* packed, std::size_t begin, std::size_t end, std::size_t first_row) {
        const std::size_t rows = std::min((end - begin) * two_bit_tile_rows, matrix.rows - first_row);
        spread_scales(matrix, first_row, rows, scratch.lane_scales.data());
        part(TwoBitPart{packed, group_size, begin, end, scratch.lane_scales.data(), first_row, rows});
    };
    if (matrix.packing == Packing::two_bit) {
        const std::size_t step = row_tiles_at_once(matrix);
        for (std::size_t tile = tiles.begin; tile < tiles.end; tile += step)
            run(matrix.packed, tile, std::min(tile + step, tiles.end), tile * two_bit_tile_rows);
        return;
    }
    for (std::size_t tile = tiles.begin; tile < tiles.end; ++tile) {
        const std::size_t row = tile * five_per_byte_tile_rows, rows = std::min(five_per_byte_tile_rows, matrix.rows - row);
        kernels.ternary.unpack_five_per_byte(matrix.packed + tile * matrix.row_tile_bytes(), rows, matrix.depth,
                                             scratch.codes.data());
        kernels.ternary.pack_two_bit(scratch.codes.data(), rows, matrix.depth, scratch.packed.data());
        run(scratch.packed.data(), 0, round_up(rows, two_bit_tile_rows) / two_bit_tile_rows, row);
    }
}

// Moves products [tokens][padded_rows] of the rows of a part to where they go.
void place(const float* products, std::size_t padded_rows, std::size_t first_row, std::size_t rows, std::size_t tokens,
           std::size_t out_stride, bool accumulate, float* out) noexcept {
    for (std::size_t t = 0; t < tokens; ++t) {
        const float* from = products + t * padded_rows;
        float* to = out + t * out_stride + first_row;
        if (accumulate) {
            for (std::size_t r = 0; r < rows; ++r) to[r] += from[r];
        } else {
            std::copy_n(from, rows, to);
        }
    }
}

// A product that kernels compute as floats at once: block(part, tiles, first token, tokens, products, their stride).
template <class Block>
void multiply_parts(const KernelTable& kernels, const Product& product, std::size_t num_tokens, Share tiles,
                    ThreadScratch& scratch, Block block) noexcept {
    const TernaryMatrix& matrix = product.matrix;
    for_each_two_bit_part(kernels, matrix, tiles, scratch, [&](const TwoBitPart& whole) {
        for_each_block({whole.row_tile_begin, whole.row_tile_end}, two_bit_tile_rows, num_tokens, matrix.depth,
                       [&](std::size_t tile, std::size_t tile_end, std::size_t first_token, std::size_t tokens) {
            const std::size_t skipped = tile - whole.row_tile_begin, padded_rows = (tile_end - tile) * two_bit_tile_rows;
            const std::size_t offset = skipped * two_bit_tile_rows;
            TwoBitPart part = whole;
            part.row_tile_begin = tile;
            part.row_tile_end = tile_end;
            part.scales += offset * matrix.groups();
            block(part, first_token, tokens, scratch.products.data(), padded_rows);
            place(scratch.products.data(), padded_rows, whole.first_row + offset, std::min(padded_rows, whole.rows - offset),
                  tokens, matrix.rows, product.accumulate, product.out + first_token * matrix.rows);
        });
    });
}

// The sum of the codes of each token and group of columns, [tokens][groups].
void sum_groups(const LinearInput& input, std::size_t group_size, std::size_t groups, std::int32_t* sums) noexcept {
    for (std::size_t token = 0; token < input.tokens(); ++token) {
        const std::int8_t* codes = input.codes() + token * input.code_stride();
        for (std::size_t g = 0; g < groups; ++g) {
            const std::size_t end = std::min((g + 1) * group_size, input.depth());
            std::int32_t sum = 0;
            for (std::size_t k = g * group_size; k < end; ++k) sum += codes[k];
            sums[token * groups + g] = sum;
        }
    }
}

// A scale for each group of columns. `group_sums` are those of the input for the group size of the matrix.
void multiply_grouped(const KernelTable& kernels, const LinearInput& input, const std::int32_t* group_sums,
                      const Product& product, Share tiles, ThreadScratch& scratch) noexcept {
    const std::size_t groups = product.matrix.groups();
    multiply_parts(kernels, product, input.tokens(), tiles, scratch,
                   [&](const TwoBitPart& part, std::size_t first_token, std::size_t tokens, float* out, std::size_t stride) {
        kernels.ternary.matmul_two_bit_grouped({.packed = part.packed,
                                                .depth = product.matrix.depth,
                                                .group_size = part.group_size,
                                                .row_tile_begin = part.row_tile_begin,
                                                .row_tile_end = part.row_tile_end,
                                                .activations = input.codes() + first_token * input.code_stride(),
                                                .activation_stride = input.code_stride(),
                                                .group_sums = group_sums + first_token * groups,
                                                .activation_scales = input.scales() + first_token,
                                                .scales = part.scales,
                                                .tokens = tokens,
                                                .out = out,
                                                .out_stride = stride});
    });
}

void multiply_floats(const KernelTable& kernels, const float* vectors, std::size_t num_vectors, const Product& product,
                     Share tiles, ThreadScratch& scratch) noexcept {
    const std::size_t depth = product.matrix.depth;
    multiply_parts(kernels, product, num_vectors, tiles, scratch,
                   [&](const TwoBitPart& part, std::size_t first, std::size_t count, float* out, std::size_t stride) {
        kernels.ternary.multiply_two_bit_floats({.packed = part.packed,
                                                 .depth = depth,
                                                 .group_size = part.group_size,
                                                 .row_tile_begin = part.row_tile_begin,
                                                 .row_tile_end = part.row_tile_end,
                                                 .vectors = vectors + first * depth,
                                                 .vector_stride = depth,
                                                 .scales = part.scales,
                                                 .num_vectors = count,
                                                 .out = out,
                                                 .out_stride = stride});
    });
}

// Room for the parts of a matrix; here, where running out of memory can still be reported.
void make_room(Team& team, const TernaryMatrix& matrix) {
    for (ThreadScratch& scratch : team.scratch()) {
        const std::size_t repacked = matrix.packing == Packing::two_bit ? 0 : five_per_byte_tile_rows;
        const std::size_t row_tiles = std::max(row_tiles_at_once(matrix), repacked / two_bit_tile_rows);
        grown(scratch.lane_scales, row_tiles * two_bit_tile_rows * matrix.groups());
        grown(scratch.products, products_at_once);
        grown(scratch.codes, repacked * matrix.depth);
        grown(scratch.packed, repacked * round_up(matrix.depth, two_bit_tile_columns) / 4);
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

namespace {

constexpr std::size_t pieces_of(std::size_t depth) { return round_up(depth, prepared_piece_columns) / prepared_piece_columns; }

}  // namespace

std::size_t LinearInput::begin_pieces(const TernaryKernels& kernels) {
    prepared_stride_ = kernels.prepared_stride_five_per_byte(depth_, tokens_);
    return prepared_stride_ == 0 ? 0 : tokens_ * pieces_of(depth_);
}

void LinearInput::prepare_pieces(const TernaryKernels& kernels, Share pieces, std::uint8_t* prepared) const noexcept {
    const std::size_t per_token = pieces_of(depth_);
    while (pieces.begin < pieces.end) {
        const std::size_t token = pieces.begin / per_token, begin = pieces.begin % per_token;
        const std::size_t end = std::min(per_token, begin + (pieces.end - pieces.begin));
        kernels.prepare_five_per_byte({.activations = codes_.data() + token * code_stride_,
                                       .depth = depth_,
                                       .stride = prepared_stride_,
                                       .piece_begin = begin,
                                       .piece_end = end,
                                       .prepared = prepared + token * prepared_stride_});
        pieces.begin += end - begin;
    }
}

std::size_t LinearInput::scratch_bytes() const noexcept {
    return (values_.size() + kept_.size()) * sizeof(float) + codes_.size() + sums_.size() * sizeof(std::int32_t) +
           scales_.size() * sizeof(float) + prepared_.size();
}

namespace {

// Rows are shared out in steps of so many, which are whole tiles of either packing, over all matrices of a call.
constexpr std::size_t step_rows = five_per_byte_tile_rows;
static_assert(step_rows % two_bit_tile_rows == 0);

std::size_t steps_of(const TernaryMatrix& matrix) { return round_up(matrix.rows, step_rows) / step_rows; }

// The row tiles of a matrix whose first step is `first` that are among `steps`; may be none.
Share tiles_among(Share steps, std::size_t first, const TernaryMatrix& matrix) {
    const std::size_t last = first + steps_of(matrix), tiles = step_rows / matrix.tile_rows();
    const std::size_t begin = std::clamp(steps.begin, first, last) - first, end = std::clamp(steps.end, first, last) - first;
    return {std::min(begin * tiles, matrix.row_tiles()), std::min(end * tiles, matrix.row_tiles())};
}

// More tokens are prepared to the codes in another order, which costs more beside their products and takes more room.
constexpr std::size_t tokens_prepared_apart = 3;

}  // namespace

void multiply(Team& team, LinearInput& input, std::span<const Product> products) {
    double work = 0.0;
    std::size_t most_groups = 0, num_steps = 0;
    bool wants_prepared = false;
    for (const Product& product : products) {
        const TernaryMatrix& matrix = product.matrix;
        work += static_cast<double>(matrix.rows * matrix.depth * input.tokens()) *
                (input.quantized() ? cost::ternary_product : cost::ternary_by_float);
        if (matrix.grouped()) most_groups = std::max(most_groups, matrix.groups());
        if (matrix.grouped() || !input.quantized())
            make_room(team, matrix);
        else
            wants_prepared = wants_prepared || matrix.packing == Packing::five_per_byte;
        num_steps += steps_of(matrix);
    }
    for (ThreadScratch& scratch : team.scratch())
        if (input.quantized()) grown(scratch.sums, std::max(products_at_once, input.tokens() * most_groups));

    // Every thread makes its own prepared activations of a few tokens where that costs little beside its products: what
    // another core has just written is slower to read than to make.
    const TernaryKernels& kernels = team.kernels().ternary;
    const std::size_t pieces = wants_prepared ? input.begin_pieces(kernels) : 0;
    const double preparing = cost::prepared_piece * static_cast<double>(pieces);
    const bool each_its_own =
        pieces != 0 && input.tokens() <= tokens_prepared_apart && 8.0 * preparing * team.num_threads() < work;
    const std::uint64_t call = team.next_call();
    std::uint8_t* shared = nullptr;
    if (each_its_own) {
        for (ThreadScratch& scratch : team.scratch()) grown(scratch.prepared, input.prepared_bytes());
    } else if (pieces != 0) {
        shared = input.prepared();
        team.together(preparing, [&](auto share, ThreadScratch&) { input.prepare_pieces(kernels, share(pieces), shared); });
    }

    team.together(work, [&](auto share, ThreadScratch& scratch) {
        if (each_its_own && scratch.prepared_for != call) {
            input.prepare_pieces(kernels, {0, pieces}, scratch.prepared.data());
            scratch.prepared_for = call;
        }
        const std::uint8_t* prepared = each_its_own ? scratch.prepared.data() : shared;
        const Share steps = share(num_steps);
        std::size_t step = 0, group_size = 0;  // of which scratch.sums holds the sums
        for (const Product& product : products) {
            const TernaryMatrix& matrix = product.matrix;
            const Share tiles = tiles_among(steps, step, matrix);
            step += steps_of(matrix);
            if (tiles.begin == tiles.end) continue;
            if (!input.quantized()) {
                multiply_floats(team.kernels(), input.values(), input.tokens(), product, tiles, scratch);
            } else if (matrix.grouped()) {
                if (group_size != matrix.group_size)
                    sum_groups(input, matrix.group_size, matrix.groups(), scratch.sums.data());
                group_size = matrix.group_size;
                multiply_grouped(team.kernels(), input, scratch.sums.data(), product, tiles, scratch);
            } else {
                multiply_quantized(team.kernels(), input, prepared, product, tiles, scratch);
                group_size = 0;
            }
        }
    });
}

void project_ternary(Team& team, const TernaryMatrix& matrix, const float* vectors, std::size_t num_vectors, float* out) {
    make_room(team, matrix);
    const double work = cost::ternary_by_float * static_cast<double>(matrix.rows * matrix.depth * num_vectors);
    team.together(work, [&](auto share, ThreadScratch& scratch) {
        multiply_floats(team.kernels(), vectors, num_vectors, {matrix, out}, share(matrix.row_tiles()), scratch);
    });
}

}  // namespace tercet
