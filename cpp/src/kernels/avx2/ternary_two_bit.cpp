#include "tercet/ternary_kernels.hpp"
namespace tercet::avx2 { void install_two_bit(TernaryKernels&) noexcept {} }
