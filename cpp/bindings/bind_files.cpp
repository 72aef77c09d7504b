// Guards of mapped files. Addresses come as numbers: the memory is Python's mmap object's, which the caller keeps.
#include <nanobind/nanobind.h>

#include <cstdint>

#include "bindings.hpp"
#include "tercet/mapped_guard.hpp"

namespace tercet::bindings {
namespace {

int guard(std::uint64_t address, std::uint64_t num_bytes) {
    constexpr std::uint64_t page = 4096;  // the smallest that there is
    if (address == 0 || address % page != 0)
        reject("guard_mapped", "address", "that of a page", std::to_string(address));
    if (num_bytes == 0 || num_bytes > UINT64_MAX - address)
        reject("guard_mapped", "num_bytes", "1 to what is behind the address", std::to_string(num_bytes));
    return guard_mapped(reinterpret_cast<const void*>(static_cast<std::uintptr_t>(address)), num_bytes);
}

}  // namespace

void bind_files(nb::module_& module) {
    module.def("guard_mapped", &guard, nb::arg("address"), nb::arg("num_bytes"));
    module.def("is_mapped_damaged", &is_mapped_damaged, nb::arg("guard"));
    module.def("release_mapped", &release_mapped, nb::arg("guard"));
}

}  // namespace tercet::bindings
