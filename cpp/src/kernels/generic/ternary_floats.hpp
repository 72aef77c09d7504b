// Ternary x float on the two_bit packing: what TernaryKernels::multiply_two_bit_floats states, sixteen rows at once.
//
// A tile of 16 rows x 16 columns is 16 lanes of 32 bits, lane r is row r. The code + 1 of column 4 f + c is bits 8 c + 2 f
// and 8 c + 2 f + 1 of a lane, so a shift brings the codes of one column of 16 rows down, and a table of four values, or a
// conversion, makes floats of them:
//
//     lane r  | c = 3: 4 fields | c = 2: 4 fields | c = 1: 4 fields | c = 0: 4 fields |        field f = column 4 f + c
//
// A column costs one shift and one look-up for all vectors, and a multiplication and an addition for each. The four chains
// of additions, one for each c, are what the statement of the order has four sums for: one vector runs all four at once,
// several vectors one after the other, so that their sums fit in registers.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "tercet/ternary_kernels.hpp"
#include "vector.hpp"

namespace tercet {
namespace {

// Row tiles read side by side for one vector, and vectors at once: as many sums as the register file holds.
#if defined(__AVX512F__)
constexpr std::size_t ternary_streams = 4, ternary_vectors = 8;
#elif defined(__AVX2__)
constexpr std::size_t ternary_streams = 1, ternary_vectors = 4;
#else
constexpr std::size_t ternary_streams = 1, ternary_vectors = 2;
#endif
constexpr std::size_t num_chains = 4;
constexpr std::size_t ternary_read_ahead_bytes = 2048;
constexpr std::size_t tiles_in_cache = 16;  // of which several vectors are read four times: 8 x 1 KB

// -1, 0, 1 or 2 by the two lowest bits of each lane shifted right, whatever the other bits are.
TERCET_INLINE f32x16 code_values(i32x16 lanes_of_codes, int shift) {
    f32x16 out;
    for (std::size_t p = 0; p < num_registers; ++p) {
        const i32_register shifted = lanes_of_codes.part[p] >> shift;
#if defined(__AVX512F__)
        const __m512 table = _mm512_setr4_ps(-1.0F, 0.0F, 1.0F, 2.0F);  // four times: the index has 4 bits
        out.part[p] = _mm512_maskz_permutexvar_ps(0xFFFF, reinterpret_cast<__m512i>(shifted), table);
#elif defined(__AVX2__)
        const __m256 table = _mm256_setr_ps(-1.0F, 0.0F, 1.0F, 2.0F, -1.0F, 0.0F, 1.0F, 2.0F);  // 3 bits
        out.part[p] = _mm256_permutevar8x32_ps(table, reinterpret_cast<__m256i>(shifted));
#else
        out.part[p] = __builtin_convertvector(shifted & 3, f32_register) - 1.0F;
#endif
    }
    return out;
}

// Sixteen lanes of 32 bits, from any address.
TERCET_INLINE i32x16 load_tile(const std::uint8_t* from) {
    i32x16 tile;
    for (std::size_t p = 0; p < num_registers; ++p) std::memcpy(&tile.part[p], from + p * register_bytes, register_bytes);
    return tile;
}

// sum + code * value. The product of a code and a float is exact, so that a fused addition rounds to the same bits.
TERCET_INLINE f32x16 add_exact_product(f32x16 code, f32x16 value, f32x16 sum) {
#if defined(__AVX512F__)
    sum.part[0] = _mm512_fmadd_ps(code.part[0], value.part[0], sum.part[0]);
    return sum;
#else
    return sum + code * value;
#endif
}

template <std::size_t vectors, std::size_t streams>
struct Chain {
    f32x16 sums[vectors][streams];
};
template <std::size_t vectors, std::size_t streams>
TERCET_INLINE Chain<vectors, streams> no_sums() {
    Chain<vectors, streams> chain;
#pragma GCC unroll 8
    for (std::size_t v = 0; v < vectors; ++v)
#pragma GCC unroll 4
        for (std::size_t s = 0; s < streams; ++s) chain.sums[v][s] = zeros();
    return chain;
}

// Adds one tile of each stream, times 16 values of each vector, to `chains` chains beginning with `first_chain`.
template <std::size_t first_chain, std::size_t chains, std::size_t vectors, std::size_t streams>
TERCET_INLINE void add_tile(const std::uint8_t* packed, std::size_t stream_bytes, const float* x, std::size_t x_stride,
                            Chain<vectors, streams> (&sums)[chains]) {
    i32x16 tile[streams];
#pragma GCC unroll 4
    for (std::size_t s = 0; s < streams; ++s) tile[s] = load_tile(packed + s * stream_bytes);
#pragma GCC unroll 4
    for (std::size_t field = 0; field < 4; ++field) {
#pragma GCC unroll 4
        for (std::size_t chain = 0; chain < chains; ++chain) {
            const std::size_t column = first_chain + chain;
            f32x16 codes[streams];
#pragma GCC unroll 4
            for (std::size_t s = 0; s < streams; ++s)
                codes[s] = code_values(tile[s], static_cast<int>(8 * column + 2 * field));
#pragma GCC unroll 8
            for (std::size_t v = 0; v < vectors; ++v) {
                const f32x16 value = splat(x[v * x_stride + 4 * field + column]);
#pragma GCC unroll 4
                for (std::size_t s = 0; s < streams; ++s)
                    sums[chain].sums[v][s] = add_exact_product(codes[s], value, sums[chain].sums[v][s]);
            }
        }
    }
}

// What a few vectors and row tiles need: where the operands of the product begin.
struct FloatRows {
    const std::uint8_t* packed;
    std::size_t depth, group_tiles;
    const float* vectors;
    std::size_t vector_stride;
    const float* scales;
    float* out;
    std::size_t out_stride;
};

// Adds tiles [begin, end) of each stream to `chains` chains; the last tile may be narrower than 16 columns.
template <std::size_t first_chain, std::size_t chains, std::size_t vectors, std::size_t streams>
TERCET_INLINE void sum_chains(const FloatRows& rows, std::size_t stream_bytes, std::size_t begin, std::size_t end,
                              Chain<vectors, streams>* all) {
    Chain<vectors, streams> sums[chains];
#pragma GCC unroll 4
    for (std::size_t chain = 0; chain < chains; ++chain) sums[chain] = all[first_chain + chain];

    const std::size_t whole_tiles = rows.depth / two_bit_tile_columns;
    const std::size_t whole_end = end < whole_tiles ? end : whole_tiles;
    for (std::size_t k = begin; k < whole_end; ++k) {
        const std::uint8_t* tile = rows.packed + k * tile_bytes;
        if constexpr (first_chain == 0) {
#pragma GCC unroll 4
            for (std::size_t s = 0; s < streams; ++s)
                __builtin_prefetch(tile + s * stream_bytes + ternary_read_ahead_bytes, 0, 2);
        }
        add_tile<first_chain, chains, vectors, streams>(tile, stream_bytes, rows.vectors + k * two_bit_tile_columns,
                                                        rows.vector_stride, sums);
    }
    if (end > whole_tiles) {  // columns beyond the depth are multiplied by zero, whatever the bytes hold
        float padded[vectors * two_bit_tile_columns] = {};
        for (std::size_t v = 0; v < vectors; ++v)
            std::memcpy(padded + v * two_bit_tile_columns,
                        rows.vectors + v * rows.vector_stride + whole_tiles * two_bit_tile_columns,
                        rows.depth % two_bit_tile_columns * sizeof(float));
        add_tile<first_chain, chains, vectors, streams>(rows.packed + whole_tiles * tile_bytes, stream_bytes, padded,
                                                        two_bit_tile_columns, sums);
    }
#pragma GCC unroll 4
    for (std::size_t chain = 0; chain < chains; ++chain) all[first_chain + chain] = sums[chain];
}

// Row tiles that are `distance` apart, one of each stream, with a few vectors.
template <std::size_t vectors, std::size_t streams>
void multiply_float_rows(const FloatRows& rows, std::size_t distance) {
    const std::size_t tiles = (rows.depth + two_bit_tile_columns - 1) / two_bit_tile_columns;
    const std::size_t groups = (tiles + rows.group_tiles - 1) / rows.group_tiles;
    const std::size_t stream_bytes = distance * tiles * tile_bytes;
    Chain<vectors, streams> totals = no_sums<vectors, streams>();
    for (std::size_t group = 0; group < groups; ++group) {
        const std::size_t begin = group * rows.group_tiles;
        const std::size_t end = begin + rows.group_tiles < tiles ? begin + rows.group_tiles : tiles;
        Chain<vectors, streams> chains[num_chains];
        for (auto& chain : chains) chain = no_sums<vectors, streams>();
        if constexpr (vectors == 1) {
            sum_chains<0, num_chains, vectors, streams>(rows, stream_bytes, begin, end, chains);
        } else {
            for (std::size_t part = begin, part_end; part < end; part = part_end) {
                part_end = part + tiles_in_cache < end ? part + tiles_in_cache : end;
                sum_chains<0, 1, vectors, streams>(rows, stream_bytes, part, part_end, chains);
                sum_chains<1, 1, vectors, streams>(rows, stream_bytes, part, part_end, chains);
                sum_chains<2, 1, vectors, streams>(rows, stream_bytes, part, part_end, chains);
                sum_chains<3, 1, vectors, streams>(rows, stream_bytes, part, part_end, chains);
            }
        }
        for (std::size_t s = 0; s < streams; ++s) {
            const f32x16 scale = load(rows.scales + (s * distance * groups + group) * two_bit_tile_rows);
            for (std::size_t v = 0; v < vectors; ++v) {
                const auto sum = [&](std::size_t c) TERCET_LAMBDA { return chains[c].sums[v][s]; };
                totals.sums[v][s] = totals.sums[v][s] + ((sum(0) + sum(2)) + (sum(1) + sum(3))) * scale;
            }
        }
    }
    for (std::size_t s = 0; s < streams; ++s)
        for (std::size_t v = 0; v < vectors; ++v)
            store(rows.out + s * distance * two_bit_tile_rows + v * rows.out_stride, totals.sums[v][s]);
}

FloatRows float_rows_of(const FloatTernaryMatmul& task, std::size_t row_tile, std::size_t vector) {
    const std::size_t tiles = (task.depth + two_bit_tile_columns - 1) / two_bit_tile_columns;
    const std::size_t group_tiles = task.group_size / two_bit_tile_columns;
    const std::size_t groups = (tiles + group_tiles - 1) / group_tiles, skipped = row_tile - task.row_tile_begin;
    return {task.packed + row_tile * tiles * tile_bytes,
            task.depth,
            group_tiles,
            task.vectors + vector * task.vector_stride,
            task.vector_stride,
            task.scales + skipped * groups * two_bit_tile_rows,
            task.out + vector * task.out_stride + skipped * two_bit_tile_rows,
            task.out_stride};
}

// A block of 1 to `most` vectors.
template <std::size_t most>
void multiply_vector_block(const FloatRows& rows, std::size_t vectors) {
    if (vectors == most) return multiply_float_rows<most, 1>(rows, 0);
    if constexpr (most > 1) multiply_vector_block<most - 1>(rows, vectors);
}

void multiply_two_bit_floats(const FloatTernaryMatmul& task) noexcept {
    std::size_t row_tile = task.row_tile_begin;
    if (task.num_vectors == 1) {
        const std::size_t distance = (task.row_tile_end - row_tile) / ternary_streams;
        for (std::size_t i = 0; i < distance; ++i)
            multiply_float_rows<1, ternary_streams>(float_rows_of(task, row_tile + i, 0), distance);
        row_tile += ternary_streams * distance;
    }
    const std::size_t num_blocks = (task.num_vectors + ternary_vectors - 1) / ternary_vectors;
    for (; row_tile < task.row_tile_end; ++row_tile) {
        for (std::size_t block = 0; block < num_blocks; ++block) {
            const std::size_t vector = task.num_vectors * block / num_blocks;
            const std::size_t end = task.num_vectors * (block + 1) / num_blocks;
            multiply_vector_block<ternary_vectors>(float_rows_of(task, row_tile, vector), end - vector);
        }
    }
}

}  // namespace
}  // namespace tercet
