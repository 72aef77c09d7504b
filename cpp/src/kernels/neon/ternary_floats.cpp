// Ternary x float compiled with this folder's flags; the arithmetic is in ../generic.
#include "../generic/ternary_floats.hpp"

namespace tercet::neon {

void install_ternary_floats(TernaryKernels& kernels) noexcept {
    kernels.multiply_two_bit_floats = multiply_two_bit_floats;
}

}  // namespace tercet::neon
