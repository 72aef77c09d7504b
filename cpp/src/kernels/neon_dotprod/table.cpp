// What the neon_dotprod folder replaces in the table of neon: products of integers, and nothing else, are different.
#include "tercet/kernel_table.hpp"

namespace tercet::neon {
void install(KernelTable& table) noexcept;
}

namespace tercet::neon_dotprod {

void install_two_bit(TernaryKernels& kernels) noexcept;
void install_five_per_byte(TernaryKernels& kernels) noexcept;
void install_head(HeadKernels& kernels) noexcept;
void install_probes(ProbeKernels& kernels) noexcept;

void install(KernelTable& table) noexcept {
    neon::install(table);
    install_two_bit(table.ternary);
    install_five_per_byte(table.ternary);
    install_head(table.head);
    install_probes(table.probes);
}

}  // namespace tercet::neon_dotprod
