// five_per_byte x int8 compiled with this folder's flags, with dot products; the loops are in ../neon/five_per_byte.hpp.
#include "../neon/five_per_byte.hpp"

namespace tercet::neon_dotprod {

void install_five_per_byte(TernaryKernels& kernels) noexcept {
    kernels.matmul_five_per_byte = matmul_five_per_byte;
    kernels.prepared_stride_five_per_byte = prepared_stride_five_per_byte;
    kernels.prepare_five_per_byte = order_pieces;
}

}  // namespace tercet::neon_dotprod
