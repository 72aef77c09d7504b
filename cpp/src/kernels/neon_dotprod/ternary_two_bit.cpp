// two_bit x int8 compiled with this folder's flags, with dot products; the loops are in ../neon/two_bit.hpp.
#include "../neon/two_bit.hpp"

namespace tercet::neon_dotprod {

void install_two_bit(TernaryKernels& kernels) noexcept {
    kernels.matmul_two_bit = matmul_two_bit;
    kernels.matmul_two_bit_grouped = matmul_two_bit_grouped;
}

}  // namespace tercet::neon_dotprod
