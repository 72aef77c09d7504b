// Products with planes compiled with this folder's flags, without dot products; the loops are in head_planes.hpp.
#include "head_planes.hpp"

namespace tercet::neon {

void install_head(HeadKernels& kernels) noexcept {
    kernels.multiply_high = multiply_high;
    kernels.multiply_eight = multiply_eight;
    kernels.multiply_six = multiply_six;
}

}  // namespace tercet::neon
