// The float kernels compiled with this folder's flags; the arithmetic is in ../generic.
#include "../generic/float_kernel_table.hpp"

namespace tercet::neon {

extern const FloatKernels float_kernels;
constinit const FloatKernels float_kernels = generic_float_kernels;

}  // namespace tercet::neon
