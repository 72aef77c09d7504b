// What the neon folder replaces in the reference table. Every aarch64 processor has these instructions.
#include "tercet/kernel_table.hpp"

namespace tercet::neon {

extern const FloatKernels float_kernels;
void install_two_bit(TernaryKernels& kernels) noexcept;
void install_five_per_byte(TernaryKernels& kernels) noexcept;
void install_ternary_floats(TernaryKernels& kernels) noexcept;
void install_packing(TernaryKernels& kernels) noexcept;
void install_head(HeadKernels& kernels) noexcept;
void install_probes(ProbeKernels& kernels) noexcept;

void install(KernelTable& table) noexcept {
    install_two_bit(table.ternary);
    install_five_per_byte(table.ternary);
    install_ternary_floats(table.ternary);
    install_packing(table.ternary);
    install_head(table.head);
    install_probes(table.probes);
    table.floats = float_kernels;
}

}  // namespace tercet::neon
