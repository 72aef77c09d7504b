// Kernels on row-major matrices of f32, f16, bf16 or int8: dot products (output head, attention scores), weighted sums of rows
// (attention values), conversion of single rows.
//
// The head is the largest matrix of the model and is read once per step, so it has to stream. Several rows are summed at
// once (four chains of additions hide the latency of one), every 64 bytes of weights are converted in registers on the
// way, and each step prefetches into L2 the same columns of rows at least `prefetch_bytes` ahead: a plain sequential
// reader reaches half of a core's bandwidth, prefetching into L1 hardly more.
#pragma once

#include "half_precision.hpp"
#include "tercet/float_kernels.hpp"
#include "vector.hpp"

namespace tercet {
namespace {

// How many rows and vectors are in flight: as many sums as the register file holds (32 x 64, 16 x 32 or 16 x 16 bytes).
#if defined(__AVX512F__)
constexpr std::size_t rows_at_once = 4, vectors_at_once = 4, columns_at_once = 4;
#elif defined(__AVX2__)
constexpr std::size_t rows_at_once = 4, vectors_at_once = 1, columns_at_once = 2;
#else
constexpr std::size_t rows_at_once = 2, vectors_at_once = 1, columns_at_once = 2;
#endif
constexpr std::size_t prefetch_bytes = 8192;

// Asks for the line `ahead` bytes after an address. What is asked for may lie anywhere: this is no pointer into an array.
template <class Element>
TERCET_INLINE void prefetch(const Element* at, std::uintptr_t ahead) {
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(at) + ahead), 0, 2);
}

// out[v * out_stride + r] for num_rows x num_vectors dot products; `ahead` bytes further on lies what comes next.
template <std::size_t num_rows, std::size_t num_vectors, class Element>
TERCET_INLINE void dot_tile(const Element* rows, std::size_t depth, const float* vectors, std::size_t vector_stride,
                            std::uintptr_t ahead, float* out, std::size_t out_stride) {
    f32x16 sums[num_rows][num_vectors];
    for (auto& row : sums) {
        for (auto& sum : row) sum = zeros();
    }
    const auto add = [&](auto read_row, auto read_vector) TERCET_LAMBDA {
        f32x16 weights[num_rows];
#pragma GCC unroll 4
        for (std::size_t r = 0; r < num_rows; ++r) weights[r] = read_row(rows + r * depth);
#pragma GCC unroll 4
        for (std::size_t v = 0; v < num_vectors; ++v) {
            const f32x16 x = read_vector(vectors + v * vector_stride);
#pragma GCC unroll 4
            for (std::size_t r = 0; r < num_rows; ++r) sums[r][v] = sums[r][v] + weights[r] * x;
        }
    };
    constexpr std::size_t line = 64 / sizeof(Element);  // elements in a cache line: 16 or 32
    std::size_t i = 0;
    for (; i + line <= depth; i += line) {
        for (std::size_t r = 0; r < num_rows; ++r) prefetch(rows + r * depth + i, ahead);
        for (std::size_t j = i; j < i + line; j += lanes) {
            const auto read = [j](const auto* x) TERCET_LAMBDA { return load(x + j); };
            add(read, read);
        }
    }
    for (; i + lanes <= depth; i += lanes) {
        const auto read = [i](const auto* x) TERCET_LAMBDA { return load(x + i); };
        add(read, read);
    }
    if (const std::size_t rest = depth - i; rest > 0) {
        const auto read = [i, rest](const auto* x) TERCET_LAMBDA { return load_tail(x + i, rest); };
        add(read, read);
    }
#if defined(__AVX512F__)
    if constexpr (num_rows == 4 && num_vectors == 4) {
        store_lane_sums(sums, out, out_stride);
        return;
    }
#endif
    for (std::size_t r = 0; r < num_rows; ++r) {
        for (std::size_t v = 0; v < num_vectors; ++v) out[v * out_stride + r] = sum_lanes(sums[r][v]);
    }
}

template <std::size_t num_rows, class Element>
TERCET_INLINE void dot_row_block(const Element* rows, std::size_t depth, const float* vectors,
                                 std::size_t vector_stride, std::size_t num_vectors, std::uintptr_t ahead, float* out,
                                 std::size_t out_stride) {
    std::size_t v = 0;
    for (; v + vectors_at_once <= num_vectors; v += vectors_at_once) {
        dot_tile<num_rows, vectors_at_once>(rows, depth, vectors + v * vector_stride, vector_stride, ahead,
                                            out + v * out_stride, out_stride);
        ahead = 0;  // once is enough
    }
    if constexpr (vectors_at_once > 1) {
        for (; v < num_vectors; ++v) {
            dot_tile<num_rows, 1>(rows, depth, vectors + v * vector_stride, vector_stride, ahead, out + v * out_stride,
                                  out_stride);
            ahead = 0;
        }
    }
}

template <class Element>
TERCET_INLINE void dot_rows(const Element* rows, std::size_t num_rows, std::size_t depth, const float* vectors,
                            std::size_t vector_stride, std::size_t num_vectors, float* out, std::size_t out_stride,
                            const void* soon) {
    // Whole blocks of rows ahead, but never past the last row: what lies there is somebody else's.
    const std::size_t block = rows_at_once * depth;
    const std::size_t further = (prefetch_bytes / (block * sizeof(Element)) + 1) * block;
    const std::uintptr_t elsewhere = reinterpret_cast<std::uintptr_t>(soon) - reinterpret_cast<std::uintptr_t>(rows);
    std::size_t r = 0;
    for (; r + rows_at_once <= num_rows; r += rows_at_once) {
        const bool inside = r * depth + further + block <= num_rows * depth;
        const std::uintptr_t ahead = soon ? elsewhere : inside ? further * sizeof(Element) : 0;
        dot_row_block<rows_at_once>(rows + r * depth, depth, vectors, vector_stride, num_vectors, ahead, out + r,
                                    out_stride);
    }
    for (; r < num_rows; ++r) {
        dot_row_block<1>(rows + r * depth, depth, vectors, vector_stride, num_vectors, soon ? elsewhere : 0, out + r,
                         out_stride);
    }
}

// out[v][d] += sum over r of weights[v][r] * rows[r][d], for `columns` vectors of 16 columns kept in registers.
template <std::size_t num_vectors, std::size_t columns, class Element>
TERCET_INLINE void weighted_tile(const Element* rows, std::size_t num_rows, std::size_t depth, const float* weights,
                                 std::size_t weight_stride, float* out, std::uintptr_t ahead) {
    f32x16 sums[num_vectors][columns];
    for (std::size_t v = 0; v < num_vectors; ++v) {
        for (std::size_t c = 0; c < columns; ++c) sums[v][c] = load(out + v * depth + c * lanes);
    }
    for (std::size_t r = 0; r < num_rows; ++r) {
        for (std::size_t at = 0; at < columns * lanes; at += 64 / sizeof(Element)) prefetch(rows + r * depth + at, ahead);
        f32x16 values[columns];
        for (std::size_t c = 0; c < columns; ++c) values[c] = load(rows + r * depth + c * lanes);
        for (std::size_t v = 0; v < num_vectors; ++v) {
            const f32x16 weight = splat(weights[v * weight_stride + r]);
            for (std::size_t c = 0; c < columns; ++c) sums[v][c] = sums[v][c] + weight * values[c];
        }
    }
    for (std::size_t v = 0; v < num_vectors; ++v) {
        for (std::size_t c = 0; c < columns; ++c) store(out + v * depth + c * lanes, sums[v][c]);
    }
}

template <std::size_t num_vectors, class Element>
TERCET_INLINE void add_weighted_block(const Element* rows, std::size_t num_rows, std::size_t depth,
                                      const float* weights, std::size_t weight_stride, float* out,
                                      std::uintptr_t ahead) {
    std::size_t d = 0;
    for (; d + columns_at_once * lanes <= depth; d += columns_at_once * lanes) {
        weighted_tile<num_vectors, columns_at_once>(rows + d, num_rows, depth, weights, weight_stride, out + d, ahead);
    }
    for (; d + lanes <= depth; d += lanes) {
        weighted_tile<num_vectors, 1>(rows + d, num_rows, depth, weights, weight_stride, out + d, ahead);
    }
    const std::size_t rest = depth - d;
    for (std::size_t v = 0; rest > 0 && v < num_vectors; ++v) {
        f32x16 sum = load_tail(out + v * depth + d, rest);
        for (std::size_t r = 0; r < num_rows; ++r) {
            sum = sum + splat(weights[v * weight_stride + r]) * load_tail(rows + r * depth + d, rest);
        }
        store_tail(out + v * depth + d, sum, rest);
    }
}

template <class Element>
TERCET_INLINE void add_weighted_rows(const Element* rows, std::size_t num_rows, std::size_t depth,
                                     const float* weights, std::size_t weight_stride, std::size_t num_vectors,
                                     float* out, const void* soon) {
    std::uintptr_t ahead = soon ? reinterpret_cast<std::uintptr_t>(soon) - reinterpret_cast<std::uintptr_t>(rows) : 0;
    constexpr std::size_t together = register_bytes == 64 ? 4 : 2;
    std::size_t v = 0;
    for (; v + together <= num_vectors; v += together, ahead = 0) {  // once is enough
        add_weighted_block<together>(rows, num_rows, depth, weights + v * weight_stride, weight_stride, out + v * depth, ahead);
    }
    for (; v < num_vectors; ++v, ahead = 0) {
        add_weighted_block<1>(rows, num_rows, depth, weights + v * weight_stride, weight_stride, out + v * depth, ahead);
    }
}

template <class Half>
TERCET_INLINE void widen(const Half* from, std::size_t size, float* to) {
    std::size_t i = 0;
    for (; i + lanes <= size; i += lanes) store(to + i, load(from + i));
    if (i < size) store_tail(to + i, load_tail(from + i, size - i), size - i);
}

// The functions of the table.
void dot_rows_f32(const float* rows, std::size_t num_rows, std::size_t depth, const float* vectors,
                  std::size_t vector_stride, std::size_t num_vectors, float* out, std::size_t out_stride,
                  const void* soon) noexcept {
    dot_rows(rows, num_rows, depth, vectors, vector_stride, num_vectors, out, out_stride, soon);
}
void dot_rows_f16(const float16* rows, std::size_t num_rows, std::size_t depth, const float* vectors,
                  std::size_t vector_stride, std::size_t num_vectors, float* out, std::size_t out_stride,
                  const void* soon) noexcept {
    dot_rows(rows, num_rows, depth, vectors, vector_stride, num_vectors, out, out_stride, soon);
}
void dot_rows_bf16(const bfloat16* rows, std::size_t num_rows, std::size_t depth, const float* vectors,
                   std::size_t vector_stride, std::size_t num_vectors, float* out, std::size_t out_stride,
                  const void* soon) noexcept {
    dot_rows(rows, num_rows, depth, vectors, vector_stride, num_vectors, out, out_stride, soon);
}
void dot_rows_i8(const std::int8_t* rows, std::size_t num_rows, std::size_t depth, const float* vectors,
                 std::size_t vector_stride, std::size_t num_vectors, float* out, std::size_t out_stride,
                  const void* soon) noexcept {
    dot_rows(rows, num_rows, depth, vectors, vector_stride, num_vectors, out, out_stride, soon);
}
void add_weighted_rows_f32(const float* rows, std::size_t num_rows, std::size_t depth, const float* weights,
                           std::size_t weight_stride, std::size_t num_vectors, float* out,
                           const void* soon) noexcept {
    add_weighted_rows(rows, num_rows, depth, weights, weight_stride, num_vectors, out, soon);
}
void add_weighted_rows_f16(const float16* rows, std::size_t num_rows, std::size_t depth, const float* weights,
                           std::size_t weight_stride, std::size_t num_vectors, float* out,
                           const void* soon) noexcept {
    add_weighted_rows(rows, num_rows, depth, weights, weight_stride, num_vectors, out, soon);
}
void add_weighted_rows_i8(const std::int8_t* rows, std::size_t num_rows, std::size_t depth, const float* weights,
                          std::size_t weight_stride, std::size_t num_vectors, float* out,
                           const void* soon) noexcept {
    add_weighted_rows(rows, num_rows, depth, weights, weight_stride, num_vectors, out, soon);
}
void widen_f16(const float16* from, std::size_t size, float* to) noexcept { widen(from, size, to); }
void widen_bf16(const bfloat16* from, std::size_t size, float* to) noexcept { widen(from, size, to); }
void narrow_f16(const float* from, std::size_t size, float16* to) noexcept {
    std::size_t i = 0;
    for (; i + lanes <= size; i += lanes) store(to + i, load(from + i));
    for (; i < size; ++i) to[i].bits = narrow_one(from[i]);
}

}  // namespace
}  // namespace tercet
