// Embeddings and output heads of floats, ternary, or in planes.
#include <algorithm>

#include "ops/lane_scales.hpp"
#include "tercet/ops.hpp"

namespace tercet {

std::size_t TernaryMatrix::tile_rows() const noexcept {
    return packing == Packing::two_bit ? two_bit_tile_rows : five_per_byte_tile_rows;
}

std::size_t TernaryMatrix::row_tile_bytes() const noexcept {
    const std::size_t columns = packing == Packing::two_bit ? two_bit_tile_columns : five_per_byte_tile_columns;
    return round_up(depth, columns) / columns * tile_bytes;
}

namespace {

// One row of a two_bit matrix: 4 bytes of every tile.
void widen_two_bit_row(const TernaryMatrix& matrix, std::size_t row, float* out) noexcept {
    const std::uint8_t* tile =
        matrix.packed + row / two_bit_tile_rows * matrix.row_tile_bytes() + row % two_bit_tile_rows * 4;
    for (std::size_t column = 0; column < matrix.depth; column += two_bit_tile_columns, tile += tile_bytes) {
        const float scale = matrix.scale(row, column);  // groups are whole tiles
        const std::size_t columns = std::min(two_bit_tile_columns, matrix.depth - column);
        for (std::size_t i = 0; i < columns; ++i)
            out[column + i] = static_cast<float>((tile[i % 4] >> (i / 4 * 2) & 3) - 1) * scale;
    }
}

// One row of a five_per_byte matrix: a byte of every block, the sign and magnitude of five digits of -1, 0 and 1.
void widen_five_per_byte_row(const TernaryMatrix& matrix, std::size_t row, float* out) noexcept {
    const std::uint8_t* block =
        matrix.packed + row / five_per_byte_tile_rows * matrix.row_tile_bytes() + row % five_per_byte_tile_rows;
    for (std::size_t column = 0; column < matrix.depth; column += five_per_byte_tile_columns, block += tile_bytes) {
        const int magnitude = *block & 0x7F;
        int digits = (*block & 0x80 ? -magnitude : magnitude) + 121;  // each digit one more: 0, 1 or 2
        const std::size_t end = std::min(column + five_per_byte_tile_columns, matrix.depth);
        for (std::size_t k = column; k < end; ++k, digits /= 3)
            out[k] = static_cast<float>(digits % 3 - 1) * matrix.scale(row, k);
    }
}

void embed_ternary(Team& team, const TernaryMatrix& embedding, std::span<const std::int32_t> ids, float* out) {
    const std::size_t depth = embedding.depth;
    const auto widen = embedding.packing == Packing::two_bit ? widen_two_bit_row : widen_five_per_byte_row;
    team.for_each(ids.size(), 2 * cost::value * static_cast<double>(depth), [&](std::size_t token) {
        widen(embedding, static_cast<std::size_t>(ids[token]), out + token * depth);
    });
}

void embed_planes(Team& team, const PlaneMatrix& embedding, std::span<const std::int32_t> ids, float* out) {
    const std::size_t depth = embedding.depth, chunks = embedding.chunks();
    team.for_each(ids.size(), 2 * cost::value * static_cast<double>(depth), [&](std::size_t token) {
        const auto row = static_cast<std::size_t>(ids[token]);
        const std::uint8_t* high = embedding.high + row * chunks * four_bit_chunk_bytes;
        const std::uint8_t* low = embedding.low + row * chunks * embedding.low_chunk_bytes();
        float* values = out + token * depth;
        for (std::size_t k = 0; k < depth; ++k) {
            const std::size_t chunk = k / plane_chunk_columns, column = k % plane_chunk_columns;
            const auto bits_of = [&](const std::uint8_t* plane, int bits) {
                const std::size_t bytes = plane_chunk_columns * static_cast<std::size_t>(bits) / 8;
                return plane[chunk * bytes + column % bytes] >> (static_cast<int>(column / bytes) * bits) & ((1 << bits) - 1);
            };
            const int code = (bits_of(high, 4) << embedding.low_bits()) + bits_of(low, embedding.low_bits());
            values[k] = static_cast<float>(code - embedding.bias()) * embedding.scales[row];
        }
    });
}

void embed_floats(Team& team, const FloatMatrix& embedding, std::span<const std::int32_t> ids, float* out) {
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

void project_floats(Team& team, const FloatMatrix& matrix, const float* vectors, std::size_t num_vectors, float* out) {
    const FloatKernels& kernels = team.kernels().floats;
    const std::size_t depth = matrix.depth;
    constexpr std::size_t vectors_in_cache = 32;  // 328 KB of a depth of 2560: they stay while the matrix streams past
    const double work = cost::float_product * static_cast<double>(matrix.rows * depth * num_vectors);
    team.together(work, [&](auto share, ThreadScratch&) {
        const auto [begin, end] = share(matrix.rows);
        const auto dot = [&, begin = begin, end = end](auto kernel, const auto* rows) {
            for (std::size_t v = 0; v < num_vectors; v += vectors_in_cache) {
                kernel(rows + begin * depth, end - begin, depth, vectors + v * depth, depth,
                       std::min(vectors_in_cache, num_vectors - v), out + v * matrix.rows + begin, matrix.rows, nullptr);
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

}  // namespace

void embed(Team& team, const EmbeddingMatrix& embedding, std::span<const std::int32_t> ids, float* out) {
    if (const auto* floats = std::get_if<FloatMatrix>(&embedding)) {
        embed_floats(team, *floats, ids, out);
    } else if (const auto* planes = std::get_if<PlaneMatrix>(&embedding)) {
        embed_planes(team, *planes, ids, out);
    } else {
        embed_ternary(team, std::get<TernaryMatrix>(embedding), ids, out);
    }
}

void project(Team& team, const EmbeddingMatrix& matrix, const float* vectors, std::size_t num_vectors, float* out,
             std::span<const LogitUse> uses) {
    if (const auto* floats = std::get_if<FloatMatrix>(&matrix)) {
        project_floats(team, *floats, vectors, num_vectors, out);
    } else if (const auto* planes = std::get_if<PlaneMatrix>(&matrix)) {
        project_planes(team, *planes, vectors, num_vectors, out, uses);
    } else {
        project_ternary(team, std::get<TernaryMatrix>(matrix), vectors, num_vectors, out);
    }
}

}  // namespace tercet
