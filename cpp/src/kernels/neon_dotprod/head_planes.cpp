// Products with planes compiled with this folder's flags, with dot products; the loops are in ../neon/head_planes.hpp.
#include "../neon/head_planes.hpp"

namespace tercet::neon_dotprod {

void install_head(HeadKernels& kernels) noexcept {
    kernels.multiply_high = Products::high;
    kernels.multiply_eight = Products::eight;
    kernels.multiply_six = Products::six;
}

}  // namespace tercet::neon_dotprod
