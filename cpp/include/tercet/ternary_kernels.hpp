// The two packings of a ternary weight matrix, and the operations on them, one function pointer each.
//
// Sums of codes and int8 activations are exact integers: every instruction set gives the same, whatever the bytes hold.
// Where floats are added, the order is stated, so every instruction set gives the same bits.
//
// two_bit        rows padded to 16, depth padded to 16. A tile of 16 rows x 16 columns is 64 bytes, tiles in the order
//                [row_tile][depth_tile]. Byte 4*r + c of a tile holds four codes + 1 of row r:
//
//                    bits    7 6       5 4       3 2      1 0
//                    column  12 + c    8 + c     4 + c    c          r = 0..15, c = 0..3
//
//                so field i of the 64 bytes is 16 rows x the 4 consecutive columns 4i..4i+3, which is what a dot
//                product instruction takes beside a broadcast of activations[4i..4i+3]: lane r is row r.
//
// five_per_byte  rows padded to 64, depth padded to 5. A block of 64 rows x 5 columns is 64 bytes, blocks in the order
//                [row_block][group]. Byte r holds v = w0 + 3 w1 + 9 w2 + 27 w3 + 81 w4 of row r as a sign (bit 7) and
//                a magnitude (bits 0-6), |v| <= 121.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tercet {

inline constexpr std::size_t two_bit_tile_rows = 16;
inline constexpr std::size_t two_bit_tile_columns = 16;
inline constexpr std::size_t five_per_byte_tile_rows = 64;
inline constexpr std::size_t five_per_byte_tile_columns = 5;
inline constexpr std::size_t tile_bytes = 64;

// Activation rows are zero-padded to a multiple of this many columns, and start at multiples of this many bytes.
inline constexpr std::size_t activation_alignment = 64;

// No accumulator of any kernel can overflow up to this depth, whatever bytes the weights hold (see each kernel).
inline constexpr std::size_t max_depth = std::size_t{1} << 18;

// Some kernels read activations in a form of their own, which is worth making once for all the matrices that share an
// input: tables of sums, or the codes in another order. A prepared input is [tokens][stride] bytes, at addresses that
// are multiples of 64. It is made in pieces of so many columns of one token, in any order and by any thread.
inline constexpr std::size_t prepared_piece_columns = 320;

struct TernaryPreparation {
    const std::int8_t* activations;  // of one token, zero from depth to the next multiple of activation_alignment
    std::size_t depth;
    std::size_t stride;                  // bytes of one prepared token
    std::size_t piece_begin, piece_end;  // of depth / prepared_piece_columns, rounded up
    std::uint8_t* prepared;              // of this token; only the bytes of these pieces are written
};

// out[t][r - first row] = sum over k < depth of code(r, k) * activations[t][k], for the rows of row tiles
// [row_tile_begin, row_tile_end) and all tokens t. Rows come in whole tiles: padding rows are written too (as zero when
// the packing was honest), so out needs out_stride >= tile_rows * (row_tile_end - row_tile_begin).
struct TernaryMatmul {
    const std::uint8_t* packed;  // the whole matrix; 64-byte alignment is fast, not required
    std::size_t depth;           // at most max_depth
    std::size_t row_tile_begin;  // in tiles of the packing: 16 rows (two_bit) or 64 (five_per_byte)
    std::size_t row_tile_end;
    const std::int8_t* activations;       // [tokens][activation_stride], zero from depth to the stride
    std::size_t activation_stride;        // depth rounded up to activation_alignment, or more
    const std::int32_t* activation_sums;  // [tokens], the sum of each row of activations
    std::size_t tokens;
    std::int32_t* out;  // [tokens][out_stride], column 0 is the first row of row_tile_begin
    std::size_t out_stride;
    const std::uint8_t* prepared = nullptr;  // [tokens][prepared_stride], all pieces, when the kernel wants any
    std::size_t prepared_stride = 0;         // as it was given for all tokens of the input; it tells the form, too
};

// The same for a matrix with a scale for each row and group of columns. In float32, for each token t and row r:
//
//     total = 0;   for each group g in order:   total += float(sum of g) * (activation_scales[t] * scale(r, g))
//
// where the sum of a group is the exact integer as above.
struct GroupedTernaryMatmul {
    const std::uint8_t* packed;
    std::size_t depth;
    std::size_t group_size;  // columns that share a scale, a multiple of 16; the last group may be shorter
    std::size_t row_tile_begin, row_tile_end;
    const std::int8_t* activations;   // [tokens][activation_stride], zero from depth to the stride
    std::size_t activation_stride;    // depth rounded up to activation_alignment, or more
    const std::int32_t* group_sums;   // [tokens][groups], the sum of the activations of each group
    const float* activation_scales;   // [tokens]
    const float* scales;              // [row_tile_end - row_tile_begin][groups][16 rows]: as lanes, not as rows
    std::size_t tokens;
    float* out;  // [tokens][out_stride], column 0 is the first row of row_tile_begin
    std::size_t out_stride;
};

// Ternary x float. In float32, for each vector v and row r:
//
//     total = 0;   for each group g in order:   total += ((s0 + s2) + (s1 + s3)) * scale(r, g)
//
// where s_c = the sum over the columns k of the group with k % 4 = c, in order, of code(r, k) * vectors[v][k]. Each of
// these products is exact. A matrix with a scale per tensor or row is one group.
struct FloatTernaryMatmul {
    const std::uint8_t* packed;
    std::size_t depth;
    std::size_t group_size;  // a multiple of 16; the last group may be shorter
    std::size_t row_tile_begin, row_tile_end;
    const float* vectors;  // [num_vectors][vector_stride]; nothing beyond depth is read
    std::size_t vector_stride;
    const float* scales;  // [row_tile_end - row_tile_begin][groups][16 rows]
    std::size_t num_vectors;
    float* out;  // [num_vectors][out_stride], column 0 is the first row of row_tile_begin
    std::size_t out_stride;
};

struct TernaryKernels {
    void (*matmul_two_bit)(const TernaryMatmul& task) noexcept;
    void (*matmul_five_per_byte)(const TernaryMatmul& task) noexcept;
    // How many bytes matmul_five_per_byte wants for each token of an input of so many tokens: 0 when it reads activations
    // as they are. The tokens of such an input may then be given to it in several tasks.
    std::size_t (*prepared_stride_five_per_byte)(std::size_t depth, std::size_t tokens) noexcept;
    void (*prepare_five_per_byte)(const TernaryPreparation& task) noexcept;
    void (*matmul_two_bit_grouped)(const GroupedTernaryMatmul& task) noexcept;
    void (*multiply_two_bit_floats)(const FloatTernaryMatmul& task) noexcept;

    // codes int8[rows][depth] to packed bytes, padding included. Returns the index of the first code outside
    // {-1, 0, 1}, or rows * depth when there is none.
    std::size_t (*pack_two_bit)(const std::int8_t* codes, std::size_t rows, std::size_t depth,
                                std::uint8_t* packed) noexcept;
    std::size_t (*pack_five_per_byte)(const std::int8_t* codes, std::size_t rows, std::size_t depth,
                                      std::uint8_t* packed) noexcept;

    // Packed bytes to codes int8[rows][depth]. Returns the index of the first byte that no honest packing contains
    // (an impossible value, or padding that is not zero), or the number of packed bytes when there is none.
    std::size_t (*unpack_two_bit)(const std::uint8_t* packed, std::size_t rows, std::size_t depth,
                                  std::int8_t* codes) noexcept;
    std::size_t (*unpack_five_per_byte)(const std::uint8_t* packed, std::size_t rows, std::size_t depth,
                                        std::int8_t* codes) noexcept;
};

// The names of the operations, in the order of the struct (dispatch checks that there are as many).
inline constexpr const char* ternary_operation_names[] = {
    "matmul_two_bit",         "matmul_five_per_byte",    "prepared_stride_five_per_byte", "prepare_five_per_byte",
    "matmul_two_bit_grouped", "multiply_two_bit_floats", "pack_two_bit",                  "pack_five_per_byte",
    "unpack_two_bit",         "unpack_five_per_byte",
};

}  // namespace tercet
