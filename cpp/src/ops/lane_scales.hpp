// Between the operations of this folder: how kernels of the two_bit packing read scales, and who multiplies a ternary head.
#pragma once

#include "tercet/ops.hpp"

namespace tercet {

// The scales of rows [first_row, first_row + rows) as lanes[row tile][group][16 rows]: kernels compute 16 rows at once and
// want the 16 scales of a group next to each other. Rows beyond the last are zero. first_row is a multiple of 16.
void spread_scales(const TernaryMatrix& matrix, std::size_t first_row, std::size_t rows, float* lanes) noexcept;

// out[v][r] = dot(matrix[r], vectors[v]), in the order of TernaryKernels::multiply_two_bit_floats.
void project_ternary(Team& team, const TernaryMatrix& matrix, const float* vectors, std::size_t num_vectors, float* out);

}  // namespace tercet
