// The rotated basis of some models' inputs. Signs are -1 or 1, so where they are multiplied in makes no difference to
// rounding; the transform itself is a kernel.
#include "tercet/ops.hpp"

namespace tercet {
namespace {

void multiply_signs(const BasisRotation& rotation, float* row) noexcept {
    for (std::size_t i = 0; i < rotation.signs.size(); ++i) row[i] *= rotation.signs[i];
}

}  // namespace

void rotate_in(const FloatKernels& kernels, const BasisRotation& rotation, float* row, std::size_t size) noexcept {
    multiply_signs(rotation, row);
    for (std::size_t i = 0; i < size; i += rotation.block_size) kernels.hadamard(row + i, rotation.block_size);
}

void rotate_back(const FloatKernels& kernels, const BasisRotation& rotation, float* row, std::size_t size) noexcept {
    for (std::size_t i = 0; i < size; i += rotation.block_size) kernels.hadamard(row + i, rotation.block_size);
    multiply_signs(rotation, row);
}

}  // namespace tercet
