// What the amx_int8 folder replaces in the table of avx512_vbmi: products with many tokens.
#include "tercet/kernel_table.hpp"

namespace tercet::avx512_vbmi {
void install(KernelTable& table) noexcept;
}

namespace tercet::amx_int8 {

void install_two_bit(TernaryKernels& kernels) noexcept;
void install_five_per_byte(TernaryKernels& kernels) noexcept;
void install_probes(ProbeKernels& kernels) noexcept;

void install(KernelTable& table) noexcept {
    avx512_vbmi::install(table);
    install_two_bit(table.ternary);
    install_five_per_byte(table.ternary);
    install_probes(table.probes);
}

}  // namespace tercet::amx_int8
