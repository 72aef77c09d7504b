// The probes compiled with this folder's flags.
#include "probes.hpp"

namespace tercet::neon {

void install_probes(ProbeKernels& kernels) noexcept {
    kernels = {read_plain, read_prefetched, read_streams, int8_dot_products, byte_lookups};
}

}  // namespace tercet::neon
