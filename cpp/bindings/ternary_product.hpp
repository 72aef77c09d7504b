// One product of a packed matrix with a batch of activations: the padded buffers, and the split over threads.
#pragma once

#include <cstring>

#include "packed_matrix.hpp"
#include "tercet/aligned_buffer.hpp"
#include "tercet/thread_pool.hpp"

namespace tercet::bindings {

class TernaryProduct {
  public:
    TernaryProduct(const PackedMatrix& matrix, std::size_t tokens)
        : matrix_(matrix),
          tokens_(tokens),
          stride_(round_up(matrix.depth, activation_alignment)),
          activations_(tokens * stride_),
          sums_(tokens),
          out_(tokens * matrix.padded_rows()) {}

    void set_activations(std::size_t token, const std::int8_t* codes) {
        std::memcpy(activations_.data() + token * stride_, codes, matrix_.depth);
        sums_[token] = 0;
        for (std::size_t column = 0; column < matrix_.depth; ++column) sums_[token] += codes[column];
    }

    // Prepares the activations where kernels want that, then multiplies: what one matrix costs that shares its input with
    // no other.
    void run(const TernaryKernels& kernels, const std::uint8_t* packed, ThreadPool& pool) {
        if (matrix_.takes_prepared) prepare(kernels, pool);
        pool.run([&](int index, int count) {
            const Share tiles = share_of(matrix_.row_tiles(), index, count);
            (kernels.*matrix_.matmul)({.packed = packed,
                                       .depth = matrix_.depth,
                                       .row_tile_begin = tiles.begin,
                                       .row_tile_end = tiles.end,
                                       .activations = activations_.data(),
                                       .activation_stride = stride_,
                                       .activation_sums = sums_.data(),
                                       .tokens = tokens_,
                                       .out = out_.data() + tiles.begin * matrix_.tile_rows,
                                       .out_stride = matrix_.padded_rows(),
                                       .prepared = prepared_.data(),
                                       .prepared_stride = prepared_stride_});
        });
    }

    const std::int32_t* out_row(std::size_t token) const { return out_.data() + token * matrix_.padded_rows(); }

  private:
    void prepare(const TernaryKernels& kernels, ThreadPool& pool) {
        prepared_stride_ = kernels.prepared_stride_five_per_byte(matrix_.depth, tokens_);
        if (prepared_stride_ == 0) return;
        prepared_.reserve(tokens_ * prepared_stride_);
        const std::size_t pieces = round_up(matrix_.depth, prepared_piece_columns) / prepared_piece_columns;
        pool.run([&](int index, int count) {
            const Share share = share_of(tokens_ * pieces, index, count);
            for (std::size_t i = share.begin; i < share.end; ++i)
                kernels.prepare_five_per_byte({.activations = activations_.data() + i / pieces * stride_,
                                               .depth = matrix_.depth,
                                               .stride = prepared_stride_,
                                               .piece_begin = i % pieces,
                                               .piece_end = i % pieces + 1,
                                               .prepared = prepared_.data() + i / pieces * prepared_stride_});
        });
    }

    PackedMatrix matrix_;
    std::size_t tokens_, stride_, prepared_stride_ = 0;
    AlignedBuffer<std::uint8_t> prepared_;
    AlignedBuffer<std::int8_t> activations_;
    AlignedBuffer<std::int32_t> sums_, out_;
};

}  // namespace tercet::bindings
