#include "tercet/ops.hpp"

#include <algorithm>

namespace tercet {

std::size_t TernaryMatrix::tile_rows() const noexcept {
    return packing == Packing::two_bit ? two_bit_tile_rows : five_per_byte_tile_rows;
}

std::size_t TernaryMatrix::row_tile_bytes() const noexcept {
    const std::size_t columns = packing == Packing::two_bit ? two_bit_tile_columns : five_per_byte_tile_columns;
    return round_up(depth, columns) / columns * tile_bytes;
}

void embed(Team& team, const FloatMatrix& embedding, std::span<const std::int32_t> ids, float* out) {
    const FloatKernels& kernels = team.kernels().floats;
    const std::size_t depth = embedding.depth;
    struct Row {
        const FloatKernels& kernels;
        std::size_t row, depth;
        float* out;
        void operator()(const float* rows) const { std::copy_n(rows + row * depth, depth, out); }
        void operator()(const float16* rows) const { kernels.widen_f16(rows + row * depth, depth, out); }
        void operator()(const bfloat16* rows) const { kernels.widen_bf16(rows + row * depth, depth, out); }
    };
    team.for_each(ids.size(), cost::value * static_cast<double>(depth), [&](std::size_t token) {
        std::visit(Row{kernels, static_cast<std::size_t>(ids[token]), depth, out + token * depth}, embedding.data);
    });
}

void project(Team& team, const FloatMatrix& matrix, const float* vectors, std::size_t num_vectors, float* out) {
    const FloatKernels& kernels = team.kernels().floats;
    const std::size_t depth = matrix.depth;
    constexpr std::size_t vectors_in_cache = 32;  // 328 KB of a depth of 2560: they stay while the matrix streams past
    const double work = cost::float_product * static_cast<double>(matrix.rows * depth * num_vectors);
    team.together(work, [&](auto share, ThreadScratch&) {
        const auto [begin, end] = share(matrix.rows);
        const auto dot = [&, begin = begin, end = end](auto kernel, const auto* rows) {
            for (std::size_t v = 0; v < num_vectors; v += vectors_in_cache) {
                kernel(rows + begin * depth, end - begin, depth, vectors + v * depth, depth,
                       std::min(vectors_in_cache, num_vectors - v), out + v * matrix.rows + begin, matrix.rows);
            }
        };
        struct Dot {
            const FloatKernels& kernels;
            const decltype(dot)& run;
            void operator()(const float* rows) const { run(kernels.dot_rows_f32, rows); }
            void operator()(const float16* rows) const { run(kernels.dot_rows_f16, rows); }
            void operator()(const bfloat16* rows) const { run(kernels.dot_rows_bf16, rows); }
        };
        std::visit(Dot{kernels, dot}, matrix.data);
    });
}

}  // namespace tercet
