// Products with planes compiled with this folder's flags, without dot products; the loops are in head_planes.hpp.
#include "head_planes.hpp"

namespace tercet::neon {

void install_head(HeadKernels& kernels) noexcept {
    kernels.multiply_high = Products::high;
    kernels.multiply_eight = Products::eight;
    kernels.multiply_six = Products::six;
}

}  // namespace tercet::neon
