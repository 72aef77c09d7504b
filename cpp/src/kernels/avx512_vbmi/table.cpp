// What the avx512_vbmi folder replaces in the table of avx512_vnni: five_per_byte, whose tables of 128 bytes are what
// one byte permute can index.
#include "tercet/kernel_table.hpp"

namespace tercet::avx512_vnni {
void install(KernelTable& table) noexcept;
}

namespace tercet::avx512_vbmi {

void install_five_per_byte(TernaryKernels& kernels) noexcept;
void install_probes(ProbeKernels& kernels) noexcept;

void install(KernelTable& table) noexcept {
    avx512_vnni::install(table);
    install_five_per_byte(table.ternary);
    install_probes(table.probes);
}

}  // namespace tercet::avx512_vbmi
