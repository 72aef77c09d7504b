// What the avx512_vnni folder replaces in the reference table, with AVX2's five_per_byte:
// without byte permutes there is nothing better.
#include "tercet/kernel_table.hpp"

namespace tercet::avx2 {
void install_five_per_byte(TernaryKernels& kernels) noexcept;
}

namespace tercet::avx512_vnni {

extern const FloatKernels float_kernels;
void install_two_bit(TernaryKernels& kernels) noexcept;
void install_two_bit_grouped(TernaryKernels& kernels) noexcept;
void install_ternary_floats(TernaryKernels& kernels) noexcept;
void install_packing(TernaryKernels& kernels) noexcept;
void install_head(HeadKernels& kernels) noexcept;
void install_probes(ProbeKernels& kernels) noexcept;

void install(KernelTable& table) noexcept {
    install_two_bit(table.ternary);
    install_two_bit_grouped(table.ternary);
    avx2::install_five_per_byte(table.ternary);
    install_ternary_floats(table.ternary);
    install_packing(table.ternary);
    install_head(table.head);
    install_probes(table.probes);
    table.floats = float_kernels;
}

}  // namespace tercet::avx512_vnni
