// What the avx2 folder replaces in the reference table.
#include "tercet/kernel_table.hpp"

namespace tercet::avx2 {

extern const FloatKernels float_kernels;
void install_two_bit(TernaryKernels& kernels) noexcept;
void install_two_bit_grouped(TernaryKernels& kernels) noexcept;
void install_five_per_byte(TernaryKernels& kernels) noexcept;
void install_ternary_floats(TernaryKernels& kernels) noexcept;
void install_packing(TernaryKernels& kernels) noexcept;
void install_head(HeadKernels& kernels) noexcept;
void install_probes(ProbeKernels& kernels) noexcept;

void install(KernelTable& table) noexcept {
    install_two_bit(table.ternary);
    install_two_bit_grouped(table.ternary);
    install_five_per_byte(table.ternary);
    install_ternary_floats(table.ternary);
    install_packing(table.ternary);
    install_head(table.head);
    install_probes(table.probes);
    table.floats = float_kernels;
}

}  // namespace tercet::avx2
