// Instruction sets: what there is, what is chosen and why, which kernel does what.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <tuple>

#include "bindings.hpp"
#include "tercet/kernel_table.hpp"

namespace tercet::bindings {

void bind_isa(nb::module_& module) {
    module.def("known_isas", [] {
        std::vector<std::string> names;
        for (const IsaRequirement& requirement : isa_list) names.emplace_back(requirement.name);
        return names;
    });
    module.def("available_isas", [] {
        std::vector<std::string> names;
        for (const Isa isa : available_isas()) names.emplace_back(isa_name(isa));
        return names;
    });
    module.def(
        "choose_isa",
        [](const IsaName& isa) {
            const IsaChoice choice = choose_isa(isa.value_or(""));
            return std::make_tuple(std::string(isa_name(choice.isa)), choice.reason);
        },
        nb::arg("isa") = nb::none());
    module.def("cpu_name", &cpu_name);
    module.def("cpu_features", &usable_cpu_features);
    module.def(
        "inspect_kernels",
        [](const IsaName& isa) {
            std::vector<std::tuple<std::string, std::string, bool, std::string>> rows;
            for (const OperationReport& report : inspect_kernels(choose_isa(isa.value_or("")).isa))
                rows.emplace_back(report.operation, report.provided_by, report.passed, report.detail);
            return rows;
        },
        nb::arg("isa") = nb::none());
}

}  // namespace tercet::bindings
