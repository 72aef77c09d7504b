// Assembles the table of each instruction set: the reference first, then what the folder of the set replaces.
#include "tercet/kernel_table.hpp"

#include <cstring>
#include <map>
#include <mutex>

#include "dispatch/self_test.hpp"

namespace tercet {

#define TERCET_DECLARE_INSTALL(isa)            \
    namespace isa {                            \
    void install(KernelTable& table) noexcept; \
    }
TERCET_FOR_EACH_ISA(TERCET_DECLARE_INSTALL)
#undef TERCET_DECLARE_INSTALL

namespace {

KernelTable assemble(Isa isa) noexcept {
    KernelTable table{};
    table.isa = isa;
    reference::install(table);
    switch (isa) {
#define TERCET_INSTALL(name)  \
    case Isa::name:           \
        name::install(table); \
        break;
        TERCET_FOR_EACH_ISA(TERCET_INSTALL)
#undef TERCET_INSTALL
    }
    return table;
}

void check_available(Isa isa) { choose_isa(isa_name(isa)); }

// Which folder each operation of a group comes from: the reference's where the pointer is still the reference's.
template <class Kernels, std::size_t count>
void report_providers(const Kernels& kernels, const Kernels& reference, const char* const (&names)[count], Isa isa,
                      std::vector<OperationReport>& reports) {
    using Pointer = void (*)();
    static_assert(sizeof(Kernels) == count * sizeof(Pointer), "an operation without a name, or a name without one");
    Pointer mine[count], theirs[count];
    std::memcpy(mine, &kernels, sizeof kernels);
    std::memcpy(theirs, &reference, sizeof reference);
    for (std::size_t i = 0; i < count; ++i)
        reports.push_back({names[i], isa_name(mine[i] == theirs[i] ? Isa::reference : isa), true, ""});
}

}  // namespace

const KernelTable& kernel_table(Isa isa) {
    static std::mutex mutex;
    static std::map<Isa, KernelTable> tested;  // nodes stay where they are, so references stay valid
    const std::lock_guard lock(mutex);
    if (const auto found = tested.find(isa); found != tested.end()) return found->second;

    check_available(isa);
    const KernelTable table = assemble(isa);
    for (const SelfTestResult& result : self_test(table, assemble(Isa::reference)))
        if (!result.passed)
            throw IsaError("the " + std::string(isa_name(isa)) + " kernel " + result.operation +
                           " failed its self-test on " + cpu_name() + ": " + result.detail +
                           "; set TERCET_ISA to another of the instruction sets that `tercet doctor` lists");
    return tested.emplace(isa, table).first->second;
}

std::vector<OperationReport> inspect_kernels(Isa isa) {
    check_available(isa);
    const KernelTable table = assemble(isa), reference = assemble(Isa::reference);
    std::vector<OperationReport> reports;
    report_providers(table.ternary, reference.ternary, ternary_operation_names, isa, reports);
    report_providers(table.floats, reference.floats, float_operation_names, isa, reports);
    report_providers(table.probes, reference.probes, probe_operation_names, isa, reports);
    for (const SelfTestResult& result : self_test(table, reference))
        for (OperationReport& report : reports)
            if (report.operation == result.operation && !result.passed) {
                report.passed = false;
                report.detail = result.detail;
            }
    return reports;
}

}  // namespace tercet
