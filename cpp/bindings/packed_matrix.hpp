// A packing by its name: sizes of a packed matrix, and the entries of the kernel table that work on it.
#pragma once

#include "bindings.hpp"

namespace tercet::bindings {

// Packed weights hold bytes that their packing cannot produce. Python sees tercet.errors.FormatError.
class CorruptPacking : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

constexpr std::size_t round_up(std::size_t size, std::size_t multiple) {
    return (size + multiple - 1) / multiple * multiple;
}

struct PackedMatrix {
    std::size_t rows, depth;
    std::size_t tile_rows, tile_columns;
    decltype(TernaryKernels::matmul_two_bit) TernaryKernels::* matmul;
    decltype(TernaryKernels::pack_two_bit) TernaryKernels::* pack;
    decltype(TernaryKernels::unpack_two_bit) TernaryKernels::* unpack;
    bool takes_prepared;  // matmul reads prepared activations, where its kernels want any

    std::size_t padded_rows() const { return round_up(rows, tile_rows); }
    std::size_t row_tiles() const { return padded_rows() / tile_rows; }
    std::size_t num_bytes() const { return row_tiles() * (round_up(depth, tile_columns) / tile_columns) * tile_bytes; }
};

// Sizes come as Python gives them, so that a negative one is refused in these words too.
inline PackedMatrix packed_matrix(const std::string& operation, const std::string& packing, std::int64_t signed_rows,
                                  std::int64_t signed_depth) {
    const std::size_t rows = checked_size(operation, "rows", signed_rows, std::size_t{1} << 31);
    const std::size_t depth = checked_size(operation, "depth", signed_depth, max_depth);
    if (packing == "two_bit")
        return {rows,
                depth,
                two_bit_tile_rows,
                two_bit_tile_columns,
                &TernaryKernels::matmul_two_bit,
                &TernaryKernels::pack_two_bit,
                &TernaryKernels::unpack_two_bit,
                false};
    if (packing == "five_per_byte")
        return {rows,
                depth,
                five_per_byte_tile_rows,
                five_per_byte_tile_columns,
                &TernaryKernels::matmul_five_per_byte,
                &TernaryKernels::pack_five_per_byte,
                &TernaryKernels::unpack_five_per_byte,
                true};
    reject(operation, "packing", "'two_bit' or 'five_per_byte'", "'" + packing + "'");
}

inline void check_packed_size(const std::string& operation, const PackedMatrix& matrix, std::size_t num_bytes) {
    if (num_bytes != matrix.num_bytes())
        reject(operation, "packed",
               std::to_string(matrix.num_bytes()) + " bytes for " + std::to_string(matrix.rows) + " rows of depth " +
                   std::to_string(matrix.depth),
               std::to_string(num_bytes) + " bytes");
}

}  // namespace tercet::bindings
