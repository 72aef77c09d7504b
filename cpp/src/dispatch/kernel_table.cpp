// Assembles the table of each instruction set: the reference first, then what the folder of the set replaces, which may
// be another folder's kernels.
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

KernelTable assemble_kernels(Isa isa) noexcept {
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

namespace {

void check_available(Isa isa) { choose_isa(isa_name(isa)); }

// Which folder each operation of a group comes from: that of the first table in the list that has the same pointer.
template <class Kernels, std::size_t count>
void report_providers(const KernelTable& table, const std::vector<KernelTable>& tables, Kernels KernelTable::* group,
                      const char* const (&names)[count], std::vector<OperationReport>& reports) {
    using Pointer = void (*)();
    static_assert(sizeof(Kernels) == count * sizeof(Pointer), "an operation without a name, or a name without one");
    Pointer mine[count], theirs[count];
    std::memcpy(mine, &(table.*group), sizeof mine);
    for (std::size_t i = 0; i < count; ++i) {
        Isa provider = table.isa;
        for (const KernelTable& other : tables) {
            std::memcpy(theirs, &(other.*group), sizeof theirs);
            if (mine[i] != theirs[i]) continue;
            provider = other.isa;
            break;
        }
        reports.push_back({names[i], isa_name(provider), true, ""});
    }
}

}  // namespace

const KernelTable& kernel_table(Isa isa) {
    static std::mutex mutex;
    static std::map<Isa, KernelTable> tested;  // nodes stay where they are, so references stay valid
    const std::lock_guard lock(mutex);
    if (const auto found = tested.find(isa); found != tested.end()) return found->second;

    check_available(isa);
    const KernelTable table = assemble_kernels(isa);
    for (const SelfTestResult& result : self_test(table, assemble_kernels(Isa::reference)))
        if (!result.passed)
            throw IsaError("the " + std::string(isa_name(isa)) + " kernel " + result.operation +
                           " failed its self-test on " + cpu_name() + ": " + result.detail +
                           "; set TERCET_ISA to another of the instruction sets that `tercet doctor` lists");
    return tested.emplace(isa, table).first->second;
}

std::vector<OperationReport> inspect_kernels(Isa isa) {
    check_available(isa);
    const KernelTable table = assemble_kernels(isa), reference = assemble_kernels(Isa::reference);
    std::vector<KernelTable> tables;
    for (const Isa other : available_isas()) tables.push_back(assemble_kernels(other));
    std::vector<OperationReport> reports;
    report_providers(table, tables, &KernelTable::ternary, ternary_operation_names, reports);
    report_providers(table, tables, &KernelTable::floats, float_operation_names, reports);
    report_providers(table, tables, &KernelTable::head, head_operation_names, reports);
    report_providers(table, tables, &KernelTable::probes, probe_operation_names, reports);
    for (const SelfTestResult& result : self_test(table, reference))
        for (OperationReport& report : reports)
            if (report.operation == result.operation && !result.passed) {
                report.passed = false;
                report.detail = result.detail;
            }
    return reports;
}

}  // namespace tercet
