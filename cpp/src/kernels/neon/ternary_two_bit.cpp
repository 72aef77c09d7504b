// two_bit x int8 compiled with this folder's flags, without dot products; the loops are in two_bit.hpp.
#include "two_bit.hpp"

namespace tercet::neon {

void install_two_bit(TernaryKernels& kernels) noexcept {
    kernels.matmul_two_bit = matmul_two_bit;
    kernels.matmul_two_bit_grouped = matmul_two_bit_grouped;
}

}  // namespace tercet::neon
