// Packing compiled with this folder's flags; the code is in ../generic.
#include "../generic/ternary_packing.hpp"

namespace tercet::avx512_vnni {

void install_packing(TernaryKernels& kernels) noexcept {
    kernels.pack_two_bit = pack_two_bit;
    kernels.pack_five_per_byte = pack_five_per_byte;
    kernels.unpack_two_bit = unpack_two_bit;
    kernels.unpack_five_per_byte = unpack_five_per_byte;
}

}  // namespace tercet::avx512_vnni
