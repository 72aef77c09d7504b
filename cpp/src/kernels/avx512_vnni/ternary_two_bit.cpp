#include "tercet/ternary_kernels.hpp"
namespace tercet::avx512_vnni { void install_two_bit(TernaryKernels&) noexcept {} }
